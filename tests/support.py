"""What tests of several kinds share: a real `restante` in its own processes, and looking into its database."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import msgspec

from restante.core.money import parse_usd
from restante.flow import accounts
from restante.store.database import Database, Session
from restante.store.embedded_postgres import EmbeddedPostgres
from restante.web.wire import FAMILY
from restante.wiring import utc_now

T = TypeVar("T")

OPERATOR = ("operator", "a Password of 27 letters")
COMMAND = [sys.executable, "-m", "restante"]
START_SECONDS = 60.0


class Process:
    """A restante command in a process of its own, in a session of its own, its output in files. `before` is what runs
    it, on another host for example; `pass_fds` are descriptors that it gets."""

    def __init__(
        self,
        arguments: list[str],
        env: dict[str, str],
        directory: Path,
        name: str,
        before: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.stdout_path, self.stderr_path = directory / f"{name}.out", directory / f"{name}.err"
        with self.stdout_path.open("w") as out, self.stderr_path.open("w") as err:
            self.popen = subprocess.Popen(
                [*before, *COMMAND, *arguments],
                env=env,
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=pass_fds,
            )

    @property
    def stdout(self) -> str:
        return self.stdout_path.read_text()

    @property
    def log(self) -> str:
        return self.stderr_path.read_text()

    def wait_for(self, pattern: str, *, log: bool = False, seconds: float = START_SECONDS) -> re.Match[str]:
        """Wait until the output (or log) has the pattern; fails when the process ends before."""
        until = _deadline(seconds)
        while True:
            found = re.search(pattern, self.log if log else self.stdout)
            if found:
                return found
            ended = self.popen.poll()
            assert ended is None, f"{pattern!r} never came, exit code {ended}:\n{self.stdout}\n{self.log}"
            until(f"{pattern!r} in\n{self.stdout}\n{self.log}")

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def wait(self, seconds: float = 60.0) -> int:
        return self.popen.wait(seconds)

    def stop(self) -> int:
        """SIGTERM, unless it has ended; the exit code."""
        if self.popen.poll() is None:
            self.popen.terminate()
        return self.wait()

    def kill(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()


def _deadline(seconds: float) -> Callable[[str], None]:
    """Called in a polling loop: pauses a little, and fails when the time is over."""
    import time

    end = time.monotonic() + seconds

    def check(what: str) -> None:
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.02)

    return check


def environment(data_dir: Path, **settings: str) -> dict[str, str]:
    """This environment without any setting of restante's, with the ones given (RESTANTE_ is added)."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("RESTANTE_", "GEMINI_"))}
    own = {"RESTANTE_DATA_DIR": str(data_dir), "RESTANTE_LOGIN": OPERATOR[0], "RESTANTE_PASSWORD": OPERATOR[1]}
    own["RESTANTE_RATE_TASKS_READY"] = "0"  # tests poll it far more often than 20 times a minute
    given = {k if k.startswith("GEMINI_API_KEY") else f"RESTANTE_{k}": v for k, v in settings.items()}
    return clean | own | {"RESTANTE_PORT": "0"} | given


class Restante:
    """A running `restante up` and what a test wants of it."""

    def __init__(self, directory: Path, *arguments: str, **settings: str) -> None:
        self.directory = directory
        self.data_dir = directory / "data"
        self.env = environment(self.data_dir, **settings)
        self.process = Process(["up", *arguments], self.env, directory, "up")
        self.url = self.process.wait_for(r"up at (http://\S+)")[1]
        self.family = self.url + FAMILY

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Another restante command on the same installation."""
        return subprocess.run(
            [*COMMAND, *arguments], env=self.env, capture_output=True, text=True, timeout=120, check=False
        )

    def look(self, work: Callable[[Database], Awaitable[T]]) -> T:
        """Run `work` on its database, from this process."""
        return look(self.data_dir, work)

    def account(self, login: str, usd: str = "1", credit_limit: str | None = "0") -> tuple[str, str]:
        """A new account; its login and password."""
        return self.look(lambda db: open_account(db, login, usd, credit_limit))

    def stop(self) -> int:
        return self.process.stop()


def look(data_dir: Path, work: Callable[[Database], Awaitable[T]]) -> T:
    """Run `work` on the embedded database of a data directory, in an event loop of its own."""

    async def run(dsn: str) -> T:
        db = Database(dsn, connections=2)
        await db.open()
        try:
            return await work(db)
        finally:
            await db.close()

    with EmbeddedPostgres(data_dir) as server, ThreadPoolExecutor(1) as thread:  # a test may have a loop of its own
        return thread.submit(asyncio.run, run(server.dsn)).result()


async def open_account(db: Database, login: str, usd: str = "1", credit_limit: str | None = "0") -> tuple[str, str]:
    """Open an account; its login and password. `credit_limit` None: metered."""
    limit = None if credit_limit is None else parse_usd(credit_limit)
    opened = await accounts.open_account(db, login, None, balance=parse_usd(usd), credit_limit=limit, now=utc_now())
    return opened.login, opened.password


async def lock_awaited(db: Database, by: int = 1) -> None:
    """Until so many statements of this database wait for a lock: no event tells it."""
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    async with asyncio.timeout(30):
        while await db._pool.fetchval(waiting) < by:
            await asyncio.sleep(0.01)


async def differences(db: Session) -> list[str]:
    """What the audit finds; every test that moves money ends with `assert not await differences(db)`."""
    return [difference async for difference in accounts.audit(db)]


@contextlib.contextmanager
def running(directory: Path, *arguments: str, **settings: str) -> Iterator[Restante]:
    """A restante for the block; leaving it proves that every promise was kept, and that it stops by SIGTERM."""
    restante = Restante(directory, *arguments, **settings)
    try:
        yield restante
        assert not restante.look(differences)
        assert restante.stop() == 0, restante.process.log
    finally:
        restante.process.kill()


def task(prompt: str = "name one Alpine lake", **fields: Any) -> dict[str, Any]:
    """A task as clients post it."""
    return {"user_prompt": prompt, "model_name": "gemini-2.5-flash"} | fields


class Http:
    """Calls to one restante as one account; answers are (HTTP status, decoded JSON)."""

    def __init__(self, family: str, credentials: tuple[str, str] | None = OPERATOR) -> None:
        proof = None if credentials is None else aiohttp.encode_basic_auth(*credentials, encoding="utf-8")
        self._session = aiohttp.ClientSession(headers={} if proof is None else {"Authorization": proof})
        self._family = family

    async def __aenter__(self) -> Http:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        async with self._session.request(method, f"{self._family}/{path}", data=body) as response:
            return response.status, msgspec.json.decode(await response.read())

    async def post(self, tasks: object, path: str = "task_post") -> Any:
        status, answer = await self.send("POST", path, msgspec.json.encode(tasks))
        assert status == 200, answer
        return answer

    async def get(self, path: str) -> Any:
        status, answer = await self.send("GET", path)
        assert status == 200, answer
        return answer

    async def answers(self, ids: list[str], seconds: float = 60.0) -> dict[str, Any]:
        """Fetch until every task is finished: {id: entry}."""
        found: dict[str, Any] = {}
        async with asyncio.timeout(seconds):
            while len(found) < len(ids):
                for task_id in ids:
                    if task_id not in found:
                        [entry] = (await self.get(f"task_get/{task_id}"))["tasks"]
                        if entry["status_code"] not in (40601, 40602):
                            found[task_id] = entry
                await asyncio.sleep(0.05)  # polls as a client does
        return found
