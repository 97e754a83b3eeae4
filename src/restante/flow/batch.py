"""Batch: tasks that may wait gather, go to their provider together, and are settled at its lower price.

A task in a batch is a parked queue row with a time: whatever happens to the batch or to us, then it is called directly,
so nothing can be lost. What a batch says of a task that has left it (called directly, cancelled) changes nothing.
Nothing is paid for twice knowingly: that a batch will be asked for is committed before it is, under a name of ours, and
when nobody saw how that ended, the provider is asked for that name until it is certain. Each step is one look at one
batch, by whichever worker lives; what it needs is in the database.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta

from msgspec.structs import replace

from restante.core.answer import Answer, Failure
from restante.core.errors import ProviderFailed
from restante.core.limits import (
    BATCH_BYTES,
    BATCH_KEPT_DAYS,
    BATCH_PAGE,
    BATCHES_OPEN,
    CALL_SECONDS,
    GATHER_SPARE_SECONDS,
)
from restante.core.money import Nano
from restante.core.pricing import STANDARD_FEE
from restante.core.task import parse_id, read_prompt
from restante.flow import observed
from restante.flow.batch_find import Finder
from restante.flow.batch_plan import Plan
from restante.flow.deliver import Envelope, with_webhooks
from restante.flow.lease import Lease
from restante.flow.settle import Ended, answered, failed
from restante.providers.provider import Batching, Call, Sent
from restante.store import batches, queue
from restante.store.batches import Batch, Member, Stage
from restante.store.database import Database
from restante.store.errors import DatabaseLost
from restante.store.queue import Settlement

log = logging.getLogger("restante.batch")

Render = Callable[[Answer, datetime], bytes]


class Batcher:
    """The half of a worker that looks after one provider's batches. `projects` are those that may be called now,
    `on_ready` is called when tasks became ready for direct calls, `on_owed` when webhooks are owed."""

    def __init__(
        self,
        db: Database,
        lease: Lease,
        provider: Batching,
        plan: Plan,
        *,
        projects: Callable[[], Sequence[str]],
        render: Render,
        envelope: Envelope,
        clock: Callable[[], datetime],
        on_ready: Callable[[], None] = lambda: None,
        on_owed: Callable[[], None] = lambda: None,
        on_settled: Ended = lambda ended: None,
    ) -> None:
        self._db = db
        self._lease = lease
        self._provider = provider
        self._plan = plan
        self._projects = projects
        self._finder = Finder(provider, projects)
        self._render = render
        self._envelope = envelope
        self._clock = clock
        self._on_ready = on_ready
        self._on_owed = on_owed
        self._on_settled = on_settled

    async def run(self) -> None:
        """Look after batches until cancelled."""
        forgot: date | None = None
        while True:
            try:
                if (today := self._clock().date()) != forgot:
                    await batches.forget(self._db, self._clock() - timedelta(days=BATCH_KEPT_DAYS))
                    forgot = today
                await self.gather()
                while await self.step():  # what is due may be much and slow: what gathers is not kept waiting for it
                    await self.gather()
            except DatabaseLost as error:
                log.warning("batches wait for the database: %s", error)
                await self._db.revive()
            except Exception:
                log.exception("looking after batches broke and is tried again; please report it")
            await asyncio.sleep(self._plan.look * (0.5 + random.random()))  # noqa: S311

    # --- gathering -------------------------------------------------------------------------------------

    async def gather(self) -> int:
        """Make batches of what has waited long enough; returns how many. Asking for them is `step`'s."""
        if self._plan.gather is None or not self._projects():
            return 0
        made = 0
        lanes = await batches.gatherable(
            self._db, [self._provider.name], self._plan.gather, self._plan.full, BATCHES_OPEN,
            within=self._plan.late + self._plan.spare,
        )  # fmt: skip
        for lane in lanes:
            if not (project := self._pick()):  # they were withdrawn meanwhile
                break
            token, name = self._lease.token, f"restante-{secrets.token_hex(12)}"
            batch = await batches.gather(
                self._db, token, lane, project, name, self._plan.full,
                seconds=self._plan.late, spare=self._plan.spare,
            )  # fmt: skip
            if batch is not None:
                made += 1
                await self._guarded(token, batch)
        return made

    def _pick(self) -> str:
        """A project that may be called now; empty when there is none."""
        return random.choice(list(self._projects()) or [""])  # noqa: S311

    # --- one look at one batch -------------------------------------------------------------------------

    async def step(self) -> bool:
        """Look at the batch that is due first, and do what it needs; False when none is due. Raises DatabaseLost."""
        token = self._lease.token
        batch = await batches.take(self._db, token, [self._provider.name])
        if batch is None:
            return False
        await self._guarded(token, batch)
        return True

    async def _guarded(self, token: int, batch: Batch) -> None:
        """A look that breaks delays its own batch alone."""
        try:
            match batch.state:
                case Stage.GATHERED:
                    await self._make(token, batch)
                case Stage.ASKED:
                    await self._resolve(token, batch)
                case _:
                    await self._look(token, batch)
        except DatabaseLost:
            raise
        except Exception:
            log.exception("batch %s: its look broke; it goes on", batch.name)
            await batches.put_down(self._db, token, batch.id, self._pause(batch))

    def _pause(self, batch: Batch) -> float:
        """Until the next look: growing, since most batches take either minutes or hours."""
        planned = self._plan.poll[min(batch.looks, len(self._plan.poll) - 1)]
        return max(0.05, min(planned, batch.left) if batch.left > 0 else planned)

    async def _make(self, token: int, batch: Batch) -> None:
        """Ask the provider for the batch. Until it is asked for, all may be done again."""
        if batch.age > self._plan.making or batch.left <= 0:
            await self._give_up(token, batch, "it could not be made")
            return
        if batch.project not in self._projects():
            if not (project := self._pick()):
                await self._put_off(token, batch, Failure(reason="no project may be called now", transient=True))
                return
            batch = replace(await self._without_file(token, batch), project=project)
        if await batches.paused(self._db, batch):
            await self._put_off(token, batch, Failure(reason="its model is paused", transient=True))
            return
        if await batches.leave_barred(self._db, token, batch.id):
            batch = await self._without_file(token, batch)  # it has their calls in it
            self._on_ready()
        items = await self._items(batch)
        if not items:
            await self._give_up(token, batch, "nothing was left in it")
            return
        uploaded = batch.file is None and not self._provider.inline(items)
        if uploaded:
            file = await self._provider.upload(batch.project, batch.name, items)
            if isinstance(file, Failure):
                await self._put_off(token, batch, file)
                return
            batch = replace(batch, file=file)
        batch = replace(batch, state=Stage.ASKED)
        if not await batches.write(self._db, token, batch, asking=True):
            if uploaded:
                await self._finder.forget(batch)
            return
        made = await self._provider.create(
            batch.project,
            batch.model,
            batch.name,
            items=() if batch.file else items,
            file=batch.file or "",
            seconds=self._plan.doubt / 2,
        )
        if isinstance(made, Sent):
            log.info("batch %s of %d tasks is %s", batch.name, len(items), made.name)
            running = replace(batch, state=Stage.RUNNING, remote=made.name, outcome=None)
            if not await batches.write(self._db, token, running, look_in=self._pause(batch)):
                await self._disown(batch, made)
        elif self._provider.refused(made):
            await self._put_off(token, batch, made)
        else:
            log.warning("batch %s: whether it was made is not known, it is looked for: %s", batch.name, made.reason)
            await batches.write(self._db, token, replace(batch, outcome=made.reason), look_in=self._pause(batch))

    async def _without_file(self, token: int, batch: Batch) -> Batch:
        """The calls uploaded for it are not those that will go."""
        bare = replace(batch, file=None)
        # Whoever goes on with the batch must not believe in a file that is gone.
        if batch.file is not None and await batches.write(self._db, token, bare):
            await self._finder.forget(batch)
        return bare

    async def _disown(self, batch: Batch, made: Sent) -> None:
        """Ours was made when the batch had become another's: it stays only if that one found it and keeps it."""
        if await batches.remote(self._db, batch.id) != made.name:
            log.error("batch %s is another's by now; %s is cancelled", batch.name, made.name)
            await self._provider.cancel(batch.project, made.name)

    async def _items(self, batch: Batch) -> list[bytes]:
        """The batch's calls as they go to the provider; what is beyond BATCH_BYTES gathers for another batch."""
        items: list[bytes] = []
        size, last = 0, None
        while page := await batches.members(self._db, batch.id, BATCH_PAGE, after=last):
            for one in page:
                item = self._provider.item(self._call(batch, one))
                if items and size + len(item) > BATCH_BYTES:
                    assert last is not None
                    await batches.gather_again(self._db, batch.id, last, GATHER_SPARE_SECONDS)
                    return items
                items.append(item)
                size, last = size + len(item), one.id
        return items

    def _call(self, batch: Batch, one: Member) -> Call:
        return Call(
            task_id=one.id, model=batch.model, prompt=read_prompt(one.request), seconds=CALL_SECONDS,
            project=batch.project,
        )  # fmt: skip

    async def _put_off(self, token: int, batch: Batch, failure: Failure) -> None:
        """Nothing was made: later, or never if the provider will never take it."""
        if not failure.transient:
            await self._give_up(token, batch, failure.reason)
            return
        log.info("batch %s is put off: %s", batch.name, failure.reason)
        batch = replace(batch, state=Stage.GATHERED, outcome=failure.reason)
        pause = max(self._pause(batch), failure.retry_after or 0.0)
        await batches.write(self._db, token, batch, look_in=min(pause, max(0.05, self._plan.making)))

    async def _resolve(self, token: int, batch: Batch) -> None:
        """It was asked for and nobody saw what came of it: the provider knows it by our name, or it was not made."""
        batch, found = await self._finder.named(batch)
        if isinstance(found, Failure):
            if batch.left <= 0:
                await self._give_up(token, batch, f"it cannot be found: {found.reason}")
                return
            await batches.write(self._db, token, batch, look_in=self._pause(batch))
        elif found:
            log.warning("batch %s was made after all: %s", batch.name, found[0].name)
            await self._spare(batch, found[1:])
            running = replace(batch, state=Stage.RUNNING, remote=found[0].name, outcome=None)
            await batches.write(self._db, token, running, look_in=0.0)
        elif batch.since_asked < self._plan.doubt:  # its making may still be on the way
            await batches.write(self._db, token, batch, look_in=min(self._pause(batch), self._plan.doubt))
        else:
            log.warning("batch %s was not made; it is asked for again", batch.name)
            await batches.write(self._db, token, replace(batch, state=Stage.GATHERED), look_in=0.0)

    async def _spare(self, batch: Batch, twins: Sequence[Sent]) -> None:
        for twin in (one for one in twins if not one.over):
            log.error("batch %s was made twice; %s is cancelled", batch.name, twin.name)
            await self._provider.cancel(batch.project, twin.name)

    async def _look(self, token: int, batch: Batch) -> None:
        """How it goes: over, late, or still running."""
        batch, sent = await self._finder.look(batch)
        assert batch.remote is not None
        if batch.asks > 1:  # asked for again: did the first ask work, late?
            _, found = await self._finder.named(batch)
            if not isinstance(found, Failure):
                await self._spare(batch, [one for one in found if one.name != batch.remote])
        if isinstance(sent, Failure) and not sent.transient:
            await self._give_up(token, batch, f"the provider does not know it: {sent.reason}")
            return
        if isinstance(sent, Sent) and sent.over:
            unread = await self._read(token, batch, sent)
            if unread is None:
                await self._end(token, replace(batch, outcome=batch.outcome or sent.word))
                return
            log.warning("batch %s: its results cannot be read now: %s", batch.name, unread.reason)
        if batch.left <= -self._plan.spare:
            await self._end(token, replace(batch, outcome=batch.outcome or "late"))
            return
        if batch.left <= 0 and batch.outcome != "late":
            log.warning("batch %s is late: it is cancelled, what it did until now is read", batch.name)
            over = isinstance(sent, Sent) and sent.over
            failure = None if over else await self._provider.cancel(batch.project, batch.remote)
            if failure is not None:  # asked again at the next look: what runs on is paid for twice
                log.warning("batch %s could not be cancelled: %s", batch.name, failure.reason)
            batch = replace(batch, outcome="late" if failure is None else batch.outcome, looks=0)
        await batches.write(self._db, token, batch, look_in=self._pause(batch))

    # --- how it ends -----------------------------------------------------------------------------------

    async def _give_up(self, token: int, batch: Batch, why: str) -> None:
        log.warning("batch %s is given up: %s", batch.name, why)
        await self._end(token, replace(batch, outcome=why))

    async def _end(self, token: int, batch: Batch) -> None:
        """What has no answer is called directly; then the provider may forget the batch, unless it is another's now."""
        left = await batches.leave(self._db, token, batch.id)
        if left:
            log.warning("batch %s (%s): %d tasks are called directly", batch.name, batch.outcome, left)
            self._on_ready()
        ours = await batches.write(self._db, token, replace(batch, state=Stage.OVER), look_in=0.0)
        if ours:
            await self._finder.forget(batch)

    async def _read(self, token: int, batch: Batch, sent: Sent) -> Failure | None:
        """Settle what the batch answered; a Failure when the rest cannot be read now."""
        chunk: dict[str, bytes | Failure] = {}
        if not sent.output:
            return None
        async for one in self._provider.results(batch.project, sent.output):
            if isinstance(one, Failure):
                await self._settle(token, batch, chunk)
                return one if one.transient else None
            if one[0]:
                chunk[one[0]] = one[1]
            if len(chunk) >= BATCH_PAGE:
                await self._settle(token, batch, chunk)
                chunk = {}
        await self._settle(token, batch, chunk)
        return None

    async def _settle(self, token: int, batch: Batch, chunk: dict[str, bytes | Failure]) -> None:
        """Settle these tasks, as far as they are in the batch still, by posting days as their statement is."""
        mine = await self._still_in(batch, chunk)
        said = await asyncio.gather(*(self._said(batch, one, chunk[one.id]) for one in mine))
        by_day: dict[date, list[tuple[Settlement, Nano]]] = {}
        back: list[str] = []
        for one, outcome in zip(mine, said, strict=True):
            if outcome is None:
                back.append(one.id)
            else:
                by_day.setdefault(one.day, []).append(outcome)
        for day, group in sorted(by_day.items()):
            await self._db.settled(lambda: self._commit(batch, day, group), day)  # noqa: B023
            if any(settlement.owed for settlement, _ in group):
                self._on_owed()
        if back and await batches.leave(self._db, token, batch.id, back):
            self._on_ready()

    async def _still_in(self, batch: Batch, chunk: dict[str, bytes | Failure]) -> list[Member]:
        ids = [task_id for task_id in chunk if str(parse_id(task_id)) == task_id]
        return await batches.members(self._db, batch.id, len(ids), ids=ids) if ids else []

    async def _said(self, batch: Batch, one: Member, result: bytes | Failure) -> tuple[Settlement, Nano] | None:
        """What a task's result means for it; None: a direct call may do better."""
        try:
            outcome: Answer | Failure
            if isinstance(result, Failure):
                outcome, saved = result, Nano(0)
            else:
                outcome, saved = await self._provider.answer(self._call(batch, one), result)
            if not isinstance(outcome, Failure):
                observed.spent(self._provider.name, batch.model, outcome)
                rendered = self._render(outcome, self._clock())
                settlement = answered(0, one.id, one.day, STANDARD_FEE, outcome, rendered)
            elif outcome.transient:
                return None
            else:
                settlement = failed(0, one.id, one.day, ProviderFailed(outcome.reason))
            return with_webhooks(settlement, one.request, self._envelope), saved
        except Exception:  # it must not keep the others of its batch from their answers
            log.exception("batch %s: what it says of task %s broke us", batch.name, one.id)
            return None

    async def _commit(self, batch: Batch, day: date, group: Sequence[tuple[Settlement, Nano]]) -> None:
        """Leased and settled in one transaction: whoever else wants these rows gets them before or never."""
        token, began = secrets.randbits(63), observed.now()
        async with self._db.transaction() as tx:
            held = await batches.lease(tx, token, batch.id, [one.id for one, _ in group])
            if not (mine := [(replace(one, token=token), saved) for one, saved in group if one.id in held]):
                return
            settled = await queue.settle(tx, token, day, self._clock(), [one for one, _ in mine])
            good = {one.id: int(saved) for one, saved in mine if one.message is None}
            await batches.note_saved(tx, day, good)
            saved, bad = sum(good.values()), len(mine) - len(good)
            await batches.count(tx, batch.id, answered=len(good), failed=bad, saved=saved)
        observed.settled([one for one, _ in mine], held, began)
        self._on_settled((one.id, one.state) for one, _ in mine if one.id in settled)
