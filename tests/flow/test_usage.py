"""Usage figures on a real database: what was called and charged is what is told (contract §3.7)."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from restante.core.answer import Answer
from restante.core.limits import USAGE_DAYS
from restante.core.money import Nano
from restante.core.pricing import LIVE_FEE, LIVE_HOLD, STANDARD_FEE, STANDARD_HOLD
from restante.core.task import Function, Model, Prompt, mint_id
from restante.flow.lease import Lease
from restante.flow.live import Live
from restante.flow.settle import answered
from restante.flow.usage import Meter, ids_of_minute
from restante.providers.registry import scripted_models
from restante.providers.scripted import ScriptedProvider
from restante.store import usage
from restante.store.database import Database
from restante.store.errors import DatabaseLost
from tests.flow.conftest import Shop
from tests.support import differences

LATE = datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC)


class At:
    """A clock that stands."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


async def test_calls_of_two_processes_add_up(db: Database, shop: Shop) -> None:
    clock = At(LATE - timedelta(hours=1))
    first, second = Meter(db, clock), Meter(db, clock)
    for meter, calls in ((first, 3), (second, 4)):
        for _ in range(calls):
            meter.count(shop.id, "live")
        meter.count(shop.id + 1, "live")
    await second.flush()
    assert (await first.read(shop.id, "shop")).calls == {"live": (7, 7)}
    clock.now += timedelta(minutes=1)
    assert (await first.read(shop.id, "shop")).calls == {"live": (7, 0)}
    first.count(shop.id, "live")
    assert (await second.read(shop.id, "shop")).calls == {"live": (7, 0)}, "first has not written it yet"
    assert (await first.read(shop.id, "shop")).calls == {"live": (8, 1)}


async def test_calls_around_midnight_belong_to_their_own_minute_and_day(db: Database, shop: Shop) -> None:
    """One flush of three minutes and two days; and a slower process's flush of the minute before changes no minute."""
    clock = At(LATE - timedelta(minutes=1))
    fast, slow = Meter(db, clock), Meter(db, clock)
    slow.count(shop.id, "live")
    for back, calls in ((1, 2), (0, 3)):
        clock.now = LATE - timedelta(minutes=back)
        for _ in range(calls):
            fast.count(shop.id, "live")
    clock.now = LATE + timedelta(seconds=1)
    fast.count(shop.id, "live")
    await fast.flush()
    await slow.flush()
    clock.now = LATE
    assert (await fast.read(shop.id, "shop")).calls == {"live": (6, 3)}
    clock.now += timedelta(seconds=1)
    assert (await fast.read(shop.id, "shop")).calls == {"live": (1, 1)}


async def test_many_processes_write_the_same_rows_at_once(db: Database) -> None:
    """Rows are taken in one order: sixteen writers, no deadlock, no call lost."""
    clock = At(LATE)
    meters = [Meter(db, clock) for _ in range(16)]
    for number, meter in enumerate(meters):
        accounts = range(1, 51) if number % 2 else range(50, 0, -1)
        for account, _ in itertools.product(accounts, range(2)):
            meter.count(account, "tasks_ready")
            meter.count(account, "live")
    await asyncio.gather(*(meter.flush() for meter in meters))
    for account in (1, 50):
        found = await usage.read(db, account, LATE.replace(second=0))
        assert found == {"tasks_ready": (32, 32), "live": (32, 32)}


async def test_calls_wait_for_a_database_that_is_away(db: Database, shop: Shop) -> None:
    class Away:
        async def settled(self, _: Callable[[], object]) -> None:
            meter.count(shop.id, "live")  # a call while the flush is on its way
            raise DatabaseLost("away")

    meter = Meter(db, At(LATE))
    meter.count(shop.id, "live")
    meter._db = Away()  # type: ignore[assignment]
    with pytest.raises(DatabaseLost):
        await meter.flush()
    meter._db = db
    assert (await meter.read(shop.id, "shop")).calls == {"live": (2, 2)}


async def test_a_client_that_hangs_up_while_it_reads_has_its_calls_counted_once(
    db: Database, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement is committed, its reply on the way, when user_data's caller leaves."""
    written, go_on, add = asyncio.Event(), asyncio.Event(), usage.add

    async def slow(*args: Any) -> None:
        await add(*args)
        written.set()
        await go_on.wait()

    monkeypatch.setattr(usage, "add", slow)
    meter = Meter(db, At(LATE))
    meter.count(shop.id, "live")
    reading = asyncio.create_task(meter.read(shop.id, "shop"))
    await written.wait()
    reading.cancel()
    await asyncio.wait([reading])
    go_on.set()
    assert (await meter.read(shop.id, "shop")).calls == {"live": (1, 1)}


async def test_old_days_are_forgotten(db: Database, shop: Shop) -> None:
    clock = At(LATE)
    meter = Meter(db, clock)
    for back in (0, USAGE_DAYS, USAGE_DAYS + 1):
        clock.now = LATE - timedelta(days=back)
        meter.count(shop.id, "live")
    await meter.flush()
    await usage.forget(db, LATE.date() - timedelta(days=USAGE_DAYS))
    days = [row["day"] for row in await db._pool.fetch("select day from usage order by day")]
    assert days == [LATE.date() - timedelta(days=USAGE_DAYS), LATE.date()]


def test_the_ids_of_a_minute() -> None:
    first, last = ids_of_minute(0xFFFE, LATE)
    for function in Function:
        for random48 in (0, 2**48 - 1):
            assert first <= mint_id(LATE, 0xFFFE, function, random48) <= last
    for neighbour in (
        mint_id(LATE, 0xFFFD, Function.MODELS, 2**48 - 1),
        mint_id(LATE, 0xFFFF, Function.LIVE, 0),
        mint_id(LATE - timedelta(minutes=1), 0xFFFE, Function.LIVE, 0),
    ):
        assert not first <= neighbour <= last


async def test_money_is_what_was_charged_and_held(db: Database, shop: Shop) -> None:
    """Two posted tasks, one of them answered; a live one; all in one minute. Then a minute later, then a day later."""
    shop.clock.offset = _to_noon(shop.clock())
    meter = Meter(db, shop.clock)
    await shop.post("a", "b")
    token = await shop.lease()
    [one] = await shop.claim(token, 1)
    answer = Answer(model_name="m", input_tokens=1, output_tokens=1, items=Answer.message("x"), money_spent=Nano(1_234))
    assert await shop.settler.settle(answered(token, one.id, one.day, STANDARD_FEE, answer, b"[]"))
    lease = Lease(db, "an api", 60)
    await lease.begin()
    live = Live(db, lease, [ScriptedProvider(scripted_models())], shop.settler, shop.clock)
    model = Model(name="gemini-2.5-flash", served="gemini-2.5-flash", provider="scripted")
    prompt = Prompt(user_prompt="[[cost=0.02]] hi", model_name=model.name)
    _, outcome, charged = await live.ask(shop.id, model, prompt)
    assert isinstance(outcome, Answer)
    assert charged == LIVE_FEE + 20_000_000 > LIVE_HOLD
    now = await meter.read(shop.id, "shop")
    spent = {"task_post": STANDARD_FEE + 1_234 + STANDARD_HOLD, "live": charged}
    assert (now.day_spent, now.minute_spent) == (spent, spent)
    assert now.account.funded - now.account.balance == sum(spent.values())
    shop.clock.offset += timedelta(minutes=1)
    later = await meter.read(shop.id, "shop")
    assert (later.day_spent, later.minute_spent) == (spent, {"task_post": 0, "live": 0})
    shop.clock.offset += timedelta(days=1)
    assert (await meter.read(shop.id, "shop")).day_spent == {"task_post": 0, "live": 0}
    await lease.end()
    assert not await differences(db)


def _to_noon(now: datetime) -> timedelta:
    """How far noon of today is: no minute or day ends while a test runs."""
    return now.replace(hour=12, minute=0, second=0, microsecond=0) - now
