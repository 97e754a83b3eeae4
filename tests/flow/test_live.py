"""Live: held, asked, settled in one call; what is left of a dead process is refunded (contract §3.4, §12.8, §12.21)."""

from __future__ import annotations

import asyncio
import itertools
from datetime import timedelta

import pytest

from restante.core.answer import Answer, Failure
from restante.core.errors import InsufficientFunds, InternalError, LiveTimeout, ProviderFailed
from restante.core.money import parse_usd
from restante.core.task import Model, Prompt
from restante.flow.lease import Lease, reap
from restante.flow.live import Live
from restante.providers.provider import Provider
from restante.providers.registry import scripted_models
from restante.providers.scripted import ScriptedProvider
from restante.store import queue, tasks
from restante.store.database import Database
from tests.flow.conftest import Shop, parsed, until
from tests.flow.test_run import Odd, working
from tests.support import differences

MODEL = Model(name="gemini-2.5-flash", served="gemini-2.5-flash", provider="scripted")


def prompt(text: str) -> Prompt:
    return Prompt(user_prompt=text, model_name=MODEL.name)


async def live(shop: Shop, provider: Provider | None = None, seconds: float = 20.0, cap_of_all: int = 0) -> Live:
    lease = Lease(shop.db, "an api", 60)
    await lease._register()
    providers = [provider or ScriptedProvider(scripted_models())]
    return Live(shop.db, lease, providers, shop.settler, shop.clock, seconds, cap_of_all)


@pytest.mark.contract("6 Live base fee")
async def test_an_answer_is_charged_the_live_fee(shop: Shop, db: Database) -> None:
    task_id, answer, charged = await (await live(shop)).ask(shop.id, MODEL, prompt("hi [[cost=0.02]]"))
    assert isinstance(answer, Answer)
    assert (charged, (await shop.account()).balance) == (parse_usd("0.0206"), parse_usd("9.9794"))
    assert (await shop.collector.task_get(shop.id, task_id)).code == 40401
    assert await shop.collector.ready(shop.id) == []
    assert not await differences(db)


@pytest.mark.contract("12.8 everything else")
async def test_failures_and_bugs_cost_nothing(shop: Shop, db: Database) -> None:
    outcomes: list[tuple[Failure | Exception, type[Exception]]] = [
        (Failure(reason="overloaded", transient=True), ProviderFailed),
        (RuntimeError("a bug"), InternalError),
    ]
    for outcome, refusal in outcomes:
        _, answer, charged = await (await live(shop, Odd(outcome))).ask(shop.id, MODEL, prompt("hi"))
        assert (type(answer), charged) == (refusal, 0)
    assert (await shop.account()).balance == parse_usd("10")
    assert not await differences(db)


@pytest.mark.contract("2.2 50401", "3.4 at most 120 s", "5.2 live", "12.14 codes of failure")
async def test_two_minutes_are_enough(shop: Shop, db: Database) -> None:
    _, answer, charged = await (await live(shop, Odd(), seconds=0.05)).ask(shop.id, MODEL, prompt("hi"))
    assert (type(answer), charged) == (LiveTimeout, 0)
    assert not await differences(db)


async def test_many_at_once_get_what_the_balance_covers(shop: Shop, db: Database) -> None:
    asking = await live(shop)
    outcomes = await asyncio.gather(*(asking.ask(shop.id, MODEL, prompt("hi [[cost=0.01]]")) for _ in range(1_000)))
    answered = sum(isinstance(answer, Answer) for _, answer, _ in outcomes)
    refused = sum(isinstance(answer, InsufficientFunds) for _, answer, _ in outcomes)
    assert answered + refused == 1_000
    assert (await shop.account()).spent == answered * parse_usd("0.0106") <= parse_usd("10")
    assert refused > 0
    assert not await differences(db)


async def test_a_caller_who_hangs_up_is_still_settled(shop: Shop, db: Database) -> None:
    provider = Odd()
    asking = asyncio.create_task((await live(shop, provider)).ask(shop.id, MODEL, prompt("hi")))
    await provider.asked.wait()
    asking.cancel()
    await asyncio.wait([asking])
    provider.go_on.set()
    async with asyncio.timeout(30):
        while (await shop.account()).held:
            await asyncio.sleep(0.01)
    assert (await shop.account()).spent == parse_usd("0.0006")
    assert not await differences(db)


async def test_live_tasks_of_a_dead_process_are_refunded_by_a_worker(shop: Shop, db: Database) -> None:
    token = await shop.lease(seconds=-1, name="an api")
    order = queue.LiveOrder("11220000-0001-0612-0000-000000000001", shop.id, 10_600_000)
    found = await queue.hold_live(db, token, shop.clock(), [order])
    assert found is not None
    assert found.held == {order.id}
    assert (await shop.account()).held == 10_600_000
    assert await reap(db) == 1
    async with working(shop) as runner:
        runner.wake()
        async with asyncio.timeout(30):
            while (await shop.account()).held:
                await asyncio.sleep(0.02)
        await until(lambda: runner.in_flight == 0)
    assert (await shop.account()).balance == parse_usd("10")
    assert not await differences(db)


async def test_a_process_whose_lease_ended_holds_nothing(shop: Shop, db: Database) -> None:
    asking = await live(shop)
    async with db.transaction() as tx:
        await queue.retire(tx, asking._lease.token)
    _, answer, charged = await asking.ask(shop.id, MODEL, prompt("hi"))
    assert (type(answer), charged, (await shop.account()).held) == (InternalError, 0, 0)


async def test_a_live_task_posted_at_midnight_has_one_day(shop: Shop, db: Database) -> None:
    """Its id, its day and its time are of one reading of the clock: id_list finds it by them."""
    midnight = shop.clock().replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    asking = await live(shop)
    readings = itertools.chain([midnight - timedelta(microseconds=1)], itertools.repeat(midnight))
    asking._clock = lambda: next(readings)
    task_id, answer, _ = await asking.ask(shop.id, MODEL, prompt("hi"))
    assert isinstance(answer, Answer)
    listed = await tasks.recorded(
        db, shop.id, midnight - timedelta(days=1), midnight + timedelta(days=1),
        backwards=False, skip=0, most=10, requests=False,
    )  # fmt: skip
    assert [one.id for one in listed] == [task_id]
    assert parsed(task_id).posted_on(midnight.date()) == listed[0].posted_at.date()
    assert not await differences(db)
