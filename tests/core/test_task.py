"""Task ids (contract §5.4; design, Data 1) and prompts."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.core.task import Function, mint_id, parse_id, read_prompt

moments = st.datetimes(datetime(2024, 1, 1), datetime(2040, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001


@pytest.mark.contract("5.4 MMDDHHMM", "5.4 AAAA")
@given(moments, st.integers(1, 65_535), st.sampled_from(Function), st.integers(0, 2**48 - 1), st.integers(-1, 300))
def test_an_id_names_its_account_function_and_day(
    now: datetime, account: int, function: Function, random48: int, days_later: int
) -> None:
    text = mint_id(now, account, function, random48)
    found = parse_id(text)
    assert found is not None
    assert (found.account_id, found.function) == (account, function)
    assert found.posted_on(now.date() + timedelta(days=days_later)) == now.date()
    assert str(uuid.UUID(text)) == text, "it fits PostgreSQL's uuid"


@pytest.mark.contract("5.4 FFFF", "5.4 PPPP", "5.4 R…R")
def test_an_id_looks_like_the_originals() -> None:
    now = datetime(2026, 11, 20, 14, 15, tzinfo=UTC)
    assert mint_id(now, 0x42, Function.TASK_POST, 0x5D0C1BE9A7F3) == "11201415-0042-0613-0000-5d0c1be9a7f3"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "11201415-0042-0613-0000-5d0c1be9a7f",
        "11201415-0042-0613-0000-5d0c1be9a7f33",
        "11201415004206130000",
        "1120141g-0042-0613-0000-5d0c1be9a7f3",
        "11201415-0042-061a-0000-5d0c1be9a7f3",
        " 11201415-0042-0613-0000-5d0c1be9a7f3",
        "11201415-0042-0613-0000-5d0c1be9a7f3\n",
        "１1201415-0042-0613-0000-5d0c1be9a7f3",
    ],
)
def test_what_is_no_id_is_seen(text: str) -> None:
    assert parse_id(text) is None


@pytest.mark.parametrize(
    ("stamp", "today", "day"),
    [
        ("12312359", date(2027, 1, 1), date(2026, 12, 31)),  # the year changed meanwhile
        ("01010000", date(2026, 12, 31), date(2027, 1, 1)),  # another node's clock is a little ahead
        ("01020000", date(2026, 12, 31), date(2026, 1, 2)),
        ("02290000", date(2027, 3, 1), date(2024, 2, 29)),
        ("13010000", date(2026, 11, 22), None),
        ("02300000", date(2026, 11, 22), None),
    ],
)
def test_the_day_is_the_latest_possible_one(stamp: str, today: date, day: date | None) -> None:
    found = parse_id(f"{stamp}-0001-0613-0000-000000000000")
    assert found is not None
    assert found.posted_on(today) == day


@pytest.mark.parametrize(
    ("model", "asked", "reasons"),
    [("gemini-2.5-pro", "", True), ("gemini-2.5-pro", ',"use_reasoning":false', True), ("gemini-2.5-flash", "", False)],
)
def test_pro_models_reason_whether_asked_to_or_not(model: str, asked: str, reasons: bool) -> None:
    prompt = read_prompt(f'{{"user_prompt":"hi","model_name":"{model}","tag":"passed over"{asked}}}'.encode())
    assert prompt.use_reasoning is reasons
    assert (prompt.max_output_tokens, prompt.temperature, prompt.top_p) == (2048, 1.3, 0.9)
