"""Money is exact: what is typed, kept and shown is the same amount."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.core.limits import USD_MAX
from restante.core.money import NANO_PER_USD, nano, parse_usd, show_usd
from restante.core.pricing import LIVE_HOLD, STANDARD_FEE, STANDARD_HOLD, charge
from restante.web.wire import usd

amounts = st.integers(-(10**15), 10**15)  # to a million dollars, more than which nobody tops up at once


@given(amounts)
def test_what_is_shown_can_be_typed(amount: int) -> None:
    assert parse_usd(show_usd(amount)) == amount


@given(st.integers(-(10**15), 10**15))
def test_the_wire_shows_the_exact_amount_of_at_most_nine_places(amount: int) -> None:
    """Up to a million dollars, where a float has digits enough (contract §12.13)."""
    text = Decimal(repr(usd(amount)))
    assert text * NANO_PER_USD == amount
    assert -text.as_tuple().exponent <= 9 or not amount  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "amount"),
    [("100", 100 * NANO_PER_USD), ("$0.0102", STANDARD_HOLD), (" 1e-9 ", 1), ("-3.5", -3_500_000_000), ("0", 0)],
)
def test_amounts_are_read(text: str, amount: int) -> None:
    assert parse_usd(text) == amount


@pytest.mark.parametrize("text", ["", "ten", "1,5", "nan", "inf", "1e30", "0.0000000001", "1 000"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"US dollars|decimal places"):
        parse_usd(text)


def test_half_a_nano_dollar_goes_to_the_even_one() -> None:
    """Whoever pays: over many tasks neither side gains."""
    halves = ("0.5", "1.5", "2.5", "-0.5", "-1.5", "1.4999", "1.5001")
    assert [nano(Decimal(one) / NANO_PER_USD) for one in halves] == [0, 2, 2, 0, -2, 1, 2]


def test_the_largest_amount_is_one() -> None:
    assert parse_usd(f"{USD_MAX}") == USD_MAX * NANO_PER_USD == -parse_usd(f"-{USD_MAX}")
    for text in (f"{USD_MAX}.000000001", f"-{USD_MAX}.000000001"):
        with pytest.raises(ValueError, match="at most 1,000,000 US dollars"):
            parse_usd(text)


def test_amounts_are_shown_for_people() -> None:
    assert [show_usd(amount) for amount in (0, 1, 10_200_000, 1_500_000_000, -200_000)] == [
        "0.00", "0.000000001", "0.0102", "1.50", "-0.0002",
    ]  # fmt: skip


@pytest.mark.contract("6 Standard base fee", "6 Standard prepayment")
def test_holds_and_charges_are_the_contracts() -> None:
    """Contract §6: $0.0102 at task_post, $0.0106 for live; an answer costs its fee and what the model took."""
    assert (usd(STANDARD_HOLD), usd(LIVE_HOLD)) == (0.0102, 0.0106)
    assert usd(charge(STANDARD_FEE, nano(Decimal("0.0358913")))) == 0.0360913
