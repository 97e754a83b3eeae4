"""Quotas and windows: no rolling minute passes a quota, a window halves once a round and comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.core.pacing import Quota, Window, parse_quota


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (None, {}),
        (" ", {}),
        ("1000", {"*": 1000}),
        (
            "gemini-2.5-flash=1000, gemini-2.5-pro=150,*=500",
            {"gemini-2.5-flash": 1000, "gemini-2.5-pro": 150, "*": 500},
        ),
    ],
)
def test_quotas_are_read(text: str | None, read: dict[str, int]) -> None:
    assert parse_quota(text) == read


@pytest.mark.parametrize("text", ["many", "=5", "a=", "0", "a=-1", "a=1.5", "1e3", "²", "1000000001", "a=b=c"])
def test_what_is_no_quota_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="neither a number nor MODEL=NUMBER"):
        parse_quota(text)


@given(st.integers(1, 1_000_000))
def test_calls_that_far_apart_never_pass_the_quota(calls: int) -> None:
    apart = Quota(calls).call_seconds
    assert apart is not None
    assert int(60 / apart) + 1 <= calls
    assert 60 / apart > calls / 1.1


def test_what_is_not_named_is_left_to_the_other() -> None:
    assert Quota(calls=5).before(Quota(calls=9, tokens=7)) == Quota(5, 7)


def test_a_window_halves_once_for_calls_that_were_in_flight_together() -> None:
    window = Window(1_000)
    assert window.room(0) == 1_000
    for _ in range(300):
        window.refused(started=1.0, now=2.0)
    assert window.room(100) == 400
    window.refused(started=2.5, now=3.0)
    assert window.size == 250


def test_a_window_never_closes_and_comes_back() -> None:
    window = Window(1_000)
    for round_ in range(20):
        window.refused(started=float(2 * round_ + 1), now=float(2 * round_ + 2))
    assert window.at_floor and window.room(0) == 1 and window.room(1) == 0
    rounds = 0
    while window.size < 1_000:
        rounds += 1
        for _ in range(int(window.size)):
            window.answered()
        assert rounds < 40
    assert rounds > 15, "by steps, not at once"
    assert window.room(0) == 1_000
