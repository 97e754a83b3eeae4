"""Processes of one installation, found by its data directory; and its database, looked into from a test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import asyncpg

from restante.store.embedded_postgres import EmbeddedPostgres
from restante.web.wire import FAMILY
from tests.support import OPERATOR, START_SECONDS, Http, Process, environment

HTTP = Callable[[Http], Any]


class Seen(NamedTuple):
    """A process: its pid may be another's later, its start is its own."""

    pid: int
    start: int
    command: str


def _stat(pid: int) -> tuple[str, int, int] | None:
    """State, parent and start of a process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[1]), int(fields[19])


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def family(data_dir: Path) -> set[Seen]:
    """Every living process that has this data directory in its command line or environment, and their descendants."""
    table = {int(entry.name): _stat(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdecimal()}
    known = {pid: stat for pid, stat in table.items() if stat is not None and stat[0] not in "ZX"}
    mark = os.fsencode(data_dir)
    found = {pid for pid in known if mark in _read(pid, "cmdline") or mark in _read(pid, "environ")} - {os.getpid()}
    while grown := {pid for pid, stat in known.items() if stat[1] in found} - found:
        found |= grown
    return {Seen(pid, known[pid][2], _read(pid, "cmdline").replace(b"\0", b" ").decode()) for pid in found}


def lives(seen: Seen) -> bool:
    stat = _stat(seen.pid)
    return stat is not None and stat[0] not in "ZX" and stat[2] == seen.start


def kill(processes: Iterable[Seen]) -> None:
    """SIGKILL to all of them that still are what they were."""
    for process in processes:
        if lives(process):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def eventually(what: str, condition: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    """Look at another process's doing until it is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def assert_gone(data_dir: Path, before: Iterable[Seen] = (), seconds: float = 15.0) -> None:
    """Nothing of the installation is left: neither what was seen before nor anything new."""
    before = set(before)
    end = time.monotonic() + seconds
    while left := {process for process in before if lives(process)} | family(data_dir):
        if time.monotonic() > end:
            kill(left)
            raise AssertionError(f"left behind: {left}")
        time.sleep(0.02)


def postmaster(data_dir: Path) -> Seen:
    """The installation's PostgreSQL."""
    found = [one for one in family(data_dir) if "/bin/postgres -D" in one.command]  # a fresh child looks the same
    return min(found, key=lambda one: (one.start, one.pid))


def workers(data_dir: Path) -> set[Seen]:
    return {process for process in family(data_dir) if "restante worker" in process.command}


class Client(Http):
    """Calls to one restante as one account."""

    def __init__(self, url: str, credentials: tuple[str, str]) -> None:
        headers = {"Authorization": aiohttp.encode_basic_auth(*credentials)}
        self._session = aiohttp.ClientSession(headers=headers)
        self._family = url + FAMILY

    async def answers(self, ids: list[str], seconds: float = 60.0) -> dict[str, Any]:
        """As Http's, many at once: each collects in a commit of its own."""
        found: dict[str, Any] = {}
        async with asyncio.timeout(seconds):
            while left := [task_id for task_id in ids if task_id not in found]:
                for answer in await asyncio.gather(*(self.get(f"task_get/{task_id}") for task_id in left)):
                    [entry] = answer["tasks"]
                    if entry["status_code"] not in (40601, 40602):
                        found[entry["id"]] = entry
                await asyncio.sleep(0.1)  # polls as a client does
        return found


class House:
    """An installation whose processes a test starts and ends one by one."""

    def __init__(self, directory: Path, **settings: str) -> None:
        self.directory = directory
        self.data_dir = directory / "data"
        self.env = environment(self.data_dir, **settings)
        self.url = ""
        self._started: list[Process] = []

    def start(self, name: str, *arguments: str, **settings: str) -> Process:
        env = self.env | {f"RESTANTE_{name}": value for name, value in settings.items()}
        process = Process(list(arguments), env, self.directory, name)
        self.mind(process)
        return process

    def mind(self, process: Process) -> None:
        """See to the end of a process that a test started by itself."""
        self._started.append(process)

    def up(self, name: str = "up", workers: int = 1, **settings: str) -> Process:
        """`restante up`, answering at `url`."""
        process = self.start(name, "up", "--provider", "scripted", "--workers", str(workers), **settings)
        self.url = process.wait_for(r"up at (http://\S+)")[1]
        return process

    def worker(self, name: str, **settings: str) -> Process:
        """`restante worker`, serving."""
        process = self.start(name, "worker", "--provider", "scripted", **settings)
        process.wait_for("the worker serves", log=True)
        return process

    def close(self) -> None:
        """End what a failed test left."""
        for process in self._started:
            if process.popen.poll() is None:
                process.signal(signal.SIGCONT)
                process.popen.terminate()
        for process in self._started:
            with contextlib.suppress(Exception):
                process.wait(10)
            process.kill()
        kill(family(self.data_dir))

    def http(self, work: HTTP, credentials: tuple[str, str] = OPERATOR) -> Any:
        async def run() -> Any:
            async with Client(self.url, credentials) as http:
                return await work(http)

        return asyncio.run(run())

    def post(self, tasks: Sequence[dict[str, Any]], credentials: tuple[str, str] = OPERATOR) -> list[str]:
        """Post tasks, 100 a call; their ids. All are accepted."""

        async def work(http: Http) -> list[str]:
            entries = []
            for start in range(0, len(tasks), 100):
                entries += (await http.post(tasks[start : start + 100]))["tasks"]
            assert {entry["status_code"] for entry in entries} == {20100}, entries
            return [entry["id"] for entry in entries]

        ids: list[str] = self.http(work, credentials)
        return ids

    def collect(self, ids: list[str], seconds: float = 60.0, credentials: tuple[str, str] = OPERATOR) -> dict[str, Any]:
        """Every task's entry, waited for through the API."""
        found: dict[str, Any] = self.http(lambda http: http.answers(ids, seconds), credentials)
        return found

    def sql(self, statement: str, *args: object) -> list[Any]:
        """Rows of one statement, as the cluster's superuser. Joins the server, or starts it."""
        rows: list[Any] = look(self.data_dir, lambda db: db.fetch(statement, *args))
        return rows

    def until(self, statement: str, *args: object, seconds: float = 60.0) -> None:
        """Wait until the statement says true."""

        async def wait(db: Any) -> None:
            async with asyncio.timeout(seconds):
                while not await db.fetchval(statement, *args):
                    await asyncio.sleep(0.02)  # what other processes commit sends no event

        look(self.data_dir, wait)

    def holds(self, worker: Process, tasks: int) -> None:
        """Wait until a worker holds so many tasks."""
        self.until(
            "select count(*) = $2 from queue q join worker w using (token) where w.name like '% ' || $1::text",
            str(worker.popen.pid),
            tasks,
        )

    def settled(self, seconds: float = 60.0) -> None:
        """Wait until no task is left in the queue."""
        self.until("select count(*) = 0 from queue", seconds=seconds)

    def assert_adds_up(self, ids: Sequence[str], spent: int, login: str = OPERATOR[0]) -> None:
        """Each of these tasks, all that the account ever posted, is answered and settled once; the money is right."""
        [account] = self.sql("select * from account where login = $1", login)
        found = self.sql("select task_id::text as id from transfer where kind = 3 and account_id = $1", account["id"])
        assert sorted(row["id"] for row in found) == sorted(ids)
        states = self.sql("select state, code from task where account_id = $1", account["id"])
        assert {(row["state"], row["code"]) for row in states} == {(1, 20000)} and len(states) == len(ids)
        assert (account["held"], account["spent"]) == (0, spent)
        assert account["balance"] == account["funded"] - spent
        self.audit()

    def audit(self) -> None:
        """`restante ledger audit` finds nothing."""
        audit = self.start("audit", "ledger", "audit")
        assert audit.wait() == 0, audit.stdout + audit.log
        assert "no difference" in audit.stdout


def look(data_dir: Path, work: Callable[[Any], Any]) -> Any:
    async def run(dsn: str) -> Any:
        connection = await asyncpg.connect(dsn)
        try:
            return await work(connection)
        finally:
            await connection.close()

    with EmbeddedPostgres(data_dir) as server:
        return asyncio.run(run(server.dsn))


@contextlib.contextmanager
def house(directory: Path, **settings: str) -> Iterator[House]:
    """An installation; at the end nothing of it is left, whatever happened."""
    made = House(directory, **settings)
    try:
        yield made
    finally:
        made.close()
