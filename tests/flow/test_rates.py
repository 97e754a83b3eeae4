"""Rates and concurrency: windows of the database's minute, shared by processes (contract §5.1, §12.6, §12.21)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
import pytest

from restante.core.allowance import UNLIMITED
from restante.core.errors import OperatorError, Refusal, TooManyAtOnce
from restante.flow import accounts
from restante.flow.rates import Rates, Verdict
from restante.store import rates
from restante.store.database import Database
from tests.flow.conftest import Shop, until
from tests.flow.test_live import MODEL, live, prompt
from tests.flow.test_run import Odd
from tests.support import differences

AT_ONCE = msgspec.structs.replace(UNLIMITED, live_at_once=30)
ONE_AT_ONCE = msgspec.structs.replace(UNLIMITED, live_at_once=1)
NOON = datetime(2026, 1, 22, 12, 0, 10, tzinfo=UTC)


def process(db: Database, at: datetime | None = NOON) -> Rates:
    """What counts in one API process, at a time of the database's clock."""
    return Rates(db, lambda: at)


@pytest.mark.contract("5.1 tasks_ready", "5.1 window type (fixed minute or sliding)", "12.6 rate limit")
async def test_twenty_calls_over_two_processes_and_the_next_is_refused(db: Database, shop: Shop) -> None:
    one, other = process(db), process(db)
    verdicts = [await (one, other)[n % 2].take(shop.id, "tasks_ready", 20) for n in range(21)]
    assert verdicts == [Verdict(True, 20, 19 - n) for n in range(20)] + [Verdict(False, 20, 0)]
    assert await one.take(shop.id, "live", 20) == Verdict(True, 20, 19)  # each endpoint has windows of its own
    assert await one.take(shop.id + 1, "tasks_ready", 20) == Verdict(True, 20, 19)  # and each account
    assert await process(db, NOON + timedelta(seconds=49)).take(shop.id, "tasks_ready", 20) == Verdict(False, 20, 0)
    assert await process(db, NOON + timedelta(seconds=50)).take(shop.id, "tasks_ready", 20) == Verdict(True, 20, 19)


@pytest.mark.contract("5.1 window type (fixed minute or sliding)")
async def test_a_window_ends_with_the_databases_minute(db: Database, shop: Shop) -> None:
    at = NOON.replace(second=59, microsecond=900_000)
    counting = Rates(db, lambda: at)
    assert await counting.take(shop.id, "tasks_ready", 1) == Verdict(True, 1, 0)
    assert await counting.take(shop.id, "tasks_ready", 1) == Verdict(False, 1, 0)
    at += timedelta(seconds=1)
    async with asyncio.timeout(30):
        while not (await counting.take(shop.id, "tasks_ready", 1)).allowed:
            await asyncio.sleep(0.01)  # the process's own clock has to get there, a tenth of a second


async def test_large_limits_are_reserved_in_blocks_and_exact_in_sum(
    db: Database, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    reserve = rates.reserve

    async def counted(*args: object) -> rates.Reserved:
        nonlocal asked
        asked += 1
        return await reserve(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(rates, "reserve", counted)
    processes = [process(db) for _ in range(3)]
    verdicts = await asyncio.gather(*(processes[n % 3].take(shop.id, "task_post", 2_000) for n in range(3_000)))
    # A process is refused only when all blocks are out: those of the others may have at most a block each left.
    assert 2_000 - 2 * 40 <= sum(verdict.allowed for verdict in verdicts) <= 2_000
    assert asked <= 53
    singly = [await process(db).take(shop.id, "live", 101) for _ in range(102)]
    assert sum(verdict.allowed for verdict in singly) == 51  # each forgot the other half of its block of two


async def test_a_limit_that_changes_counts_at_once(db: Database, shop: Shop) -> None:
    counting = process(db)
    for _ in range(3):
        assert (await counting.take(shop.id, "tasks_ready", 3)).allowed
    assert await counting.take(shop.id, "tasks_ready", 3) == Verdict(False, 3, 0)
    assert await counting.take(shop.id, "tasks_ready", 5) == Verdict(True, 5, 1)
    assert await counting.take(shop.id, "tasks_ready", 4) == Verdict(False, 4, 0)


async def test_minutes_that_are_over_are_forgotten(dsn: str, db: Database, shop: Shop) -> None:
    await process(db).take(shop.id, "tasks_ready", 20)
    await process(db, None).take(shop.id, "tasks_ready", 20)
    await rates.forget(db)
    connection = await asyncpg.connect(dsn)
    left = await connection.fetch("select minute, taken from rate_window")
    persistence = await connection.fetchval("select relpersistence from pg_class where relname = 'rate_window'")
    await connection.close()
    assert [(abs(row["minute"] - datetime.now(UTC)) < timedelta(minutes=2), row["taken"]) for row in left] == [
        (True, 1)
    ]
    assert persistence == b"u"


@pytest.mark.contract("12.6 settable")
async def test_an_accounts_own_limits(db: Database, shop: Shop) -> None:
    assert await accounts.change_limits(db, "shop", {"tasks_ready": 60, "live": 5}) == {"tasks_ready": 60, "live": 5}
    assert await accounts.change_limits(db, "shop", {"live": None}) == {"tasks_ready": 60}
    assert await accounts.change_limits(db, "shop", {}) == {"tasks_ready": 60}
    with pytest.raises(OperatorError, match="no account 'nobody'"):
        await accounts.change_limits(db, "nobody", {})


@pytest.mark.contract("12.21 at once")
async def test_the_thirty_first_live_task_is_refused_exactly(db: Database, shop: Shop) -> None:
    """Two processes, 60 at once: the count is exact under the account's lock, and what is refused costs nothing."""
    processes = [await live(shop, Odd()) for _ in range(2)]
    tasks = [asyncio.create_task(processes[n % 2].ask(shop.id, MODEL, prompt("hi"), AT_ONCE)) for n in range(60)]
    await until(lambda: sum(task.done() for task in tasks) == 30)
    refused: list[Refusal] = [outcome for task in tasks if task.done() for outcome in [task.result()[1]]]  # type: ignore[misc]
    assert {type(one) for one in refused} == {TooManyAtOnce}
    assert refused[0].message == "The limit of simultaneous queries has been exceeded: 30 >= 30."
    assert (await shop.account()).held == 30 * 10_600_000
    _, outcome, charged = await processes[0].ask(shop.id, MODEL, prompt("hi"), AT_ONCE)
    assert (type(outcome), charged) == (TooManyAtOnce, 0)
    unlimited = asyncio.create_task(processes[1].ask(shop.id, MODEL, prompt("hi")))
    async with asyncio.timeout(30):
        while (await shop.account()).held != 31 * 10_600_000:
            await asyncio.sleep(0.01)
    for one in [*tasks, unlimited]:
        one.cancel()
    assert not await differences(db)


async def test_a_live_task_that_ended_makes_room(db: Database, shop: Shop) -> None:
    asking = await live(shop)
    for _ in range(3):
        assert not isinstance((await asking.ask(shop.id, MODEL, prompt("hi"), ONE_AT_ONCE))[1], Refusal)
    both = await asyncio.gather(*(asking.ask(shop.id, MODEL, prompt("hi"), ONE_AT_ONCE) for _ in range(2)))
    assert [type(outcome) for _, outcome, _ in both].count(TooManyAtOnce) == 1
    assert not await differences(db)
