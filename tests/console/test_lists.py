"""Lists of tasks, page after page, are what reading everything gives: whatever is asked for, each once, in order."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from bench import loading
from restante.flow import accounts
from restante.flow.reading import Reads
from restante.store import console_tasks as lists
from restante.store import database, queue
from restante.store.console_tasks import Place, Wanted
from restante.store.database import Database, statement
from restante.store.errors import DatabaseLost
from restante.store.reading import TooSlow, reading
from restante.wiring import utc_now
from tests.support import open_account

PER_DAY = 230  # of three accounts, in POSTs of 100 that share a moment
PAGE = 7
ALWAYS = datetime(2000, 1, 1, tzinfo=UTC)
END: Place = (datetime(9998, 1, 1, tzinfo=UTC), "ffffffff-ffff-ffff-ffff-ffffffffffff")


@pytest.fixture
async def past(db: Database) -> AsyncIterator[list[int]]:
    """Three days of tasks with a day without any between them, and unfinished ones; the accounts."""
    numbers = [(await accounts.find(db, (await open_account(db, f"s{n}", "100"))[0])).id for n in range(3)]
    today = utc_now().date()
    lane = await queue.ensure_lane(db, "scripted", "", "a model")
    for back in (4, 2, 0):
        await db.prepare_days(today - timedelta(days=back))
    async with _raw(db) as connection:
        for back in (4, 2, 0):
            await loading.finished(connection, numbers, today - timedelta(days=back), PER_DAY, seconds=2_000)
        await loading.queued(connection, numbers, today, 60, [lane], first=PER_DAY, seconds=2_000)
        await loading.queued(connection, numbers, today, 30, [lane], first=2 * PER_DAY, state=1, seconds=2_000)
        await connection.execute("update task set lane = $1 where held > 0 and id::text like '%3'", lane)
    yield numbers


@contextlib.asynccontextmanager
async def _raw(db: Database) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(db.dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def _all_pages(db: Database, wanted: Wanted, before: Place = END) -> list[str]:
    """Every page of a list, as somebody leafs through it."""
    reads, seen = Reads(db), list[str]()
    while True:
        place = before
        found = await reads.look(lambda tx: lists.find(tx, wanted, place, PAGE))  # noqa: B023
        assert len(found.tasks) <= PAGE
        seen += [one.id for one in found.tasks]
        if found.reached is not None:
            before = (found.reached, "00000000-0000-0000-0000-000000000000")
        elif found.more:
            before = (found.tasks[-1].posted_at, found.tasks[-1].id)
        else:
            return seen


async def _brute(db: Database, condition: str, *args: Any, table: str = "task") -> list[str]:
    async with _raw(db) as connection:
        rows = await connection.fetch(
            f"select id from {table} where {condition} order by posted_at desc, id desc", *args
        )
    return [str(row["id"]) for row in rows]


async def test_pages_hold_what_reading_everything_gives(db: Database, past: list[int]) -> None:
    one = past[1]
    since = utc_now().replace(hour=0, minute=10, second=17) - timedelta(days=2)
    [lane] = await Reads(db).look(lists.lanes)
    cases: list[tuple[Wanted, str, list[Any]]] = [
        (Wanted(None, ALWAYS), "true", []),
        (Wanted(one, ALWAYS), "account_id = $1", [one]),
        (Wanted(None, since), "posted_at >= $1", [since]),
        (Wanted(one, since, state=1), "posted_at >= $1 and account_id = $2 and state = 1", [since, one]),
        (Wanted(None, ALWAYS, state=0), "state = 0", []),
        (Wanted(None, ALWAYS, tag="t7"), "tag = 't7'", []),
        (Wanted(past[2], ALWAYS, tag="t7"), "tag = 't7' and account_id = $1", [past[2]]),
        (Wanted(None, ALWAYS, lanes=[lane.id]), "lane = $1", [lane.id]),
        (Wanted(None, ALWAYS, functions=[612]), "function = 612", []),
        (Wanted(None, ALWAYS, state=2), "false", []),
    ]
    for wanted, condition, args in cases:
        assert await _all_pages(db, wanted) == await _brute(db, condition, *args), condition
    for states, condition in (([0], "state = 0"), ([1], "state = 1"), ([2], "false"), ([0, 1], "true")):
        found = await _all_pages(db, Wanted(None, ALWAYS, queue_states=states))
        assert found == await _brute(db, condition, table="queue"), states


async def test_a_list_whose_time_is_over_says_how_far_it_came(
    db: Database, past: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And goes on from there, losing nothing."""
    wanted = Wanted(None, ALWAYS, tag="t7")
    monkeypatch.setattr(lists, "CONSOLE_SEARCH_SECONDS", 0.0)
    found = await Reads(db).look(lambda tx: lists.find(tx, wanted, END, PAGE))
    assert found.reached is not None and not found.more
    monkeypatch.undo()
    later = await _all_pages(db, wanted, (found.reached, "00000000-0000-0000-0000-000000000000"))
    assert [one.id for one in found.tasks] + later == await _brute(db, "tag = 't7'")


async def test_reading_writes_nothing_and_has_its_time(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DatabaseLost, match="read-only"):
        async with reading(db, 5.0) as tx:
            await tx.rows("notify", "a channel", "")
            await tx.rows("drop_usage", utc_now().date())
    monkeypatch.setattr(
        database, "statement", lambda name: statement(name) if name != "alive" else "select pg_sleep(9)"
    )
    with pytest.raises(TooSlow):
        async with reading(db, 0.05) as tx:
            await tx.rows("alive")
    for setting, value in (("statement_timeout", "0"), ("enable_sort", "off"), ("transaction_read_only", "off")):
        assert await db._pool.fetchval(f"show {setting}") == value  # for whoever has the connection next
