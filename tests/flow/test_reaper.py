"""Whose lease is ended, and when leases only seem to have run out."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from restante.core.errors import InternalError
from restante.flow.expire import keep_leases
from restante.flow.lease import Lease, Reaper
from restante.flow.settle import failed
from restante.store import queue
from restante.store.database import Database, Session
from restante.wiring import background
from tests.flow.conftest import Shop
from tests.support import lock_awaited

LEASE = 60.0


class Times:
    """The database's clock as the reaper reads it: the server is two hours old, until a test says otherwise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.age, self.ahead = timedelta(hours=2), timedelta()
        self._real = queue.clock
        monkeypatch.setattr(queue, "clock", self.read)

    async def read(self, db: Session) -> tuple[datetime, datetime]:
        now, _ = await self._real(db)
        return now + self.ahead, now + self.ahead - self.age

    def pass_by(self, seconds: float) -> None:
        self.ahead += timedelta(seconds=seconds)
        self.age += timedelta(seconds=seconds)


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    return Times(monkeypatch)


async def dead(db: Database) -> None:
    """A worker that has not been heard of."""
    await queue.register(db, 1, "worker somewhere 1", LEASE)
    await db._pool.execute("update worker set expires_at = now() - interval '1 second'")


async def left(db: Database) -> int:
    count: int = await db._pool.fetchval("select count(*) from worker")
    return count


async def test_a_lease_that_ran_out_is_ended_at_the_first_look(db: Database, times: Times) -> None:
    await dead(db)
    await Reaper(db, LEASE).look()
    assert await left(db) == 0


async def test_while_nobody_could_be_heard_nobody_is_dead(db: Database, times: Times) -> None:
    """The database was away, or the machine asleep: a living worker's heartbeat comes within a lease."""
    reaper = Reaper(db, LEASE)
    await reaper.look()
    times.pass_by(LEASE / 4)
    await reaper.look()  # no gap: a look as usual
    times.pass_by(LEASE * 3 / 4 + 1)
    await dead(db)
    for waited in (0.0, LEASE / 4, LEASE / 4, LEASE / 4):
        times.pass_by(waited)
        await reaper.look()
        assert await left(db) == 1, "too early"
    times.pass_by(LEASE / 4)
    await reaper.look()
    assert await left(db) == 0, "it is dead after all"


async def test_a_look_that_hangs_ends_no_lease_that_ran_out_meanwhile(db: Database, times: Times) -> None:
    """The server stopped between reading its clock and ending leases: by then everybody's have run out."""
    reaper = Reaper(db, LEASE)
    await dead(db)
    times.ahead = -timedelta(seconds=10)  # of what was read; the statement that ends leases comes ten seconds later
    await reaper.look()
    assert await left(db) == 1


async def test_after_a_restart_of_the_server_a_lease_passes(db: Database, times: Times) -> None:
    """Also for a reaper that was not there before."""
    times.age = timedelta(seconds=1)
    await dead(db)
    reaper = Reaper(db, LEASE)
    for waited in (0.0, LEASE / 4, LEASE / 4, LEASE / 4):
        times.pass_by(waited)
        await reaper.look()
        assert await left(db) == 1, "too early"
    times.pass_by(LEASE / 4)
    await reaper.look()
    assert await left(db) == 0


async def test_it_meets_a_late_settlement_and_looks_again(
    shop: Shop, db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that comes back settles while its lease is being ended: they lock the same tasks in different orders."""
    await shop.post("a", "b", "c")
    token = await shop.lease()
    await shop.claim(token)
    await db._pool.execute("update worker set expires_at = now() - interval '1 second'")
    rows = await db._pool.fetch("select id, day from queue order by ctid desc")
    late = [failed(token, str(row["id"]), row["day"], InternalError()) for row in rows]

    async def settle() -> None:
        async with db.transaction() as tx:
            await tx._on.execute("set local deadlock_timeout = '30s'")  # it is the other one that loses
            assert len(await queue.settle(tx, token, rows[0]["day"], shop.clock(), late)) == 3

    async with asyncio.timeout(20):
        async with db.transaction() as tx:
            await tx._on.execute("select from queue where id = $1 for update", rows[1]["id"])
            settling = asyncio.create_task(settle())
            await lock_awaited(db)
            stack = background(keep_leases(db, 0.4, lambda: None))
            stack.__enter__()
            await lock_awaited(db, by=2)
        await settling
        while await left(db):
            await asyncio.sleep(0.01)
        stack.__exit__(None, None, None)
    assert "report it" not in caplog.text


@pytest.mark.parametrize("statement", ["free_orphans", "free"])
async def test_a_lost_race_is_run_again(db: Database, monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    """At a heartbeat, and when a worker leaves: a connection that it lost may be at work still on the server."""
    real, tries = getattr(queue, statement), 0

    async def race(*args: Any, **named: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise asyncpg.DeadlockDetectedError("deadlock detected")
        return await real(*args, **named)

    monkeypatch.setattr(queue, statement, race)
    lease = Lease(db, "a worker", LEASE)
    await lease.begin()
    lease.doubt()
    await lease._beat_once()
    await lease.end()
    assert tries == 2 and await left(db) == 0
