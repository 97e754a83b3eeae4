"""A disk that is really full, below a real PostgreSQL: a small tmpfs, filled to the last byte, and freed again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from restante.store.embedded_postgres import EmbeddedPostgres
from tests.chaos.processes import Client, House, eventually, house, postmaster
from tests.support import OPERATOR, environment

pytestmark = [pytest.mark.long, pytest.mark.timeout(400)]

SIZE_MB = 380
RESERVE = "60MB"
BACK_SECONDS = 30.0  # after space is freed everything goes on within


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=755", "tmpfs", path], check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture
def here(tmp_path: Path, disk: Path) -> Iterator[House]:
    """An installation on it, whose WAL is small, so that the rest of the disk is for data."""
    tmp_path.chmod(0o755)
    with house(tmp_path) as made:
        made.data_dir = disk / "data"
        made.env = environment(made.data_dir, SCRIPTED_LATENCY="3", DISK_RESERVE=RESERVE, LEASE_SECONDS="5")
        asyncio.run(_small_wal(made.data_dir))
        yield made


async def _small_wal(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as server:
        connection = await asyncpg.connect(server.dsn)
        await connection.execute("alter system set max_wal_size = '64MB'")
        await connection.execute("alter system set min_wal_size = '32MB'")
        await connection.close()


class Ballast:
    """A file that takes what is free on the disk."""

    def __init__(self, disk: Path) -> None:
        self._disk = disk
        self._path = disk / "ballast"

    def leave(self, megabytes: int) -> None:
        """So much is free afterwards; with 0 not a byte is."""
        free = os.statvfs(self._disk)
        size = self._path.stat().st_size if self._path.exists() else 0
        wanted = size + free.f_bavail * free.f_frsize - (megabytes << 20)
        with self._path.open("ab", buffering=0) as file:
            if wanted < size:
                file.truncate(max(wanted, 0))
            elif megabytes:
                os.posix_fallocate(file.fileno(), size, wanted - size)
            for block in () if megabytes else (1 << 20, 4_096):
                with contextlib.suppress(OSError):  # not a byte more
                    while file.write(b"x" * block) == block:
                        pass

    def free(self) -> None:
        self._path.unlink()


class Load(threading.Thread):
    """Posts ten tasks after ten tasks, whatever is answered."""

    def __init__(self, here: House) -> None:
        super().__init__()
        self._here = here
        self.ended = threading.Event()
        self.accepted: list[str] = []
        self.refused = 0
        self.accepted_at = 0.0

    def run(self) -> None:
        asyncio.run(self._post())

    async def _post(self) -> None:
        body = b"[" + b",".join([b'{"user_prompt": "name one lake", "model_name": "gemini-2.5-flash"}'] * 10) + b"]"
        async with Client(self._here.url, OPERATOR) as http:
            while not self.ended.is_set():
                status, answer = await http.send("POST", "task_post", body)
                if status == 200 and answer["tasks"][0]["status_code"] == 20100:
                    self.accepted += [entry["id"] for entry in answer["tasks"]]
                    self.accepted_at = time.monotonic()
                else:
                    assert (status, answer["status_code"]) == (500, 50000), answer
                    self.refused += 1
                await asyncio.sleep(0.05)  # a client's pace


@pytest.mark.parametrize("killed", [False, True], ids=["PostgreSQL as it will", "PostgreSQL killed"])
def test_a_full_disk(here: House, disk: Path, killed: bool) -> None:
    ballast = Ballast(disk)
    up = here.up()
    load = Load(here)
    load.start()
    try:
        eventually("tasks", lambda: len(load.accepted) > 300)
        # Below the reserve: nothing new is taken, what was taken ends.
        ballast.leave(40)
        eventually("a refusal", lambda: load.refused > 3)
        taken = list(load.accepted)
        here.settled(60)
        assert len(load.accepted) - len(taken) <= 10  # a POST may have been under way
        assert {entry["status_code"] for entry in here.collect(taken[:50]).values()} == {20000}
        # Room again, tasks at work again; then not a byte is left.
        ballast.leave(120)
        eventually("new tasks", lambda: len(load.accepted) > len(taken) + 100, 30)
        ballast.leave(0)
        if killed:
            os.kill(postmaster(here.data_dir).pid, signal.SIGKILL)
            up.wait_for("could not be started again", log=True)
        time.sleep(15)  # that it lasts is the point
        refused, freed_at = load.refused, time.monotonic()
        ballast.free()
        eventually("a task after it", lambda: load.accepted_at > freed_at, BACK_SECONDS)
        took = load.accepted_at - freed_at
        print(f"\nfull for 15 s, {refused} calls refused; tasks are taken again {took:.1f} s after space was freed")
    finally:
        load.ended.set()
        load.join()
    here.settled(60)
    print(f"everything is settled {time.monotonic() - freed_at:.1f} s after it")
    found = here.collect(load.accepted, 120)
    assert {entry["status_code"] for entry in found.values()} == {20000}
    # What was answered with 50000 by a database that was lost may have been accepted: all of it is whole, or nothing.
    [rows] = here.sql("select count(*)::int as n, count(*) filter (where state = 1)::int as done from task")
    assert rows["n"] == rows["done"] >= len(load.accepted)
    assert up.popen.poll() is None and "Traceback" not in up.log, up.log[-3_000:]
    assert "almost full" in up.log and "room again" in up.log
    here.audit()
