"""An account's tasks of a time range (migration 0007), and what 0007 makes of the rows it finds."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from restante.core.task import Function, mint_id
from restante.store import tasks
from restante.store.database import Database
from restante.store.schema import migrations
from restante.wiring import utc_now
from tests.databases import dsn_of


async def insert(db: Database, rows: list[tuple[datetime, int]]) -> list[tuple[datetime, str, int]]:
    """Tasks of these times and accounts; (posted at, id, account)."""
    for day in {at.date() for at, _ in rows}:
        await db.prepare_days(day)
    made = [(at, mint_id(at, account, Function.TASK_POST, random.getrandbits(48)), account) for at, account in rows]
    await db._on.execute(
        "insert into task (day, id, account_id, platform, function, state, held, posted_at)"
        " select (u.at at time zone 'UTC')::date, u.id, u.account, 1, 613, 0, 1, u.at"
        " from unnest($1::timestamptz[], $2::uuid[], $3::int[]) as u (at, id, account)",
        [at for at, _, _ in made],
        [task_id for _, task_id, _ in made],
        [account for _, _, account in made],
    )
    return made


async def accounts(db: Database, count: int, since: datetime) -> None:
    await db._on.execute(
        "insert into account (id, login, secret, created_at) select n, n::text, '', $2 from unnest($1::int[]) n",
        [*range(1, count + 1), 0xFFFF, 0x0A10],
        since,
    )


async def page(
    db: Database, account: int, since: datetime, until: datetime, backwards: bool, skip: int, most: int
) -> list[str]:
    found = await tasks.recorded(db, account, since, until, backwards=backwards, skip=skip, most=most, requests=False)
    return [one.id for one in found]


@pytest.mark.parametrize("seed", range(4))
async def test_any_page_of_any_range_is_what_sorting_everything_gives(db: Database, seed: int) -> None:
    """Over midnight and the year's end, with other accounts before and behind in each minute."""
    chance = random.Random(seed)
    begin = datetime(2026, 12, 31, 21, 30, tzinfo=UTC) if seed % 2 else datetime(2028, 2, 28, 22, 0, tzinfo=UTC)
    span = 5 * 3_600
    ids = [1, 2, 3, 0x0A10, 0xFFFF]
    await accounts(db, 3, begin - timedelta(days=9))
    # Few or many a minute, at whole seconds (equal times) and between, and at the very edges of minutes.
    times = [begin + timedelta(seconds=chance.randrange(span)) for _ in range(60)]
    times += [
        begin + timedelta(minutes=chance.randrange(span // 60), microseconds=chance.choice((0, 1, 59_999_999)))
        for _ in range(60)
    ]
    made = await insert(db, [(at, chance.choice(ids)) for at in times for _ in range(chance.choice((1, 1, 1, 4)))])
    edges = [
        *times,
        begin,
        begin + timedelta(seconds=span),
        *(begin + timedelta(minutes=m) for m in (0, 149, 150, 151)),
    ]
    for _ in range(150):
        account = chance.choice([*ids, 9])
        since, until = sorted((chance.choice(edges), chance.choice(edges)))
        backwards, skip, most = chance.random() < 0.5, chance.choice((0, 0, 1, 5, 50)), chance.choice((1, 3, 20, 1_000))
        everything = sorted(
            ((at, task_id) for at, task_id, owner in made if owner == account and since <= at < until),
            reverse=backwards,
        )
        expected = [task_id for _, task_id in everything[skip : skip + most]]
        assert await page(db, account, since, until, backwards, skip, most) == expected


async def test_days_without_partitions_are_empty(db: Database) -> None:
    now = utc_now()
    await accounts(db, 1, now - timedelta(days=400))
    [(_, task_id, _)] = await insert(db, [(now, 1)])
    assert await page(db, 1, now - timedelta(days=300), now + timedelta(days=30), False, 0, 10) == [task_id]


async def test_no_task_is_looked_for_before_its_account_was_opened(db: Database) -> None:
    now = utc_now()
    await accounts(db, 1, now)
    made = await insert(db, [(now - timedelta(minutes=50), 1), (now - timedelta(hours=2), 1)])
    assert await page(db, 1, now - timedelta(days=30), now, False, 0, 10) == [made[0][1]]


@pytest.fixture
async def old(server_dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncpg.Connection]:
    """A database as it was before 0007."""
    admin = await asyncpg.connect(server_dsn)
    await admin.execute("drop database if exists old with (force)")
    await admin.execute("create database old encoding 'UTF8' template template0")
    known = migrations()
    with monkeypatch.context() as patch:
        patch.setattr("restante.store.schema.migrations", lambda: [one for one in known if one[0] < 7])
        patch.setattr(
            "restante.store.schema._DAILY_TABLES", {"task": "", "task_request": "", "answer": "", "transfer": ""}
        )
        db = Database(dsn_of(server_dsn, "old"), connections=1)
        await db.open()
        await db.migrate()
        await db.prepare_days(utc_now().date())
        await db.close()
    connection = await asyncpg.connect(dsn_of(server_dsn, "old"))
    yield connection
    await connection.close()
    await admin.execute("drop database old with (force)")
    await admin.close()


async def test_what_was_recorded_before_0007_survives_it(server_dsn: str, old: asyncpg.Connection) -> None:
    now = utc_now()
    ids = [mint_id(now, 1, Function.TASK_POST, number) for number in range(3)]
    await old.execute(
        "insert into delivery (day, task_id, account_id, kind, host, url, body, state, run_at, attempts, created_at,"
        " seq, posted_at) select $1, u.id, 1, 2, 'h:1', 'http://h/', 'x', u.state,"
        " case when u.state = 1 then now() end, 1, $2, 1, $2 from unnest($3::uuid[], $4::int[]) u (id, state)",
        now.date(), now, ids, [1, 3, 4],
    )  # fmt: skip
    await old.execute(
        "insert into attempt select id, $1::timestamptz - make_interval(days => id::int), 7, 500, 'no', 'HTTP 500'"
        " from delivery",
        now,
    )
    await old.execute("insert into attempt select id, $1, 7, 200, 'ok', null from delivery", now)
    db = Database(dsn_of(server_dsn, "old"), connections=1)
    await db.open()
    await db.migrate()
    await db.prepare_days(now.date())  # makes what the days that exist already lack
    await db.close()
    kept: list[Any] = await old.fetch("select * from attempt order by delivery_id, made_at")
    assert [(row["status"], row["url"], row["account_id"], row["kind"]) for row in kept] == [
        (500, "http://h/", 1, 2), (200, None, 1, 2),
    ] * 3  # fmt: skip
    assert [str(row["task_id"]) for row in kept] == [ids[0], ids[0], ids[1], ids[1], ids[2], ids[2]]
    assert all(row["day"] == row["made_at"].astimezone(UTC).date() for row in kept)
    bodies = await old.fetch("select state, body from delivery order by state")
    assert [tuple(row) for row in bodies] == [(1, b"x"), (3, None), (4, None)]
    later = now.date() + timedelta(days=7)
    assert await old.fetchval("select to_regclass($1) is not null", f"attempt_{later:%Y%m%d}")
