"""A mistake of ours in one place ends nothing that goes on beside it."""

from __future__ import annotations

from typing import Any

import pytest

from restante.store import queue
from restante.store.database import Database
from tests.flow.conftest import Shop, until
from tests.flow.test_run import Odd, finished, working
from tests.support import differences


async def test_a_claim_that_breaks_ends_no_call_in_flight(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It would be paid for twice. What had been claimed when it broke goes back to the queue and is run."""
    claim = queue.claim

    async def breaks(*args: Any) -> None:
        monkeypatch.setattr(queue, "claim", claim)
        assert await claim(*args)
        raise RuntimeError("what nobody thought of")

    provider = Odd()
    async with working(shop, provider, seconds=3.0) as runner:
        [flying] = await shop.post("in flight")
        await provider.asked.wait()
        monkeypatch.setattr(queue, "claim", breaks)
        [taken] = await shop.post("taken by what broke")
        runner.wake()
        await until(lambda: "what nobody thought of" in caplog.text)
        await until(lambda: len(provider.calls) == 2)
        provider.go_on.set()
        assert [(await finished(shop, one))[0] for one in (flying, taken)] == [20000, 20000]
    assert "claiming tasks broke" in caplog.text
    assert len(provider.calls) == 2
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
