"""Hosts that hang get probes (webhooks/breaker.py)."""

from __future__ import annotations

from restante.core.limits import HANGING_AFTER, HANGING_FRESH_SECONDS, HANGING_HOSTS_REMEMBERED, HANGING_PROBES
from restante.webhooks.breaker import Breaker


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def attempt(breaker: Breaker, host: str, *, hung: bool | None, times: int = 1) -> None:
    for _ in range(times):
        breaker.began(host)
        breaker.ended(host, hung=hung)


def test_a_row_of_hanging_attempts_is_believed_for_a_moment_and_then_probed() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    attempt(breaker, "a:80", hung=True, times=HANGING_AFTER - 1)
    assert (breaker.gives_up("a:80"), breaker.room("a:80", 50)) == (False, 50)
    attempt(breaker, "a:80", hung=True)
    assert (breaker.gives_up("a:80"), breaker.room("a:80", 50)) == (True, 50), "given up at once, so let them come"
    assert (breaker.gives_up("b:80"), breaker.room("b:80", 50)) == (False, 50), "another host's attempts are its own"
    clock.now += HANGING_FRESH_SECONDS
    assert (breaker.gives_up("a:80"), breaker.room("a:80", 50)) == (False, HANGING_PROBES)


def test_any_answer_ends_it_and_a_cut_attempt_says_nothing() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    attempt(breaker, "a:80", hung=True, times=HANGING_AFTER)
    clock.now += HANGING_FRESH_SECONDS
    attempt(breaker, "a:80", hung=None)
    assert breaker.room("a:80", 50) == HANGING_PROBES
    attempt(breaker, "a:80", hung=False)
    assert (breaker.gives_up("a:80"), breaker.room("a:80", 50)) == (False, 50)


def test_its_memory_is_bounded_and_keeps_what_is_at_work() -> None:
    breaker = Breaker()
    breaker.began("busy:80")
    attempt(breaker, "h:80", hung=True)
    for number in range(HANGING_HOSTS_REMEMBERED + 10):
        attempt(breaker, f"h{number}:80", hung=True)
    assert len(breaker._hosts) == HANGING_HOSTS_REMEMBERED
    breaker.ended("busy:80", hung=True)
