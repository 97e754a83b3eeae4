"""The lease of a process on the tasks it runs: one heartbeat row, known by a random token (design, Data 5).

While the heart beats, what the token holds is this process's alone. When it stops for longer than the lease, others
delete the row and take the tasks over; whatever the old token settles afterwards changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable

from restante.core.limits import HEARTBEATS_PER_LEASE
from restante.store import queue
from restante.store.database import Database, DatabaseLost

log = logging.getLogger("restante.lease")


class Lease:
    """A worker incarnation. `on_lost(token)` is called when the lease ended behind our back; a new one then begins."""

    def __init__(
        self, db: Database, name: str, seconds: float, on_lost: Callable[[int], None] = lambda token: None
    ) -> None:
        self._db = db
        self._name = name
        self._on_lost = on_lost
        self._heart: asyncio.Task[None] | None = None
        self.seconds = seconds
        self.token = 0

    async def begin(self) -> None:
        """Register a fresh token and start the heartbeat."""
        await self._register()
        self._heart = asyncio.create_task(self._beat())

    async def end(self) -> int:
        """Stop the heartbeat and give back what is still leased, not counted as lost. Returns how many tasks."""
        if self._heart is not None:
            self._heart.cancel()
            await asyncio.wait([self._heart])
        async with self._db.transaction() as tx:
            await queue.retire(tx, self.token)
            return await queue.free(tx, [self.token], lost=False)

    async def _register(self) -> None:
        token = secrets.randbits(63)
        await queue.register(self._db, token, self._name, self.seconds)
        self.token = token

    async def _beat(self) -> None:
        interval = self.seconds / HEARTBEATS_PER_LEASE
        while True:
            await asyncio.sleep(interval)
            try:
                if await queue.heartbeat(self._db, self.token, self.seconds):
                    continue
                log.warning("the lease ended before its heartbeat: tasks in flight went to others, starting anew")
                ended = self.token
                await self._register()
                self._on_lost(ended)
            except DatabaseLost as error:
                log.warning("no heartbeat: %s", error)
                await self._db.revive()


async def reap(db: Database) -> int:
    """End leases that ran out and make their tasks ready again; returns how many tasks."""
    async with db.transaction() as tx:
        dead = await queue.expire(tx)
        freed = await queue.free(tx, list(dead), lost=True) if dead else 0
    if dead:
        log.warning("leases ended without a word: %s; %d tasks are ready again", ", ".join(dead.values()), freed)
    return freed
