"""A mistake of ours in one place ends nothing that goes on beside it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from restante.config import Settings
from restante.store import queue
from restante.store.database import Database
from restante.worker import working as at_work
from tests.flow.conftest import Shop
from tests.flow.test_run import finished, working
from tests.support import differences


async def test_a_claim_that_breaks_ends_the_worker_and_no_call_in_flight(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going on, a worker that is broken would take task after task, each counted as lost until it is given up. What it
    is at work on is answered, and what it took goes back as if nothing had been."""
    claim = queue.claim

    async def breaks(*args: Any) -> None:
        assert await claim(*args)
        raise RuntimeError("what nobody thought of")

    [flying] = await shop.post("in flight [[latency=1]]")
    async with at_work(db, Settings(provider="scripted")) as claiming:
        async with asyncio.timeout(30):
            while not await db._on.fetch("select from queue where state = 2"):
                await asyncio.sleep(0.01)
        monkeypatch.setattr(queue, "claim", breaks)
        [taken] = await shop.post("taken by what broke")
        await asyncio.wait([claiming], timeout=30)
        assert isinstance(claiming.exception(), RuntimeError)
    assert (await finished(shop, flying))[0] == 20000
    [row] = await db._on.fetch("select id, state, tries, lost from queue")
    assert (str(row["id"]), row["state"], row["tries"], row["lost"]) == (taken, 0, 0, 0)
    assert not await differences(db)


@pytest.mark.parametrize("times", [1, 12])
async def test_an_answer_outlives_internal_errors_of_the_server(
    shop: Shop, db: Database, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    """They say nothing against the answer, which is paid for. More often than a transaction is tried at once, it waits
    as for a server that is away."""
    await db._on.execute(
        f"""
        create sequence broken;
        create function breaks() returns trigger language plpgsql as $$ begin
            if nextval('broken') <= {times} then
                raise exception 'could not find tuple for parent of relation 7' using errcode = 'XX000';
            end if;
            return new;
        end $$;
        create trigger breaks before insert on answer for each row execute function breaks();
        """
    )
    [task_id] = await shop.post("hi")
    async with working(shop) as runner:
        runner.wake()
        assert (await finished(shop, task_id))[0] == 20000
    assert await db._on.fetchval("select last_value from broken") > times
    assert not await differences(db)
