"""The worker process: everything it is made of is put together here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from restante.config import Settings
from restante.core.limits import DELIVERY_DRAIN_SECONDS, RELISTEN_SECONDS
from restante.flow.deliver import Deliverer
from restante.flow.expire import keep_days, keep_deadlines, keep_leases, keep_parked, keep_retention
from restante.flow.health import Watched
from restante.flow.lease import Lease
from restante.flow.run import Runner
from restante.flow.settle import Settler
from restante.store import queue
from restante.store.database import Database, DatabaseLost
from restante.web.wire import answer_result, postback
from restante.webhooks.address_guard import AllowList
from restante.webhooks.sender import Sender
from restante.wiring import background, build_provider, utc_now

log = logging.getLogger("restante.worker")


@contextlib.asynccontextmanager
async def working(db: Database, settings: Settings) -> AsyncIterator[asyncio.Task[None]]:
    """A worker, claiming once this is entered; leaving it drains: calls in flight may end within drain_seconds, then
    what is left goes back to the queue. Yields the claiming task, which ends by itself only if it broke."""
    async with contextlib.AsyncExitStack() as stack:
        provider = Watched(build_provider(settings))
        stack.push_async_callback(provider.close)
        settler = Settler(db, utc_now)
        lease = Lease(
            db,
            f"worker {socket.gethostname()} {os.getpid()}",
            settings.lease_seconds,
            on_lost=lambda token: abandon(token),
            watched=provider,
            claims=True,
        )
        sender = Sender(AllowList(settings.webhook_allow), proxy=settings.webhook_proxy, ca_bundle=settings.ca_bundle)
        stack.push_async_callback(sender.close)
        deliverer = Deliverer(db, lease, sender, utc_now)
        runner = Runner(
            db, lease, [provider], settler, answer_result, concurrency=settings.concurrency, clock=utc_now,
            envelope=postback, on_owed=deliverer.wake,
        )  # fmt: skip

        def abandon(token: int) -> None:
            runner.abandon(token)
            deliverer.abandon(token)

        def wake() -> None:
            runner.wake()
            deliverer.wake()

        await lease.begin()
        stack.push_async_callback(lease.end)
        stack.enter_context(background(keep_days(db, utc_now)))
        stack.enter_context(background(keep_deadlines(db, utc_now, postback, settings.deadline_hours * 3_600)))
        stack.enter_context(background(_retention(db, settings)))
        stack.enter_context(background(keep_leases(db, settings.lease_seconds, wake)))
        stack.enter_context(background(keep_parked(db, wake)))
        stack.enter_context(background(_listen(db, runner.wake)))
        stack.push_async_callback(deliverer.drain, min(DELIVERY_DRAIN_SECONDS, settings.drain_seconds))
        stack.enter_context(background(deliverer.run()))
        stack.push_async_callback(runner.drain, settings.drain_seconds)
        log.info(
            "the worker serves %s, %d calls at once", provider.name, min(settings.concurrency, provider.concurrency)
        )
        for other, tasks in (await queue.unserved(db, [provider.name])).items():
            log.warning("%d tasks wait for provider %s, which this worker does not serve", tasks, other)
        with background(runner.run()) as claiming:
            yield claiming


def _retention(db: Database, settings: Settings) -> Coroutine[Any, Any, None]:
    return keep_retention(
        db,
        utc_now,
        ready_seconds=settings.ready_hours * 3_600,
        result_days=settings.result_days,
        task_days=settings.task_days,
        error_days=settings.error_days,
    )


async def _listen(db: Database, wake: Callable[[], None]) -> None:
    while True:
        try:
            async with db.listening(queue.CHANNEL, wake) as ended:
                await ended.wait()
        except DatabaseLost as error:
            log.warning("not listening, looking every moment instead: %s", error)
        await asyncio.sleep(RELISTEN_SECONDS)
