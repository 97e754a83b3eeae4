"""`restante up`: PostgreSQL, migrations, the operator's account, the API and its workers, in one go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping

import msgspec

from restante.app import address, listen, serving
from restante.config import Settings, variable
from restante.core.limits import WORKER_KILL_SECONDS, WORKER_LIVED_SECONDS, WORKER_RESTART_SECONDS
from restante.operator_account import operator_account
from restante.store.database import Database
from restante.wiring import background, database, gemini_names

log = logging.getLogger("restante.up")


class Running(msgspec.Struct, frozen=True):
    """A restante that answers. `password` only where this start made it; `broken` is done if the server ended."""

    url: str
    login: str
    password: str | None
    db: Database
    broken: asyncio.Task[None]


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    """Everything, answering once this is entered; leaving it drains and leaves no process behind.

    Raises OperatorError for what the operator must mend: no provider, a taken port, an unreachable database.
    """
    gemini_names(settings)  # before anything is started: is there a model to answer?
    server_socket = listen(settings)
    url = address(server_socket)
    try:
        async with database(settings, serves=True) as db:
            login, password = await operator_account(db, settings)
            async with (
                serving(db, settings, server_socket) as server,
                workers(settings),
            ):
                yield Running(url, login, password, db, server)
    finally:
        server_socket.close()


@contextlib.asynccontextmanager
async def workers(settings: Settings) -> AsyncIterator[None]:
    """Worker processes, started again when they die; leaving stops them and waits for their drain."""
    stopping = asyncio.Event()
    keepers = [
        asyncio.create_task(_keep_worker(_with_own_port(settings, number), stopping))
        for number in range(settings.workers)
    ]
    try:
        yield
    finally:
        stopping.set()
        if keepers:
            await asyncio.wait(keepers)


def _with_own_port(settings: Settings, number: int) -> Settings:
    """The settings of a worker: its metrics have a port of their own, counted from RESTANTE_METRICS_LISTEN."""
    address = settings.metrics_address()
    if address is None:
        return settings
    host, port = address
    listen_at = f"{f'[{host}]' if ':' in host else host}:{port and port + number}"
    return msgspec.structs.replace(settings, metrics_listen=listen_at)


async def _keep_worker(settings: Settings, stopping: asyncio.Event) -> None:
    deaths = 0
    while not stopping.is_set():
        began = asyncio.get_running_loop().time()
        try:
            process = await _start_worker(settings)
        except OSError as error:
            ending = str(error)
        else:
            with background(_ended(process)) as ended, background(_set(stopping)) as stop:
                await asyncio.wait([ended, stop], return_when=asyncio.FIRST_COMPLETED)
            if stopping.is_set():
                await _stop(process, settings.drain_seconds + WORKER_KILL_SECONDS)
                return
            ending = f"exit code {process.returncode}"
        deaths = 0 if asyncio.get_running_loop().time() - began > WORKER_LIVED_SECONDS else deaths + 1
        pause = WORKER_RESTART_SECONDS[min(deaths, len(WORKER_RESTART_SECONDS)) - 1] if deaths else 0.0
        log.error("a worker ended (%s); its tasks go to others, the next one starts in %.1f s", ending, pause)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await stopping.wait()


async def _start_worker(settings: Settings) -> asyncio.subprocess.Process:
    """The pipe tells the worker that we are gone, however we went: it then drains and ends. In a session of its own no
    Ctrl-C reaches it, which would be a second one, or meet it before it listens."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "restante", "worker", "--follow-stdin",
        env=environment(settings, os.environ), stdin=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


async def _ended(process: asyncio.subprocess.Process) -> None:
    await process.wait()


async def _set(event: asyncio.Event) -> None:
    await event.wait()


async def _stop(process: asyncio.subprocess.Process, seconds: float) -> None:
    assert process.stdin is not None
    process.stdin.close()  # not SIGTERM: where whoever stopped us stopped it too, a second signal would kill it
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
    except TimeoutError:
        log.error("worker %d did not end within %.0f s and is killed; its tasks go to others", process.pid, seconds)
        process.kill()
        await process.wait()


def environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """An environment that makes a child process's settings these and no others. The password is left out: only the
    first start needs it."""
    fields = settings.__struct_fields__
    others = {name: text for name, text in environ.items() if name not in {variable(field) for field in fields}}
    values = {field: getattr(settings, field) for field in fields if field != "password"}
    return others | {variable(field): _text(value) for field, value in values.items() if value is not None}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
