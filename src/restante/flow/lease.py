"""The lease of a process on the tasks it runs: one heartbeat row, known by a random token (design, Data 5).

While the heart beats, what the token holds is this process's alone. When it stops for longer than the lease, others
delete the row and take the tasks over; whatever the old token settles afterwards changes nothing.

A heartbeat also sees whether a newer restante has migrated the database: then this process has to stop (`outdated`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any

from restante.core.limits import HEARTBEATS_PER_LEASE
from restante.flow.health import Counts, report
from restante.observing.metrics import LEASES_ENDED, LEASES_LOST, WORK_GIVEN_BACK
from restante.store import deliveries, queue
from restante.store.database import Database
from restante.store.errors import DatabaseLost

log = logging.getLogger("restante.lease")


class Lease:
    """A worker incarnation. `on_lost(token)` is called when the lease ended behind our back; a new one then begins.
    Each heartbeat carries the `counts` of the providers' calls. `claims`: this process runs queued tasks."""

    def __init__(
        self,
        db: Database,
        name: str,
        seconds: float,
        on_lost: Callable[[int], None] = lambda token: None,
        *,
        counts: Sequence[Counts] = (),
        claims: bool = False,
    ) -> None:
        self._db = db
        #: What the process is called, for people.
        self.name = name
        self._on_lost = on_lost
        self._counts = counts
        self._claims = claims
        self._heart: asyncio.Task[None] | None = None
        # Counted: what went back to the queue may be claimed again before the call that gave it back has ended here.
        self._holds: Counter[tuple[int, str | int]] = Counter()
        self._doubtful = False
        #: Set when a newer restante has migrated the database; whoever runs this process stops it then.
        self.outdated = asyncio.Event()
        self.seconds = seconds
        self.token = 0
        #: Held around whatever leases tasks to the token, until they are noted with `hold`.
        self.claiming = asyncio.Lock()

    async def begin(self) -> None:
        """Register a fresh token and start the heartbeat."""
        await self._register()
        self._heart = asyncio.create_task(self._beat())

    async def end(self) -> int:
        """Stop the heartbeat and give back what is still leased, not counted as lost. Returns how many tasks."""
        if self._heart is not None:
            self._heart.cancel()
            await asyncio.wait([self._heart])
        try:
            return await self._db.settled(self._give_back)
        except DatabaseLost as error:
            log.warning("the lease could not be given back, it ends by itself in %.0f s: %s", self.seconds, error)
            return 0

    async def _give_back(self) -> int:
        async with self._db.transaction() as tx:
            await queue.retire(tx, self.token)
            await deliveries.free(tx, [self.token])
            return await queue.free(tx, [self.token], lost=False)

    def hold(self, token: int, work: str | int) -> None:
        """This process runs the task (its id is a string) or makes the delivery (a number) under the token."""
        self._holds[token, work] += 1

    def drop(self, token: int, work: str | int, *, doubtful: bool = False) -> None:
        """It does no longer. `doubtful`: whether its row is still leased is not known, since the database was lost on
        the way or we broke; the next heartbeat looks, so that no task stays with a process that forgot it."""
        self._holds[token, work] -= 1
        if self._holds[token, work] <= 0:
            del self._holds[token, work]
        self._doubtful |= doubtful

    def doubt(self) -> None:
        """The database was lost while tasks were being leased: there may be some that nobody here knows of."""
        self._doubtful = True

    async def _register(self) -> None:
        token = secrets.randbits(63)
        providers = [one.name for one in self._counts]
        await queue.register(self._db, token, self.name, self.seconds, providers=providers, claims=self._claims)
        self.token = token

    async def _beat(self) -> None:
        interval = self.seconds / HEARTBEATS_PER_LEASE
        while True:
            await asyncio.sleep(interval)
            try:
                await self._beat_once()
            except DatabaseLost as error:
                log.warning("no heartbeat; after %.0f s without one our tasks go to others: %s", self.seconds, error)
                self._doubtful = True
                await self._db.revive()
            except Exception:
                log.exception("the heartbeat broke and is tried again; please report it")

    async def until_outdated(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` until it ends, or until this process is outdated: then it is cancelled."""
        running, waiting = asyncio.create_task(work), asyncio.create_task(self.outdated.wait())
        try:
            await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            if not running.done():
                running.cancel()
                await asyncio.wait([running])
        if not running.cancelled():
            running.result()

    async def _beat_once(self) -> None:
        if not self.outdated.is_set() and (newer := await self._db.newer()) is not None:
            log.error(
                "a newer restante has migrated the database (to %d), which this one does not know: it stops. Start the"
                " newer one here, too",
                newer,
            )
            self.outdated.set()
        calls = report(self._counts) if self._counts else None
        if not await queue.heartbeat(self._db, self.token, self.seconds, calls):
            log.warning(
                "the lease ended before its heartbeat, since this process stood still or was cut off from the database:"
                " its tasks went to others, and it begins anew"
            )
            LEASES_LOST.add()
            ended = self.token
            await self._register()
            self._on_lost(ended)
        elif self._doubtful:
            async with self.claiming:
                held = [work for token, work in self._holds if token == self.token]
                tasks = [one for one in held if isinstance(one, str)]
                others = [one for one in held if isinstance(one, int)]
                # Whose connection was lost may be at work still on the server, with the same rows.
                freed = await self._db.settled(lambda: queue.free_orphans(self._db, self.token, tasks))
                freed += await self._db.settled(lambda: deliveries.free_orphans(self._db, self.token, others))
                self._doubtful = False
            if freed:
                log.warning("%d tasks or deliveries were leased to us unknown to us; they are ready again", freed)


class Reaper:
    """Ends leases that ran out. A heart that nobody could hear has not stopped: where the database was away, or this
    process asleep, everybody's leases ran out together, and the calls of the living would be paid for twice. So a
    lease's length passes from then on, or from the server's start, before any lease is ended."""

    def __init__(self, db: Database, lease_seconds: float) -> None:
        self._db = db
        self._lease = timedelta(seconds=lease_seconds)
        self._seen: datetime | None = None  # the last look, by the database's clock
        self._heard: datetime | None = None  # since when there is no gap

    async def look(self) -> int:
        """End what may be ended; returns how many tasks and deliveries are ready again. Raises DatabaseLost."""
        now, started = await queue.clock(self._db)
        gap = self._lease - self._lease / HEARTBEATS_PER_LEASE  # a heart that beat just before has so long left
        if self._seen is not None and now - self._seen > gap:
            log.warning(
                "nobody was heard for %.1f s: all leases last a while longer", (now - self._seen).total_seconds()
            )
            self._heard = now
        self._seen = now
        heard = started if self._heard is None else max(started, self._heard)
        return await reap(self._db, now) if now - heard >= self._lease else 0


async def reap(db: Database, now: datetime | None = None) -> int:
    """End leases that had run out by `now`, the database's time a moment ago, and make their tasks and deliveries ready
    again; returns how many."""
    now = now or (await queue.clock(db))[0]
    async with db.transaction() as tx:
        dead = await queue.expire(tx, now)
        freed = await queue.free(tx, list(dead), lost=True) if dead else 0
        owed = await deliveries.free(tx, list(dead)) if dead else 0
    if dead:
        LEASES_ENDED.add(len(dead))
        WORK_GIVEN_BACK.add(freed + owed)
        names = ", ".join(dead.values())
        log.warning(
            "leases ended without a word: %s; %d tasks, %d deliveries are ready again. These processes died, froze"
            " or lost the database: their logs say more", names, freed, owed,
        )  # fmt: skip
    return freed + owed
