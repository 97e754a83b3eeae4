"""What a slip of the pen in a statement of money, queue or webhooks would do. None of these slips failed a test before
(docs/mutation.md)."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import msgspec
import pytest

from restante.core.allowance import UNLIMITED
from restante.core.answer import Answer
from restante.core.errors import CapReached, InsufficientFunds
from restante.core.limits import DELIVERY_RETRY_SECONDS
from restante.core.money import parse_usd
from restante.core.pricing import LIVE_FEE, LIVE_HOLD, STANDARD_HOLD
from restante.flow import accounts
from restante.flow.lease import reap
from restante.flow.pause import pause_model
from restante.flow.settle import answered
from restante.store import deliveries, queue, tasks
from restante.store.database import Database
from restante.store.deliveries import Attempt, Kind, Owed
from restante.wiring import utc_now
from tests.flow.conftest import Shop
from tests.flow.test_billing import accept, capped_at, today
from tests.flow.test_collect import settle
from tests.flow.test_deliver import LEASED, READY, listed, posted_and_settled, record, rows
from tests.flow.test_live import MODEL, live, prompt
from tests.flow.test_settle import answer, success
from tests.support import differences, open_account

ID = "11220000-0001-0612-0000-00000000000{}"


async def account(db: Database, login: str, usd: str = "10", credit_limit: str | None = "0") -> Shop:
    """Another account."""
    await open_account(db, login, usd, credit_limit)
    return Shop(db, (await accounts.find(db, login)).id)


async def claimed(shop: Shop, token: int, most: int) -> Counter[int]:
    """How many tasks of each account the next claim leases."""
    return Counter(one.account_id for one in await shop.claim(token, most))


async def test_accounts_take_turns(shop: Shop, db: Database) -> None:
    other = await account(db, "other")
    await shop.post(*["a"] * 6)
    await other.post(*["b"] * 6)
    assert await claimed(shop, await shop.lease(), 4) == {shop.id: 2, other.id: 2}


async def test_a_second_post_stands_behind_the_first(shop: Shop, db: Database) -> None:
    other = await account(db, "other")
    for _ in range(2):
        await shop.post(*["a"] * 3)
    await other.post(*["b"] * 6)
    assert await claimed(shop, await shop.lease(), 6) == {shop.id: 3, other.id: 3}


async def test_who_comes_late_stands_beside_those_who_wait(shop: Shop, db: Database) -> None:
    """Not before them, though its first turn would be the first; nor when a task of long ago was claimed again."""
    other, third = await account(db, "other"), await account(db, "third")
    await shop.post(*["a"] * 8)
    token = await shop.lease()
    first, *_ = await shop.claim(token, 4)
    await other.post(*["b"] * 4)
    assert await claimed(shop, token, 2) == {shop.id: 1, other.id: 1}
    assert await queue.give_back(db, token, first.id)
    assert [one.id for one in await shop.claim(token, 1)] == [first.id]
    await third.post(*["c"] * 4)
    assert await claimed(shop, token, 3) == {shop.id: 1, other.id: 1, third.id: 1}


async def test_calls_are_counted_up_to_what_a_row_can_hold(shop: Shop, db: Database) -> None:
    [task_id] = await shop.post("hi")
    await rows(db, "update queue set attempts = 32767")
    token = await shop.lease()
    assert [one.id for one in await shop.claim(token)] == [task_id]
    assert await shop.settler.settle(success(token, task_id))


async def test_a_dead_lease_gets_nothing_beside_a_living_one(shop: Shop, db: Database) -> None:
    await posted_and_settled(shop, {"pingback_url": "http://127.0.0.1:1/"})
    await shop.post("hi")
    dead, _ = await shop.lease(seconds=-1), await shop.lease(name="another")
    assert await reap(db) == 0
    assert await shop.claim(dead) == []
    assert await deliveries.claim(db, dead, [("127.0.0.1:1", shop.id, 9)]) == []
    order = queue.LiveOrder(ID.format(1), shop.id, LIVE_HOLD)
    assert await queue.hold_live(db, dead, shop.clock(), [order]) is None
    assert (await shop.account()).held == STANDARD_HOLD
    assert not await differences(db)


@pytest.mark.breaks_invariants
async def test_an_attempt_of_a_lost_lease_is_not_recorded(shop: Shop, db: Database) -> None:
    await posted_and_settled(shop, {"postback_url": "http://127.0.0.1:1/"})
    [row] = await rows(db, "update delivery set state = 2, token = 8 returning id")
    late = Attempt(row["id"], shop.clock(), 12, 200, b"", None, None)
    assert await deliveries.record(db, 7, shop.clock(), [late]) == set()
    assert [tuple(one) for one in await rows(db, "select state, token, attempts from delivery")] == [(LEASED, 8, 0)]
    assert not await rows(db, "select from attempt")


async def test_an_attempt_shows_where_it_went_when_it_failed(shop: Shop, db: Database) -> None:
    [task_id] = await posted_and_settled(shop, {"postback_url": "http://127.0.0.1:1/x"})
    for number, error in enumerate(["HTTP 500", "HTTP 500", None]):
        await rows(db, "update delivery set state = 2, token = 7, run_at = null")
        await record(shop, 7, before=number, pause=5.0, error=error)
        assert await listed(shop) == ([task_id] if error else [])
    found = await rows(db, "select url from attempt order by made_at")
    assert [row["url"] for row in found] == ["http://127.0.0.1:1/x"] * 2 + [None]
    assert not await rows(db, "select from delivery where token is not null or run_at is not null")


async def test_deliveries_are_of_the_host_and_account_asked_for_oldest_first(shop: Shop, db: Database) -> None:
    other = await account(db, "other")
    urls = [{"pingback_url": f"http://127.0.0.{host}:1/"} for host in (1, 1, 2, 1)]
    await posted_and_settled(shop, *urls)
    await posted_and_settled(other, *urls)
    token = await shop.lease()
    expected = await rows(
        db, "select id from delivery where account_id = $1 and host = '127.0.0.1:1' order by id", other.id
    )
    found = await deliveries.claim(db, token, [("127.0.0.1:1", other.id, 2)])
    assert sorted(one.id for one in found) == [row["id"] for row in expected[:2]]
    found = await deliveries.claim(db, token, [("127.0.0.1:1", other.id, 9), ("127.0.0.2:1", shop.id, 9)])
    assert Counter((one.host, one.account_id) for one in found) == {
        ("127.0.0.1:1", other.id): 1, ("127.0.0.2:1", shop.id): 1,
    }  # fmt: skip
    assert Counter(row["state"] for row in await rows(db, "select state from delivery")) == {LEASED: 4, READY: 4}


async def test_the_statement_gives_no_answer_of_another_account(shop: Shop, db: Database) -> None:
    """The id names its account, and is looked at before; this is the lock behind that door."""
    other = await account(db, "other")
    ids = await shop.post("a", "b")
    await settle(shop, ids)
    on = shop.clock().date()
    assert await tasks.collect(db, on, [(other.id, ids[1])]) == {}
    assert len(await listed(shop)) == 2
    found = await tasks.collect(db, on, [(shop.id, ids[1])])
    assert found[ids[1]].request == b'{"user_prompt":"b","model_name":"gemini-2.5-flash"}'
    assert await listed(shop) == ids[:1]


async def test_a_metered_account_is_never_a_debtor(db: Database) -> None:
    shop = await account(db, "shop", "0", None)
    ids = await shop.post("a", "b")
    await settle(shop, ids, spent="5")
    assert (await shop.account()).balance < 0
    assert (await shop.collector.task_get(shop.id, ids[0])).result is not None
    assert not await differences(db)


async def test_a_withheld_answer_does_not_leave_the_database(shop: Shop, db: Database) -> None:
    [task_id] = await shop.post("a")
    await settle(shop, [task_id], spent="50")
    found = (await tasks.collect(db, shop.clock().date(), [(shop.id, task_id)]))[task_id]
    assert found.withheld and found.result is None and found.request


async def test_what_was_withheld_counts_as_fetched_by_nobody(shop: Shop, db: Database) -> None:
    """Its postback's first failure still lists it, and so it is found after the top-up."""
    [task_id] = await posted_and_settled(shop, {"postback_url": "http://127.0.0.1:1/", "user_prompt": "[[cost=20]]"})
    assert (await shop.collector.task_get(shop.id, task_id)).code == 40200
    await rows(db, "update delivery set state = 2, token = 7")
    await record(shop, 7, before=0, pause=DELIVERY_RETRY_SECONDS[0])
    await accounts.top_up(db, "shop", parse_usd("30"), shop.clock())
    assert await listed(shop) == [task_id]


async def test_a_live_task_leaves_its_money_only(shop: Shop, db: Database) -> None:
    assert isinstance((await (await live(shop)).ask(shop.id, MODEL, prompt("hi")))[1], Answer)
    for table in ("answer", "answer_raw", "ready", "delivery", "queue"):
        assert not await rows(db, f"select from {table}"), table
    [row] = await rows(db, "select charged, held, attempts from task")
    assert tuple(row) == (LIVE_FEE, LIVE_HOLD, 1)


@pytest.mark.parametrize(
    ("usd", "credit_limit", "answers"),
    [("0.0106", "0", 1), ("0.010599999", "0", 0), ("0", "0.0106", 1), ("0", "0", 0), ("0", None, 1)],
)
async def test_live_may_use_funds_up_to_the_last_nano_dollar(
    db: Database, usd: str, credit_limit: str | None, answers: int
) -> None:
    shop = await account(db, "shop", usd, credit_limit)
    _, outcome, _ = await (await live(shop)).ask(shop.id, MODEL, prompt("hi"))
    assert type(outcome) is (Answer if answers else InsufficientFunds)
    assert not await differences(db)


async def test_live_tasks_of_several_accounts_are_judged_apart(db: Database) -> None:
    shops = [await account(db, login, "0.0106") for login in ("a", "b")]
    token = await shops[0].lease()
    orders = [queue.LiveOrder(ID.format(n), shops[n % 2].id, LIVE_HOLD) for n in range(4)]
    found = await queue.hold_live(db, token, shops[0].clock(), orders)
    assert found is not None and found.held == {ID.format(0), ID.format(1)}
    assert not await differences(db)


async def test_a_paused_model_pauses_no_other(shop: Shop, db: Database) -> None:
    await pause_model(db, msgspec.structs.replace(MODEL, name="another", served="another"), paused=True)
    assert isinstance((await (await live(shop)).ask(shop.id, MODEL, prompt("hi")))[1], Answer)


@pytest.mark.parametrize("by", ["task_post", "live"])
async def test_an_accounts_cap_is_of_a_day_and_of_both_kinds(shop: Shop, db: Database, by: str) -> None:
    """A cap of what a live task costs and one more hold: a second one is refused until the next day."""
    hold = LIVE_HOLD if by == "live" else STANDARD_HOLD
    capped = msgspec.structs.replace(UNLIMITED, spend_per_day=LIVE_FEE + hold)

    async def refused(less: int = 0) -> bool:
        allowance = msgspec.structs.replace(capped, spend_per_day=capped.spend_per_day - less)
        if by == "live":
            return isinstance((await asking.ask(shop.id, MODEL, prompt("hi"), allowance))[1], CapReached)
        return await accept(shop, 1, allowance) == [40203]

    asking = await live(shop)
    await asking.ask(shop.id, MODEL, prompt("hi"))
    assert await refused(less=1)
    assert not await refused(), "to the last nano-dollar"
    assert await refused()
    shop.clock.offset = timedelta(days=1)
    assert not await refused()
    before = await today(db)
    assert before[0] == shop.clock().date()
    shop.clock.offset = timedelta()
    assert await refused(), "of a day whose sum is gone"
    assert await today(db) == before
    assert not await differences(db)


@pytest.mark.parametrize("by", ["task_post", "live"])
async def test_the_cap_of_all_is_of_a_day_and_of_both_kinds(shop: Shop, db: Database, by: str) -> None:
    other = await account(db, "other")
    cap = 5 * STANDARD_HOLD + LIVE_HOLD

    async def refused() -> bool:
        other.clock.offset = shop.clock.offset
        if by == "live":
            asking = await live(other, cap_of_all=cap)
            return isinstance((await asking.ask(other.id, MODEL, prompt("hi")))[1], CapReached)
        return await accept(other, 1, UNLIMITED, capped_at(other, cap)) == [40203]

    await accept(shop, 5, UNLIMITED)
    await (await live(shop)).ask(shop.id, MODEL, prompt("hi [[cost=0.01]]"))
    assert await refused()
    shop.clock.offset = timedelta(days=1)
    assert not await refused()
    assert not await differences(db)


async def test_a_live_task_of_yesterday_leaves_today_alone(shop: Shop, db: Database) -> None:
    token, now = await shop.lease(), shop.clock()
    found = await queue.hold_live(db, token, now, [queue.LiveOrder(ID.format(1), shop.id, LIVE_HOLD)])
    assert found is not None and found.held
    shop.clock.offset = timedelta(days=1)
    await shop.post("a")
    assert await shop.settler.settle(answered(token, ID.format(1), now.date(), LIVE_FEE, answer("0.5"), None))
    assert await today(db) == (shop.clock().date(), STANDARD_HOLD, 0)
    assert not await differences(db)


async def test_a_live_hold_by_a_late_clock_leaves_the_days_sum_alone(shop: Shop, db: Database) -> None:
    token, now = await shop.lease(), shop.clock()
    for number, at in enumerate([now + timedelta(days=1), now]):
        await queue.hold_live(db, token, at, [queue.LiveOrder(ID.format(number), shop.id, LIVE_HOLD)])
        assert await today(db) == ((now + timedelta(days=1)).date(), 0, LIVE_HOLD)
    assert not await differences(db)


async def test_workers_that_claim_at_once_share_the_tasks(shop: Shop, db: Database) -> None:
    ids = await shop.post(*["hi"] * 40)
    tokens = [await shop.lease() for _ in range(8)]
    found = [one.id for some in await asyncio.gather(*(shop.claim(token, 5) for token in tokens)) for one in some]
    assert sorted(found) == sorted(ids)


async def test_workers_that_claim_at_once_share_the_webhooks_and_wait_for_nobody(shop: Shop, db: Database) -> None:
    await posted_and_settled(shop, *[{"pingback_url": "http://127.0.0.1:1/"}] * 6)
    one, other = await shop.lease(), await shop.lease()
    async with db.transaction() as tx:
        first = await deliveries.claim(tx, one, [("127.0.0.1:1", shop.id, 3)])
        async with asyncio.timeout(20):  # it is not committed yet
            second = await deliveries.claim(db, other, [("127.0.0.1:1", shop.id, 9)])
    assert len({claim.id for claim in first}) == len({claim.id for claim in second}) == 3
    assert len({claim.id for claim in first + second}) == 6


@pytest.mark.contract("3.2 tasks with a postback")
@pytest.mark.parametrize(("kind", "lists"), [("postback_url", True), ("pingback_url", False)])
async def test_only_a_postbacks_first_failure_lists_its_task(shop: Shop, db: Database, kind: str, lists: bool) -> None:
    """§12.28. Off the list, by what takes old listings off, later failures put it there no more."""
    [task_id] = await posted_and_settled(shop, {kind: "http://127.0.0.1:1/"})
    await rows(db, "delete from ready")
    for number in range(3):
        await rows(db, "update delivery set state = 2, token = 7, run_at = null")
        await record(shop, 7, before=number, pause=5.0, error="HTTP 500")
        assert await listed(shop) == ([task_id] if lists and number == 0 else [])
        await rows(db, "delete from ready")


@pytest.mark.contract("3.2 tasks with a postback")
async def test_a_postback_that_went_well_lists_nothing(shop: Shop, db: Database) -> None:
    await posted_and_settled(shop, {"postback_url": "http://127.0.0.1:1/"})
    await rows(db, "update delivery set state = 2, token = 7")
    await record(shop, 7, before=0, pause=None, error=None)
    assert await listed(shop) == []


@pytest.mark.contract("3.2 tasks with a postback")
async def test_a_group_owes_each_account_its_own_webhooks_and_lists_no_postback(shop: Shop, db: Database) -> None:
    """§12.28: a task with a postback is listed once its first attempt has failed, not before."""
    other = await account(db, "other")
    [mine], [theirs] = await shop.post("a"), await other.post("b")
    token = await shop.lease()
    [day] = {one.day for one in await shop.claim(token)}
    hook = Owed(Kind.POSTBACK, "h:1", "http://h:1/", b"body")
    group = [msgspec.structs.replace(success(token, mine), owed=(hook,)), success(token, theirs)]
    assert await queue.settle(db, token, day, utc_now(), group) == {mine, theirs}
    found = await rows(db, "select task_id::text as id, account_id from delivery")
    assert [(row["id"], row["account_id"]) for row in found] == [(mine, shop.id)]
    assert (await listed(shop), await listed(other)) == ([], [theirs])
