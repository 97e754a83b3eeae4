"""Settling: money to the nano-dollar, once, by whoever holds the lease (contract §12.8; design, promise 2)."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

import asyncpg
import msgspec
import pytest

from restante.core.answer import Answer
from restante.core.errors import ProviderFailed
from restante.core.money import Nano, parse_usd
from restante.core.pricing import STANDARD_FEE, STANDARD_HOLD
from restante.core.task import State
from restante.flow.lease import reap
from restante.flow.settle import Settler, answered, failed
from restante.store import tasks
from restante.store.database import Database, Row
from restante.store.errors import DatabaseLost, NoSuchDay, our_errors
from restante.store.queue import Settlement
from tests.flow.conftest import Shop, parsed
from tests.support import differences

RESULT = b'[{"model_name":"gemini-2.5-flash"}]'


def answer(spent: str) -> Answer:
    items = Answer.message("words")
    return Answer(model_name="m", input_tokens=1, output_tokens=1, items=items, money_spent=parse_usd(spent))


def day(task_id: str) -> date:
    from restante.wiring import utc_now

    found = parsed(task_id).posted_on(utc_now().date())
    assert found is not None
    return found


def success(token: int, task_id: str, spent: str = "0") -> Settlement:
    return answered(token, task_id, day(task_id), STANDARD_FEE, answer(spent), RESULT)


@pytest.mark.contract("6 Standard base fee", "6 Refund", "12.8 success")
@pytest.mark.parametrize(
    ("spent", "charged"),
    [("0", "0.0002"), ("0.0000001", "0.0002001"), ("0.01", "0.0102"), ("0.0367", "0.0369"), ("25", "25.0002")],
)
async def test_an_answer_is_charged_its_fee_and_its_cost_and_the_rest_returns(
    shop: Shop, db: Database, spent: str, charged: str
) -> None:
    [task_id] = await shop.post("hi")
    token = await shop.lease()
    await shop.claim(token)
    assert await shop.settler.settle(success(token, task_id, spent))
    after = await shop.account()
    assert (after.balance, after.held, after.spent) == (parse_usd("10") - parse_usd(charged), 0, parse_usd(charged))
    assert not await differences(db)


@pytest.mark.contract("6 LLM error (50301)", "12.8 everything else")
async def test_a_failure_costs_nothing(shop: Shop, db: Database) -> None:
    [task_id] = await shop.post("hi")
    token = await shop.lease()
    await shop.claim(token)
    assert await shop.settler.settle(failed(token, task_id, day(task_id), ProviderFailed("overloaded")))
    after = await shop.account()
    assert (after.balance, after.held, after.spent) == (parse_usd("10"), 0, 0)
    found = await shop.collector.task_get(shop.id, task_id)
    assert (found.code, found.message) == (50301, "3rd Party API Service Unavailable (overloaded).")
    assert not await differences(db)


async def test_who_asked_hears_of_each_end_once(shop: Shop, db: Database) -> None:
    told: list[tuple[str, State]] = []
    settler = Settler(db, shop.clock, told.extend)
    [task_id] = await shop.post("hi")
    token = await shop.lease()
    await shop.claim(token)
    assert await settler.settle(success(token, task_id))
    assert told == [(task_id, State.DONE)]
    assert not await settler.settle(success(token, task_id))
    assert told == [(task_id, State.DONE)]


async def test_settling_again_changes_nothing(shop: Shop, db: Database) -> None:
    [task_id] = await shop.post("hi")
    token = await shop.lease()
    await shop.claim(token)
    twice = await asyncio.gather(*(shop.settler.settle(success(token, task_id)) for _ in range(2)))
    assert sorted(twice) == [False, True] or twice == [True, True]  # one group may hold both: one row settles once
    assert not await shop.settler.settle(success(token, task_id, "5"))
    assert (await shop.account()).spent == STANDARD_FEE
    assert not await differences(db)


async def test_a_late_answer_under_a_lost_lease_changes_nothing(shop: Shop, db: Database) -> None:
    [task_id] = await shop.post("hi")
    dead = await shop.lease(seconds=-1)
    await shop.claim(dead)
    assert await reap(db) == 1
    assert not await shop.settler.settle(success(dead, task_id, "1"))
    alive = await shop.lease()
    [claimed] = await shop.claim(alive)
    assert (claimed.id, claimed.lost) == (task_id, 1)
    assert not await shop.settler.settle(success(dead, task_id, "1"))
    assert await shop.settler.settle(success(alive, task_id))
    assert not await shop.settler.settle(success(dead, task_id, "1"))
    assert (await shop.account()).spent == STANDARD_FEE
    assert not await differences(db)


async def test_a_dead_token_claims_nothing(shop: Shop, db: Database) -> None:
    await shop.post("hi")
    dead = await shop.lease(seconds=-1)
    await reap(db)
    assert await shop.claim(dead) == []


async def test_a_culprit_fails_alone_and_its_group_settles(shop: Shop, db: Database) -> None:
    ids = await shop.post(*["hi"] * 20)
    token = await shop.lease()
    await shop.claim(token)
    settlements = [success(token, task_id) for task_id in ids]
    bad = settlements[7]
    settlements[7] = Settlement(
        bad.token, bad.id, bad.day, bad.state, bad.code, -1, result=RESULT
    )  # refused by a CHECK
    outcomes = await asyncio.gather(*map(shop.settler.settle, settlements), return_exceptions=True)
    assert [number for number, outcome in enumerate(outcomes) if outcome is not True] == [7]
    assert isinstance(outcomes[7], Exception)
    assert (await shop.account()).held == STANDARD_HOLD
    assert not await differences(db)


async def test_settlements_pile_up_into_groups_across_accounts_without_deadlock(shop: Shop, db: Database) -> None:
    from restante.store import accounts as stored
    from tests.support import open_account

    shops = [shop]
    for number in range(4):
        await open_account(db, f"shop {number}", "10")
        account = await stored.read(db, f"shop {number}")
        assert account is not None
        shops.append(Shop(db, account.id))
    ids = [task_id for one in shops for task_id in await one.post(*["hi"] * 60)]
    token = await shop.lease()
    while await shop.claim(token):
        pass
    settlers = [Settler(db, shop.clock) for _ in range(4)]
    mixed = sorted(ids, key=lambda task_id: task_id[::-1])
    outcomes = await asyncio.gather(
        *(settlers[number % 4].settle(success(token, task_id)) for number, task_id in enumerate(mixed))
    )
    assert all(outcomes)
    assert not await differences(db)


@pytest.mark.contract("6 LLM cost above 0.01")
def test_a_charge_may_exceed_the_hold() -> None:
    task_id = "11220000-0001-0613-0000-000000000001"
    assert success(1, task_id, "0.5").charged == Nano(parse_usd("0.5002"))


def test_a_settlement_says_all_of_an_answer_and_of_a_failure() -> None:
    """A live answer's reply is kept by nobody: there is no task to ask for it."""
    task_id, on, prices = "11220000-0001-0613-0000-000000000001", date(2026, 11, 22), date(2026, 11, 1)
    spoken = msgspec.structs.replace(answer("0.01"), raw=b"as it came", price_date=prices)
    assert answered(7, task_id, on, STANDARD_FEE, spoken, RESULT) == Settlement(
        7, task_id, on, State.DONE, 20000, STANDARD_HOLD, result=RESULT, raw=b"as it came", price_date=prices
    )
    assert answered(7, task_id, on, STANDARD_FEE, spoken, None) == Settlement(
        7, task_id, on, State.DONE, 20000, STANDARD_HOLD, price_date=prices
    )
    why = ProviderFailed("overloaded")
    assert failed(7, task_id, on, why) == Settlement(7, task_id, on, State.FAILED, 50301, 0, message=why.message)


async def test_all_of_an_end_is_stored(shop: Shop, db: Database) -> None:
    [task_id] = await shop.post("hi")
    token = await shop.lease()
    await shop.claim(token)
    said = msgspec.structs.replace(answer("0.01"), raw=b"as it came", price_date=date(2026, 11, 1))
    on = day(task_id)
    assert await shop.settler.settle(answered(token, task_id, on, STANDARD_FEE, said, RESULT))
    row = await db._on.fetchrow("select state, code, charged, attempts, settled_at >= posted_at as later from task")
    assert tuple(row) == (State.DONE, 20000, STANDARD_HOLD, 1, True)
    assert await tasks.raw(db, on, shop.id, task_id) == tasks.Raw(b"as it came", date(2026, 11, 1))
    assert (await shop.collector.task_get(shop.id, task_id)).result == RESULT
    assert not await differences(db)


class Breaking:
    """Makes a database's next `settle` break: before it reached the server, or after its commit."""

    def __init__(self, db: Database, error: Exception, *, after_commit: bool) -> None:
        self._rows, self._error, self._after, self._broken = db.rows, error, after_commit, False

    async def rows(self, name: str, *args: object) -> list[Row]:
        if name != "settle" or self._broken:
            return await self._rows(name, *args)
        self._broken = True
        if self._after:
            await self._rows(name, *args)
        raise self._error


@pytest.mark.parametrize("after_commit", [True, False])
async def test_a_lost_reply_of_the_commit_does_not_hide_it(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch, after_commit: bool
) -> None:
    """Whoever waits (live does) is told what was charged, not that it failed."""
    [task_id] = await shop.post("hi")
    token = await shop.lease()
    await shop.claim(token)
    monkeypatch.setattr(db, "rows", Breaking(db, DatabaseLost("cut"), after_commit=after_commit).rows)
    assert await shop.settler.settle(success(token, task_id, "0.02"))
    assert (await shop.account()).spent == parse_usd("0.0202")
    assert not await differences(db)


async def test_a_lost_reply_does_not_pass_another_end_for_ours(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the database was back, our lease had ended and another worker had settled the task."""
    [task_id] = await shop.post("hi")
    token = await shop.lease()
    await shop.claim(token)
    rows = db.rows

    async def overtaken(name: str, *args: Any) -> list[Row]:
        if name != "settle":
            return await rows(name, *args)
        monkeypatch.setattr(db, "rows", rows)
        await rows("settle", *args[:6], [parse_usd("0.5")], *args[7:])
        raise DatabaseLost("cut")

    monkeypatch.setattr(db, "rows", overtaken)
    assert not await shop.settler.settle(success(token, task_id, "0.02"))
    assert (await shop.account()).spent == parse_usd("0.5")
    assert not await differences(db)


async def test_a_day_that_is_missing_is_made(shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    [task_id] = await shop.post("hi")
    token = await shop.lease()
    await shop.claim(token)
    monkeypatch.setattr(db, "rows", Breaking(db, NoSuchDay("no partition"), after_commit=False).rows)
    assert await shop.settler.settle(success(token, task_id))
    assert not await differences(db)


async def test_who_stops_waits_for_what_is_being_settled_but_not_for_ever(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    [task_id] = await shop.post("hi")
    token = await shop.lease()
    await shop.claim(token)
    rows, reached, go_on = db.rows, asyncio.Event(), asyncio.Event()

    async def slow(name: str, *args: Any) -> list[Row]:
        if name == "settle":
            reached.set()
            await go_on.wait()
        return await rows(name, *args)

    monkeypatch.setattr(db, "rows", slow)
    settling = asyncio.create_task(shop.settler.settle(success(token, task_id)))
    await reached.wait()
    async with asyncio.timeout(30):
        await shop.settler.idle(0.01)
    assert not settling.done()
    go_on.set()
    await shop.settler.idle(20)
    assert (await shop.account()).held == 0, "it was committed before"
    assert await settling
    assert not await differences(db)


async def test_a_full_disk_delays_an_answer_and_does_not_waste_it(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    [task_id] = await shop.post("hi")
    token = await shop.lease()
    await shop.claim(token)
    with pytest.raises(DatabaseLost), our_errors():
        raise asyncpg.DiskFullError("no space left on device")
    monkeypatch.setattr(db, "rows", Breaking(db, DatabaseLost("disk full"), after_commit=False).rows)
    assert await shop.settler.settle(success(token, task_id))
    assert not await differences(db)
