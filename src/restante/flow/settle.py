"""Settle: the answer stored, the hold resolved, the task listed and its queue row gone, in one transaction.

Whatever is killed, either all of it happened or none. A token whose lease has ended changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import date, datetime

from restante.core.answer import Answer
from restante.core.errors import OK_CODE, Refusal
from restante.core.limits import SETTLE_RETRY_SECONDS
from restante.core.money import Nano
from restante.core.pricing import charge
from restante.core.task import State
from restante.flow.group import Group
from restante.store import queue
from restante.store.database import Database, DatabaseLost
from restante.store.queue import Settlement

log = logging.getLogger("restante.settle")


def answered(token: int, task_id: str, day: date, fee: Nano, answer: Answer, result: bytes | None) -> Settlement:
    """The settlement of an answered task. `result` is the answer as its clients will read it; None when nobody
    will fetch it (live)."""
    return Settlement(token, task_id, day, State.DONE, OK_CODE, charge(fee, answer.money_spent), result=result)


def failed(token: int, task_id: str, day: date, why: Refusal) -> Settlement:
    """The settlement of a failed task: it costs nothing, fee and hold return (contract §12.8)."""
    return Settlement(token, task_id, day, State.FAILED, why.code, 0, message=why.message)


class Settler:
    """Settles in natural group commits; one per process."""

    def __init__(self, db: Database, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._clock = clock
        self._group: Group[Settlement, bool] = Group(self._commit)

    async def settle(self, settlement: Settlement) -> bool:
        """True once committed; False when the token no longer holds the task, and nothing changed.

        Waits for a database that is away: the answer is kept here until it is stored or the process ends.
        """
        return await self._group.submit(settlement)

    async def idle(self) -> None:
        """Wait until everything submitted is committed."""
        await self._group.idle()

    async def _commit(self, group: Sequence[Settlement]) -> Sequence[bool]:
        by_lease: dict[tuple[int, date], list[Settlement]] = defaultdict(list)
        for one in group:
            by_lease[one.token, one.day].append(one)
        settled: set[str] = set()
        for (token, day), members in by_lease.items():
            settled |= await self._until_stored(token, day, members)
        return [one.id in settled for one in group]

    async def _until_stored(self, token: int, day: date, members: Sequence[Settlement]) -> set[str]:
        tries = 0
        while True:
            try:
                return await self._db.settled(lambda: queue.settle(self._db, token, day, self._clock(), members))
            except DatabaseLost as error:
                # Repeating is safe: had the lost statement been committed, its queue rows are gone and nothing
                # is settled twice.
                wait = SETTLE_RETRY_SECONDS[min(tries, len(SETTLE_RETRY_SECONDS) - 1)]
                tries += 1
                log.warning("%d answers wait for the database (%s)", len(members), error)
                await self._db.revive()
                await asyncio.sleep(wait)
