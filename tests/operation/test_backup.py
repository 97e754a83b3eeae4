"""Backup and restore: taken under load, restored elsewhere, nothing lost; damaged, half and foreign ones refused."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import asyncpg
import msgspec
import pytest

from restante.cli.backup import _reserve
from restante.config import Settings
from restante.core.errors import OperatorError
from restante.store import base_backup, restoring
from restante.store.base_backup import LABEL, Facts, Label
from restante.store.database import Database
from restante.store.embedded_cluster import RESTORING, installed_programs
from restante.store.embedded_postgres import EmbeddedPostgres
from restante.store.schema import migrations
from tests.chaos.processes import Client, House, eventually, family, house
from tests.support import COMMAND, OPERATOR, Process, environment, task

pytestmark = pytest.mark.timeout(120)


def run(env: dict[str, str], *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], env=env, capture_output=True, text=True, timeout=100, **options)


def lsn(text: str) -> int:
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


class Load(threading.Thread):
    """Posts one task after the other, and notes where PostgreSQL's log was when each had been accepted."""

    def __init__(self, house: House, credentials: tuple[str, str]) -> None:
        super().__init__()
        self._house = house
        self._credentials = credentials
        self.ended = threading.Event()
        self.accepted: list[tuple[str, int]] = []

    def run(self) -> None:
        asyncio.run(self._post())

    async def _post(self) -> None:
        with EmbeddedPostgres(self._house.data_dir) as server:
            db = await asyncpg.connect(server.dsn)
            async with Client(self._house.url, self._credentials) as http:
                while not self.ended.is_set():
                    [entry] = (await http.post([task(f"task {len(self.accepted)}")]))["tasks"]
                    assert entry["status_code"] == 20100, entry
                    at = await db.fetchval("select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint")
                    self.accepted.append((entry["id"], at))
            await db.close()


class Taken(msgspec.Struct, frozen=True):
    """A backup that was taken under load; what was accepted, and when; the operator's password."""

    backup: Path
    label: Label
    accepted: list[tuple[str, int]]
    password: str


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that other users can walk to."""
    path = Path(tempfile.mkdtemp(prefix="restante-backup-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def taken(place: Path) -> Taken:
    (place / "old").mkdir()
    with house(place / "old", SCRIPTED_LATENCY="0.2", LEASE_SECONDS="2", PASSWORD="") as old:
        up = old.up()
        password = (old.data_dir / "operator-password").read_text().strip()
        load = Load(old, (OPERATOR[0], password))
        load.start()
        eventually("tasks", lambda: len(load.accepted) > 10)
        done = run(old.env, "backup", str(place / "backup"), "--json")
        load.ended.set()
        load.join()
        assert done.returncode == 0, done.stderr
        up.kill()  # the machine is lost, with what it accepted after the backup
        label = msgspec.convert(json.loads(done.stdout)["label"], Label)
    return Taken(place / "backup", label, load.accepted, password)


def test_a_new_machine_has_all_that_was_accepted_before_the_end(taken: Taken, place: Path) -> None:
    end = lsn(taken.label.wal_end)
    before = [task_id for task_id, at in taken.accepted if at <= end]
    assert before and len(before) < len(taken.accepted)  # it was taken in the midst of it
    (place / "new").mkdir()
    with house(place / "new", LEASE_SECONDS="2", PASSWORD="") as new:
        done = run(new.env, "restore", str(taken.backup))
        assert done.returncode == 0, done.stderr
        assert "no difference" in done.stdout and "once more" in done.stdout
        assert not family(new.data_dir)  # nothing runs before somebody starts it
        new.up()
        credentials = (OPERATOR[0], taken.password)  # the backup's: no new one was made
        found = new.collect(before, credentials=credentials)
        assert {entry["status_code"] for entry in found.values()} == {20000}
        new.settled()
        new.audit()
        [spent] = new.sql("select spent, held from account")
        [tasks] = new.sql("select count(*)::int as n, count(distinct id)::int as ids from task where state = 1")
        assert spent["held"] == 0 and tasks["n"] == tasks["ids"] >= len(before)


def test_it_is_closed_and_says_what_it_is(taken: Taken) -> None:
    for path in (taken.backup, *taken.backup.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert taken.label.migration == migrations()[-1][0] and taken.label.embedded
    assert taken.label.files.keys() == {"operator-password"}
    assert any("keys" in one for one in taken.label.left_out)
    assert (taken.backup / "operator-password").read_text().strip() == taken.password


# Restores as another user, which it becomes when all is loaded that this user may not be able to read.
AS_ANOTHER = """
import asyncio, importlib.metadata, os, sys
from pathlib import Path
import asyncpg
from restante.store import restoring, schema
from restante.store.embedded_postgres import EmbeddedPostgres

backup, data_dir, uid = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
importlib.metadata.version("embedded-postgres")
schema.migrations()
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
asyncio.run(restoring.restore(backup, data_dir))

async def tasks(dsn):
    connection = await asyncpg.connect(dsn)
    print("tasks", await connection.fetchval("select count(*) from task"))
    await connection.close()

with EmbeddedPostgres(data_dir) as server:
    asyncio.run(tasks(server.dsn))
"""


def test_an_ordinary_user_restores_it(taken: Taken, place: Path) -> None:
    """Another machine, another user id: the database becomes whoever's restores it."""
    if os.geteuid() != 0:
        pytest.skip("only root can be two users")
    uid = pwd.getpwnam("daemon").pw_uid
    mine, home = place / "mine", place / "daemon's"
    shutil.copytree(taken.backup, mine)
    home.mkdir()
    for path in (home, mine, *mine.rglob("*")):
        os.chown(path, uid, uid)
    command = [sys.executable, "-W", "error", "-c", AS_ANOTHER, str(mine), str(home / "data"), str(uid)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert re.fullmatch("tasks [1-9][0-9]*\n", done.stdout), done.stderr
    assert (home / "data/postgres/18/PG_VERSION").stat().st_uid == uid


# --- what is refused -----------------------------------------------------------------------------------


def _rewrite(path: Path, content: bytes) -> None:
    """The backup that is damaged is made of links to the good one's files."""
    path.unlink()
    path.write_bytes(content)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    _rewrite(path, bytes(content))


def _halve(path: Path) -> None:
    content = path.read_bytes()
    _rewrite(path, content[: len(content) // 2])


def _lose_wal(backup: Path) -> None:
    for path in (backup / "postgres/pg_wal").iterdir():
        if path.is_file():
            path.unlink()


def _largest(backup: Path) -> Path:
    return max((backup / "postgres/base").rglob("*"), key=lambda path: path.stat().st_size)


def _relabel(backup: Path, **changes: object) -> None:
    label = json.loads((backup / LABEL).read_text()) | changes
    _rewrite(backup / LABEL, json.dumps(label).encode())


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a bit": (lambda b: _flip(_largest(b)), "damaged.*checksum"),
    "a lost file": (lambda b: _largest(b).unlink(), "damaged.*but not on disk"),
    "half a file": (lambda b: _halve(_largest(b)), "damaged.*size"),
    "lost WAL": (_lose_wal, "damaged.*WAL"),
    "no manifest": (lambda b: (b / "postgres/backup_manifest").unlink(), "damaged"),
    "another password": (lambda b: _rewrite(b / "operator-password", b"other"), "damaged.*changed"),
    "no password": (lambda b: (b / "operator-password").unlink(), "damaged.*missing"),
    "a link": (lambda b: (b / "postgres/base/link").symlink_to("/etc/passwd"), "damaged"),
    "no label": (lambda b: (b / LABEL).unlink(), "never finished"),
    "half a label": (lambda b: _halve(b / LABEL), "cannot be read"),
    "a newer restante": (lambda b: _relabel(b, migration=9999), "at migration 9999"),
    "a newer format": (lambda b: _relabel(b, format=2), "in another way"),
    "another PostgreSQL": (lambda b: _relabel(b, postgres=17), "PostgreSQL 17"),
    "a PostgreSQL of one's own": (lambda b: _relabel(b, embedded=False), "does not run"),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_one_is_refused(taken: Taken, tmp_path: Path, damage: str) -> None:
    act, words = DAMAGES[damage]
    shutil.copytree(taken.backup, tmp_path / "damaged", copy_function=os.link)
    act(tmp_path / "damaged")
    with pytest.raises(OperatorError, match=f"(?s){words}"):
        await restoring.restore(tmp_path / "damaged", tmp_path / "data")
    assert not (tmp_path / "data/postgres/18").exists()


async def test_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="not a directory"):
        await restoring.restore(tmp_path / "nothing", tmp_path / "data")
    with pytest.raises(OperatorError, match="not a backup"):
        await restoring.restore(tmp_path, tmp_path / "data")
    assert list(tmp_path.iterdir()) == []


async def test_nothing_is_overwritten(taken: Taken, tmp_path: Path) -> None:
    kept = tmp_path / "data/postgres/18"
    kept.mkdir(parents=True)
    with pytest.raises(OperatorError, match="exists already"):
        await restoring.restore(taken.backup, tmp_path / "data")
    kept.rmdir()
    (tmp_path / "data/operator-password").write_text("mine")
    with pytest.raises(OperatorError, match="operator-password exists already"):
        await restoring.restore(taken.backup, tmp_path / "data")
    assert (tmp_path / "data/operator-password").read_text() == "mine"
    for name, words in ((taken.backup, "exists already"), (tmp_path / "no/where", "no directory")):
        with pytest.raises(OperatorError, match=words):
            base_backup.refuse_target(name, 0)
    (tmp_path / "half.partial").mkdir()
    with pytest.raises(OperatorError, match="interrupted"):
        base_backup.refuse_target(tmp_path / "half", 0)
    (tmp_path / "astray.partial").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OperatorError, match="interrupted"):
        base_backup.refuse_target(tmp_path / "astray", 0)
    with pytest.raises(OperatorError, match="not room enough"):
        base_backup.refuse_target(tmp_path / "huge", 1 << 60)


def test_a_backup_on_the_databases_disk_leaves_the_reserve_free(tmp_path: Path) -> None:
    """Otherwise a nightly backup would stop new tasks; on another disk it may fill what there is."""
    whole, _, free = shutil.disk_usage(tmp_path)
    loaded = Settings(data_dir=tmp_path, disk_reserve="5%")
    assert _reserve(loaded, tmp_path / "backup") == int(whole * 0.05)
    assert _reserve(loaded, Path("/dev/shm/backup")) == _reserve(loaded, tmp_path / "no/where/backup") == 0
    assert _reserve(Settings(database_url="postgresql://elsewhere/x"), tmp_path / "backup") == 0
    assert base_backup.refuse_target(tmp_path / "backup", 0, 0)
    with pytest.raises(OperatorError, match=r"not room enough: .* 0 are needed, and [0-9,]+ are kept in reserve"):
        base_backup.refuse_target(tmp_path / "backup", 0, free + (64 << 30))


async def test_an_interrupted_restore_is_no_empty_database(taken: Taken, tmp_path: Path) -> None:
    half = tmp_path / "data/postgres" / RESTORING
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18")
    with pytest.raises(OperatorError, match="interrupted"):
        EmbeddedPostgres(tmp_path / "data").start()
    await restoring.restore(taken.backup, tmp_path / "data")
    assert not half.exists()
    assert hashlib.sha256((tmp_path / "data/operator-password").read_bytes()).hexdigest() in taken.label.files.values()
    with EmbeddedPostgres(tmp_path / "data") as server, pytest.raises(OperatorError, match="in use"):
        assert server.exists
        await restoring.restore(taken.backup, tmp_path / "data")


async def test_a_restore_that_is_interrupted_twice_is_no_empty_database_either(
    taken: Taken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first one left is cleared away, and then it is killed."""
    half = tmp_path / "data/postgres" / RESTORING
    (half / "base").mkdir(parents=True)
    (half / "PG_VERSION").write_text("18")
    with monkeypatch.context() as patch:
        patch.setattr(restoring, "_copied", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            await restoring.restore(taken.backup, tmp_path / "data")
    assert list(half.iterdir()) == []
    with pytest.raises(OperatorError, match="interrupted"):
        EmbeddedPostgres(tmp_path / "data").start()
    await restoring.restore(taken.backup, tmp_path / "data")
    assert not half.exists()


async def test_a_restore_that_is_ended_ends(taken: Taken, tmp_path: Path) -> None:
    """Between two files, and not when all of it is there."""

    def end(done: int, whole: int) -> None:
        restoration.cancel()

    restoration = asyncio.create_task(restoring.restore(taken.backup, tmp_path / "data", end))
    with pytest.raises(asyncio.CancelledError):
        await restoration
    assert not (tmp_path / "data/postgres/18").exists()
    with pytest.raises(OperatorError, match="interrupted"):
        EmbeddedPostgres(tmp_path / "data").start()


async def test_a_backup_that_is_ended_leaves_nothing(dsn: str, db: Database, tmp_path: Path) -> None:
    found = await base_backup.facts(db)
    programs = base_backup.find_programs(found.postgres, embedded=False)
    copying = asyncio.create_task(
        base_backup.back_up(dsn, tmp_path / "slow", found, programs, embedded=False, most_kilobytes=1_024)
    )
    await asyncio.to_thread(eventually, "the copying", lambda: (tmp_path / "slow.partial/postgres/base").exists())
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert list(tmp_path.iterdir()) == [] and not family(tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_so_does_a_command_that_is_ended(taken: Taken, tmp_path: Path, number: signal.Signals) -> None:
    env = environment(tmp_path / "data")
    assert run(env, "restore", str(taken.backup)).returncode == 0
    backup = Process(["backup", str(tmp_path / "slow"), "--max-rate", "1"], env, tmp_path, "backup")
    eventually("the copying", lambda: (tmp_path / "slow.partial/postgres/base").exists())
    backup.signal(number)
    killed = number == signal.SIGKILL
    assert backup.wait(20) == (-number if killed else 130)
    # Killed, it leaves what says that it is no backup; and no program that goes on copying.
    eventually("its programs' end", lambda: not [one for one in family(tmp_path) if "pg_basebackup" in one.command])
    assert [path.name for path in tmp_path.glob("slow*")] == (["slow.partial"] if killed else [])
    with EmbeddedPostgres(tmp_path / "data"):  # an orphan is joined, and stopped by the last one out
        pass
    eventually("PostgreSQL's end", lambda: not family(tmp_path / "data"))


# --- a PostgreSQL of one's own ---------------------------------------------------------------------------


async def test_another_postgresql_is_copied_by_programs_of_its_version(
    dsn: str, db: Database, server_dsn: str, tmp_path: Path
) -> None:
    found = await base_backup.facts(db)
    programs = base_backup.find_programs(found.postgres, embedded=False)
    assert programs.major >= found.postgres
    heard: list[tuple[int, int]] = []
    label = await base_backup.back_up(
        dsn, tmp_path / "theirs", found, programs, embedded=False, progress=lambda *places: heard.append(places)
    )
    assert label.postgres == found.postgres and heard and heard[-1][0] <= heard[-1][1]
    assert not label.embedded and lsn(label.wal_end)
    with pytest.raises(OperatorError, match="a data directory for it"):
        await restoring.restore(tmp_path / "theirs", tmp_path / "data")


async def test_what_cannot_be_copied_is_said(dsn: str, db: Database, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="let your own backup"):
        base_backup.find_programs(99, embedded=False)
    programs = base_backup.find_programs(18, embedded=True)
    assert programs.directory == installed_programs()
    found = msgspec.structs.replace(await base_backup.facts(db), tablespaces=1)
    with pytest.raises(OperatorError, match="tablespaces"):
        await base_backup.back_up(dsn, tmp_path / "no", found, programs, embedded=False)
    with pytest.raises(OperatorError, match="could not be copied"):
        await base_backup.back_up(
            f"postgresql://restante@/x?host={tmp_path}", tmp_path / "no", Facts(18, 1, 0, 0), programs, embedded=True
        )
    with pytest.raises(OperatorError, match="cannot be made in /proc/no"):
        await base_backup.back_up(dsn, Path("/proc/no"), Facts(18, 1, 0, 0), programs, embedded=True)
    with pytest.raises(OperatorError, match="sslpassword"):
        secret = f"{dsn}&sslpassword=of-a-key"
        await base_backup.back_up(secret, tmp_path / "no", Facts(18, 1, 0, 0), programs, embedded=False)
    assert list(tmp_path.iterdir()) == []


async def test_it_connects_as_restante_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """What demands a certificate in the environment of one is not left out for the other."""
    for name, value in {"PGSSLMODE": "verify-full", "PGPASSWORD": "x", "PGOPTIONS": "-c x=y"}.items():
        monkeypatch.setenv(name, value)
    async with base_backup._running(["env"], {"PGPASSWORD": "of the URL"}) as process:
        assert process.stdout is not None
        said = (await process.stdout.read()).decode().splitlines()
    assert {"PGSSLMODE=verify-full", "PGPASSWORD=of the URL"} <= set(said)
    assert not [line for line in said if line.startswith("PGOPTIONS")]


def test_no_password_stands_on_a_command_line() -> None:
    split = base_backup._without_password
    assert split("postgresql://u:p%40ss@db1:5432/x?sslmode=require") == (
        "postgresql://u@db1:5432/x?sslmode=require",
        {"PGPASSWORD": "p@ss"},
    )
    assert split("postgresql:///x?application_name=a+b&password=p%26") == (
        "postgresql:///x?application_name=a%20b",
        {"PGPASSWORD": "p&"},
    )
    assert split("postgresql://u@/x?host=%2Frun&password=secret") == (
        "postgresql://u@/x?host=%2Frun",
        {"PGPASSWORD": "secret"},
    )


@pytest.mark.parametrize(
    ("dsn", "found"),
    [
        ("postgresql://u@db1:1,db2:2/x", "postgresql://u@db1:1,db2:2/x?target_session_attrs=read-write"),
        ("postgresql:///x?host=a,b", "postgresql:///x?host=a%2Cb&target_session_attrs=read-write"),
        ("postgresql://u@db1,db2/x?target_session_attrs=any", "postgresql://u@db1,db2/x?target_session_attrs=any"),
    ],
)
def test_of_several_hosts_the_primary_is_copied(dsn: str, found: str) -> None:
    """A standby may be behind; and what was looked at is the primary."""
    assert base_backup._without_password(dsn) == (found, {})
