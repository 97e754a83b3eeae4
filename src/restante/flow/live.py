"""Live: hold, ask, settle, answer, in one call of at most 120 s. Nothing of it is stored but the task's row."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from restante.core.allowance import UNLIMITED, Allowance
from restante.core.answer import Answer
from restante.core.errors import (
    AccountPaused,
    CapReached,
    InsufficientFunds,
    InternalError,
    LiveTimeout,
    ModelPaused,
    ProviderFailed,
    Refusal,
    TooManyAtOnce,
)
from restante.core.limits import LIVE_SECONDS
from restante.core.pricing import LIVE_FEE, LIVE_HOLD
from restante.core.task import Function, Model, Prompt, fingerprint, mint_id
from restante.flow import duplicates
from restante.flow.duplicates import Wanted
from restante.flow.group import Group
from restante.flow.lease import Lease
from restante.flow.settle import Settler, answered, failed
from restante.providers.provider import Call, Provider
from restante.store import queue, spending
from restante.store.database import Database, DatabaseLost
from restante.store.queue import LiveHeld, LiveOrder

log = logging.getLogger("restante.live")


class Live:
    """Runs live tasks on this process's own lease; one per process."""

    def __init__(
        self,
        db: Database,
        lease: Lease,
        provider: Provider,
        settler: Settler,
        clock: Callable[[], datetime],
        seconds: float = LIVE_SECONDS,
        cap_of_all: int = 0,
    ) -> None:
        self._db = db
        self._lease = lease
        self._provider = provider
        self._settler = settler
        self._clock = clock
        self._seconds = seconds
        self._cap_of_all = cap_of_all  # what all accounts may spend a day, in nano-dollars; 0: without limit
        self._holds: Group[_Asked, tuple[int, datetime] | Refusal] = Group(self._hold)

    async def ask(
        self, account_id: int, model: Model, prompt: Prompt, allowance: Allowance = UNLIMITED
    ) -> tuple[str, Answer | Refusal, int]:
        """The task's id, the answer or why there is none, and the charge in nano-dollars."""
        task_id = mint_id(self._clock(), account_id, Function.LIVE, secrets.randbits(48))
        try:
            order = LiveOrder(
                task_id, account_id, int(LIVE_HOLD), allowance.live_at_once, allowance.spend_per_day, model.served
            )
            once = Wanted(account_id, fingerprint(prompt), allowance) if duplicates.counted(allowance) else None
            held = await self._holds.submit(_Asked(order, once))
        except DatabaseLost as error:
            log.error("live task %s was not held: %s", task_id, error)
            return task_id, InternalError(), 0
        if isinstance(held, Refusal):
            return task_id, held, 0
        token, now = held
        # From here on the hold must be resolved even if the client hangs up and this coroutine is cancelled.
        asking = asyncio.create_task(self._ask_and_settle(task_id, token, now, model, prompt))
        asking.add_done_callback(lambda done: self._ended(done, token, task_id))
        outcome, charged = await asyncio.shield(asking)
        return task_id, outcome, charged

    def _ended(self, asking: asyncio.Task[tuple[Answer | Refusal, int]], token: int, task_id: str) -> None:
        broke = asking.cancelled() or asking.exception() is not None
        self._lease.drop(token, task_id, doubtful=broke)

    async def _ask_and_settle(
        self, task_id: str, token: int, now: datetime, model: Model, prompt: Prompt
    ) -> tuple[Answer | Refusal, int]:
        outcome = await self._generate(Call(task_id=task_id, model=model.served, prompt=prompt, seconds=self._seconds))
        settlement = (
            answered(token, task_id, now.date(), LIVE_FEE, outcome, None)
            if isinstance(outcome, Answer)
            else failed(token, task_id, now.date(), outcome)
        )
        if await self._settler.settle(settlement):
            return outcome, settlement.charged
        log.error("live task %s outlived this process's lease; it failed and was refunded", task_id)
        return InternalError(), 0

    async def _generate(self, call: Call) -> Answer | Refusal:
        try:
            async with asyncio.timeout(self._seconds):
                outcome = await self._provider.generate(call)
        except TimeoutError:
            return LiveTimeout()
        except Exception:
            log.exception("provider %s broke on live task %s", self._provider.name, call.task_id)
            return InternalError()
        return outcome if isinstance(outcome, Answer) else ProviderFailed(outcome.reason)

    async def _hold(self, group: Sequence[_Asked]) -> Sequence[tuple[int, datetime] | Refusal]:
        now = self._clock()
        async with self._lease.claiming:
            token = self._lease.token
            try:
                fates, found = await self._db.settled(lambda: self._take(token, now, group), now.date())
            except DatabaseLost:
                self._lease.doubt()
                raise
            for task_id in found.held if found else ():
                self._lease.hold(token, task_id)
        if found is None:
            raise DatabaseLost("this process's lease ended; a new one is being made")
        return [fate or _fate(one.order, found) or (token, now) for one, fate in zip(group, fates, strict=True)]

    async def _take(
        self, token: int, now: datetime, group: Sequence[_Asked]
    ) -> tuple[list[Refusal | None], LiveHeld | None]:
        """The duplicates among the group, and the fates of the others; None: the lease has ended."""
        repeats = [one.once for one in group]
        everything = [one.order for one in group]
        if not self._cap_of_all and not any(repeats):
            held = await queue.hold_live(self._db, token, now, everything, self._provider.name)
            return [None] * len(group), held
        async with self._db.transaction() as tx:
            if self._cap_of_all:
                await spending.lock_spending(tx)
            # All accounts of the group, not only those with limits: hold_live locks them too, and one order is needed.
            await spending.lock_payers(tx, [one.account_id for one in everything])
            fates = await duplicates.judge(tx, now, repeats)
            fresh = [one.order for one, fate in zip(group, fates, strict=True) if fate is None]
            held = await queue.hold_live(tx, token, now, fresh, self._provider.name, self._cap_of_all)
            if held is not None:
                await duplicates.count(tx, now, [one.once for one in group if one.order.id in held.held])
        return fates, held


class _Asked(msgspec.Struct, frozen=True):
    """A live task on its way in; `once` where its account has a limit of duplicates."""

    order: LiveOrder
    once: Wanted | None


def _fate(one: LiveOrder, found: LiveHeld) -> Refusal | None:
    """Why a task was not held; None: it was."""
    if one.id in found.held:
        return None
    if one.id in found.blocked:
        return AccountPaused()
    if one.id in found.halted:
        return ModelPaused()
    if one.id in found.crowded:
        return TooManyAtOnce(f"{one.at_once} >= {one.at_once}")
    return CapReached() if one.id in found.capped else InsufficientFunds()
