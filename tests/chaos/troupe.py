"""The processes that the monkey plays with: API nodes, workers and a `restante up`, on one PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg

from restante.store.embedded_postgres import EmbeddedPostgres
from tests.chaos.processes import family, kill, postmaster
from tests.support import COMMAND, START_SECONDS, Process

LEASE_SECONDS = 2.0
CUT_SECONDS = 3.5  # without the database: longer than a lease
STOPPED_SECONDS = 1.0  # within a lease: long enough to ask a database that is there what a process holds
AHEAD_MOST = 18 * 3_600  # seconds that a clock may be ahead: an id is looked for until tomorrow, a key kept for a day
RESTANTE = " -m restante "  # in the command line of each of its processes, and in none of PostgreSQL's
UP = {
    "worker": re.compile("the worker serves"),
    "api": re.compile(r"API is up at (http://\S+)"),
    "up": re.compile(r"restante is up at (http://\S+)"),
}


def beyond_midnight() -> int:
    """Seconds by which a clock is ahead that shows tomorrow's date, in UTC as all days are here; or the most."""
    return min(86_400 - int(time.time()) % 86_400 + 600, AHEAD_MOST)


class Member:
    """One process. `held` by it when it was struck is what may be asked of the provider again."""

    def __init__(self, kind: str, number: int, process: Process, clock: int) -> None:
        self.kind, self.number, self.process, self.clock = kind, number, process, clock
        self.pid = process.popen.pid
        self.url = ""
        self.ready = False
        self.busy = False  # frozen, cut off or being ended

    @property
    def alive(self) -> bool:
        return self.process.popen.poll() is None

    def look(self) -> None:
        """Notice that it serves."""
        if not self.ready:
            said = UP[self.kind].search(self.process.log if self.kind == "worker" else self.process.stdout)
            if said:
                self.ready, self.url = True, said[1] if said.groups() else ""


class Database:
    """PostgreSQL, looked into and broken: the embedded one, or the reader's own."""

    def __init__(self, data_dir: Path, url: str | None, crash: str | None) -> None:
        self._data_dir = data_dir
        self._crash = crash
        self.embedded = EmbeddedPostgres(data_dir) if url is None else None
        self._url = url or ""
        self._connection: Any = None
        self._one = asyncio.Lock()

    @property
    def breakable(self) -> bool:
        return self.embedded is not None or self._crash is not None

    def start(self) -> None:
        """Join it, so that the last restante that ends does not stop it."""
        if self.embedded is not None:
            self.embedded.start()

    def stop(self) -> None:
        if self.embedded is not None:
            self.embedded.stop()

    @property
    def url(self) -> str:
        return self._url if self.embedded is None else self.embedded.dsn

    async def rows(self, statement: str, *args: object) -> list[Any]:
        """Rows of a statement, however often the server is lost on the way."""
        async with self._one, asyncio.timeout(START_SECONDS):
            while True:
                try:
                    if self._connection is None:
                        self._connection = await asyncpg.connect(self.url, timeout=5)
                    return list(await self._connection.fetch(statement, *args))
                except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError,
                        asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError,
                        asyncpg.InsufficientResourcesError) as error:  # fmt: skip
                    if isinstance(error, asyncpg.DataError):
                        raise
                    await self.close()
                    await asyncio.sleep(0.05)  # nothing tells that a server is back

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.terminate()

    async def crash(self, number: int) -> None:
        """End it as a crash does: SIGKILL, or PostgreSQL's immediate shutdown."""
        if self.embedded is None:
            assert self._crash is not None
            made = await asyncio.create_subprocess_exec(*shlex.split(self._crash))
            assert await made.wait() == 0, f"{self._crash!r} failed"
        else:
            with contextlib.suppress(ProcessLookupError, ValueError):  # it is being started at this moment
                os.kill(postmaster(self._data_dir).pid, number)
        await self.close()


class Troupe:
    """All of them; who is ended is started again by `keep`."""

    def __init__(self, directory: Path, env: dict[str, str], database: Database, chance: random.Random) -> None:
        self.directory, self._env, self.database, self._chance = directory, env, database, chance
        self.members: list[Member] = []
        self.wanted: dict[str, int] = {}
        self.clocks: set[int] = set()  # processes started with a wrong clock
        self.struck: set[int] = set()  # processes that something was done to, which may end their leases
        self._numbers = 0
        self._logs: list[Path] = []

    def start(self, kind: str) -> Member:
        """Start one more; some have wrong clocks."""
        self._numbers += 1
        clock = self._chance.choice((-90, 90, beyond_midnight())) if self._chance.random() < 0.25 else 0
        faults = f"cut={CUT_SECONDS}" + (f", clock={clock}" if clock else "")
        arguments = [kind, "--provider", "scripted"] + (["--workers", "1"] if kind == "up" else [])
        if kind == "worker":
            arguments.append("--follow-stdin")
        process = Process.__new__(Process)
        name = f"{self._numbers:05d}-{kind}"
        process.stdout_path, process.stderr_path = self.directory / f"{name}.out", self.directory / f"{name}.err"
        self._logs.append(process.stderr_path)
        with process.stdout_path.open("w") as out, process.stderr_path.open("w") as err:
            process.popen = subprocess.Popen(
                [*COMMAND, *arguments], env=self._env | {"RESTANTE_FAULTS": faults}, stdout=out, stderr=err,
                stdin=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        member = Member(kind, self._numbers, process, clock)
        self.members.append(member)
        if clock:
            self.clocks.add(member.pid)
        return member

    def missing(self) -> list[str]:
        """What has to be started so that there are as many as are wanted."""
        lacking: list[str] = []
        for kind, number in self.wanted.items():
            lacking += [kind] * (number - sum(one.kind == kind for one in self.members))
        return lacking

    def look(self) -> None:
        """Notice who serves and who is gone; start who is missing, two at a time: a start takes a second of a core."""
        for one in self.members:
            one.look()
        for one in [one for one in self.members if not one.alive]:
            self.members.remove(one)
            _close(one)
        starting = sum(not one.ready for one in self.members)
        for kind in self.missing()[: max(0, 2 - starting)]:
            self.start(kind)

    async def ready(self, seconds: float = 3 * START_SECONDS) -> None:
        """Wait until all that are wanted serve."""
        async with asyncio.timeout(seconds):
            while self.missing() or not all(one.ready for one in self.members):
                self.look()
                await asyncio.sleep(0.05)

    @property
    def urls(self) -> list[str]:
        """Where an API answers, or did a moment ago."""
        return [one.url for one in self.members if one.url]

    def of(self, *kinds: str) -> list[Member]:
        """Those that serve and that nothing happens to at the moment."""
        return [one for one in self.members if one.kind in kinds and one.ready and one.alive and not one.busy]

    async def held(self, pids: Sequence[int] | None = None) -> dict[int, list[str]]:
        """What each of these processes, or every one, leases now, live tasks included: {pid: ids}."""
        rows = await self.database.rows(
            "select substring(w.name from '[0-9]+$')::int as pid,"
            " coalesce(array_agg(q.id::text order by q.id) filter (where q.id is not null), '{}') as ids"
            " from worker w left join queue q on q.token = w.token and q.state = 2"
            " where $1::int[] is null or substring(w.name from '[0-9]+$')::int = any ($1) group by 1",
            pids,
        )
        return {row["pid"]: row["ids"] for row in rows}

    async def stop(self, member: Member) -> list[str]:
        """SIGSTOP; what it holds then, once the statements that it had sent are done."""
        while True:
            member.process.signal(signal.SIGSTOP)
            try:
                async with asyncio.timeout(STOPPED_SECONDS):
                    return (await self._held_at_last([member.pid])).get(member.pid, [])
            except TimeoutError:  # PostgreSQL is down, and whoever is stopped may be about to start it
                member.process.signal(signal.SIGCONT)
                await self.database.rows("select 1")

    async def stop_all(self) -> dict[int, list[str]] | None:
        """SIGSTOP to all, and to what `up` started; what each holds then. None, and they go on: PostgreSQL is down."""
        stopped = [
            one.pid for one in await asyncio.to_thread(family, self.directory / "data") if RESTANTE in one.command
        ]
        _signal(stopped, signal.SIGSTOP)
        try:
            async with asyncio.timeout(STOPPED_SECONDS):
                return await self._held_at_last()
        except TimeoutError:
            _signal(stopped, signal.SIGCONT)
            return None

    async def _held_at_last(self, pids: Sequence[int] | None = None) -> dict[int, list[str]]:
        """What stopped processes hold, once it stays the same and the statements that had begun before are done."""
        [row] = await self.database.rows("select clock_timestamp() as stopped_at")
        held = await self.held(pids)
        while True:
            await asyncio.sleep(0.03)
            last = await self.held(pids)
            if last == held and not await self._under_way(row["stopped_at"]):
                return held
            held = last

    async def _under_way(self, begun_before: datetime) -> bool:
        """Whether statements are: a claim that was sent in time may lease its tasks later, on a slow machine."""
        return bool(
            await self.database.rows(
                "select from pg_stat_activity where datname = current_database() and state = 'active'"
                " and pid <> pg_backend_pid() and query_start < $1 limit 1",
                begun_before,
            )
        )

    def end(self, member: Member) -> None:
        """SIGKILL."""
        self.struck.add(member.pid)
        member.process.popen.kill()
        member.process.popen.wait()

    def power_cut(self) -> None:
        """Everything of the installation at once, PostgreSQL and what `up` started too."""
        everything = set(family(self.directory / "data")) if self.database.embedded else set()
        members = list(self.members)  # meanwhile the keeper starts others
        self.struck |= {one.pid for one in members} | {one.pid for one in everything}
        for one in members:
            one.process.popen.kill()
        kill(everything)
        for one in members:
            one.process.popen.wait()

    async def retire(self) -> list[str]:
        """SIGTERM to all, which drain; what did not end well."""
        self.wanted = {}
        for one in self.members:
            one.process.popen.send_signal(signal.SIGCONT)
            one.process.popen.terminate()
        wrong = []
        for one in self.members:
            try:
                code = await asyncio.to_thread(one.process.wait, 40)
            except subprocess.TimeoutExpired:
                code = -9
                self.end(one)
            if code != 0:
                wrong.append(f"{one.process.stderr_path.name} ended with {code}:\n{one.process.log[-2000:]}")
            _close(one)
        self.members = []
        return wrong

    def kill(self) -> None:
        """End what is left, however it is."""
        for one in self.members:
            one.process.kill()
            _close(one)

    def said(self, pattern: str) -> list[str]:
        """Lines of all logs that have the pattern."""
        wanted = re.compile(pattern)
        return [
            f"{log.name}: {line}"
            for log in self._logs
            for line in log.read_text(errors="replace").splitlines()
            if wanted.search(line)
        ]


def _signal(pids: Sequence[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.kill(pid, number)


def _close(member: Member) -> None:
    if member.process.popen.stdin is not None:
        with contextlib.suppress(OSError):
            member.process.popen.stdin.close()
