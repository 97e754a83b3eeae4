"""A restante to measure: `restante up` in processes of its own, its accounts, and a look into its database."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import msgspec

from bench.machine import children
from restante.core.money import parse_usd
from restante.flow import accounts
from restante.store import ledger
from restante.store.database import Database
from restante.store.embedded_postgres import EmbeddedPostgres
from restante.wiring import utc_now

ACCOUNTS = 20
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_FUNDS = "1000000"  # US dollars: nobody runs dry


class Client(msgspec.Struct, frozen=True):
    """An account that posts: its number and its Authorization header."""

    account_id: int
    authorization: str


class Installation(msgspec.Struct, frozen=True):
    """A restante that answers. `processes` are the pids to watch; `dsn` is for a connection of one's own."""

    directory: Path
    host: str
    port: int
    dsn: str
    db: Database
    clients: Sequence[Client]
    processes: dict[str, int]

    async def connect(self) -> Any:
        """A connection past the pool, as a program that only knows SQL would have it."""
        return await asyncpg.connect(self.dsn)

    async def postgres_version(self) -> str:
        connection = await self.connect()
        try:
            version: str = await connection.fetchval("show server_version")
        finally:
            await connection.close()
        return version

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """For the block a process stands still, so that it finds work piled up afterwards."""
        os.kill(self.processes[name], signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.processes[name], signal.SIGCONT)

    async def more_clients(self, number: int) -> list[Client]:
        """Further accounts."""
        return [await _open_account(self.db, f"more-{secrets.token_hex(6)}") for _ in range(number)]

    async def audit(self, but: str = "") -> str:
        """What `restante ledger audit` finds, in a word or two; `but` is the promise (docs/invariants.md) that rows
        written by the benchmark itself break. Raises SystemExit when anything else differs."""
        found = accounts.audit(self.db)
        differences = [difference async for difference in found if not but or not difference.startswith(f"{but}:")]
        totals = await ledger.totals(self.db)
        if differences or totals.difference:
            raise SystemExit("The ledger does not add up:\n" + "\n".join(differences[:20]))
        return f"clean ({totals.transfers:,} transfers)"


@asynccontextmanager
async def installed(
    parent: Path | None,
    *,
    workers: int,
    fifo: bool = False,
    opened: int = ACCOUNTS,
    more: Mapping[str, str] | None = None,
    models: bytes | None = None,
    provider: str = "scripted",
) -> AsyncIterator[Installation]:
    """A new restante for the block, in a directory below `parent`, with so many accounts `opened`, `more` settings and
    a file of `models`. With `fifo` its scripted provider names each call in a pipe, `calls`, which somebody must hold
    open for reading."""
    with tempfile.TemporaryDirectory(prefix="restante-bench-", dir=parent) as name:
        directory = Path(name)
        settings = {"RESTANTE_DATA_DIR": name + "/data", "RESTANTE_PORT": "0", "RESTANTE_LOG_LEVEL": "warning"}
        # Counted as in earnest, and never reached.
        settings |= {"RESTANTE_RATE_TASK_POST": "100000000", "RESTANTE_RATE_TASKS_READY": "0"}
        settings |= more or {}
        if models is not None:
            (directory / "models.toml").write_bytes(models)
            settings["RESTANTE_MODELS"] = str(directory / "models.toml")
        keeper = None
        if fifo:
            settings["RESTANTE_SCRIPTED_LOG"] = str(directory / "calls")
            os.mkfifo(directory / "calls")
            keeper = os.open(directory / "calls", os.O_RDWR | os.O_NONBLOCK)  # until then nobody could open it to write
        up = _start_up(directory, settings, workers, provider)
        try:
            url = urlsplit(_wait_for_url(up, directory))
            assert url.hostname and url.port
            with EmbeddedPostgres(directory / "data") as server:
                db = Database(server.dsn, connections=2)
                await db.open()
                try:
                    clients = [await _open_account(db, f"bench-{number}") for number in range(opened)]
                    watched = _processes(up.pid, directory, workers)
                    yield Installation(directory, url.hostname, url.port, server.dsn, db, clients, watched)
                finally:
                    await db.close()
        finally:
            if keeper is not None:  # a worker that nobody reads stands still in the middle of a call, and does not end
                threading.Thread(target=_drain, args=(keeper,), daemon=True).start()
            up.terminate()
            _wait_for_end(up)
            if keeper is not None:
                os.close(keeper)
            for line in (directory / "err").read_text().splitlines()[:20]:
                if not line.startswith("stopping: "):
                    print(f"    (restante said: {line})", file=sys.stderr)


def _start_up(directory: Path, settings: dict[str, str], workers: int, provider: str) -> subprocess.Popen[bytes]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RESTANTE_", "GEMINI_"))}
    with (directory / "out").open("w") as out, (directory / "err").open("w") as err:
        return subprocess.Popen(
            [sys.executable, "-m", "restante", "up", "--provider", provider, "--workers", str(workers)],
            env=clean | settings,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,  # Ctrl-C is for us; restante is stopped once, by us
        )


def _drain(pipe: int) -> None:
    os.set_blocking(pipe, True)
    with contextlib.suppress(OSError):  # closed
        while os.read(pipe, 1 << 16):
            pass


def _wait_for_url(up: subprocess.Popen[bytes], directory: Path) -> str:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and up.poll() is None:
        if found := re.search(r"up at (http://\S+)", (directory / "out").read_text()):
            return found[1]
        time.sleep(0.02)
    raise SystemExit("restante did not start:\n" + (directory / "err").read_text())


def _wait_for_end(up: subprocess.Popen[bytes]) -> None:
    try:
        up.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        up.kill()
        up.wait()


async def _open_account(db: Database, name: str) -> Client:
    opened = await accounts.open_account(db, name, None, balance=parse_usd(_FUNDS), credit_limit=None, now=utc_now())
    word = base64.b64encode(f"{opened.login}:{opened.password}".encode()).decode()
    return Client(opened.account_id, f"Basic {word}")


def _processes(up: int, directory: Path, workers: int) -> dict[str, int]:
    postmaster = next((directory / "data/postgres").glob("[0-9][0-9]/postmaster.pid"))
    found = {"API": up, "PostgreSQL": int(postmaster.read_text().split("\n", 1)[0])}
    until = time.monotonic() + _START_SECONDS
    while workers and "worker" not in found:
        for child in children(up):
            if b"worker" in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                found["worker"] = child
        if time.monotonic() > until:
            raise SystemExit("the worker did not start:\n" + (directory / "err").read_text())
        time.sleep(0.02)
    return found
