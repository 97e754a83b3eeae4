"""The worker process: everything it is made of is put together here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

from restante.config import Settings
from restante.core.errors import OperatorError
from restante.core.limits import DELIVERY_DRAIN_SECONDS, RELISTEN_SECONDS
from restante.flow import accounts
from restante.flow.batch import Batcher
from restante.flow.batch_plan import plan
from restante.flow.deliver import Deliverer
from restante.flow.expire import keep_days, keep_deadlines, keep_leases, keep_parked, keep_retention
from restante.flow.lease import Lease
from restante.flow.pacing import Pacer
from restante.flow.run import Runner
from restante.flow.settle import Settler
from restante.providers.provider import Provider
from restante.store import queue
from restante.store.database import Database
from restante.store.errors import DatabaseLost
from restante.web.wire import answer_result, postback
from restante.webhooks.address_guard import AllowList
from restante.webhooks.sender import Sender
from restante.wiring import background, build_batches, build_models, counting, tracing, utc_now

log = logging.getLogger("restante.worker")


@contextlib.asynccontextmanager
async def working(db: Database, settings: Settings) -> AsyncIterator[asyncio.Task[None]]:
    """A worker, claiming once this is entered; leaving it drains: calls in flight may end within drain_seconds, then
    what is left goes back to the queue. Yields the claiming task, which ends by itself only if it broke, or
    if a newer restante has migrated the database."""
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(tracing(settings, "worker"))
        models = build_models(settings)
        counts = models.counts()
        stack.push_async_callback(models.close)
        pulse = counting(stack, db)
        settler = Settler(db, utc_now, pulse.settled)
        lease = Lease(
            db,
            f"worker {socket.gethostname()} {os.getpid()}",
            settings.lease_seconds,
            on_lost=lambda token: abandon(token),
            counts=counts,
            claims=True,
        )
        sender = Sender(AllowList(settings.webhook_allow), proxy=settings.webhook_proxy, ca_bundle=settings.ca_bundle)
        stack.push_async_callback(sender.close)
        deliverer = Deliverer(db, lease, sender, utc_now)
        pacer = Pacer(
            db, models.providers, on_change=lambda: runner.wake(), concurrency=settings.concurrency, counts=counts
        )
        runner = Runner(
            db, lease, models.providers, settler, answer_result, concurrency=settings.concurrency, clock=utc_now,
            envelope=postback, on_owed=deliverer.wake, pacer=pacer,
        )  # fmt: skip

        def abandon(token: int) -> None:
            runner.abandon(token)
            deliverer.abandon(token)

        def wake() -> None:
            runner.wake()
            deliverer.wake()

        sending = build_batches(models.providers)
        await pacer.begin()
        stack.enter_context(background(pacer.keep()))
        await lease.begin()
        stack.push_async_callback(lease.end)
        stack.enter_context(background(keep_days(db, utc_now)))
        stack.enter_context(background(keep_deadlines(db, utc_now, postback, settings.deadline_hours * 3_600)))
        stack.enter_context(background(_retention(db, settings)))
        stack.enter_context(background(keep_leases(db, settings.lease_seconds, wake)))
        stack.enter_context(background(keep_parked(db, wake)))
        stack.enter_context(background(_listen(db, runner)))
        stack.push_async_callback(deliverer.drain, min(DELIVERY_DRAIN_SECONDS, settings.drain_seconds))
        stack.enter_context(background(deliverer.run()))
        if sending is not None:
            batcher = Batcher(
                db, lease, sending, plan(settings.gather_seconds(), settings.gemini_batch_hours * 3_600),
                projects=lambda: pacer.keys.projects(sending.name), render=answer_result, envelope=postback,
                clock=utc_now, on_ready=runner.wake, on_owed=deliverer.wake, on_settled=pulse.settled,
            )  # fmt: skip
            stack.enter_context(background(batcher.run()))
        stack.push_async_callback(runner.drain, settings.drain_seconds)
        log.info(
            "the worker serves %s, %d calls at once",
            ", ".join(models.names),
            min(settings.concurrency, sum(provider.concurrency for provider in models.providers)),
        )
        stack.enter_context(background(_warn_of_unserved(db, models.names)))
        stack.enter_context(background(_warn_of_gone_models(db, models.providers)))
        if (address := settings.metrics_address()) is not None:
            stack.enter_context(background(_tell(address, db, settings, pacer, models.names, runner)))
        with background(lease.until_outdated(runner.run())) as claiming:
            yield claiming


async def _warn_of_unserved(db: Database, names: Sequence[str]) -> None:
    """Say at the start which tasks wait for providers that this worker does not serve. Beside the work: a database that
    leaves at this moment ends no worker."""
    try:
        unserved = await queue.unserved(db, names)
    except DatabaseLost as error:
        log.info("whether tasks wait for providers that this worker does not serve is not known: %s", error)
        return
    for other, tasks in unserved.items():
        log.warning(
            "%d tasks wait for provider %s, which this worker does not serve: start one with its settings, or"
            " cancel them (restante task cancel)", tasks, other,
        )  # fmt: skip


async def _tell(
    address: tuple[str, int], db: Database, settings: Settings, pacer: Pacer, providers: Sequence[str], runner: Runner
) -> None:
    """Serve this worker's metrics and health, until cancelled. What serves is imported only here."""
    from restante.observing import metrics
    from restante.observing.kinds import Labels
    from restante.web.auth import Passwords
    from restante.web.health import Health
    from restante.web.metrics import Exposition, MetricsPage
    from restante.web.metrics_port import keep_serving

    def slots() -> dict[Labels, float]:
        busy, free = runner.slots
        return {("busy",): busy, ("free",): free}

    passwords = Passwords(db, await accounts.pepper(db))
    exposition = Exposition("worker", db, {metrics.WORKER_SLOTS: slots})
    page = MetricsPage(exposition, db, passwords, settings.metrics_token)
    health = Health(db, lambda: pacer.keys.faults(providers), len(providers))
    await keep_serving(address, [*health.routes(), *page.routes()])


async def _warn_of_gone_models(db: Database, providers: Sequence[Provider]) -> None:
    """Say at the start which tasks wait for models that their provider no longer has: each will fail when its turn
    comes (contract §12.26). Asked beside the work, since the provider may take its time or be away."""
    for provider in providers:
        try:
            waited_for = await queue.models_waited_for(db, provider.name)
            served = {model.served for model in await provider.models()} if waited_for else set()
        except (OperatorError, DatabaseLost) as error:
            log.info("whether all models in use are still served by %s is not known: %s", provider.name, error)
            continue
        for model, tasks in waited_for.items():
            if model not in served:
                log.warning(
                    "%d tasks wait for model %r, which %s no longer serves: they will fail, unless they are cancelled"
                    " or RESTANTE_MODELS has a new name for it", tasks, model, provider.name,
                )  # fmt: skip


def _retention(db: Database, settings: Settings) -> Coroutine[Any, Any, None]:
    return keep_retention(
        db,
        utc_now,
        ready_seconds=settings.ready_hours * 3_600,
        result_days=settings.result_days,
        task_days=settings.task_days,
        error_days=settings.error_days,
    )


async def _listen(db: Database, runner: Runner) -> None:
    """Have the runner woken by notifications as long as they come. Through a pooler there are none."""
    if db.pooled:
        log.warning(
            "RESTANTE_DATABASE_URL goes through a pooler, so that new tasks do not wake this worker: it looks for them"
            " every moment. Give workers a direct one"
        )
    while not db.pooled:
        try:
            async with db.listening(queue.CHANNEL, lambda told: runner.wake(queue.notified(told))) as ended:
                runner.notified = True
                runner.wake()  # for what came meanwhile
                await ended.wait()
        except DatabaseLost as error:
            log.warning("new tasks do not wake this worker for now, it looks every moment: %s", error)
        except Exception:
            log.exception("listening for new tasks broke and is tried again; please report it")
        runner.notified = False
        await asyncio.sleep(RELISTEN_SECONDS)
    runner.notified = False
