"""Migrations, partitions and query plans on a real server (design, Data 8 and 12; notes, traps 2 and 3)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from restante.core.errors import InternalError, OperatorError
from restante.core.task import Function, mint_id
from restante.flow.settle import failed
from restante.store import queue
from restante.store.database import Database, Session, statement
from restante.store.errors import Conflict, DatabaseLost
from restante.store.queue import BEFORE_ALL
from restante.store.schema import DAILY_TABLES, migrations
from restante.wiring import utc_now
from tests.databases import dsn_of

MIGRATE = """
import asyncio, sys
from restante.store.database import Database
from restante.wiring import utc_now
async def main():
    db = Database(sys.argv[1], connections=2)
    await db.open()
    await db.migrate()
    await db.prepare_days(utc_now().date())
    await db.close()
asyncio.run(main())
"""


@pytest.fixture
async def empty_dsn(server_dsn: str) -> AsyncIterator[str]:
    """A database without anything in it."""
    admin = await asyncpg.connect(server_dsn)
    await admin.execute("drop database if exists empty with (force)")
    await admin.execute("create database empty encoding 'UTF8' template template0")
    yield dsn_of(server_dsn, "empty")
    await admin.execute("drop database empty with (force)")
    await admin.close()


def test_ten_processes_migrate_an_empty_database_at_once(empty_dsn: str) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", MIGRATE, empty_dsn]) for _ in range(10)]
    assert [process.wait(60) for process in processes] == [0] * 10

    async def look() -> Any:
        connection = await asyncpg.connect(empty_dsn)
        applied = await connection.fetchval("select count(*) from schema_migration")
        days = await connection.fetchval("select count(*) from pg_inherits where inhparent = 'transfer'::regclass")
        seqscan = await connection.fetchval("show enable_seqscan")
        await connection.close()
        return applied, days, seqscan

    assert asyncio.run(look()) == (len(migrations()), 9, "off")


async def test_a_newer_database_is_refused(dsn: str, db: Database) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("insert into schema_migration (version, name) values (9999, 'of the future')")
    await connection.close()
    with pytest.raises(OperatorError, match="migration 9999"):
        await db.migrate()


async def test_days_are_made_ahead_once(dsn: str, db: Database) -> None:
    later = utc_now().date() + timedelta(days=3)
    await db.prepare_days(later)
    await db.prepare_days(later)
    connection = await asyncpg.connect(dsn)
    days = await connection.fetchval("select count(*) from pg_inherits where inhparent = 'task'::regclass")
    await connection.close()
    assert days == 12


async def test_an_unreachable_server_is_said_in_words() -> None:
    db = Database("postgresql://127.0.0.1:9/nothing", connections=1)
    with pytest.raises(OperatorError, match="cannot be reached"):
        await db.open()
    await db.close()


async def test_an_old_encoding_is_refused(server_dsn: str) -> None:
    admin = await asyncpg.connect(server_dsn)
    await admin.execute("create database latin encoding 'SQL_ASCII' locale 'C' template template0")
    try:
        with pytest.raises(OperatorError, match="SQL_ASCII"):
            await Database(dsn_of(server_dsn, "latin"), connections=1).open()
    finally:
        await admin.execute("drop database latin with (force)")
        await admin.close()


async def test_errors_become_ours(db: Database) -> None:
    add = ("add_account", "shop", b"secret", 0)
    await db.rows(*add)
    with pytest.raises(Conflict):
        await db.rows(*add)
    with pytest.raises(DatabaseLost):
        async with db.transaction() as tx:
            await tx._on.execute("select pg_terminate_backend(pg_backend_pid())")
    assert await db.rows("list_accounts")


async def scanned(dsn: str, name: str, *args: object) -> set[str]:
    """The tables that a statement's plan reads from end to end, as the role that restante runs as."""
    connection = await asyncpg.connect(dsn)
    try:
        prepared = await connection.prepare(statement(name))
        [plan] = await prepared.explain(*args)
    finally:
        await connection.close()

    def walk(node: dict[str, Any]) -> set[str]:
        here = {node["Relation Name"]} if node["Node Type"] == "Seq Scan" else set()
        return here.union(*map(walk, node.get("Plans", [])))

    return walk(plan["Plan"])


HOT = [
    "claim", "settle", "collect", "hold_live", "take_rate", "find_answer_kept", "count_fingerprints", "accept",
    "erase_day", "erase_deliveries", "erase_attempts", "take", "seize",
    "waiting_deliveries", "claim_deliveries", "record_attempts", "reserve", "correct_pace", "give_back", "park",
    "count_calls", "read_usage", "spent_today", "spent_between", "oldest_ready", "oldest_delivery",
    "gatherable", "gather", "take_batch", "batch_tasks", "lease_batched", "leave_batch", "note_saved",
    "leave_barred", "batch_remote",
    "resendable", "resend", "sweep_deliveries", "webhook_errors", "list_tasks",
]  # fmt: skip


@pytest.mark.parametrize("name", HOT)
async def test_hot_statements_never_read_whole_tables_at_group_size(dsn: str, db: Database, name: str) -> None:
    """Statistics were taken while everything was empty: the worst case for the planner."""
    ids = [f"11220000-0001-0613-0000-{number:012x}" for number in range(1_000)]
    now = utc_now()
    args: dict[str, tuple[object, ...]] = {
        "claim": (1, 1, 1_000),
        "settle": (
            *(1, now.date(), ids, [1] * 1_000, [20000] * 1_000, [None] * 1_000, [0] * 1_000, [b"[]"] * 1_000, now),
            *(ids, [2] * 1_000, ["h:1"] * 1_000, ["http://h:1/"] * 1_000, [b""] * 1_000),
            *([b"{}"] * 1_000, [now.date()] * 1_000, [None] * 1_000),
        ),
        "collect": (now.date(), [1] * 1_000, ids, 1),
        "waiting_deliveries": ("", 0, 1_000),
        "claim_deliveries": (1, ["h:1"] * 1_000, [1] * 1_000, [1] * 1_000),
        "record_attempts": (
            *(1, list(range(1_000)), [now] * 1_000, [1] * 1_000, [500] * 1_000, [b""] * 1_000, ["HTTP 500"] * 1_000),
            *([5.0] * 1_000, now, [0] * 1_000),
        ),
        "gatherable": (["gemini"], 60.0, 1_000, 90, 60.0),
        "gather": (1, 1_000, "name", "gemini", "a", "m", 60.0, 60.0, 1),
        "take_batch": (1, ["gemini"]),
        "batch_tasks": (1, ids[0], ids, 1_000),
        "lease_batched": (1, 1, ids),
        "leave_batch": (1, ids, 1),
        "leave_barred": (1, 1),
        "batch_remote": (1,),
        "note_saved": (now.date(), ids, [1] * 1_000),
        "resendable": (now.date(), 1, ids[:100]),
        "resend": (1, ids[:100], [b""] * 100),
        "sweep_deliveries": (0, now.date(), 5_000),
        "webhook_errors": (1, now - timedelta(days=7), now, None, 1_000, 0),
        "list_tasks": (1, now - timedelta(days=7), now, True, 0, 1_000, True),
        "hold_live": (
            *(1, now.date(), now, ids, [1] * 1_000, [1] * 1_000, 1, 612),
            *([30] * 1_000, [1] * 1_000, ["m"] * 1_000, ["p"] * 1_000, 0),
        ),
        "accept": (
            *(1, now.date(), now, ids, [1] * 1_000, [1] * 1_000, [None] * 1_000, [b""] * 1_000),
            *(1, 613, 1, 0, [None] * 1_000),
        ),
        "erase_day": (now.date(), 1, now),
        "erase_deliveries": (now.date(), 1, now, ids[0], 1_000),
        "erase_attempts": (now.date(), 1, 0, now, 1_000),
        "take": (1, 1_000, None, None, None, now - timedelta(hours=72), [7] * 1_000, *BEFORE_ALL),
        "seize": (1, 1_000, 1, now, *BEFORE_ALL),
        "count_fingerprints": ([1] * 1_000, [b""] * 1_000, now, now),
        "take_rate": (1, "live", 2_000, 40, None),
        "find_answer_kept": (1, "key", now),
        "count_calls": ([now.date()] * 1_000, range(1_000), ["live"] * 1_000, [1] * 1_000, [now] * 1_000, [1] * 1_000),
        "read_usage": (now.date(), 1, now),
        "spent_today": (1, now.date()),
        "spent_between": (now.date(), ids[0], ids[-1]),
        "oldest_ready": ("scripted", 1_000),
        "oldest_delivery": (1_000, 20),
        "reserve": ("gemini", "m", 100, ["a"] * 100, [5] * 100, [0.1] * 100, [None] * 100, 0.5, [0.0] * 100),
        "correct_pace": ("gemini", "a", "m", -1.0, 0.0),
        "give_back": (1, ids[0]),
        "park": (1, ids[0], 1.0, 1, 0),
    }
    assert not await scanned(dsn, name, *args[name])


async def test_looking_for_own_deadlines_reads_accounts_only(dsn: str, db: Database) -> None:
    """Where nobody has one, that and an empty list are all that the installation's look has more to do."""
    assert await scanned(dsn, "own_deadlines") <= {"account"}
    assert not await scanned(dsn, "take", 1, 1_000, [1] * 1_000, None, None, utc_now(), [], *BEFORE_ALL)


async def test_migrations_may_skip_numbers(dsn: str, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colleagues number theirs side by side; what counts is that each is newer than those applied."""
    later = (9_000, "9000_later.sql", "create table later (one int)")
    monkeypatch.setattr("restante.store.schema.migrations", lambda: [*migrations(), later])
    await db.migrate()
    await db.migrate()
    connection = await asyncpg.connect(dsn)
    versions = [row["version"] for row in await connection.fetch("select version from schema_migration order by 1")]
    await connection.close()
    assert versions == [*(version for version, _, _ in migrations()), 9_000]


async def test_the_plan_test_can_fail(dsn: str, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.store.test_database.statement", lambda _: "select * from queue where lost > 3")
    assert await scanned(dsn, "any") == {"queue"}


async def test_a_pool_that_migrated_serves_with_the_roles_settings(empty_dsn: str) -> None:
    """What a role is given holds for new sessions only; the very first start serves on the one that gave it."""
    db = Database(empty_dsn, connections=1)
    await db.open()
    await db.migrate()
    assert await db._pool.fetchval("show enable_seqscan") == "off"
    await db.close()


async def test_a_day_beyond_those_made_ahead_is_made_when_needed(db: Database) -> None:
    """Whoever should have made it was suspended, or a clock jumped."""
    from restante.core.task import Model
    from restante.flow import accounts
    from restante.flow.accept import Acceptor, Judged, Waker
    from tests.support import differences, open_account

    await open_account(db, "shop", "1")
    number = (await accounts.find(db, "shop")).id
    for table in DAILY_TABLES:
        await db._on.execute(f"drop table {table}_{utc_now() + timedelta(days=2):%Y%m%d}")
    for days in (2, -2):
        acceptor = Acceptor(db, Waker(db), lambda: utc_now() + timedelta(days=days))  # noqa: B023
        model = Model(name="gemini-2.5-flash", served="gemini-2.5-flash", provider="scripted")
        assert (await acceptor.accept(number, [Judged(model, None, b"{}")]))[1] == [None]
    assert not await differences(db)


async def test_settling_one_task_is_not_planned_anew_each_time(dsn: str, db: Database) -> None:
    """A live call settles alone, and planning costs more than settling."""
    connection = await asyncpg.connect(dsn)
    try:
        session, now = Session(connection), utc_now()
        nobodys = failed(0, mint_id(now, 1, Function.LIVE, 1), now.date(), InternalError())
        for _ in range(10):  # PostgreSQL compares its plans after the fifth
            assert await queue.settle(session, 0, now.date(), now, [nobodys]) == set()
        planned = await connection.fetchrow(
            "select generic_plans, custom_plans from pg_prepared_statements where statement = $1", statement("settle")
        )
        assert tuple(planned) == (5, 5)
    finally:
        await connection.close()
