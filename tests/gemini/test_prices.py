"""What an answer costs, against prices computed by hand from Google's price list of October 2026."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from restante.core.errors import OperatorError
from restante.core.money import nano
from restante.providers.gemini_price import Price, price, tables_checked
from restante.providers.price_list import NONE, PriceList, load

NOVEMBER = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
JANUARY = datetime(2027, 1, 2, 12, 0, tzinfo=UTC)

MILLION = 1_000_000


def cost(
    model: str,
    into: int,
    out: int,
    thoughts: int = 0,
    *,
    cached: int = 0,
    queries: tuple[str, ...] = (),
    billed: int = 0,
    batch: bool = False,
    own: PriceList = NONE,
    at: datetime = NOVEMBER,
) -> Price:
    return price(
        model, model, input_tokens=into, cached_tokens=cached, output_tokens=out + thoughts, queries=queries,
        billed_searches=billed, batch=batch, own=own, at=at,
    )  # fmt: skip


TWO = ("alpine towns", "car free resorts")

#: (model, input, answer, thoughts, {searches, cache, batch}, US dollars by hand)
TABLE: list[tuple[str, int, int, int, dict[str, object], str]] = [
    # 2.5 Flash: 0.30 in, 2.50 out, 0.03 cached, 35 per 1,000 grounded prompts
    ("gemini-2.5-flash", 120, 800, 300, {}, "0.002786"),  # 120 × 0.30 + 1,100 × 2.50
    ("gemini-2.5-flash", 120, 800, 300, {"queries": ("one",)}, "0.037786"),
    ("gemini-2.5-flash", 120, 800, 300, {"queries": TWO}, "0.037786"),  # several queries, one prompt
    ("gemini-2.5-flash", 120, 800, 300, {"queries": ("", " ")}, "0.002786"),  # nothing was searched for
    ("gemini-2.5-flash", 120, 800, 300, {"billed": 3}, "0.037786"),  # Google says so, without naming queries
    ("gemini-2.5-flash", 120, 800, 300, {"batch": True}, "0.001393"),
    ("gemini-2.5-flash", 120, 800, 300, {"batch": True, "queries": TWO}, "0.036393"),  # the fee is not halved
    ("gemini-2.5-flash", 1_000, 0, 0, {}, "0.0003"),
    ("gemini-2.5-flash", 0, 1, 0, {}, "0.0000025"),
    ("gemini-2.5-flash", 1, 0, 0, {}, "0.0000003"),
    ("gemini-2.5-flash", 0, 0, 0, {}, "0"),
    ("gemini-2.5-flash", 4_000, 0, 0, {"cached": 3_000}, "0.00039"),
    ("gemini-2.5-flash", 4_000, 0, 0, {"cached": 3_000, "batch": True}, "0.00024"),  # the cache is not halved
    ("gemini-2.5-flash", MILLION, MILLION, 0, {}, "2.80"),
    # 2.5 Flash-Lite: 0.10, 0.40, 0.01 cached
    ("gemini-2.5-flash-lite", 1_000, 1_000, 0, {}, "0.0005"),
    ("gemini-2.5-flash-lite", 1_000, 400, 600, {}, "0.0005"),  # thoughts are output
    ("gemini-2.5-flash-lite", 1_000, 1_000, 0, {"queries": ("one",)}, "0.0355"),
    ("gemini-2.5-flash-lite", 1_000, 1_000, 0, {"batch": True}, "0.00025"),
    # 2.5 Pro: 1.25, 10; above 200,000 input tokens 2.50, 15
    ("gemini-2.5-pro", 1_000, 500, 500, {}, "0.01125"),
    ("gemini-2.5-pro", 1_000, 500, 500, {"queries": TWO}, "0.04625"),
    ("gemini-2.5-pro", 1_000, 500, 500, {"batch": True}, "0.005625"),
    ("gemini-2.5-pro", 250_000, 1_000, 0, {}, "0.64"),  # 250,000 × 2.50 + 1,000 × 15
    ("gemini-2.5-pro", 200_000, 1_000, 0, {}, "0.26"),  # not yet above it
    # 2.0 Flash: 0.10, 0.40
    ("gemini-2.0-flash", 1_000, 1_000, 0, {}, "0.0005"),
    ("gemini-2.0-flash", 1_000, 1_000, 0, {"queries": TWO}, "0.0355"),
    # 3 and later: 14 per 1,000 queries, each once
    ("gemini-3.7-flash", 1_000, 600, 400, {}, "0.0045"),  # 0.75, 3.75
    ("gemini-3.7-flash", 1_000, 600, 400, {"queries": ("one",)}, "0.0185"),
    ("gemini-3.7-flash", 1_000, 600, 400, {"queries": TWO}, "0.0325"),
    ("gemini-3.7-flash", 1_000, 600, 400, {"queries": ("one", "", "two", "one")}, "0.0325"),
    ("gemini-3.7-flash", 1_000, 600, 400, {"queries": ("one",), "billed": 3}, "0.0465"),  # Google's own count
    ("gemini-3.7-flash", 1_000, 600, 400, {"batch": True}, "0.00225"),  # half, though the tables lack it
    ("gemini-3.7-flash", 1_000, 600, 400, {"batch": True, "queries": TWO}, "0.03025"),
    ("gemini-3.7-flash", 2_000, 0, 0, {"cached": 1_000, "batch": True}, "0.00045"),  # 1,000 × 0.375 + 1,000 × 0.075
    ("gemini-3.7-flash", 1_000, 600, 400, {"at": JANUARY}, "0.009"),  # the introductory price is over: 1.50, 7.50
    ("gemini-3.5-flash", 1_000, 1_000, 0, {}, "0.0105"),  # 1.50, 9
    ("gemini-3.5-flash-lite", 1_000, 1_000, 0, {"queries": ("one",)}, "0.0168"),  # 0.30, 2.50
    ("gemini-3.1-pro-preview", 1_000, 200, 800, {"queries": TWO}, "0.042"),  # 2, 12
    ("gemini-3.1-pro-preview", 1_000, 200, 800, {"batch": True, "queries": TWO}, "0.035"),
    ("gemini-3.1-flash-lite", 1_000, 1_000, 0, {}, "0.00175"),  # 0.25, 1.50
]


def test_enough_of_them() -> None:
    assert len(TABLE) >= 30


@pytest.mark.parametrize(("model", "into", "out", "thoughts", "more", "usd"), TABLE)
def test_by_hand(model: str, into: int, out: int, thoughts: int, more: dict[str, object], usd: str) -> None:
    assert cost(model, into, out, thoughts, **more).nano == nano(Decimal(usd))  # type: ignore[arg-type]


def test_the_tables_have_a_day() -> None:
    checked = tables_checked()
    assert checked is not None and date(2026, 10, 1) <= checked <= date(2030, 1, 1)
    assert cost("gemini-2.5-flash", 1, 1).as_of == checked


def test_a_model_of_no_known_family_has_neither_price_nor_day() -> None:
    assert cost("gemini-4-neon", 1_000, 1_000, queries=("a",)) == Price(nano(Decimal(0)), None)


# --- the operator's own prices --------------------------------------------------------------------------

OWN = """
as_of = 2026-11-20

[models."gemini-2.5-flash"]
input = 0.1
output = 0.2
cached = 0.01
search = 7

[models."gemini-3.7-flash"]
input = 1
output = 2
search = 5
search_unit = "prompt"

[models."gemini-3.7-flash".batch]
output = 0.3
"""


@pytest.fixture
def own(tmp_path: Path) -> PriceList:
    (tmp_path / "prices.toml").write_text(OWN)
    return load(tmp_path / "prices.toml")


@pytest.mark.parametrize(
    ("model", "more", "usd"),
    [
        ("gemini-2.5-flash", {}, "0.0003"),
        ("gemini-2.5-flash-001", {}, "0.0003"),  # a version of it
        ("gemini-2.5-flash", {"cached": 500}, "0.000255"),
        ("gemini-2.5-flash", {"queries": TWO}, "0.0073"),
        ("gemini-2.5-flash", {"batch": True, "queries": TWO}, "0.00715"),
        ("gemini-2.5-flash", {"batch": True, "cached": 500}, "0.00013"),  # 500 × 0.05 + 500 × 0.01 + 1,000 × 0.1
        ("gemini-3.7-flash", {"queries": TWO}, "0.008"),  # a prompt, since the operator says so
        ("gemini-3.7-flash", {"batch": True, "cached": 500}, "0.0008"),  # 1,000 × 0.5 + 1,000 × 0.3
    ],
)
def test_own_prices(own: PriceList, model: str, more: dict[str, object], usd: str) -> None:
    found = cost(model, 1_000, 1_000, own=own, **more)  # type: ignore[arg-type]
    assert found == Price(nano(Decimal(usd)), date(2026, 11, 20))


def test_other_models_keep_theirs(own: PriceList) -> None:
    assert cost("gemini-2.5-pro", 1_000, 1_000, own=own) == Price(nano(Decimal("0.01125")), tables_checked())


def test_without_a_day_it_is_the_files(tmp_path: Path) -> None:
    path = tmp_path / "prices.toml"
    path.write_text("[models.x]\ninput = 1\noutput = 2\n")
    assert load(path).as_of == datetime.fromtimestamp(path.stat().st_mtime, UTC).date()
    assert load(None) is NONE


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[models.x\n", "no TOML"),
        ("\xff", "no TOML"),
        ("", "models"),
        ("[models.x]\ninput = 1\n", "output"),
        ("[models.x]\ninput = 1\noutput = -2\n", "models.x.output is -2"),
        ("[models.x]\ninput = nan\noutput = 2\n", "models.x.input is"),
        ("[models.x]\ninput = inf\noutput = 2\n", "models.x.input is"),
        ("[models.x]\ninput = 1\noutput = 1000000\n", "models.x.output is 1000000"),
        ('[models.x]\ninput = "cheap"\noutput = 2\n', "input"),
        ("[models.x]\ninput = true\noutput = 2\n", "input"),
        ("[models.x]\ninput = 1\noutput = 2\noutptu = 3\n", "outptu"),
        ("[models.x]\ninput = 1\noutput = 2\nsearch_unit = 'word'\n", "search_unit"),
        ("[models.x]\ninput = 1\noutput = 2\n[models.x.batch]\ninput = -1\n", "models.x.batch.input is -1"),
        ("as_of = 'soon'\n[models.x]\ninput = 1\noutput = 2\n", "as_of"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "prices.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(OperatorError) as raised:
        load(path)
    assert "RESTANTE_PRICES" in str(raised.value) and problem in str(raised.value), str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="RESTANTE_PRICES cannot be read"):
        load(tmp_path / "none.toml")
    with pytest.raises(OperatorError, match="RESTANTE_PRICES cannot be read"):
        load(tmp_path)
