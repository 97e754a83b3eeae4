"""Run: claim tasks in batches, ask their models many at a time on one event loop, settle what they say.

A claimed task has this worker's lease, and a permit for its call was there before it was claimed (flow/pacing). Faults
of a provider are values: a transient one parks the task until it may be tried again, until its deadline; any other
fails it. Bugs of ours count as transient, a few times, so that a task is never lost to them at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from msgspec.structs import replace

from restante import faults
from restante.core.answer import Answer, Failure
from restante.core.errors import InternalError, ProviderFailed, Refusal
from restante.core.limits import (
    CALL_SECONDS,
    CLAIM_BATCH,
    COSTLY_TRIES_MAX,
    KEY_WAIT_SECONDS,
    LOST_LEASES_MAX,
    POLL_BUSY_SECONDS,
    POLL_SECONDS,
    PUT_BACK_MAX,
    PUT_BACK_REMEMBERED,
    RETRY_SECONDS,
    UNSETTLED_MAX,
)
from restante.core.pricing import STANDARD_FEE
from restante.core.task import Trail, read_prompt
from restante.flow import observed
from restante.flow.deliver import Envelope, with_webhooks
from restante.flow.lease import Lease
from restante.flow.pacing import Pacer, Permit
from restante.flow.settle import Settler, answered, failed
from restante.observing import current
from restante.providers.provider import Call, Provider
from restante.store import queue
from restante.store.database import Database
from restante.store.errors import DatabaseLost
from restante.store.queue import Claimed, Lane

log = logging.getLogger("restante.run")

Render = Callable[[Answer, datetime], bytes]


def retry_delay(tries: int, retry_after: float | None, chance: float) -> float:
    """Seconds until a task is tried again after its n-th transient failure; `chance` in 0..1 spreads it by ±20 %.

    A provider's own word (`retry_after`) is a minimum.
    """
    planned = RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)] * (0.8 + 0.4 * chance)
    return max(planned, retry_after or 0.0)


class Runner:
    """The working half of a worker process. `render` writes an answer as its clients will read it, `envelope` what
    task_get will say of a task by its id. `on_owed` is called when a settlement owed webhooks."""

    def __init__(
        self,
        db: Database,
        lease: Lease,
        providers: Sequence[Provider],
        settler: Settler,
        render: Render,
        *,
        concurrency: int,
        clock: Callable[[], datetime],
        envelope: Envelope,
        on_owed: Callable[[], None] = lambda: None,
        pacer: Pacer | None = None,
    ) -> None:
        self._db = db
        self._lease = lease
        self._providers = {provider.name: provider for provider in providers}
        self._settler = settler
        self._render = render
        self._concurrency = concurrency
        self._clock = clock
        self._envelope = envelope
        self._on_owed = on_owed
        self._pacer = pacer or Pacer(db, providers)
        self._put_back: Counter[str] = Counter()  # tasks put off for a quota's sake, how often in a row
        self._look_again = POLL_SECONDS  # seconds from the last round
        self._poll = POLL_SECONDS  # the most of them
        #: Whether notifications come. Without them it looks often while there is work, and less and less without.
        self.notified = True
        self._wake = asyncio.Event()
        self._known: dict[int, Lane] = {}  # lanes that waited once
        self._hinted: set[int] = set()  # those that got tasks, as we were told
        self._served = -1  # the lane that was claimed from last
        self._running: dict[asyncio.Task[None], tuple[int, str, str]] = {}  # -> token, provider, task's id
        # Of them, those that are being called, and their providers: what is only being settled takes nobody's slot.
        self._calling: dict[asyncio.Task[None] | None, str] = {}

    @property
    def in_flight(self) -> int:
        """Tasks this worker holds now."""
        return len(self._running)

    @property
    def slots(self) -> tuple[int, int]:
        """Calls in flight, and how many more may be."""
        return len(self._calling), max(0, self._concurrency - len(self._calling))

    def wake(self, lanes: Iterable[int] = ()) -> None:
        """There may be something to claim: tasks came in (to these lanes, if that is known), or a call ended."""
        self._hinted.update(lanes)
        self._wake.set()

    def abandon(self, token: int) -> None:
        """The lease of this token ended: its calls are for nothing, stop paying for them."""
        for task, (held_by, _, _) in self._running.items():
            if held_by == token:
                task.cancel()

    async def run(self) -> None:
        """Claim and start tasks until cancelled; those started go on. A mistake of ours ends it, and the worker, which
        lets the calls in flight end and gives back the rest: one that went on might take task after task and lose them.

        Woken from idleness it claims where it was told that tasks came, which saves a round trip before their start;
        every other round looks at all lanes, so that none of them waits for another's hints.
        """
        idle = False
        while True:
            self._wake.clear()
            hinted = [self._known[lane] for lane in sorted(self._hinted & self._known.keys())] if idle else []
            self._hinted.clear()
            try:
                claimed = (hinted and await self._claim_round(hinted)) or await self._claim_round()
            except DatabaseLost as error:
                log.warning("no tasks are claimed until the database is back: %s", error)
                self._lease.doubt()
                await self._db.revive()
                claimed = 0
            idle = not claimed
            if claimed:
                self._poll = POLL_BUSY_SECONDS
            else:
                self._poll = POLL_SECONDS if self.notified else min(2 * self._poll, POLL_SECONDS)
                await self._woken(min(self._look_again, self._poll))

    async def drain(self, seconds: float) -> None:
        """Let the calls in flight end; cancel what has not after `seconds`. Their lease's end gives them back."""
        if self._running:
            log.info("draining: %d calls in flight may end within %.0f s", len(self._running), seconds)
            _, late = await asyncio.wait(self._running, timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        await self._settler.idle(seconds)

    async def _woken(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _claim_round(self, hinted: Sequence[Lane] = ()) -> int:
        """One claim from each lane that waits, or only from these, sharing the free slots among them; returns how many
        tasks."""
        self._look_again = POLL_SECONDS
        await self._db.in_time()
        free = min(self._concurrency - len(self._calling), self._concurrency + UNSETTLED_MAX - len(self._running))
        if free <= 0:
            return 0
        lanes = list(hinted) or await self._waiting()
        # Round robin: with one slot free at a time, the lane that is always looked at first would take them all.
        lanes.sort(key=lambda lane: (lane.id <= self._served, lane.id))
        busy = Counter(self._calling.values())
        total = 0
        for position, lane in enumerate(lanes):
            share = max(1, (free - total) // (len(lanes) - position))
            provider = self._providers.get(lane.provider)
            room = share if provider is None else min(share, provider.concurrency - busy[lane.provider])
            if room <= 0 or total >= free:
                continue
            claimed = await self._claim(lane, min(room, CLAIM_BATCH))
            if not claimed:
                continue
            self._served = lane.id
            busy[lane.provider] += claimed
            total += claimed
        return total

    async def _waiting(self) -> list[Lane]:
        lanes = await queue.waiting_lanes(self._db, [*self._providers, queue.LIVE])
        self._known.update((lane.id, lane) for lane in lanes)
        return lanes

    async def _claim(self, lane: Lane, most: int) -> int:
        """Claim as many tasks as there are permits for; what is left of these goes back."""
        permits = await self._pacer.permits(lane.provider, lane.model, most)
        if not permits:
            self._look_again = min(self._look_again, self._pacer.wait_seconds(lane.provider, lane.model))
            return 0
        started = 0
        try:
            async with self._lease.claiming:
                token = self._lease.token
                # A claim that parks a debtor's tasks can meet the top-up that wakes them, and lose.
                for one in await self._db.settled(lambda: queue.claim(self._db, token, lane.id, len(permits))):
                    self._lease.hold(token, one.id)
                    task = asyncio.create_task(self._run_one(token, lane, one, permits[started]))
                    started += 1
                    self._running[task] = (token, lane.provider, one.id)
                    self._calling[task] = lane.provider
                    task.add_done_callback(self._ended)
        finally:
            if started < len(permits):
                await self._pacer.back(lane.provider, lane.model, permits[started:])
        return started

    def _ended(self, task: asyncio.Task[None]) -> None:
        token, _, task_id = self._running.pop(task)
        self._calling.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("running task %s broke; it goes back to the queue", task_id, exc_info=error)
        self._lease.drop(token, task_id, doubtful=error is not None)
        self.wake()

    async def _run_one(self, token: int, lane: Lane, claimed: Claimed, permit: Permit) -> None:
        current.task.set(claimed.id)
        outcome, trail = await self._outcome(lane, claimed, permit)
        del self._calling[asyncio.current_task()]
        self.wake()
        faults.reach(faults.Point.CALL_ANSWERED)
        if isinstance(outcome, Failure):
            if await self._put_off(token, lane, claimed, outcome):
                return
            outcome = ProviderFailed(outcome.reason)
        if await self._settle(token, claimed, outcome, trail):
            observed.done(lane.provider, claimed, self._clock())

    async def _outcome(
        self, lane: Lane, claimed: Claimed, permit: Permit
    ) -> tuple[Answer | Failure | Refusal, Trail | None]:
        """How it ended, and its trail where a provider was called."""
        claimed_at, began = int(self._clock().timestamp() * 1_000), time.perf_counter()
        try:
            if lane.provider == queue.LIVE:
                return InternalError(), None  # whoever asked is gone with the process that ran it: money back
            if claimed.lost > LOST_LEASES_MAX:
                return ProviderFailed(f"given up after {claimed.lost} workers were lost on it"), None
            await self._pacer.turn(lane.provider, lane.model, permit)
            observed.waited(lane.provider, claimed, self._clock())
            turned = time.perf_counter()
            outcome = await self._ask(lane, claimed, permit.project)
        finally:
            self._pacer.release(lane.provider, lane.model, permit)
        paced, called = (int(span * 1_000) for span in (turned - began, time.perf_counter() - turned))
        trail = Trail(self._lease.name, claimed_at, paced, called, claimed.tries, claimed.wasted, claimed.lost)
        return await self._pacer.heard(lane.provider, lane.model, permit, outcome), trail

    async def _ask(self, lane: Lane, claimed: Claimed, project: str) -> Answer | Failure:
        assert claimed.request is not None
        prompt = read_prompt(claimed.request)
        call = Call(task_id=claimed.id, model=lane.model, prompt=prompt, seconds=CALL_SECONDS, project=project)
        began = observed.now()
        outcome: Answer | Failure
        try:
            async with asyncio.timeout(CALL_SECONDS):
                outcome = await self._providers[lane.provider].generate(call)
        except TimeoutError:
            outcome = Failure(reason="timeout", transient=True)
        except Exception:
            log.exception("provider %s broke on task %s", lane.provider, claimed.id)
            outcome = Failure(reason="internal error", transient=True, costly=True)
        observed.called(lane.provider, call, outcome, began)
        return outcome

    async def _put_off(self, token: int, lane: Lane, claimed: Claimed, failure: Failure) -> bool:
        """Give the task back to the queue, to be tried later; False: no later try would mend it."""
        shut = failure.waits and self._pacer.keys.fault(lane.provider) is not None
        if shut or (self._pacer.paces(lane.provider) and (failure.strain == "quota" or failure.waits)):
            # Its lane is shut or pauses: the task keeps its turn.
            if self._may_go_back(claimed.id, failure):
                return await queue.give_back(self._db, token, claimed.id) or True
        elif failure.waits:
            seconds = KEY_WAIT_SECONDS * (0.8 + 0.4 * random.random())  # noqa: S311
            return await queue.park(self._db, token, claimed.id, seconds, tried=False) or True
        if not failure.transient or (failure.costly and claimed.wasted + 1 >= COSTLY_TRIES_MAX):
            return False
        seconds = retry_delay(claimed.tries, failure.retry_after, random.random())  # noqa: S311
        log.info("task %s: %s; next try in %.1f s", claimed.id, failure.reason, seconds)
        await queue.park(self._db, token, claimed.id, seconds, wasted=failure.costly)
        return True

    def _may_go_back(self, task_id: str, failure: Failure) -> bool:
        """Whether a task keeps its turn. One that meets an exhausted quota again and again may be what exhausts it (a
        prompt of more tokens than a minute allows); it must not stand before all others for ever."""
        if failure.strain != "quota":
            return True
        if len(self._put_back) >= PUT_BACK_REMEMBERED:
            self._put_back.clear()
        self._put_back[task_id] += 1
        if self._put_back[task_id] <= PUT_BACK_MAX:
            return True
        del self._put_back[task_id]
        return False

    async def _settle(
        self, token: int, claimed: Claimed, outcome: Answer | Refusal, trail: Trail | None = None
    ) -> bool:
        """Whether it changed anything."""
        try:
            if isinstance(outcome, Answer):
                result = self._render(outcome, self._clock())
                settlement = answered(token, claimed.id, claimed.day, STANDARD_FEE, outcome, result)
            else:
                settlement = failed(token, claimed.id, claimed.day, outcome)
            settlement = with_webhooks(replace(settlement, trail=trail), claimed.request, self._envelope)
            settled = await self._settler.settle(settlement)
        except Exception:
            if isinstance(outcome, InternalError):
                raise
            log.exception("task %s could not be settled as it ended; it fails and is refunded", claimed.id)
            return await self._settle(token, claimed, InternalError(), trail)
        if settled and settlement.owed:
            self._on_owed()
        if not settled:
            log.warning("task %s: a late answer changed nothing, its lease had ended and it is others' now", claimed.id)
        return settled
