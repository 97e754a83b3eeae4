"""Live: hold, ask, settle, answer, in one call of at most 120 s. Nothing of it is stored but the task's row."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from restante import faults
from restante.core.allowance import UNLIMITED, Allowance
from restante.core.answer import Answer, Failure
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
from restante.flow import duplicates, observed
from restante.flow.disk import Disk, DiskFull
from restante.flow.duplicates import Wanted
from restante.flow.group import Group
from restante.flow.lease import Lease
from restante.flow.pacing import Pacer
from restante.flow.settle import Settler, answered, failed
from restante.observing import current
from restante.providers.provider import Call, Provider
from restante.store import queue, spending
from restante.store.database import Database
from restante.store.errors import DatabaseLost
from restante.store.queue import LiveHeld, LiveOrder

log = logging.getLogger("restante.live")


#: A task's id; the token and the time of its hold, or why there is none.
_Held = tuple[str, tuple[int, datetime] | Refusal]


class Live:
    """Runs live tasks on this process's own lease; one per process."""

    def __init__(
        self,
        db: Database,
        lease: Lease,
        providers: Sequence[Provider],
        settler: Settler,
        clock: Callable[[], datetime],
        seconds: float = LIVE_SECONDS,
        cap_of_all: int = 0,
        pacer: Pacer | None = None,
        disk: Disk | None = None,
    ) -> None:
        self._disk = disk or Disk()
        self._db = db
        self._lease = lease
        self._providers = {provider.name: provider for provider in providers}
        self._settler = settler
        self._clock = clock
        self._seconds = seconds
        self._cap_of_all = cap_of_all  # what all accounts may spend a day, in nano-dollars; 0: without limit
        self._pacer = pacer or Pacer(db, providers)
        self._holds: Group[_Asked, _Held] = Group(self._hold)

    async def ask(
        self, account_id: int, model: Model, prompt: Prompt, allowance: Allowance = UNLIMITED
    ) -> tuple[str, Answer | Refusal, int]:
        """The task's id, the answer or why there is none, and the charge in nano-dollars."""
        began = observed.now()
        once = Wanted(account_id, fingerprint(prompt), allowance) if duplicates.counted(allowance) else None
        try:
            self._disk.check()
            task_id, held = await self._holds.submit(_Asked(account_id, model, allowance, once))
        except DiskFull:  # said once, by whoever looks
            observed.live_refused(InternalError())
            return _mint(self._clock(), account_id), InternalError(), 0
        except DatabaseLost as error:
            task_id = _mint(self._clock(), account_id)
            log.error(
                "live task %s was answered with %d, for want of the database: %s", task_id, InternalError.code, error
            )
            observed.live_refused(InternalError())
            return task_id, InternalError(), 0
        if isinstance(held, Refusal):
            observed.live_refused(held)
            return task_id, held, 0
        token, now = held
        observed.live_began(task_id, model, began)
        # From here on the hold must be resolved even if the client hangs up and this coroutine is cancelled.
        asking = asyncio.create_task(self._ask_and_settle(task_id, token, now, model, prompt))
        asking.add_done_callback(lambda done: self._ended(done, token, task_id, began))
        outcome, charged = await asyncio.shield(asking)
        return task_id, outcome, charged

    def _ended(self, asking: asyncio.Task[tuple[Answer | Refusal, int]], token: int, task_id: str, began: int) -> None:
        broke = asking.cancelled() or asking.exception() is not None
        observed.live_ended(InternalError() if broke else asking.result()[0], began)
        self._lease.drop(token, task_id, doubtful=broke)

    async def _ask_and_settle(
        self, task_id: str, token: int, now: datetime, model: Model, prompt: Prompt
    ) -> tuple[Answer | Refusal, int]:
        current.task.set(task_id)
        call = Call(task_id=task_id, model=model.served, prompt=prompt, seconds=self._seconds)
        outcome = await self._generate(model.provider, call)
        faults.reach(faults.Point.LIVE_ANSWERED)
        settlement = (
            answered(token, task_id, now.date(), LIVE_FEE, outcome, None)
            if isinstance(outcome, Answer)
            else failed(token, task_id, now.date(), outcome)
        )
        if await self._settler.settle(settlement):
            return outcome, settlement.charged
        log.error("live task %s ended after this process's lease had: it failed and is refunded", task_id)
        return InternalError(), 0

    async def _generate(self, name: str, call: Call) -> Answer | Refusal:
        """Ask with a permit that is there now or in a moment: a live call waits for no quota (contract §3.4)."""
        try:
            permit = await self._pacer.one(name, call.model)
        except DatabaseLost as error:
            log.error("live task %s failed, refunded, for want of the database: %s", call.task_id, error)
            return InternalError()
        if isinstance(permit, Refusal):
            return permit
        broke: Refusal | None = None
        outcome: Answer | Failure
        began = observed.now()
        try:
            await self._pacer.turn(name, call.model, permit)
            began = observed.now()
            async with asyncio.timeout(self._seconds):
                outcome = await self._providers[name].generate(msgspec.structs.replace(call, project=permit.project))
        except TimeoutError:
            outcome, broke = Failure(reason="timeout", transient=True), LiveTimeout()
        except Exception:
            log.exception("provider %s broke on live task %s", name, call.task_id)
            outcome, broke = Failure(reason="internal error", transient=True), InternalError()
        finally:
            self._pacer.release(name, call.model, permit)
        observed.called(name, call, outcome, began)
        outcome = await self._pacer.heard(name, call.model, permit, outcome)
        return outcome if isinstance(outcome, Answer) else broke or ProviderFailed(outcome.reason)

    async def _hold(self, group: Sequence[_Asked]) -> Sequence[_Held]:
        # One reading of the clock for the id, its day and posted_at: around midnight two would name two days.
        now = self._clock()
        orders = [
            LiveOrder(
                _mint(now, one.account_id),
                one.account_id,
                int(LIVE_HOLD),
                one.allowance.live_at_once,
                one.allowance.spend_per_day,
                one.model.provider,
                one.model.served,
            )
            for one in group
        ]
        repeats = [one.once for one in group]
        async with self._lease.claiming:
            token = self._lease.token
            try:
                fates, found = await self._db.settled(lambda: self._take(token, now, orders, repeats), now.date())
            except DatabaseLost:
                self._lease.doubt()
                raise
            for task_id in found.held if found else ():
                self._lease.hold(token, task_id)
        if found is None:
            raise DatabaseLost("this process's lease ended; a new one is being made")
        return [(one.id, fate or _fate(one, found) or (token, now)) for one, fate in zip(orders, fates, strict=True)]

    async def _take(
        self, token: int, now: datetime, orders: Sequence[LiveOrder], repeats: Sequence[Wanted | None]
    ) -> tuple[list[Refusal | None], LiveHeld | None]:
        """The duplicates among the group, and the fates of the others; None: the lease has ended."""
        if not self._cap_of_all and not any(repeats):
            held = await queue.hold_live(self._db, token, now, orders)
            return [None] * len(orders), held
        async with self._db.transaction() as tx:
            if self._cap_of_all:
                await spending.lock_spending(tx)
            # All accounts of the group, not only those with limits: hold_live locks them too, and one order is needed.
            await spending.lock_payers(tx, [one.account_id for one in orders])
            fates = await duplicates.judge(tx, now, repeats)
            fresh = [one for one, fate in zip(orders, fates, strict=True) if fate is None]
            held = await queue.hold_live(tx, token, now, fresh, self._cap_of_all)
            if held is not None:
                await duplicates.count(
                    tx, now, [once for one, once in zip(orders, repeats, strict=True) if one.id in held.held]
                )
        return fates, held


class _Asked(msgspec.Struct, frozen=True):
    """A live task on its way in; `once` where its account has a limit of duplicates."""

    account_id: int
    model: Model
    allowance: Allowance
    once: Wanted | None


def _mint(now: datetime, account_id: int) -> str:
    return mint_id(now, account_id, Function.LIVE, secrets.randbits(48))


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
