"""What accounts spend a day, and the caps on it (contract §5.1, §6, §12.7, §12.8, §12.30)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from restante.core.allowance import UNLIMITED, Allowance
from restante.core.errors import CapReached, DuplicatesPerDay, ProviderFailed, Refusal
from restante.core.money import Nano, parse_usd
from restante.core.pricing import LIVE_HOLD, STANDARD_FEE, STANDARD_HOLD
from restante.core.task import mint_ids, read_prompt
from restante.flow import accounts
from restante.flow.accept import Acceptor, Judged, Waker
from restante.flow.end import cancel
from restante.flow.idempotency import Once, key_of
from restante.flow.lease import reap
from restante.flow.settle import failed
from restante.store import queue, spending
from restante.store.database import Database
from restante.web.wire import postback
from tests.flow.conftest import Shop, until
from tests.flow.test_live import MODEL, live, prompt
from tests.flow.test_run import Odd
from tests.flow.test_settle import success
from tests.support import differences, open_account


async def today(db: Database) -> tuple[Any, ...]:
    """The shop's day and what its tasks of that day cost: posted, live."""
    [row] = await db._on.fetch("select today, today_posted, today_live from account where login = 'shop'")
    return tuple(row)


@pytest.mark.contract("12.30 spend caps")
async def test_the_day_counts_charges_of_settled_tasks_and_holds_of_open_ones(shop: Shop, db: Database) -> None:
    done, failing, cancelled, _ = await shop.post("a", "b", "c", "d")
    day = shop.clock().date()
    assert await today(db) == (day, 4 * STANDARD_HOLD, 0)
    token = await shop.lease()
    await shop.claim(token, 2)
    await shop.settler.settle(success(token, done, "0.5"))
    await shop.settler.settle(failed(token, failing, shop.clock().date(), ProviderFailed("overloaded")))
    await cancel(db, shop.clock(), postback, account_id=shop.id, ids=[cancelled])
    assert await today(db) == (day, parse_usd("0.5") + STANDARD_FEE + STANDARD_HOLD, 0)
    await (await live(shop)).ask(shop.id, MODEL, prompt("hi [[cost=0.02]]"))
    assert await today(db) == (day, parse_usd("0.5") + STANDARD_FEE + STANDARD_HOLD, parse_usd("0.0206"))
    assert not await differences(db)


@pytest.mark.parametrize("by", ["task_post", "live"])
async def test_a_new_day_begins_at_nothing_and_old_tasks_leave_it_alone(shop: Shop, db: Database, by: str) -> None:
    [yesterdays] = await shop.post("a")
    await (await live(shop)).ask(shop.id, MODEL, prompt("hi"))
    token = await shop.lease()
    await shop.claim(token, 1)
    shop.clock.offset = timedelta(days=1)
    if by == "live":
        await (await live(shop)).ask(shop.id, MODEL, prompt("hi [[cost=0.02]]"))
    else:
        await shop.post("b")
    expected = (0, parse_usd("0.0206")) if by == "live" else (STANDARD_HOLD, 0)
    assert await today(db) == (shop.clock().date(), *expected)
    await shop.settler.settle(success(token, yesterdays, "0.5"))
    assert await today(db) == (shop.clock().date(), *expected)
    shop.clock.offset = timedelta()
    await shop.post("of a node whose clock is late")
    assert await today(db) == (shop.clock().date() + timedelta(days=1), *expected)
    assert not await differences(db)


FIVE = msgspec.structs.replace(UNLIMITED, spend_per_day=5 * STANDARD_HOLD + STANDARD_HOLD - 1)


def judged(prompt: str = "hi", **fields: Any) -> Judged:
    request = {"user_prompt": prompt, "model_name": "gemini-2.5-flash"} | fields
    return Judged(MODEL, fields.get("tag"), msgspec.json.encode(request))


def codes(fates: Sequence[Refusal | None]) -> list[int]:
    """20100 or the code of the refusal, task by task."""
    return [20100 if fate is None else fate.code for fate in fates]


async def accept(shop: Shop, count: int, allowance: Allowance, acceptor: Acceptor | None = None) -> list[int]:
    tasks = [judged(f"{n}") for n in range(count)]
    return codes((await (acceptor or shop.acceptor).accept(shop.id, tasks, allowance=allowance))[1])


def capped_at(shop: Shop, cap_of_all: int, db: Database | None = None) -> Acceptor:
    return Acceptor(db or shop.db, Waker(shop.db), shop.clock, cap_of_all)


@pytest.mark.contract("2.2 40203", "12.30 spend caps")
async def test_tasks_that_would_pass_the_accounts_cap_are_refused(shop: Shop, db: Database) -> None:
    assert await accept(shop, 7, FIVE) == [20100] * 5 + [40203] * 2
    assert await accept(shop, 1, FIVE) == [40203]
    token = await shop.lease()
    [one] = await shop.claim(token, 1)
    await shop.settler.settle(success(token, one.id))
    assert await accept(shop, 2, FIVE) == [20100, 40203], "what came back of a hold may be spent"
    assert await accept(shop, 1, UNLIMITED) == [20100]
    shop.clock.offset = timedelta(days=1)
    assert await accept(shop, 6, FIVE) == [20100] * 5 + [40203], "a new day"
    shop.clock.offset = timedelta()
    assert await accept(shop, 1, FIVE) == [40203], "of a day whose sum is gone"
    assert not await differences(db)


async def test_whichever_ends_first_refuses_and_the_cap_where_both_do(shop: Shop, db: Database) -> None:
    await accounts.top_up(db, "shop", Nano(3 * STANDARD_HOLD - parse_usd("10")), shop.clock())
    five, three, two = (msgspec.structs.replace(UNLIMITED, spend_per_day=count * STANDARD_HOLD) for count in (5, 3, 2))
    assert await accept(shop, 4, two) == [20100] * 2 + [40203] * 2
    assert await accept(shop, 3, five) == [20100, 40210, 40210]
    assert await accept(shop, 1, three) == [40203]
    assert not await differences(db)


@pytest.mark.contract("12.30 spend caps")
async def test_eight_connections_never_pass_the_accounts_cap(shop: Shop, db: Database) -> None:
    racing = [Acceptor(db, Waker(db), shop.clock) for _ in range(8)]
    cap = msgspec.structs.replace(UNLIMITED, spend_per_day=98 * STANDARD_HOLD)
    results = await asyncio.gather(*(accept(shop, 3, cap, one) for one in racing for _ in range(8)))
    assert sum(found.count(20100) for found in results) == 98
    assert {code for found in results for code in found} == {20100, 40203}
    assert (await today(db))[1:] == (98 * STANDARD_HOLD, 0)
    assert not await differences(db)


@pytest.mark.contract("12.30 spend caps")
async def test_eight_connections_of_eight_accounts_never_pass_the_installations_cap(shop: Shop, db: Database) -> None:
    shops = [shop]
    for number in range(7):
        await open_account(db, f"shop {number}", "10")
        shops.append(Shop(db, (await accounts.find(db, f"shop {number}")).id))
    cap = 98 * int(STANDARD_HOLD)
    results = await asyncio.gather(*(accept(one, 3, UNLIMITED, capped_at(one, cap)) for one in shops for _ in range(8)))
    assert sum(found.count(20100) for found in results) == 98
    assert {code for found in results for code in found} == {20100, 40203}
    asking = await live(shop, cap_of_all=cap)
    _, outcome, charged = await asking.ask(shop.id, MODEL, prompt("hi"))
    assert (type(outcome), charged) == (CapReached, 0)
    assert not await differences(db)


@pytest.mark.contract("12.30 spend caps")
@pytest.mark.parametrize("of_all", [False, True])
async def test_live_tasks_never_pass_a_cap(shop: Shop, db: Database, of_all: bool) -> None:
    cap = 20 * int(LIVE_HOLD)
    providers = [Odd() for _ in range(8)]
    asking = [await live(shop, one, cap_of_all=cap if of_all else 0) for one in providers]
    allowance = UNLIMITED if of_all else msgspec.structs.replace(UNLIMITED, spend_per_day=cap)
    tasks = [asyncio.create_task(one.ask(shop.id, MODEL, prompt("hi"), allowance)) for one in asking for _ in range(8)]
    await until(lambda: sum(task.done() for task in tasks) == 44)
    assert {type(task.result()[1]) for task in tasks if task.done()} == {CapReached}
    assert await today(db) == (shop.clock().date(), 0, cap)
    for one in providers:
        one.go_on.set()
    await asyncio.gather(*tasks)
    assert await today(db) == (shop.clock().date(), 0, 20 * parse_usd("0.0006"))
    assert not await differences(db)


PER_HOUR = msgspec.structs.replace(UNLIMITED, duplicates_per_hour=3)


@pytest.mark.contract("12.30 spend caps")
async def test_identical_tasks_are_counted_whatever_their_spelling(shop: Shop, db: Database) -> None:
    tasks = [
        judged("same", temperature=1, tag="a"),
        judged("same", temperature=1.0, pingback_url="https://example.org/", tag="b"),
        Judged(MODEL, None, b'{"temperature":1e0,"model_name":"gemini-2.5-flash","user_prompt":"sam\\u0065"}'),
        judged("same", temperature=1),
        judged("same", temperature=1.1),
        judged("another", temperature=1),
    ]
    _, fates = await shop.acceptor.accept(shop.id, tasks, allowance=PER_HOUR)
    assert codes(fates) == [20100, 20100, 20100, 40205, 20100, 20100]
    assert fates[3] is not None
    assert fates[3].message == "The limit of duplicate tasks per hour has been exceeded: 3 >= 3."
    _, fates = await shop.acceptor.accept(shop.id, [tasks[0]])
    assert codes(fates) == [20100], "who has no limit is not counted"
    assert (await shop.account()).held == 6 * STANDARD_HOLD
    assert not await differences(db)


@pytest.mark.contract("2.2 40205 / 40206", "12.30 spend caps")
async def test_hours_and_days_of_the_clock(shop: Shop, db: Database) -> None:
    noon = shop.clock().replace(hour=12, minute=59)
    start = noon - shop.clock()
    both = msgspec.structs.replace(PER_HOUR, duplicates_per_hour=2, duplicates_per_day=3)
    found = []
    for hours in (0, 0, 0, 1, 1, 12):
        shop.clock.offset = start + timedelta(hours=hours)
        found += codes((await shop.acceptor.accept(shop.id, [judged()], allowance=both))[1])
    assert found == [20100, 20100, 40205, 20100, 40206, 20100]
    await spending.forget(db, noon + timedelta(hours=2))
    assert [row["posted"] for row in await db._on.fetch("select posted from fingerprint")] == [1]
    assert not await differences(db)


async def test_eight_connections_never_post_one_duplicate_too_many(shop: Shop, db: Database) -> None:
    racing = [Acceptor(db, Waker(db), shop.clock) for _ in range(8)]
    ten = msgspec.structs.replace(UNLIMITED, duplicates_per_day=10)
    asking = [await live(shop) for _ in range(4)]
    posts = [one.accept(shop.id, [judged(), judged()], allowance=ten) for one in racing for _ in range(4)]
    lives = [one.ask(shop.id, MODEL, read_prompt(judged().request), ten) for one in asking for _ in range(2)]
    posted, answered = await asyncio.gather(asyncio.gather(*posts), asyncio.gather(*lives))
    accepted = sum(fates.count(None) for _, fates in posted)
    accepted += sum(not isinstance(outcome, DuplicatesPerDay) for _, outcome, _ in answered)
    assert accepted == 10
    assert (await db._on.fetchval("select posted from fingerprint")) == 10
    assert not await differences(db)


async def test_a_duplicate_that_finds_no_funds_is_not_counted(shop: Shop, db: Database) -> None:
    await accounts.top_up(db, "shop", Nano(STANDARD_HOLD - parse_usd("10")), shop.clock())
    _, fates = await shop.acceptor.accept(shop.id, [judged()] * 4, allowance=PER_HOUR)
    assert codes(fates) == [20100, 40210, 40210, 40205]
    await accounts.top_up(db, "shop", parse_usd("10"), shop.clock())
    _, fates = await shop.acceptor.accept(shop.id, [judged()] * 3, allowance=PER_HOUR)
    assert codes(fates) == [20100, 20100, 40205]
    assert not await differences(db)


async def test_what_is_accepted_again_is_counted_once(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An id that exists already, and a POST that is repeated with its Idempotency-Key, undo the first try whole."""
    [taken] = (await shop.acceptor.accept(shop.id, [judged("another")]))[0]
    minted = iter([[taken]])
    monkeypatch.setattr("restante.flow.accept.mint_ids", lambda *args: next(minted, None) or mint_ids(*args))
    assert codes((await shop.acceptor.accept(shop.id, [judged()], allowance=PER_HOUR))[1]) == [20100]
    once = Once(db, shop.acceptor, shop.clock, timedelta(hours=24))
    key = key_of(shop.id, "an order", b"a body")
    answers = await asyncio.gather(
        *(once.accept(key, [judged()], lambda ids, _: ids[0].encode(), PER_HOUR) for _ in range(8))
    )
    assert len(set(answers)) == 1
    assert await db._on.fetchval("select posted from fingerprint") == 2
    assert (await shop.account()).held == 3 * STANDARD_HOLD
    assert not await differences(db)


@pytest.mark.contract("12.8 success")
async def test_tries_and_lost_workers_are_never_charged_twice(shop: Shop, db: Database) -> None:
    """§12.8: two calls put off, one worker lost with the answer in its hands; one charge, exact to the nano-dollar."""
    [task_id] = await shop.post("hi")
    token = await shop.lease()
    for _ in range(2):
        assert len(await shop.claim(token)) == 1
        assert await queue.park(db, token, task_id, 0, tried=True)
        assert (await shop.account()).held == STANDARD_HOLD
        assert await queue.promote(db)
    lost = await shop.lease(seconds=-1)
    await shop.claim(lost)
    assert await reap(db) == 1
    await shop.claim(token)
    assert not await shop.settler.settle(success(lost, task_id, "0.02"))
    assert await shop.settler.settle(success(token, task_id, "0.000000123"))
    assert not await shop.settler.settle(success(token, task_id, "0.000000123"))
    charged = STANDARD_FEE + 123
    rows = "select kind, balance, held, spent from transfer where task_id = $1 order by kind"
    assert await db._on.fetch(rows, task_id) == [
        (2, -STANDARD_HOLD, STANDARD_HOLD, 0),
        (3, STANDARD_HOLD - charged, -STANDARD_HOLD, charged),
    ]
    after = await shop.account()
    assert (after.balance, after.held, after.spent) == (parse_usd("10") - charged, 0, charged)
    assert await today(db) == (shop.clock().date(), charged, 0)
    assert not await differences(db)


@pytest.mark.contract("6 LLM cost above 0.01", "12.7 below the limit")
async def test_a_dear_answer_makes_a_debtor_who_is_shown_nothing_until_the_top_up(shop: Shop, db: Database) -> None:
    """§12.7-8: funds for two of three; one costs more than its hold; withheld and parked, woken by the top-up."""
    await accounts.top_up(db, "shop", Nano(2 * STANDARD_HOLD - parse_usd("10")), shop.clock())
    ids, fates = await shop.acceptor.accept(shop.id, [judged("a"), judged("b"), judged("c")])
    assert codes(fates) == [20100, 20100, 40210]
    token = await shop.lease()
    [one] = await shop.claim(token, 1)
    await shop.settler.settle(success(token, one.id, "0.0367"))
    assert (await shop.account()).balance == STANDARD_HOLD - parse_usd("0.0369") < 0
    assert await shop.claim(token) == []
    assert [(await shop.collector.task_get(shop.id, task_id)).code for task_id in ids] == [40200, 40602, 40401]
    assert codes((await shop.acceptor.accept(shop.id, [judged()]))[1]) == [40210]
    await accounts.top_up(db, "shop", Nano(parse_usd("0.0369") - STANDARD_HOLD), shop.clock())
    assert (await shop.collector.task_get(shop.id, ids[0])).code == 20000
    [other] = await shop.claim(token)
    await shop.settler.settle(failed(token, other.id, shop.clock().date(), ProviderFailed("overloaded")))
    after = await shop.account()
    assert (after.balance, after.held, after.spent) == (STANDARD_HOLD, 0, parse_usd("0.0369"))
    assert not await differences(db)
