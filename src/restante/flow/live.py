"""Live: hold, ask, settle, answer, in one call of at most 120 s. Nothing of it is stored but the task's row."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from restante.core.answer import Answer
from restante.core.errors import (
    InsufficientFunds,
    InternalError,
    LiveTimeout,
    ProviderFailed,
    Refusal,
    TooManyAtOnce,
)
from restante.core.limits import LIVE_SECONDS
from restante.core.pricing import LIVE_FEE, LIVE_HOLD
from restante.core.task import Function, Model, Prompt, mint_id
from restante.flow.group import Group
from restante.flow.lease import Lease
from restante.flow.pacing import Pacer
from restante.flow.settle import Settler, answered, failed
from restante.providers.provider import Call, Provider
from restante.store import queue
from restante.store.database import Database, DatabaseLost
from restante.store.queue import LiveOrder

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
        pacer: Pacer | None = None,
    ) -> None:
        self._db = db
        self._lease = lease
        self._provider = provider
        self._settler = settler
        self._clock = clock
        self._seconds = seconds
        self._pacer = pacer or Pacer(db, [provider])
        self._holds: Group[LiveOrder, tuple[int, datetime] | Refusal] = Group(self._hold)

    async def ask(
        self, account_id: int, model: Model, prompt: Prompt, at_once: int = 0
    ) -> tuple[str, Answer | Refusal, int]:
        """The task's id, the answer or why there is none, and the charge in nano-dollars. `at_once`: how many live
        tasks the account may have at work in all API processes (§12.21), 0: without limit."""
        task_id = mint_id(self._clock(), account_id, Function.LIVE, secrets.randbits(48))
        try:
            held = await self._holds.submit(LiveOrder(task_id, account_id, int(LIVE_HOLD), at_once))
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
        """Ask with a permit that is there now or in a moment: a live call waits for no quota (contract §3.4)."""
        name = self._provider.name
        try:
            permit = await self._pacer.one(name, call.model)
        except DatabaseLost as error:
            log.error("live task %s got no permit: %s", call.task_id, error)
            return InternalError()
        if isinstance(permit, Refusal):
            return permit
        try:
            await self._pacer.turn(name, call.model, permit)
            async with asyncio.timeout(self._seconds):
                outcome = await self._provider.generate(msgspec.structs.replace(call, project=permit.project))
        except TimeoutError:
            return LiveTimeout()
        except Exception:
            log.exception("provider %s broke on live task %s", name, call.task_id)
            return InternalError()
        finally:
            self._pacer.release(name, call.model, permit)
        outcome = await self._pacer.heard(name, call.model, permit, outcome)
        return outcome if isinstance(outcome, Answer) else ProviderFailed(outcome.reason)

    async def _hold(self, group: Sequence[LiveOrder]) -> Sequence[tuple[int, datetime] | Refusal]:
        now = self._clock()
        async with self._lease.claiming:
            token = self._lease.token
            try:
                found = await self._db.settled(lambda: queue.hold_live(self._db, token, now, group), now.date())
            except DatabaseLost:
                self._lease.doubt()
                raise
            for task_id in found.held if found else ():
                self._lease.hold(token, task_id)
        if found is None:
            raise DatabaseLost("this process's lease ended; a new one is being made")

        def fate(one: LiveOrder) -> tuple[int, datetime] | Refusal:
            if one.id in found.held:
                return token, now
            return TooManyAtOnce(f"{one.at_once} >= {one.at_once}") if one.id in found.crowded else InsufficientFunds()

        return [fate(one) for one in group]
