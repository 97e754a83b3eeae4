"""How often a worker looks for tasks by itself: seldom where notifications come, else as its work asks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from restante import worker
from restante.core.limits import POLL_BUSY_SECONDS, POLL_SECONDS
from restante.flow.lease import Lease
from restante.flow.run import Runner
from restante.store.database import Database
from restante.wiring import background
from tests.flow.conftest import Shop, until
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


async def test_what_breaks_listening_does_not_end_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, tries = Database.listening, 0

    def listening(*args: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RuntimeError("what nobody thought of")
        return real(*args)

    monkeypatch.setattr(Database, "listening", listening)
    monkeypatch.setattr(worker, "RELISTEN_SECONDS", 0.01)
    runner = shop.runner(Lease(shop.db, "a worker", 60.0))
    runner.notified = False
    with background(worker._listen(shop.db, runner)):
        await until(lambda: runner.notified)
    assert tries == 2 and "what nobody thought of" in caplog.text
