"""Upgrades: never under processes that know the old schema only; those that meet a newer one stop."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from restante.core.errors import OperatorError
from restante.flow.lease import Lease
from restante.store import queue
from restante.store.database import Database
from restante.store.schema import migrations
from restante.wiring import utc_now
from tests.databases import dsn_of
from tests.support import COMMAND, Process, environment

OLD = 4  # the migration that the tests' old databases are at


@pytest.fixture
async def old(server_dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """A database at migration OLD, by the files up to it."""
    admin = await asyncpg.connect(server_dsn)
    await admin.execute("drop database if exists upgraded with (force)")
    await admin.execute("create database upgraded encoding 'UTF8' template template0")
    known = migrations()
    db = Database(dsn_of(server_dsn, "upgraded"), connections=2)
    await db.open()
    with monkeypatch.context() as patch:
        patch.setattr("restante.store.schema.migrations", lambda: [one for one in known if one[0] <= OLD])
        await db.migrate()
    yield db
    await db.close()
    await admin.execute("drop database upgraded with (force)")
    await admin.close()


async def at(db: Database) -> int:
    """The newest migration applied."""
    version: int = await db.value("schema_version")
    return version


async def live(db: Database, name: str, seconds: float) -> None:
    """A process as an older restante registers itself, living for so long unless its heart beats."""
    await db._pool.execute(
        "insert into worker (token, name, expires_at) values ($1, $2, now() + make_interval(secs => $3))"
        " on conflict (token) do update set expires_at = excluded.expires_at",
        hash(name), name, seconds,
    )  # fmt: skip


async def test_who_was_killed_is_waited_for(old: Database, caplog: pytest.LogCaptureFixture) -> None:
    await live(old, "worker shop 17", 60.0)
    await live(old, "worker long gone", -60.0)
    migrating = asyncio.create_task(old.migrate(wait=True))
    async with asyncio.timeout(30):
        while "waiting" not in caplog.text:
            await asyncio.sleep(0.01)
    await live(old, "worker shop 17", -1.0)
    await migrating
    assert await at(old) == migrations()[-1][0]
    [said] = [one for one in caplog.messages if "waiting" in one]
    assert "worker shop 17" in said and "long gone" not in said


async def test_who_lives_is_named_and_nothing_is_migrated(old: Database) -> None:
    async def beat() -> None:
        while True:
            await live(old, "worker shop 17", 3.0)
            await asyncio.sleep(0.1)  # a heart

    await live(old, "api shop 16", 60.0)
    with pytest.raises(
        OperatorError, match=r"2 processes of an older restante run: api shop 16, worker shop 17"
    ) as refused:
        await live(old, "worker shop 17", 60.0)
        await old.migrate()
    assert "Stop them" in str(refused.value.__dict__)
    await old._pool.execute("delete from worker")
    await live(old, "worker shop 17", 3.0)
    beating = asyncio.create_task(beat())
    async with asyncio.timeout(30):
        with pytest.raises(OperatorError, match="1 process of an older restante runs: worker shop 17"):
            await old.migrate(wait=True)
    beating.cancel()
    assert await at(old) == OLD


async def test_an_up_to_date_database_asks_nobody_to_stop(dsn: str, db: Database) -> None:
    await queue.register(db, 7, "worker shop 17", 60)
    await db.migrate()
    await db.migrate(wait=True)


async def test_commands_do_not_migrate_under_a_living_process(old: Database, tmp_path: Path) -> None:
    await live(old, "worker shop 17", 60.0)
    env = environment(tmp_path, DATABASE_URL=old.dsn)
    run = await asyncio.to_thread(
        subprocess.run, [*COMMAND, "account", "list"], env=env, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 1
    assert "worker shop 17" in run.stderr and "Stop them" in run.stderr and "Traceback" not in run.stderr
    assert await at(old) == OLD


async def test_a_heartbeat_sees_that_the_database_is_newer(db: Database) -> None:
    lease = Lease(db, "an api", 60)
    await lease.begin()
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    working = asyncio.create_task(lease.until_outdated(work()))
    await lease._beat_once()
    assert not lease.outdated.is_set()
    await db._pool.execute("insert into schema_migration (version, name) values (9999, 'of the future')")
    await lease._beat_once()
    await asyncio.wait_for(working, 10)
    assert ended.is_set() and lease.outdated.is_set()
    await lease.end()


@pytest.mark.parametrize("command", ["api", "worker", "up"])
async def test_a_process_stops_when_a_newer_restante_has_migrated(
    dsn: str, db: Database, tmp_path: Path, command: str
) -> None:
    """In order: with an exit code, a word in the log, and its leases given back."""
    env = environment(tmp_path / "data", DATABASE_URL=dsn, LEASE_SECONDS="5")
    process = Process([command, "--provider", "scripted"], env, tmp_path, command)
    try:
        await asyncio.to_thread(process.wait_for, "the worker serves|the API answers", log=True)
        await db._pool.execute("insert into schema_migration (version, name) values (9999, 'of the future')")
        await asyncio.to_thread(process.wait_for, r"a newer restante has migrated the database \(to 9999\)", log=True)
        assert await asyncio.to_thread(process.wait, 30) == 1
        assert "Traceback" not in process.log
        assert await db._pool.fetchval("select count(*) from worker") == 0
    finally:
        process.kill()


async def test_0005_counts_what_was_spent_on_no_day_but_the_last_two(old: Database) -> None:
    """Of six months of tasks it reads those two days."""
    now = utc_now()
    for days in (1, 2):
        day = (now - timedelta(days=days)).date()
        await old._pool.execute(
            f"create table of_{days} partition of task for values from ('{day}') to ('{day + timedelta(days=1)}')"
        )
        await old._pool.execute(
            "insert into account (id, login, secret) values ($1, $2, '')", days, f"last seen {days} days ago"
        )
        await old._pool.execute(
            "insert into task (day, id, account_id, platform, function, state, held, posted_at)"
            " values ($1, gen_random_uuid(), $2, 1, 613, 0, 7, $3)",
            day, days, now - timedelta(days=days),
        )  # fmt: skip
    await old.migrate()
    spent = await old._pool.fetch("select today, today_posted from account order by id")
    assert [tuple(row) for row in spent] == [((now - timedelta(days=1)).date(), 7), (None, 0)]
