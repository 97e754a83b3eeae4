"""Accept: one POST's judged tasks become held, stored and queued in one statement; 20100 is said after its commit."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from weakref import WeakValueDictionary

import msgspec

from restante.core.allowance import UNLIMITED, Allowance
from restante.core.errors import CapReached, InsufficientFunds, Refusal
from restante.core.limits import ACCEPTS_OF_ACCOUNT
from restante.core.pricing import STANDARD_HOLD
from restante.core.task import Function, Model, fingerprint, mint_ids, read_prompt
from restante.flow import duplicates, observed
from restante.flow.disk import Disk
from restante.flow.duplicates import Wanted
from restante.observing.current import nobody
from restante.store import queue, spending, tasks
from restante.store.database import Database, Session
from restante.store.errors import Conflict, DatabaseLost
from restante.store.tasks import Order

Fates = Sequence[Refusal | None]  # of tasks in their order; None: accepted
Also = Callable[[Session, datetime, Sequence[str], Fates], Awaitable[None]]

log = logging.getLogger("restante.accept")


class Judged(msgspec.Struct, frozen=True):
    """A task that passed its judgement: its model, its tag and what the client sent, as JSON."""

    model: Model
    tag: str | None
    request: bytes


class Waker:
    """Wakes the workers after a commit, and tells them which lanes got tasks. While one notification is on its way,
    further ones become a single next one."""

    def __init__(self, db: Session) -> None:
        self._db = db
        self._sending: asyncio.Task[None] | None = None
        self._lanes: set[int] = set()

    async def nudge(self, lanes: Iterable[int]) -> None:
        """Some tasks of these lanes became ready. The notification is on its way when this returns, no more: the
        client's answer is made meanwhile."""
        self._lanes.update(lanes)
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send(), context=nobody())
            await asyncio.sleep(0)

    async def _send(self) -> None:
        while self._lanes:
            lanes, self._lanes = self._lanes, set()
            try:
                await queue.notify(self._db, lanes)
            except DatabaseLost as error:
                log.warning("workers were not woken, they will look by themselves: %s", error)


class Acceptor:
    """Takes tasks in. Their lane is that of the model's provider; its project, a quota bucket, is left open.
    `cap_of_all`: what all accounts together may spend a day, in nano-dollars; 0: without limit. `gather`: the seconds
    for which a provider's tasks may wait for a batch before they are called directly; those of others are called at
    once. `disk`: the one that must not become full."""

    def __init__(
        self,
        db: Database,
        waker: Waker,
        clock: Callable[[], datetime],
        cap_of_all: int = 0,
        gather: Mapping[str, float] | None = None,
        disk: Disk | None = None,
    ) -> None:
        self._disk = disk or Disk()
        self._gather = gather or {}
        self._db = db
        self._waker = waker
        self._clock = clock
        self._cap_of_all = cap_of_all
        self._lanes: dict[tuple[str, str], int] = {}
        self._turns: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()  # of accounts that post

    async def accept(
        self,
        account_id: int,
        judged: Sequence[Judged],
        also: Also | None = None,
        allowance: Allowance = UNLIMITED,
    ) -> tuple[list[str], Fates]:
        """Ids for all of them, and for each why it was refused; None: it is accepted. Duplicates are judged first, each
        alone (§12.30); then caps and funds, which hold for all that come after.
        `also` joins their transaction: it gets that, its time, the ids and the fates, and what it raises undoes all.

        Raises DiskFull, and DatabaseLost; then whether they were accepted is not known.
        """
        if judged:
            self._disk.check()
        lanes = [await self._lane(one.model) for one in judged]
        began = observed.now()
        turns = self._turns.get(account_id)
        if turns is None:
            turns = self._turns[account_id] = asyncio.Semaphore(ACCEPTS_OF_ACCOUNT)
        async with turns:
            ids, fates = await self._accept(account_id, judged, lanes, also, allowance)
        observed.accepted([one.model for one in judged], ids, fates, began)
        return ids, fates

    async def _accept(
        self,
        account_id: int,
        judged: Sequence[Judged],
        lanes: Sequence[int],
        also: Also | None,
        allowance: Allowance,
    ) -> tuple[list[str], Fates]:
        for last in (False, True):
            now = self._clock()
            ids = mint_ids(now, account_id, Function.TASK_POST, os.urandom(6 * len(judged)))
            orders = [
                Order(task_id, lane, STANDARD_HOLD, one.tag, one.request, self._gather.get(one.model.provider))
                for task_id, lane, one in zip(ids, lanes, judged, strict=True)
            ]
            try:
                fates = await self._db.settled(
                    lambda: self._take(account_id, now, orders, also, allowance),  # noqa: B023
                    now.date(),
                )
            except Conflict:  # an id of 48 random bits met its twin: mint anew, once
                if last:
                    raise
                continue
            if None in fates:
                await self._waker.nudge(lanes)
            return ids, fates
        raise AssertionError("unreachable")

    async def _take(
        self, account_id: int, now: datetime, orders: Sequence[Order], also: Also | None, allowance: Allowance
    ) -> Fates:
        if also is None and not self._cap_of_all and not duplicates.counted(allowance):
            return await self._cover(self._db, account_id, now, orders, allowance)
        async with self._db.transaction() as tx:
            fates = await self._judge(tx, account_id, now, orders, allowance) if orders else []
            if also is not None:
                await also(tx, now, [order.id for order in orders], fates)
        return fates

    async def _judge(
        self, tx: Session, account_id: int, now: datetime, orders: Sequence[Order], allowance: Allowance
    ) -> Fates:
        if self._cap_of_all:
            await spending.lock_spending(tx)
        if not duplicates.counted(allowance):
            return await self._cover(tx, account_id, now, orders, allowance)
        wanted = [Wanted(account_id, fingerprint(read_prompt(one.request)), allowance) for one in orders]
        fates = await duplicates.judge(tx, now, wanted)
        fresh = [place for place, fate in enumerate(fates) if fate is None]
        if fresh:
            covered = await self._cover(tx, account_id, now, [orders[place] for place in fresh], allowance)
            for place, fate in zip(fresh, covered, strict=True):
                fates[place] = fate
            await duplicates.count(tx, now, [wanted[place] for place in fresh if fates[place] is None])
        return fates

    async def _cover(
        self, db: Session, account_id: int, now: datetime, orders: Sequence[Order], allowance: Allowance
    ) -> Fates:
        covered = await tasks.accept(db, account_id, now, orders, allowance.spend_per_day, self._cap_of_all)
        accepted: list[Refusal | None] = [None] * covered.number
        return accepted + [CapReached() if covered.capped else InsufficientFunds()] * (len(orders) - covered.number)

    async def _lane(self, model: Model) -> int:
        known = (model.provider, model.served)
        number = self._lanes.get(known)
        if number is None:
            number = self._lanes[known] = await queue.ensure_lane(self._db, model.provider, "", model.served)
        return number
