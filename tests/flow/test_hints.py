"""A notification names the lanes that got tasks: an idle worker claims there at once, without looking for others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from restante.core.limits import NOTIFICATION_CHARS
from restante.store import queue
from restante.store.database import Database
from tests.flow.conftest import Shop, until
from tests.flow.test_run import finished, working


async def lanes_of(shop: Shop, *models: str) -> list[int]:
    return [await queue.ensure_lane(shop.db, "scripted", "", model) for model in models]


async def test_posting_tells_the_workers_where(shop: Shop, db: Database) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    async with db.listening(queue.CHANNEL, told.put_nowait):
        await shop.post("hi", "and another")
        async with asyncio.timeout(20):
            assert queue.notified(await told.get()) == await lanes_of(shop, "gemini-2.5-flash")


async def test_more_lanes_than_a_notification_holds_are_looked_for(db: Database) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    async with db.listening(queue.CHANNEL, told.put_nowait):
        await queue.notify(db, range(NOTIFICATION_CHARS))
        await queue.notify(db, [3, 14])
        async with asyncio.timeout(20):
            assert [queue.notified(await told.get()) for _ in range(2)] == [[], [3, 14]]


async def test_an_idle_worker_claims_where_it_was_told(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    idle = asyncio.Event()

    async def never(db: Database, providers: Sequence[str]) -> list[queue.Lane]:
        await asyncio.Event().wait()
        return []

    [lane] = await lanes_of(shop, "gemini-2.5-flash")
    async with working(shop) as runner:

        async def until_woken(seconds: float) -> None:
            idle.set()
            await runner._wake.wait()

        monkeypatch.setattr(runner, "_woken", until_woken)
        [first] = await shop.post("one that makes the lane known")
        runner.wake()
        assert (await finished(shop, first))[0] == 20000
        await until(lambda: runner.in_flight == 0)
        idle.clear()
        runner.wake()  # what the first one's end began is over when it is idle again
        async with asyncio.timeout(20):
            await idle.wait()
        monkeypatch.setattr(queue, "waiting_lanes", never)
        [second] = await shop.post("hi")
        runner.wake([lane])
        assert (await finished(shop, second))[0] == 20000


async def test_hints_for_one_lane_keep_no_other_waiting(shop: Shop) -> None:
    [lane] = await lanes_of(shop, "gemini-2.5-flash")
    async with working(shop) as runner:
        [first] = await shop.post("one that makes the lane known")
        runner.wake()
        assert (await finished(shop, first))[0] == 20000
        elsewhere = await shop.post("hi", model="gemini-2.5-pro")
        here = await shop.post("hi")
        runner.wake([lane])
        for task_id in [*elsewhere, *here]:
            assert (await finished(shop, task_id))[0] == 20000


async def test_a_lane_that_is_not_known_is_looked_for(shop: Shop) -> None:
    async with working(shop) as runner:
        task_ids = await shop.post("hi")
        runner.wake([2**31 - 1])
        assert (await finished(shop, task_ids[0]))[0] == 20000
