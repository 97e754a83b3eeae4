"""The API process: everything it is made of is put together here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

import uvicorn
from starlette.routing import BaseRoute

from restante.config import Settings
from restante.core.errors import OperatorError
from restante.core.limits import LAST_CALL_SECONDS
from restante.flow import accounts
from restante.flow.accept import Acceptor, Waker
from restante.flow.collect import Collector
from restante.flow.disk import Disk
from restante.flow.expire import keep_days, keep_swept
from restante.flow.figures import InstallationFigures
from restante.flow.idempotency import Once
from restante.flow.lease import Lease
from restante.flow.live import Live
from restante.flow.pacing import Pacer
from restante.flow.rates import Rates
from restante.flow.resend import Resender
from restante.flow.settle import Settler
from restante.flow.usage import Meter
from restante.observing import metrics
from restante.observing.kinds import Labels
from restante.providers.registry import Catalogue
from restante.store.database import Database
from restante.store.standby import Standby
from restante.web.api import Api
from restante.web.appendix import Appendix
from restante.web.application import create_app
from restante.web.auth import Door, Passwords
from restante.web.closing import refuse_newcomers
from restante.web.connections import Connections
from restante.web.console.books import Counter, Terms, books
from restante.web.console.console import Console
from restante.web.console.desk import Desk
from restante.web.console.nudges import Nudges
from restante.web.console.overview import Overview
from restante.web.console.session import Sessions
from restante.web.console.task import TaskView
from restante.web.console.tasks import Tasks
from restante.web.fast_path import FastPath
from restante.web.health import Health
from restante.web.judge import DOCUMENTED, RELAXED, Judge
from restante.web.metrics import Exposition, Gauges, MetricsPage
from restante.web.own import Own
from restante.web.rate_limit import RateLimits
from restante.web.raw_replies import RawReplies
from restante.web.records import Records
from restante.web.room import Room
from restante.web.server import Server, http_server
from restante.web.wire import postback
from restante.webhooks.address_guard import AllowList
from restante.wiring import Models, background, build_models, counting, gather_for, gemini_names, tracing, utc_now

log = logging.getLogger("restante.api")

#: What every page of the console says of who answers the Gemini names.
_NOTICES: Final = {
    "embedded": "Offline: a small demonstration model answers in place of Gemini.",
    "scripted": "The scripted provider answers: for tests and rehearsals.",
}


def listen(settings: Settings) -> socket.socket:
    """The listening socket of the API: the one that was passed, or a new one. Raises OperatorError when it cannot be
    had."""
    if settings.fd is not None:
        return _passed(settings.fd)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio sets TCP_NODELAY only on sockets that name their protocol; without it each answer waits 40 ms for an ACK.
    server = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((settings.host, settings.port))
        server.listen()  # now: two that start at once can both bind, only one can listen
    except OSError as error:
        server.close()
        raise OperatorError(
            f"Cannot listen on {settings.host} port {settings.port}: {error.strerror or error}.",
            "Another restante may be running there; choose another --port (RESTANTE_PORT) or --host (RESTANTE_HOST).",
        ) from None
    return server


def _passed(fd: int) -> socket.socket:
    """A listening socket that another process opened, such as systemd. Others may accept from it too: none of the
    connections that wait in it are lost when one of them stops."""
    try:
        server = socket.socket(fileno=fd)
        listening = server.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise OperatorError(
            f"RESTANTE_FD cannot be used: descriptor {fd} is no socket: {error.strerror or error}.",
            "It is for a socket that another program passes on, as systemd does (docs/restart.md).",
        ) from None
    if not listening or server.family not in (socket.AF_INET, socket.AF_INET6):
        server.detach()
        raise OperatorError(f"RESTANTE_FD cannot be used: descriptor {fd} does not listen for TCP connections.")
    return server


def address(server: socket.socket) -> str:
    """The URL of a bound socket."""
    host, port = server.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(Server):
    """The API's, which says when it answers."""

    def __init__(self, config: uvicorn.Config, app: FastPath, stopping: asyncio.Event, *, shared: bool) -> None:
        """`stopping` is set when it stops. `shared`: others listen on its socket too."""
        super().__init__(config)
        self._app = app
        self._stopping = stopping
        self._shared = shared
        self.answers = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answers.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.closing = True
        self._stopping.set()  # what streams would go on for ever
        for own in [] if self._shared else sockets or []:
            if refuse_newcomers(own):
                await asyncio.sleep(LAST_CALL_SECONDS)
        await super().shutdown(sockets)


async def _answers(server: _Server) -> None:
    await server.answers.wait()


async def _serve(server: _Server, server_socket: socket.socket, lease: Lease) -> None:
    """Serve until the server is told to exit or breaks, or a newer restante has migrated the database."""

    async def exit_when_outdated() -> None:
        await lease.outdated.wait()
        server.should_exit = True

    with background(exit_when_outdated()):
        await server.serve(sockets=[server_socket])


def _metering(stack: contextlib.AsyncExitStack, db: Database) -> Meter:
    meter = Meter(db, utc_now)
    stack.push_async_callback(meter.close)
    stack.enter_context(background(meter.keep_flushed()))
    return meter


def _watched(stack: contextlib.AsyncExitStack, settings: Settings) -> Disk:
    disk = Disk(settings.watched_disk(), settings.reserve())
    disk.look()  # before the first call
    stack.enter_context(background(disk.keep()))
    return disk


async def _list_again(catalogue: Catalogue, reopened: asyncio.Event) -> None:
    """Ask for the models when a key became good: the list at the start may have failed for want of one."""
    while True:
        await reopened.wait()
        reopened.clear()
        with contextlib.suppress(OperatorError):  # the provider has logged it, the last list stays
            await catalogue.refresh()


def _judge(catalogue: Catalogue, settings: Settings) -> Judge:
    return Judge(
        catalogue.find,
        RELAXED if settings.limits == "relaxed" else DOCUMENTED,
        ignore_unknown=settings.unknown_fields == "ignore",
        allow=AllowList(settings.webhook_allow),
    )


def _records(db: Database, settings: Settings) -> Records:
    return Records(
        db,
        Resender(db, utc_now, postback),
        utc_now,
        error_days=settings.error_days,
        ignore_unknown=settings.unknown_fields == "ignore",
        body_bytes=settings.body_bytes,
    )


def _gauges(pacer: Pacer, disk: Disk) -> Gauges:
    def keys() -> dict[Labels, float]:
        found: dict[Labels, float] = {}
        for name in pacer.keys.providers:
            good, every = pacer.keys.counts(name)
            found |= {(name, "good"): good, (name, "rejected"): every - good}
        return found

    def of_disk(part: int) -> dict[Labels, float]:
        return {} if disk.room is None else {(): disk.room[part]}

    return {
        metrics.DISK_FREE: lambda: of_disk(0),
        metrics.DISK_RESERVE: lambda: of_disk(1),
        metrics.DISK_SHORT: lambda: {(): disk.short},
        metrics.PROVIDER_KEYS: keys,
    }


def _counter(
    db: Database,
    settings: Settings,
    models: Models,
    catalogue: Catalogue,
    pacer: Pacer,
    meter: Meter,
    lease: Lease,
    settler: Settler,
    disk: Disk,
) -> Counter:
    cap = settings.provider_cap()
    acceptor = Acceptor(db, Waker(db), utc_now, cap, gather_for(settings), disk)
    live = Live(db, lease, models.providers, settler, utc_now, cap_of_all=cap, pacer=pacer, disk=disk)
    judge = _judge(catalogue, settings)
    return Counter(acceptor, live, catalogue, judge, Rates(db), meter, pacer.keys, models.names)


def _unlisted(
    db: Database, settings: Settings, passwords: Passwords, models: Models, pacer: Pacer, disk: Disk
) -> list[BaseRoute]:
    """Paths that no client needs to know."""
    health = Health(db, lambda: pacer.keys.faults(models.names), len(models.names), disk)
    figures = Exposition("api", db, _gauges(pacer, disk), InstallationFigures(db, models.names))
    return [*health.routes(), *MetricsPage(figures, db, passwords, settings.metrics_token).routes()]


def _standby(stack: contextlib.AsyncExitStack, db: Database, settings: Settings) -> Standby | None:
    """The one that pages are read from, being connected to, if there is one."""
    if settings.read_database_url is None:
        return None
    made = Standby(settings.read_database_url, db, settings.database_prepared)
    made.ask()
    stack.push_async_callback(made.close)
    return made


def console(
    stack: contextlib.AsyncExitStack,
    db: Database,
    settings: Settings,
    passwords: Passwords,
    pepper: bytes,
    models: Models,
    pacer: Pacer,
    counter: Counter,
    stopping: asyncio.Event,
) -> Console | None:
    """The console, where it is not off."""
    if settings.console == "off":
        return None
    standby = _standby(stack, db, settings)
    desk = Desk(db, utc_now, notice=_NOTICES.get(gemini_names(settings) or "", ""), standby=standby)
    overview = Overview(desk, models.names, pacer.keys.faults)
    terms = Terms(
        settings.allowance(),
        settings.deadline_hours,
        settings.error_days,
        settings.result_days,
        settings.idempotency_hours,
    )
    return Console(
        desk,
        Sessions(db, passwords, pepper, utc_now),
        Nudges(desk.reads, stopping),
        [*overview.routes(), *Tasks(desk).routes(), *TaskView(desk).routes(), *books(stack, desk, terms, counter)],
        https=settings.console == "https",
    )


@contextlib.asynccontextmanager
async def serving(db: Database, settings: Settings, server_socket: socket.socket) -> AsyncIterator[asyncio.Task[None]]:
    """The API, answering once this is entered; leaving it lets requests end. Yields the server's task, which ends by
    itself only if the server broke, or if a newer restante has migrated the database."""
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(tracing(settings, "api"))
        models = build_models(settings)
        counts = models.counts()
        stack.push_async_callback(models.close)
        catalogue = models.catalogue()
        await catalogue.begin()
        reopened = asyncio.Event()
        pacer = Pacer(db, models.providers, on_change=reopened.set, counts=counts)
        await pacer.begin()
        lease = Lease(db, f"api {socket.gethostname()} {os.getpid()}", settings.lease_seconds, counts=counts)
        await lease.begin()
        stack.push_async_callback(lease.end)
        idempotency = timedelta(hours=settings.idempotency_hours)
        settler = Settler(db, utc_now, counting(stack, db).settled)
        stack.push_async_callback(settler.idle, settings.drain_seconds)
        models_kept = (pacer.keep(), catalogue.keep_fresh(), _list_again(catalogue, reopened))
        for loop in (*models_kept, keep_days(db, utc_now), keep_swept(db, utc_now, idempotency)):
            stack.enter_context(background(loop))
        meter = _metering(stack, db)
        collector = Collector(db, utc_now, settings.ready_hours * 3_600)
        disk = _watched(stack, settings)
        counter = _counter(db, settings, models, catalogue, pacer, meter, lease, settler, disk)
        once = Once(db, counter.acceptor, utc_now, idempotency)
        api = Api(
            counter.acceptor, once, collector, counter.live, catalogue, counter.judge, utc_now, settings.body_bytes,
            pacer.keys.fault, idempotency,
        )  # fmt: skip
        pepper = await accounts.pepper(db)
        passwords = Passwords(db, pepper, settings.allowance())
        stopping = asyncio.Event()
        unlisted = _unlisted(db, settings, passwords, models, pacer, disk)
        if pages := console(stack, db, settings, passwords, pepper, models, pacer, counter, stopping):
            unlisted += pages.routes()
        rates, door = RateLimits(counter.rates, utc_now, meter.count), Door(passwords, Room())
        family = api.operations()
        app = create_app(
            family
            + Appendix(db, models.names, meter, utc_now, pacer.keys.faults).operations()
            + _records(db, settings).operations()
            + Own(db, utc_now, settings.body_bytes, catalogue).operations()
            + RawReplies(db, utc_now).operations(),
            rates,
            settings.allowance(),
            door,
            utc_now,
            unlisted,
        )
        connections = Connections()
        stack.enter_context(background(connections.keep()))
        fast = FastPath(app, door, rates, collector, family)
        config = http_server(fast, connections, settings.drain_seconds)
        server = _Server(config, fast, stopping, shared=settings.fd is not None)
        task = asyncio.create_task(_serve(server, server_socket, lease))
        try:
            with background(_answers(server)) as answers:
                await asyncio.wait([answers, task], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                raise OperatorError("The HTTP server did not start.", "The log above says why.")
            log.info("the API answers at %s, provider %s", address(server_socket), ", ".join(models.names))
            yield task
        finally:
            server.should_exit = True
            await task
