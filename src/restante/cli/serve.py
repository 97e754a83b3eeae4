"""`restante up`, `api`, `worker`: the processes that serve.

What serves is imported when it does: it takes longer than most other commands do."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restante.cli.common import err, settings
from restante.config import Settings
from restante.core.errors import OperatorError
from restante.operator_account import operator_account, password_file
from restante.web.wire import FAMILY
from restante.wiring import database, gemini_names, open_many_files, stop_on_signals

if TYPE_CHECKING:
    from restante.up import Running

Host = Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1).")]
Port = Annotated[int | None, typer.Option(help="Port to listen on (8000); 0 takes a free one.")]
Fd = Annotated[
    int | None, typer.Option(help="A listening socket passed to this process, instead of host and port (systemd: 3).")
]
Workers = Annotated[int | None, typer.Option(help="Worker processes (1).")]
Provider = Annotated[str | None, typer.Option(help="Who answers the Gemini names: gemini, embedded or scripted.")]
Offline = Annotated[
    bool, typer.Option("--offline", help="Be answered by the embedded demonstration model (English only).")
]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog="Example: restante up --offline")(up)
    app.command(epilog="Example: RESTANTE_DATABASE_URL=postgresql://db/restante restante api --port 8080")(api)
    app.command(epilog="Example: RESTANTE_DATABASE_URL=postgresql://db/restante restante worker")(worker)


def chosen_provider(provider: str | None, *, offline: bool) -> str | None:
    """The provider that the command line asks for, before whatever the environment says."""
    if offline and provider not in (None, "embedded"):
        raise typer.BadParameter(f"--offline and --provider {provider} contradict each other")
    return "embedded" if offline else provider


def _serve(work: Coroutine[Any, Any, None]) -> None:
    import uvloop

    open_many_files()
    uvloop.run(work)  # on asyncio's own loop a call costs a fifth more CPU (measured)


def up(
    host: Host = None,
    port: Port = None,
    fd: Fd = None,
    workers: Workers = None,
    provider: Provider = None,
    offline: Offline = False,
) -> None:
    """Serve: PostgreSQL, migrations, the API and its workers in one go. Ctrl-C drains and stops all of it."""
    loaded = settings(host=host, port=port, fd=fd, workers=workers, provider=chosen_provider(provider, offline=offline))
    _serve(_up(loaded))


async def _up(loaded: Settings) -> None:
    from restante.up import running

    stop = stop_on_signals()
    async with running(loaded) as restante:
        _greet(loaded, restante)
        await _until(stop, restante.broken)
        err.print("stopping: requests and calls in flight may end (again Ctrl-C: at once)")


def _greet(loaded: Settings, restante: Running) -> None:
    """What an operator needs next: URL, login, where the password is, a first call."""
    words = {
        None: "the servers of RESTANTE_MODELS; no Gemini",
        "gemini": "gemini",
        "embedded": "embedded: the offline demonstration model SmolLM2-135M answers every Gemini name, in English only",
        "scripted": "scripted: deterministic answers for tests and rehearsals, no model at all",
    }
    known = restante.password if restante.password and sys.stdout.isatty() else "PASSWORD"
    lines = [
        f"restante is up at {restante.url}",
        f"  login     {restante.login}",
        f"  password  {_where_password(loaded, restante)}",
        f"  provider  {words[gemini_names(loaded)]}",
        *([f"  console   {restante.url}/console"] if loaded.console != "off" else []),
        f"  docs      {restante.url}/docs",
        f"  try       curl -u '{restante.login}:{known}' {restante.url}{FAMILY}/models",
    ]
    print("\n".join(lines), flush=True)  # at once: who waits for the first finds the others


def _where_password(loaded: Settings, restante: Running) -> str:
    """The generated password itself, once, and only on a terminal; else where it is."""
    file = password_file(loaded)
    if restante.password is not None and sys.stdout.isatty():
        file.unlink(missing_ok=True)
        return f"{restante.password}   (shown this once)"
    if file.exists():
        return f"in {file}"
    if loaded.password and restante.login == loaded.login:
        return "as in RESTANTE_PASSWORD at the first start"
    return "as shown at the first start; a new one: restante account password"


def api(
    host: Host = None, port: Port = None, fd: Fd = None, provider: Provider = None, offline: Offline = False
) -> None:
    """Serve the API only; workers run elsewhere on the same database."""
    _serve(_api(settings(host=host, port=port, fd=fd, provider=chosen_provider(provider, offline=offline))))


async def _api(loaded: Settings) -> None:
    from restante.app import address, listen, serving

    stop = stop_on_signals()
    gemini_names(loaded)
    with listen(loaded) as server_socket:
        async with database(loaded, serves=True) as db:
            login, password = await operator_account(db, loaded)
            if password is not None:
                err.print(f"the password of {login} is in {password_file(loaded)}")
            async with serving(db, loaded, server_socket) as server:
                print(f"restante's API is up at {address(server_socket)}", flush=True)
                await _until(stop, server)


def worker(
    provider: Provider = None,
    offline: Offline = False,
    concurrency: Annotated[int | None, typer.Option(help="Provider calls in flight at once (500).")] = None,
    follow_stdin: Annotated[bool, typer.Option("--follow-stdin", hidden=True)] = False,
) -> None:
    """Run tasks: claim, ask the model, settle. As many workers as you like share one database."""
    loaded = settings(provider=chosen_provider(provider, offline=offline), concurrency=concurrency)
    _serve(_worker(loaded, follow_stdin=follow_stdin))


async def _worker(loaded: Settings, *, follow_stdin: bool) -> None:
    from restante.worker import working

    stop = stop_on_signals()
    if follow_stdin:
        await _stop_at_end_of_input(stop)
    async with database(loaded, serves=True) as db, working(db, loaded) as claiming:
        await _until(stop, claiming)


async def _until(stop: asyncio.Event, *tasks: asyncio.Task[None]) -> None:
    """Wait for the stop, or for a part that ended although nobody stopped it, since it broke or the database is a newer
    restante's: then all of it ends, with an error."""
    waiting = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if waiting not in done:
        raise OperatorError("A part of restante ended although nobody stopped it.", "The log above says why.")


async def _stop_at_end_of_input(stop: asyncio.Event) -> None:
    """The process that started this one holds the other end of standard input: its end means that it is gone."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def watch() -> None:
        await reader.read()
        stop.set()

    stop.watcher = asyncio.create_task(watch())  # type: ignore[attr-defined]  # keeps the task alive
