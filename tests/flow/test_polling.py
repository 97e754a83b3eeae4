"""How often a worker looks for tasks by itself: seldom where notifications come, else as its work asks."""

from __future__ import annotations

import asyncio

import pytest

from restante.core.limits import POLL_BUSY_SECONDS, POLL_SECONDS
from restante.flow.run import Runner
from tests.flow.conftest import Shop
from tests.flow.test_run import finished, working


async def looks(runner: Runner, monkeypatch: pytest.MonkeyPatch, number: int) -> list[float]:
    """How long it means to wait after each of its next fruitless looks; the waits themselves are left out."""
    waits: list[float] = []
    enough = asyncio.Event()

    async def note(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) >= number:
            enough.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(runner, "_woken", note)
    runner.wake()
    async with asyncio.timeout(20):
        await enough.wait()
    return waits


async def test_notified_it_looks_seldom(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    async with working(shop) as runner:
        [task_id] = await shop.post("hi")
        runner.wake()
        await finished(shop, task_id)
        assert set(await looks(runner, monkeypatch, 3)) == {POLL_SECONDS}


async def test_without_it_looks_often_after_work_and_ever_less(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    [task_id] = await shop.post("hi")
    async with working(shop) as runner:
        runner.notified = False
        waits = await looks(runner, monkeypatch, 8)
        assert (await finished(shop, task_id))[0] == 20000
    # The task may be claimed before the first of them or after it.
    after = waits[waits.index(min(waits)) :]
    assert after[0] == 2 * POLL_BUSY_SECONDS
    assert after == [min(after[0] * 2**n, POLL_SECONDS) for n in range(len(after))]
