"""Hosts that hang get probes (webhooks/breaker.py)."""

from __future__ import annotations

import asyncio

from restante.core.limits import HANGING_AFTER, HANGING_FRESH_SECONDS, HANGING_HOSTS_REMEMBERED, HANGING_PROBES
from restante.webhooks.breaker import Breaker


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


async def hang(breaker: Breaker, host: str, times: int) -> None:
    for _ in range(times):
        assert await breaker.admit(host)
        breaker.ended(host, hung=True)


async def test_a_row_of_hanging_attempts_is_believed_for_a_moment() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    await hang(breaker, "a:80", HANGING_AFTER)
    assert not await breaker.admit("a:80")
    assert await breaker.admit("b:80"), "another host's attempts are its own"
    clock.now += HANGING_FRESH_SECONDS
    assert await breaker.admit("a:80"), "then it is asked again"


async def test_others_wait_for_what_the_probes_find() -> None:
    for hung, others in ((True, False), (False, True)):
        clock = Clock()
        breaker = Breaker(clock)
        await hang(breaker, "a:80", HANGING_AFTER)
        clock.now += HANGING_FRESH_SECONDS
        assert [await breaker.admit("a:80") for _ in range(HANGING_PROBES)] == [True] * HANGING_PROBES
        waiting = [asyncio.create_task(breaker.admit("a:80")) for _ in range(50)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        breaker.ended("a:80", hung=hung)
        assert await asyncio.gather(*waiting) == [others] * 50


async def test_a_probe_that_was_cut_off_lets_the_next_one_begin() -> None:
    clock = Clock()
    breaker = Breaker(clock)
    await hang(breaker, "a:80", HANGING_AFTER)
    clock.now += HANGING_FRESH_SECONDS
    assert [await breaker.admit("a:80") for _ in range(HANGING_PROBES)] == [True] * HANGING_PROBES
    waiting = [asyncio.create_task(breaker.admit("a:80")) for _ in range(2)]
    await asyncio.sleep(0)
    breaker.ended("a:80", hung=None)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [task.done() for task in waiting] == [True, False]
    waiting[1].cancel()


async def test_its_memory_is_bounded() -> None:
    breaker = Breaker()
    for number in range(HANGING_HOSTS_REMEMBERED + 10):
        await hang(breaker, f"h{number}:80", 1)
    assert len(breaker._hosts) == HANGING_HOSTS_REMEMBERED
