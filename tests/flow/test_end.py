"""Ends that are not answers, and the time things are kept (contract §5.2-5.3, §12.7, §12.14, §12.31)."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest

from restante.core.money import parse_usd
from restante.core.pricing import STANDARD_FEE
from restante.core.task import Model
from restante.flow import accounts
from restante.flow.accept import Judged
from restante.flow.collect import Collector
from restante.flow.end import cancel, expire
from restante.flow.erase import erase
from restante.flow.expire import keep_deadlines, keep_retention, keep_swept
from restante.store import console, erasure, idempotency, queue, tasks
from restante.store.database import Database
from restante.store.idempotency import Kept
from restante.web.wire import postback
from restante.wiring import utc_now
from tests.flow.conftest import Shop
from tests.flow.test_collect import settle
from tests.flow.test_settle import success
from tests.support import differences, lock_awaited, open_account

CANCELLED = "Task execution failed, please try to resubmit the task. (cancelled)"
HOURS_72 = 72 * 3_600.0


@pytest.mark.contract("12.31 cancel")
async def test_cancelling_by_id_by_tag_and_all(shop: Shop, db: Database) -> None:
    ids = await shop.post("a", "b", "c")
    tagged = await shop.post("d", "e", tag="run-17")
    assert await cancel(db, utc_now(), postback, account_id=shop.id, ids=[ids[0], ids[0]]) == [ids[0]]
    assert set(await cancel(db, utc_now(), postback, account_id=shop.id, tag="run-17")) == set(tagged)
    found = await shop.collector.task_get(shop.id, ids[0])
    assert (found.code, found.message) == (40103, CANCELLED)
    assert (await shop.collector.task_get(shop.id, ids[1])).code == 40602
    assert set(await cancel(db, utc_now(), postback, account_id=shop.id)) == set(ids[1:])
    assert await cancel(db, utc_now(), postback, account_id=shop.id) == []
    assert {one.id for one in await shop.collector.ready(shop.id)} == {*ids[1:], *tagged}, "nobody waits for ever"
    assert (await shop.account()).balance == parse_usd("10")
    minutes = await console.minutes(db, shop.id, utc_now() - timedelta(hours=1))
    assert sum(one.failed for one in minutes) == 5, "the console shows them as ended"
    assert not await differences(db)


async def test_the_batches_of_one_end_are_one_pass_over_the_queue(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each goes on where the last one ended, however many tasks of others lie before it."""
    monkeypatch.setattr("restante.flow.end.END_BATCH", 2)
    monkeypatch.setattr("restante.flow.erase.END_BATCH", 2)
    begun: list[queue.Place] = []

    def told(batch: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def next_batch(*args: Any, **named: Any) -> Any:
            begun.append(named["beyond"] if "beyond" in named else args[-1])
            return await batch(*args, **named)

        return next_batch

    monkeypatch.setattr(queue, "take", told(queue.take))
    monkeypatch.setattr(erasure, "seize", told(erasure.seize))
    for end in ("cancel", "erase"):
        posted = [await shop.post("a", "b", "c") for _ in range(2)]
        ids = sorted(one for group in posted for one in group)
        begun.clear()
        if end == "cancel":
            assert sorted(await cancel(db, utc_now(), postback, account_id=shop.id)) == ids
        else:
            assert (await erase(db, "shop", utc_now())).cancelled == len(ids)
        assert begun == sorted(set(begun)), "never back"
        assert [task_id in ids for _, task_id in begun] == [False, True, True, True]
    assert not await differences(db)


async def test_running_finished_parked_and_foreign_tasks(shop: Shop, db: Database) -> None:
    await open_account(db, "another", "1")
    other = Shop(db, (await accounts.find(db, "another")).id)
    [foreign] = await other.post("hi")
    running, finished = await shop.post("a", "b")
    token = await shop.lease()
    claimed = {one.id for one in await shop.claim(token, 2)} | {one.id for one in await shop.claim(token, 1)}
    assert {running, finished} <= claimed
    await shop.settler.settle(success(token, finished))
    [parked] = await shop.post("c")
    later = await shop.lease()
    await shop.claim(later)
    await queue.park(db, later, parked, 3_600, tried=True)
    ids = [running, finished, parked, foreign]
    assert await cancel(db, utc_now(), postback, account_id=shop.id, ids=ids) == [parked]
    assert await shop.settler.settle(success(token, running)), "its own worker still settles it"
    assert not await differences(db)


async def test_cancelling_and_claiming_at_once_ends_each_task_once(shop: Shop, db: Database) -> None:
    ids = await shop.post(*["hi"] * 300)
    token = await shop.lease()

    async def work() -> set[str]:
        done = set()
        while claimed := await shop.claim(token, 7):
            for one in claimed:
                if await shop.settler.settle(success(token, one.id)):
                    done.add(one.id)
        return done

    answered, cancelled = await asyncio.gather(work(), cancel(db, utc_now(), postback, account_id=shop.id))
    assert answered | set(cancelled) == set(ids)
    assert not answered & set(cancelled)
    assert (await shop.account()).spent == len(answered) * STANDARD_FEE
    assert not await differences(db)


@pytest.mark.contract(
    "2.2 40103",
    "2.3 failed after 72 h",
    "5.2 standard",
    "6 Not done in 72 h",
    "12.8 everything else",
    "12.14 codes of failure",
    "12.25 settings",
)
async def test_what_is_not_done_in_time_fails_and_is_refunded(shop: Shop, db: Database) -> None:
    [task_id] = await shop.post("hi")
    assert await expire(db, shop.clock, postback, HOURS_72) == 0
    shop.clock.offset = timedelta(hours=71, minutes=59)
    assert await expire(db, shop.clock, postback, HOURS_72) == 0
    shop.clock.offset = timedelta(hours=72, minutes=1)
    assert await expire(db, shop.clock, postback, HOURS_72) == 1
    found = await shop.collector.task_get(shop.id, task_id)
    assert (found.code, found.message.endswith("(not done in time)")) == (40103, True)
    assert (await shop.account()).balance == parse_usd("10")
    assert not await differences(db)


@pytest.mark.contract("12.25 settings")
async def test_accounts_may_have_a_deadline_of_their_own(shop: Shop, db: Database) -> None:
    """Shorter or longer than the installation's, which passes them over; the others keep it."""
    shops = {"shop": shop}
    for login in ("hasty", "hastier", "patient"):
        await open_account(db, login, "10")
        shops[login] = Shop(db, (await accounts.find(db, login)).id)
    for login, hours in (("hasty", 24), ("hastier", 24), ("patient", 100)):
        await accounts.change_limits(db, login, {"deadline_hours": hours})
    posted = {login: (await one.post("hi"))[0] for login, one in shops.items()}

    async def failed_by(hours: float) -> set[str]:
        shop.clock.offset = timedelta(hours=hours)
        await expire(db, shop.clock, postback, HOURS_72)
        codes = {login: (await one.collector.task_get(one.id, posted[login])).code for login, one in shops.items()}
        assert set(codes.values()) <= {40602, 40103}
        return {login for login, code in codes.items() if code == 40103}

    assert await failed_by(23.9) == set()
    assert await failed_by(24.1) == {"hasty", "hastier"}
    assert await failed_by(72.1) == {"hasty", "hastier", "shop"}
    assert await failed_by(99.9) == {"hasty", "hastier", "shop"}
    await accounts.change_limits(db, "patient", {"deadline_hours": None})
    assert await failed_by(99.9) == set(shops), "the installation's again"
    assert [(await accounts.find(db, login)).balance for login in shops] == [parse_usd("10")] * 4
    assert not await differences(db)


@pytest.mark.contract("12.7 below the limit")
async def test_tasks_of_a_debtor_wait_and_a_top_up_wakes_them(shop: Shop, db: Database) -> None:
    """Contract §12.7: they must not cost the provider anything before they are paid for."""
    expensive, *others = await shop.post("hi", "a", "b")
    token = await shop.lease()
    [first] = await shop.claim(token, 1)
    assert first.id == expensive
    await shop.settler.settle(success(token, expensive, "10.5"))
    assert await shop.claim(token) == []
    assert {(await shop.collector.task_get(shop.id, task_id)).code for task_id in others} == {40602}
    assert not await queue.promote(db), "no time wakes them"
    await accounts.top_up(db, "shop", parse_usd("0.1"), utc_now())
    assert await shop.claim(token) == [], "it was not enough"
    await accounts.top_up(db, "shop", parse_usd("5"), utc_now())
    assert {one.id for one in await shop.claim(token)} == set(others)
    assert not await differences(db)


async def test_a_debtors_tasks_can_be_cancelled_and_expire(shop: Shop, db: Database) -> None:
    expensive, one, _ = await shop.post("hi", "a", "b")
    token = await shop.lease()
    await shop.claim(token, 1)
    await shop.settler.settle(success(token, expensive, "10.5"))
    assert await shop.claim(token) == []
    assert await cancel(db, utc_now(), postback, account_id=shop.id, ids=[one]) == [one]
    shop.clock.offset = timedelta(hours=73)
    assert await expire(db, shop.clock, postback, HOURS_72) == 1
    assert not await differences(db)


async def test_topping_up_while_workers_claim_leaves_no_task_asleep(shop: Shop, db: Database) -> None:
    expensive, *others = await shop.post("hi", *["a"] * 60)
    token = await shop.lease()
    await shop.claim(token, 1)
    await shop.settler.settle(success(token, expensive, "10.5"))
    claimed, _, rest = await asyncio.gather(
        shop.claim(token, 20), accounts.top_up(db, "shop", parse_usd("20"), utc_now()), shop.claim(token, 20)
    )
    last = await shop.claim(token, 100)
    assert {one.id for one in [*claimed, *rest, *last]} == set(others)


@pytest.mark.contract("3.2 three days", "5.3 tasks_ready")
async def test_tasks_ready_shows_a_task_for_three_days(shop: Shop, db: Database) -> None:
    ids = await shop.post("hi")
    await settle(shop, ids)
    collector = Collector(db, shop.clock)
    assert len(await collector.ready(shop.id)) == 1
    shop.clock.offset = timedelta(days=3, minutes=1)
    assert await collector.ready(shop.id) == []
    assert await tasks.expire_ready(db, shop.clock() - timedelta(days=3)) == 1
    assert (await collector.task_get(shop.id, ids[0])).code == 20000, "the answer stays"


@pytest.mark.contract("2.2 40403", "2.3 older than 30 days", "5.3 results", "12.25 settings")
async def test_answers_leave_with_their_day_and_the_ledger_stays(shop: Shop, db: Database, dsn: str) -> None:
    ids = await shop.post("hi")
    await settle(shop, ids)
    [waiting] = await shop.post("still queued")
    tomorrow = utc_now().date() + timedelta(days=1)
    assert f"answer_{utc_now():%Y%m%d}" not in await db.drop_days("answer", tomorrow), "a task of that day is queued"
    await cancel(db, utc_now(), postback, account_id=shop.id, ids=[waiting])
    assert f"answer_{utc_now():%Y%m%d}" in await db.drop_days("answer", tomorrow)
    await db.drop_days("task_request", tomorrow)
    found = await shop.collector.task_get(shop.id, ids[0])
    assert (found.code, found.message) == (40403, "Results Expired.")
    assert not await differences(db)
    await db.drop_days("task", tomorrow)
    assert (await shop.collector.task_get(shop.id, ids[0])).code == 40401
    assert not await differences(db), "the transfers of days whose tasks left are not held against them"


async def test_a_day_that_somebody_reads_is_dropped_another_time(
    shop: Shop, db: Database, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restante.store.database.DROP_LOCK_SECONDS", 0.1)
    tomorrow = utc_now().date() + timedelta(days=1)
    reader = await asyncpg.connect(dsn)
    async with reader.transaction():
        await reader.fetch("select * from answer")
        assert await db.drop_days("answer", tomorrow) == []
    await reader.close()
    assert len(await db.drop_days("answer", tomorrow)) == 2  # yesterday's and today's


async def test_a_cancelled_task_owes_its_webhooks_like_any_failed_one(shop: Shop, db: Database) -> None:
    """Contract §12.3: whoever waits for a postback hears of the end, too."""
    model = Model(name="gemini-2.5-flash", served="gemini-2.5-flash", provider="scripted")
    request = b'{"user_prompt":"hi","model_name":"gemini-2.5-flash","postback_url":"https://hooks.example.org/$id"}'
    [task_id], _ = await shop.acceptor.accept(shop.id, [Judged(model, None, request)])
    assert await cancel(db, utc_now(), postback, account_id=shop.id) == [task_id]
    [owed] = await db._on.fetch("select url, body from delivery")
    assert owed["url"] == f"https://hooks.example.org/{task_id}"
    assert msgspec.json.decode(gzip.decompress(owed["body"]))["tasks"][0]["status_code"] == 40103
    assert await shop.collector.ready(shop.id) == [], "listed by its first failed attempt"


async def test_a_clock_that_is_ahead_ends_and_forgets_nothing_early(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one machine, whose battery died or which slept: the others' tasks and answers stay."""

    async def once(_: float, db: Database, work: Callable[[], Awaitable[None]]) -> None:
        await work()

    monkeypatch.setattr("restante.flow.expire._every", once)

    def ahead() -> datetime:
        return utc_now() + timedelta(days=400)

    answered, queued = await shop.post("a", "b")
    token = await shop.lease()
    await shop.claim(token, 1)
    await shop.settler.settle(success(token, answered))
    now = utc_now()
    async with db.transaction() as tx:
        assert await idempotency.keep(tx, shop.id, "key", Kept(b"of a body", b"answer"), now, now - timedelta(days=1))
    await keep_deadlines(db, ahead, postback, HOURS_72)
    await keep_retention(db, ahead, ready_seconds=HOURS_72, result_days=30, task_days=180, error_days=7)
    await keep_swept(db, ahead, timedelta(days=1))
    assert (await shop.collector.task_get(shop.id, queued)).code == 40602
    assert (await shop.collector.task_get(shop.id, answered)).code == 20000
    assert await idempotency.find(db, shop.id, "key", now - timedelta(days=1)) is not None


async def test_two_workers_that_drop_the_same_days_at_once(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They began together and do it at the same times from then on. Whoever looks at another table goes on."""
    monkeypatch.setattr("restante.store.database.DROP_LOCK_SECONDS", 60)
    old = utc_now().date() - timedelta(days=100)
    for number in range(5):
        await db.prepare_days(old + timedelta(days=number))
    before = old + timedelta(days=50)
    async with db.transaction() as tx:  # who comes first waits for the first day
        await tx._on.execute("lock table attempt in access share mode")
        first = asyncio.create_task(db.drop_days("attempt", before))
        await lock_awaited(db)
        assert await asyncio.gather(*[db.drop_days("attempt", before) for _ in range(3)]) == [[]] * 3
        assert len(await db.drop_days("answer", before)) >= 5
    assert len(await first) >= 5
    assert await db.drop_days("attempt", before) == []


async def test_workers_that_look_at_the_same_days_at_the_same_moment(shop: Shop, db: Database) -> None:
    """DROP finds a partition's parent before it waits for the partition: two at once could fail (XX000)."""
    old = utc_now().date() - timedelta(days=100)
    for _ in range(5):
        for number in range(5):
            await db.prepare_days(old + timedelta(days=number))
        drops = await asyncio.gather(*[db.drop_days("attempt", old + timedelta(days=50)) for _ in range(3)])
        assert max(map(len, drops)) >= 1
        assert await db.drop_days("attempt", old + timedelta(days=50)) == []
