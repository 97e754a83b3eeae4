"""What the API and the worker process are both made of: the database, the provider, background loops, signals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any

from restante.config import Settings
from restante.core.errors import OperatorError
from restante.core.limits import OPEN_FILES
from restante.providers.provider import Provider
from restante.store.database import Database
from restante.store.embedded_postgres import EmbeddedPostgres

log = logging.getLogger("restante")


def utc_now() -> datetime:
    """The clock of a process."""
    return datetime.now(UTC)


def configure_logging(level: str) -> None:
    """One line an event to standard error: time in UTC, level, who, what."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
        force=True,
    )
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)  # its tracebacks of a lost server, of which we say more
    logging.getLogger("uvicorn").setLevel("WARNING")  # what it says at start and stop is said by us


@contextlib.asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[Database]:
    """The migrated database: RESTANTE_DATABASE_URL, or the embedded server, which is joined or started.

    Raises OperatorError when neither can be had.
    """
    async with contextlib.AsyncExitStack() as stack:
        if settings.database_url is not None:
            db = Database(settings.database_url, connections=settings.database_connections)
        else:
            server = EmbeddedPostgres(settings.data_dir)
            await _started(server)
            stack.push_async_callback(asyncio.to_thread, server.stop)
            db = Database(server.dsn, connections=settings.database_connections, revive=server.ensure_running)
        await db.open()
        stack.push_async_callback(db.close)
        await db.migrate()
        await db.prepare_days(utc_now().date())
        yield db


async def _started(server: EmbeddedPostgres) -> None:
    """Start it in a thread. Interrupted, wait for the thread all the same: a server must not be left without a user."""
    starting = asyncio.create_task(asyncio.to_thread(server.start, log.info))
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting])
        await asyncio.to_thread(server.stop)
        raise


def build_provider(settings: Settings) -> Provider:
    """The provider that answers the Gemini names. Raises OperatorError when it is not configured or not installed.

    Only the chosen one is imported: prices and HTTP clients take half a second that no other command shall wait for.
    """
    match settings.provider_name():
        case "scripted":
            from restante.providers.registry import scripted_models
            from restante.providers.scripted import ScriptedProvider

            return ScriptedProvider(scripted_models(), settings.scripted_latency, settings.scripted_log)
        case "embedded":
            from restante.providers.embedded import EmbeddedProvider
            from restante.providers.model_files import find_model
            from restante.providers.model_server import ModelServer
            from restante.providers.registry import embedded_models

            model = find_model(settings.embedded_model, settings.models_dir)
            return EmbeddedProvider(embedded_models(), ModelServer(settings.data_dir / "model", model))
        case "gemini":
            from restante.providers.api_key import api_key_source
            from restante.providers.gemini import GeminiProvider

            if not (settings.gemini_api_key or settings.gemini_api_key_file):
                raise OperatorError("The gemini provider has no key.", "Set GEMINI_API_KEY or GEMINI_API_KEY_FILE.")
            key = api_key_source(settings.gemini_api_key, settings.gemini_api_key_file)
            return GeminiProvider(key, settings.gemini_base_url)


@contextlib.contextmanager
def background(work: Coroutine[Any, Any, None]) -> Iterator[asyncio.Task[None]]:
    """A loop that runs while the block does. That it broke is logged at once, not when somebody waits for it."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("a background loop broke", exc_info=error)

    task = asyncio.create_task(work)
    task.add_done_callback(ended)
    try:
        yield task
    finally:
        task.cancel()


def open_many_files() -> None:
    """Raise this process's soft limit of open files, and its children's: a worker has a socket for each call and each
    webhook in flight, and the usual limit of 1,024 is for other programs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def stop_on_signals() -> asyncio.Event:
    """An event that SIGINT, SIGTERM and SIGHUP set, once: the second signal ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        numbers.append(signal.SIGHUP)  # the terminal was closed

    def first() -> None:
        stop.set()
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in numbers:
        loop.add_signal_handler(number, first)
    return stop
