"""Accept: one POST's judged tasks become held, stored and queued in one statement; 20100 is said after its commit."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import msgspec

from restante.core.pricing import STANDARD_HOLD
from restante.core.task import Function, Model, mint_id
from restante.store import queue, tasks
from restante.store.database import Conflict, Database, DatabaseLost, Session
from restante.store.tasks import Order

Also = Callable[[Session, datetime, Sequence[str], int], Awaitable[None]]

log = logging.getLogger("restante.accept")


class Judged(msgspec.Struct, frozen=True):
    """A task that passed its judgement: its model, its tag and what the client sent, as JSON."""

    model: Model
    tag: str | None
    request: bytes


class Waker:
    """Wakes the workers after a commit. While one notification is on its way, further ones become a single next one."""

    def __init__(self, db: Session) -> None:
        self._db = db
        self._sending: asyncio.Task[None] | None = None
        self._again = False

    def nudge(self) -> None:
        """Some task became ready."""
        if self._sending is not None and not self._sending.done():
            self._again = True
        else:
            self._sending = asyncio.create_task(self._send())

    async def _send(self) -> None:
        self._again = True
        while self._again:
            self._again = False
            try:
                await queue.notify(self._db)
            except DatabaseLost as error:
                log.warning("workers were not woken, they will look by themselves: %s", error)


class Acceptor:
    """Takes tasks in for one provider. `gather`: the seconds for which its tasks may wait for a batch before they are
    called directly; None: they are called at once."""

    def __init__(
        self, db: Database, provider: str, waker: Waker, clock: Callable[[], datetime], gather: float | None = None
    ) -> None:
        self._gather = gather
        self._db = db
        self._provider = provider
        self._waker = waker
        self._clock = clock
        self._lanes: dict[str, int] = {}

    async def accept(
        self, account_id: int, judged: Sequence[Judged], also: Also | None = None
    ) -> tuple[list[str], int]:
        """Ids for all of them, and how many of these, from the first on, the balance covered: those are accepted.
        `also` joins their transaction: it gets that, its time, the ids and the number, and what it raises undoes all.

        Raises DatabaseLost; then whether they were accepted is not known.
        """
        lanes = [await self._lane(one.model.served) for one in judged]
        for last in (False, True):
            now = self._clock()
            ids = [mint_id(now, account_id, Function.TASK_POST, secrets.randbits(48)) for _ in judged]
            orders = [
                Order(task_id, lane, STANDARD_HOLD, one.tag, one.request, self._gather)
                for task_id, lane, one in zip(ids, lanes, judged, strict=True)
            ]
            try:
                covered = await self._db.settled(lambda: self._take(account_id, now, orders, also), now.date())  # noqa: B023
            except Conflict:  # an id of 48 random bits met its twin: mint anew, once
                if last:
                    raise
                continue
            if covered:
                self._waker.nudge()
            return ids, covered
        raise AssertionError("unreachable")

    async def _take(self, account_id: int, now: datetime, orders: Sequence[Order], also: Also | None) -> int:
        if also is None:
            return await tasks.accept(self._db, account_id, now, orders)
        async with self._db.transaction() as tx:
            covered = await tasks.accept(tx, account_id, now, orders) if orders else 0
            await also(tx, now, [order.id for order in orders], covered)
        return covered

    async def _lane(self, model: str) -> int:
        number = self._lanes.get(model)
        if number is None:
            number = self._lanes[model] = await queue.ensure_lane(self._db, self._provider, "", model)
        return number
