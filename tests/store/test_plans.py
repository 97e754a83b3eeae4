"""Hot statements read what they need and no more, however large the tables are (notes, traps 2 and 3).

Each is executed as it is, for a full group, and rolled back: planned for its arguments and for any (a generic plan),
with statistics of the full tables and with those of the time when everything was empty. Counted are rows and pages,
never time. 50,000 rows of everything in CI, 1,000,000 in the long suite.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

import asyncpg
import pytest

from bench import loading
from restante.core.errors import OK_CODE
from restante.core.limits import PROMOTE_BATCH, READY_EXPIRED_BATCH
from restante.core.pricing import STANDARD_HOLD
from restante.core.task import Function, mint_id
from restante.store.database import Database, statement
from restante.store.queue import BEFORE_ALL
from restante.store.tasks import GEMINI
from restante.wiring import utc_now
from tests.databases import dsn_of
from tests.support import differences, open_account

GROUP = 1_000
ACCOUNTS = 4
LANES = 2
TOKEN = 7
STALE, FRESH = "plans_stale", "plans_fresh"
FIRST = "00000000-0000-0000-0000-000000000000"


class Some(NamedTuple):
    """What there is in it, to make arguments of."""

    now: datetime
    lane: int
    leased: Sequence[str]
    listed: Sequence[str]
    places: Sequence[int]
    finished: Sequence[str]
    delivered: Sequence[str]
    deliveries: Sequence[int]
    part: str  # the end of the first part of today's tasks that the audit looks at


class Loaded(NamedTuple):
    """A server with two databases full of rows, which differ in their statistics only."""

    server: str
    some: Some


@pytest.fixture(
    scope="module",
    params=[pytest.param(50_000, id="50k"), pytest.param(1_000_000, id="1M", marks=[pytest.mark.long])],
)
def loaded(request: pytest.FixtureRequest, server_dsn: str, template: str) -> Iterator[Loaded]:
    """The two databases."""
    yield Loaded(server_dsn, asyncio.run(_make(server_dsn, template, utc_now().date(), request.param)))
    asyncio.run(_drop(server_dsn))


async def _drop(server_dsn: str) -> None:
    admin = await asyncpg.connect(server_dsn)
    for name in (STALE, FRESH):
        await admin.execute(f"drop database if exists {name} with (force)")
    await admin.close()


async def _make(server_dsn: str, template: str, today: date, rows: int) -> Some:
    await _drop(server_dsn)
    admin = await asyncpg.connect(server_dsn)
    await admin.execute(f"create database {STALE} template {template}")
    db = Database(dsn_of(server_dsn, STALE), connections=2)
    await db.open()
    await db.migrate()
    for number in range(ACCOUNTS):
        await open_account(db, f"shop-{number}", "1000000")
    connection = await asyncpg.connect(db.dsn)
    # Statistics of empty tables, and nobody who would make better ones.
    await connection.execute("vacuum analyze")
    await connection.execute(
        "do $$ declare found record; begin for found in select oid::regclass as name from pg_class"
        " where relkind = 'r' and relnamespace = 'public'::regnamespace loop"
        " execute format('alter table %s set (autovacuum_enabled = off)', found.name); end loop; end $$"
    )
    await _fill(connection, today, rows)
    await connection.execute("select brin_summarize_new_values('ready_listed')")  # as autovacuum does (autosummarize)
    found = await _some(connection, today)
    await connection.close()
    assert not await differences(db)
    await db.close()
    await admin.execute(f"create database {FRESH} template {STALE} strategy file_copy")
    await admin.close()
    db = Database(dsn_of(server_dsn, FRESH), connections=2)
    await db.open()
    await db.migrate()
    await db._pool.execute("vacuum analyze")
    await db.close()
    return found


async def _fill(connection: Any, today: date, rows: int) -> None:
    accounts, lanes = list(range(1, ACCOUNTS + 1)), list(range(1, LANES + 1))
    await connection.execute(
        "insert into lane (id, provider, project, model) overriding system value"
        " select n, 'scripted', '', 'model-' || n from unnest($1::int[]) n",
        lanes,
    )
    for token in (TOKEN, TOKEN + 1):
        await connection.execute(
            "insert into worker (token, name, expires_at) values ($1, 'a worker', 'infinity')", token
        )
    await loading.finished(connection, accounts, today - timedelta(days=1), rows // 2, uncollected=rows // 2)
    await loading.finished(connection, accounts, today, rows, uncollected=rows // 2)
    await loading.queued(connection, accounts, today, rows * 8 // 10, lanes, first=rows)
    await loading.queued(connection, accounts, today, rows // 10, lanes, first=rows * 2, state=1)
    # What one worker leases is little, whatever others do.
    await loading.queued(connection, accounts, today, rows // 10, lanes, first=rows * 3, state=2, token=TOKEN + 1)
    await loading.queued(connection, accounts, today, 2 * GROUP, lanes, first=rows * 4, state=2, token=TOKEN)
    # One of eight is open: ready, parked (half of them due) or leased; the others are done.
    await connection.execute(
        "insert into delivery"
        " (day, task_id, account_id, kind, host, url, state, run_at, token, created_at, seq, posted_at)"
        " select day, id, account_id, 1, 'h:' || n % 50, 'http://h/', state,"
        " case when state = 1 then now() + make_interval(secs => n % 7200 - 3600) end,"
        " case when state = 2 then $1::bigint + (n / 24 >= 2000)::int end, now(), seq, now()"
        " from (select *, case n % 24 when 0 then 0 when 8 then 1 when 16 then 2 else 3 end as state"
        " from (select *, row_number() over () as n from answer limit $2) a) b",
        TOKEN, rows,
    )  # fmt: skip


async def _some(connection: Any, today: date) -> Some:
    """Groups of rows there are."""

    async def column(query: str, *args: object) -> list[Any]:
        found = [row[0] for row in await connection.fetch(query, *args)]
        assert len(found) == GROUP, query
        return found

    await connection.execute("set enable_seqscan = on")
    # From everywhere in the tables.
    return Some(
        utc_now(),
        1,
        await column("select id::text from queue where token = $1 order by md5(id::text) limit $2", TOKEN, GROUP),
        await column(
            "select id::text from ready join answer using (id) where day = $1 order by md5(id::text) limit $2",
            today, GROUP,
        ),
        await column("select seq from ready where account_id = 1 order by md5(seq::text) limit $1", GROUP),
        await column("select id::text from answer where day = $1 order by md5(id::text) limit $2", today, GROUP),
        await column("select task_id::text from delivery where account_id = 1 order by id limit $1", GROUP),
        await column("select id from delivery where token = $1 order by id limit $2", TOKEN, GROUP),
        str(await connection.fetchval(statement("audit_part"), today, FIRST, GROUP)),
    )  # fmt: skip


def ids(now: datetime, function: Function) -> list[str]:
    return [mint_id(now, 1, function, number) for number in range(GROUP)]


# What is executed: {name: (arguments, pages for each of a group, an index it must use)}. About twice the pages that
# were counted.
Made = tuple[tuple[object, ...], int, str]
STATEMENTS: dict[str, Callable[[Some], Made]] = {
    "accept": lambda s: (
        (
            *(1, s.now.date(), s.now, ids(s.now, Function.TASK_POST), [1] * GROUP, [int(STANDARD_HOLD)] * GROUP),
            *([None] * GROUP, [b"{}"] * GROUP, GEMINI, Function.TASK_POST, 0, 0, [None] * GROUP),
        ),
        *(45, "account_pkey"),
    ),
    "claim": lambda s: ((TOKEN, s.lane, GROUP), 80, "queue_ready"),
    "settle": lambda s: (
        (
            *(TOKEN, s.now.date(), s.leased, [1] * GROUP, [20000] * GROUP, [None] * GROUP, [0] * GROUP),
            *([b"[]" * 500] * GROUP, s.now, s.leased[:100], [2] * 100, ["h:1"] * 100, ["http://h:1/"] * 100),
            *([b""] * 100, [b"{}"] * GROUP, [None] * GROUP, [b"{}"] * GROUP),
        ),
        *(85, "queue_pkey"),
    ),
    "list_ready": lambda s: ((1, GEMINI, GROUP, s.now - timedelta(days=3)), 3, "ready_pkey"),
    "look_at_ready_mark": lambda s: ((1, GEMINI, 1), 1, "ready_pkey"),
    "unlist": lambda s: (([1] * GROUP, GEMINI, s.places), 20, "ready_pkey"),
    "collect": lambda s: (
        (s.now.date(), [_account(one) for one in s.listed], s.listed, GEMINI), 70, "ready_pkey",
    ),
    "list_tasks": lambda s: ((1, s.now - timedelta(days=2), s.now, True, 0, GROUP, True), 20, "account_pkey"),
    "take": lambda s: (
        (TOKEN, 500, None, None, None, s.now - timedelta(hours=72), [], *BEFORE_ALL),
        *(1, "queue_posted"),
    ),
    "promote": lambda s: ((PROMOTE_BATCH,), 45, "queue_parked"),
    "promote_deliveries": lambda s: ((PROMOTE_BATCH,), 60, "delivery_parked"),
    "waiting_lanes": lambda s: ((["scripted"],), 1, "queue_ready"),
    "oldest_ready": lambda s: (("scripted", GROUP), 3, "queue_posted"),
    "waiting_deliveries": lambda s: (("", 0, GROUP), 6, "delivery_ready"),
    "claim_deliveries": lambda s: (
        (TOKEN, [f"h:{n % 50}" for n in range(GROUP)], [1 + n // 50 % ACCOUNTS for n in range(GROUP)], [1] * GROUP),
        *(40, "delivery_ready"),
    ),
    "record_attempts": lambda s: (
        (
            *(TOKEN, s.deliveries, [s.now] * GROUP, [1] * GROUP, [500] * GROUP, [b""] * GROUP, ["HTTP 500"] * GROUP),
            *([5.0] * GROUP, s.now, [0] * GROUP),
        ),
        *(70, "delivery_"),
    ),
    "resend": lambda s: ((1, s.delivered, [None] * GROUP), 80, "delivery_task_id_kind_key"),
    "sweep_deliveries": lambda s: ((0, s.now.date(), GROUP), 12, "delivery_pkey"),
    "expire_ready": lambda s: ((s.now - timedelta(days=3), READY_EXPIRED_BATCH), 1, "ready_listed"),
    "find_task": lambda s: ((s.now.date(), s.leased[0], _account(s.leased[0])), 1, "task_"),
    "ends": lambda s: ((s.now.date(), s.finished), 12, "task_"),
    # The audit, a part at a time, which ends with a minute; that has up to a thousand tasks of the larger load.
    "audit_part": lambda s: ((s.now.date(), FIRST, GROUP), 2, "task_"),
    "audit_holds": lambda s: ((s.now.date(), FIRST, s.part), 4, "task_"),
    "audit_tasks": lambda s: ((s.now.date(), FIRST, s.part, OK_CODE), 20, "task_"),
    "audit_answers": lambda s: ((s.now.date(), FIRST, s.part, Function.LIVE), 20, "answer_"),
    "audit_queue": lambda s: ((FIRST, GROUP, Function.LIVE), 20, "queue_pkey"),
    "audit_ready": lambda s: ((0, 0, 0, GROUP, Function.LIVE), 40, "ready_pkey"),
    "audit_deliveries": lambda s: ((0, GROUP, Function.LIVE), 20, "delivery_pkey"),
    # For metrics: counted to a limit, however many there are.
    "figures": lambda s: ((GROUP,), 15, "queue_parked"),
    "figures_ready": lambda s: ((GROUP,), 5, "queue_ready"),
    "old_days": lambda s: (("task", s.now.date() + timedelta(days=3)), 1, "queue_posted"),
    "resendable": lambda s: ((s.now.date(), 1, s.finished), 12, "task_"),
}  # fmt: skip
#: What is meant to be read whole: as many rows as there are accounts, processes, models.
WHOLE = {"figures": {"account", "worker"}, "figures_ready": {"lane"}}


def _account(task_id: str) -> int:
    return int(task_id[9:13], 16)


async def execute(connection: Any, name: str, args: tuple[object, ...], generic: bool) -> dict[str, Any]:
    """The plan of a statement that was executed, and rolled back."""
    how = "explain (analyze, buffers, timing off, summary off, format json)"
    transaction = connection.transaction()
    await transaction.start()
    try:
        if not generic:
            [plan] = json.loads(await connection.fetchval(f"{how} {statement(name)}", *args))
        else:
            # EXECUTE takes expressions, but no parameters: the values go through settings, as texts.
            prepared = await connection.prepare(statement(name))
            types = [
                await connection.fetchval("select $1::oid::regtype::text", one.oid) for one in prepared.get_parameters()
            ]
            values = []
            for number, (kind, value) in enumerate(zip(types, args, strict=True)):
                await connection.execute(
                    f"select set_config('plan.p{number}', coalesce(($1::{kind})::text, ''), true)", value
                )
                values.append(f"null::{kind}" if value is None else f"current_setting('plan.p{number}')::{kind}")
            await connection.execute(f"prepare one ({', '.join(types)}) as {statement(name)}")
            await connection.execute("set local plan_cache_mode = force_generic_plan")
            [plan] = json.loads(await connection.fetchval(f"{how} execute one ({', '.join(values)})"))
            await connection.execute("deallocate one")
    finally:
        await transaction.rollback()
    found: dict[str, Any] = plan["Plan"]
    return found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for one in plan.get("Plans", []):
        yield from nodes(one)


def rows_read(node: dict[str, Any]) -> float:
    """Rows that a node made or threw away."""
    removed = sum(value for key, value in node.items() if key.startswith("Rows Removed"))
    return float((node["Actual Rows"] + removed) * node["Actual Loops"])


def pages_read(plan: dict[str, Any]) -> int:
    """Pages that a statement touched, some of them counted twice: what its CTEs change may come after its own end."""
    counted = [plan, *(one for one in nodes(plan) if one["Node Type"] == "ModifyTable")]
    return sum(int(one["Shared Hit Blocks"] + one["Shared Read Blocks"]) for one in counted)


@pytest.mark.timeout(900)  # the first one loads
@pytest.mark.parametrize("generic", [False, True], ids=["custom", "generic"])
@pytest.mark.parametrize("database", [STALE, FRESH])
@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_full_group_reads_no_more_than_it_needs(
    loaded: Loaded, name: str, database: str, generic: bool
) -> None:
    args, pages, index = STATEMENTS[name](loaded.some)
    connection = await asyncpg.connect(dsn_of(loaded.server, database))
    plan = await execute(connection, name, args, generic)
    await connection.close()
    found = list(nodes(plan))
    scanned = {one["Relation Name"] for one in found if one["Node Type"] == "Seq Scan" and one["Actual Loops"]}
    assert scanned <= {"ready_seq"} | WHOLE.get(name, set())  # a sequence is one row
    assert any(node.get("Index Name", "").startswith(index) for node in found), f"not by {index}"
    most = max(found, key=rows_read)
    assert rows_read(most) <= 5 * GROUP, {key: most[key] for key in most if key != "Plans"}
    assert pages_read(plan) <= pages * GROUP
