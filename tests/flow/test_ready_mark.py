"""Marks in tasks_ready never stand above what is listed, or will be (docs/adr/0003)."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence

import asyncpg
import pytest

from restante.core.answer import Answer
from restante.core.pricing import STANDARD_FEE
from restante.core.task import State
from restante.flow.ready_mark import Marks
from restante.flow.settle import answered
from restante.store import deliveries, queue, tasks
from restante.store.database import Session, statement
from restante.store.deliveries import Attempt, Kind, Owed
from restante.store.queue import Settlement
from restante.store.tasks import GEMINI
from restante.wiring import utc_now
from tests.flow.conftest import Shop
from tests.support import differences, lock_awaited

ANSWER = Answer(model_name="m", input_tokens=1, output_tokens=1, items=())
POSTBACK = (Owed(Kind.POSTBACK, "h:1", "http://h:1/", b"body"),)


async def settle(
    shop: Shop, ids: Sequence[str], token: int, on: Session | None = None, owed: tuple[Owed, ...] = ()
) -> None:
    """Settle claimed tasks, on a connection of the caller's if it wants to keep the transaction open."""
    now = utc_now()
    ends = [answered(token, one, now.date(), STANDARD_FEE, ANSWER, b'["result"]') for one in ids]
    group = [
        Settlement(**{field: getattr(one, field) for field in one.__struct_fields__} | {"owed": owed}) for one in ends
    ]
    assert all(one.state == State.DONE for one in group)
    if on is not None:
        assert await queue.settle(on, token, now.date(), now, group) == set(ids)
    else:
        assert await shop.db.settled(lambda: queue.settle(shop.db, token, now.date(), now, group)) == set(ids)


async def finished(shop: Shop, count: int, owed: tuple[Owed, ...] = ()) -> list[str]:
    """Tasks posted, claimed and settled; their ids."""
    ids = await shop.post(*["x"] * count)
    token = await shop.lease()
    assert {one.id for one in await shop.claim(token, count)} == set(ids)
    await settle(shop, ids, token, owed=owed)
    return ids


async def collect(shop: Shop, ids: Sequence[str]) -> None:
    for one in ids:
        assert (await shop.collector.task_get(shop.id, one)).result == b'["result"]'


async def listed(shop: Shop) -> set[str]:
    return {one.id for one in await shop.collector.ready(shop.id)}


async def mark(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    found: int = await connection.fetchval("select coalesce(max(seq), 0) from ready_mark")
    await connection.close()
    return found


async def places(dsn: str) -> list[int]:
    connection = await asyncpg.connect(dsn)
    found = [row["seq"] for row in await connection.fetch("select seq from ready order by seq")]
    await connection.close()
    return found


async def moved(shop: Shop, times: int = 3) -> None:
    """The mark is where it can be."""
    marks = Marks(shop.db, seconds=0, step=0)
    for _ in range(times):
        await marks.advance(shop.id)


async def test_the_mark_follows_what_is_collected(shop: Shop, dsn: str) -> None:
    await collect(shop, await finished(shop, 5))
    waiting = await finished(shop, 3)
    await moved(shop)
    assert await mark(dsn) == (await places(dsn))[0] > 1
    assert await listed(shop) == set(waiting)
    await collect(shop, waiting)
    later = await finished(shop, 1)
    await moved(shop)
    assert await mark(dsn) == (await places(dsn))[0]
    assert await listed(shop) == set(later)
    assert not await differences(shop.db)


async def test_a_place_that_is_committed_late_is_listed(shop: Shop, dsn: str) -> None:
    """Places are given in order, and committed in any (notes, trap 11)."""
    slow = await shop.post("slow")
    token = await shop.lease()
    await shop.claim(token)
    async with shop.db.transaction() as tx:
        await settle(shop, slow, token, on=tx)
        # Places of other accounts; this one's row is locked.
        connection = await asyncpg.connect(dsn)
        for _ in range(10):
            await connection.fetchval("select nextval('ready_seq')")
        await connection.close()
        await moved(shop, 5)
    assert await mark(dsn) <= (await places(dsn))[0]
    assert await listed(shop) == set(slow)
    await collect(shop, slow)
    await moved(shop)
    assert await mark(dsn) > 1


async def record_failures(shop: Shop, on: Session | None = None) -> None:
    """The first attempts of all postbacks fail."""
    token = await shop.lease()
    leased = await deliveries.claim(shop.db, token, [("h:1", shop.id, 1_000)])
    now = utc_now()
    group = [Attempt(one.id, now, 1, 500, b"", "HTTP 500", 60.0, one.attempts) for one in leased]
    assert leased
    assert len(await deliveries.record(on or shop.db, token, now, group)) == len(group)


async def test_a_late_listing_lowers_the_mark(shop: Shop, dsn: str) -> None:
    """A postback that fails hours later lists its task at the place it was given when it was settled."""
    owing = await finished(shop, 2, POSTBACK)
    await collect(shop, await finished(shop, 5))
    await moved(shop)
    high = await mark(dsn)
    await record_failures(shop)
    assert await listed(shop) == set(owing)
    assert await mark(dsn) == (await places(dsn))[0] < high
    await moved(shop)
    assert await listed(shop) == set(owing)
    await collect(shop, owing)
    await moved(shop)
    assert await mark(dsn) >= high


async def test_a_listing_that_is_just_being_committed_stops_the_mark(shop: Shop) -> None:
    """It waits for whoever touches it, and is then passed over: what was seen before is not so any more."""
    owing = await finished(shop, 1, POSTBACK)
    await collect(shop, await finished(shop, 5))
    marks = Marks(shop.db, seconds=0, step=0)
    await marks.advance(shop.id)
    async with shop.db.transaction() as tx:
        await record_failures(shop, on=tx)
        moving = asyncio.create_task(marks.advance(shop.id))
        await lock_awaited(shop.db)
    await moving
    assert await listed(shop) == set(owing)


async def test_a_late_listing_cannot_miss_a_mark_that_is_newer_than_its_snapshot(shop: Shop, dsn: str) -> None:
    """Between a statement's snapshot and its first write a mark may be made. A snapshot kept on purpose makes that
    moment last; in it PostgreSQL refuses to write what it cannot see. A plain update would find nothing and go on."""
    await finished(shop, 1, POSTBACK)
    connection = await asyncpg.connect(dsn)
    token = await shop.lease()
    [leased] = await deliveries.claim(shop.db, token, [("h:1", shop.id, 1)])
    attempt = Attempt(leased.id, utc_now(), 1, 500, b"", "HTTP 500", 60.0, 0)
    await connection.execute("begin isolation level repeatable read; select from ready_mark")
    await moved(shop, 1)
    with pytest.raises(asyncpg.SerializationError):
        await deliveries.record(Session(connection), token, utc_now(), [attempt])
    await connection.close()


async def test_a_dump_restored_elsewhere_has_marks_that_move(shop: Shop, dsn: str) -> None:
    await collect(shop, await finished(shop, 5))
    await moved(shop)
    connection = await asyncpg.connect(dsn)
    await connection.execute("update ready_mark set horizon = (horizon::text::bigint + 4000000000)::text::xid8")
    await connection.close()
    before = await mark(dsn)
    await collect(shop, await finished(shop, 5))
    await moved(shop)
    assert await mark(dsn) > before


async def test_places_are_given_one_by_one(dsn: str) -> None:
    """A session with places in store would give them to later transactions: the marks' proof needs that none has."""
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("select seqcache from pg_sequence where seqrelid = 'ready_seq'::regclass") == 1
    await connection.close()


async def test_whatever_happens_at_once_nothing_is_passed_over(shop: Shop, dsn: str) -> None:
    """Settlers, collectors, failing postbacks and three movers without pause; what nobody fetched is listed."""
    ids: list[str] = []
    for _ in range(6):
        ids += await shop.post(*["x"] * 50)
    chance = random.Random(7)
    kept: set[str] = set()
    over = asyncio.Event()

    async def work() -> None:
        token = await shop.lease()
        while claimed := await shop.claim(token, chance.choice((1, 5, 10))):
            mine = [one.id for one in claimed]
            owed = chance.choice(((), (), POSTBACK))
            async with shop.db.transaction() as tx:
                await settle(shop, mine, token, on=tx, owed=owed)
                await asyncio.sleep(chance.random() / 100)  # places are given, and not committed
            if chance.random() < 0.5:
                kept.update(mine)
            else:
                await collect(shop, mine)

    async def fail() -> None:
        while True:
            token = await shop.lease()
            leased = await deliveries.claim(shop.db, token, [("h:1", shop.id, 10)])
            if not leased and over.is_set():
                return
            now = utc_now()
            group = [Attempt(one.id, now, 1, 500, b"", "HTTP 500", 60.0, one.attempts) for one in leased]
            await shop.db.settled(lambda: deliveries.record(shop.db, token, now, group))  # noqa: B023
            await asyncio.sleep(chance.random() / 50)

    async def move() -> None:
        marks = Marks(shop.db, seconds=0, step=0)
        while not over.is_set():
            await marks.advance(shop.id)

    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(work()) for _ in range(3)]
        for helper in (fail, move, move, move):
            group.create_task(helper())
        await asyncio.wait(workers)
        over.set()
    await moved(shop)
    assert await listed(shop) == kept
    assert await mark(dsn) == (await places(dsn))[0]
    assert not await differences(shop.db)


async def pages(connection: asyncpg.Connection, account_id: int) -> int:
    """What a listing touches, the statement being the very one."""
    await connection.execute(f"prepare listing (int, smallint, int, timestamptz) as {statement('list_ready')}")
    told = await connection.fetchval(
        f"explain (analyze, buffers, format json) execute listing ({account_id}, {GEMINI}, 1000, '2000-01-01')"
    )
    await connection.execute("deallocate listing")
    plan = json.loads(told)[0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


@pytest.mark.breaks_invariants  # lists tasks that are none
async def test_an_old_snapshot_does_not_slow_listings(shop: Shop, dsn: str) -> None:
    """A backup, say. Counted in pages read: the dead entries of what was collected are not among them."""
    old = await asyncpg.connect(dsn)
    await old.execute("begin isolation level repeatable read; select from ready")
    connection = await asyncpg.connect(dsn)

    try:
        await connection.execute(
            "with made as (insert into ready select $1, $2, nextval('ready_seq'), gen_random_uuid(), now(), null, now()"
            " from generate_series(1, 20000) returning seq) select count(*) from made",
            shop.id, GEMINI,
        )  # fmt: skip
        await connection.execute("delete from ready where seq <= 19990")
        slow = await pages(connection, shop.id)
        await moved(shop)
        assert await pages(connection, shop.id) * 20 < slow
    finally:
        await old.close()
        await connection.close()
    assert len(await tasks.ready(shop.db, shop.id, 1_000, utc_now().replace(year=2000))) == 10
