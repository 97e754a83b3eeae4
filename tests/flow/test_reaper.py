"""Whose lease is ended, and when leases only seem to have run out."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from restante.flow.lease import Reaper
from restante.store import queue
from restante.store.database import Database, Session

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
