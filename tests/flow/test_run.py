"""Running: provider faults are values, retries are queue work, a poison task ends (design, Data 4 and 5)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from restante.core.answer import Answer, Failure
from restante.core.limits import COSTLY_TRIES_MAX, LOST_LEASES_MAX, RETRY_SECONDS
from restante.core.money import Nano, parse_usd
from restante.core.task import Model
from restante.flow.accept import Judged
from restante.flow.lease import Lease, reap
from restante.flow.pacing import Pacer
from restante.flow.run import Runner, retry_delay
from restante.providers.provider import Call, Provider
from restante.store import queue
from restante.store.database import Database
from tests.flow.conftest import Shop, until
from tests.flow.test_settle import success
from tests.support import differences


class Odd:
    """A provider that does what a test needs and no real one does on purpose."""

    name = "scripted"
    concurrency = 1_000

    def __init__(self, *outcomes: Answer | Failure | Exception) -> None:
        self._outcomes = list(outcomes)
        self.asked = asyncio.Event()
        self.go_on = asyncio.Event()
        self.calls: list[Call] = []

    async def models(self) -> tuple[Model, ...]:
        return ()

    async def generate(self, call: Call) -> Answer | Failure:
        self.calls.append(call)
        self.asked.set()
        if not self._outcomes:
            await self.go_on.wait()
            return Answer(model_name="odd", input_tokens=1, output_tokens=1, items=Answer.message("late"))
        outcome = self._outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def close(self) -> None: ...


@contextlib.asynccontextmanager
async def working(
    shop: Shop,
    provider: Provider | None = None,
    seconds: float = 60.0,
    pacer: Pacer | None = None,
    concurrency: int = 100,
) -> AsyncIterator[Runner]:
    """A worker that runs for the block and then drains."""
    lease = Lease(shop.db, "a worker", seconds, on_lost=lambda token: runner.abandon(token))
    runner = shop.runner(lease, provider, concurrency, pacer)
    await lease.begin()
    claiming = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        claiming.cancel()
        await runner.drain(5)
        await lease.end()


async def make_due(db: Database) -> None:
    """The time of every parked task has come."""
    await db._on.execute("update queue set run_at = now() where state = 1")


async def finished(shop: Shop, task_id: str) -> tuple[int, str]:
    """Wait for a task's end: its code and message."""
    async with asyncio.timeout(20):
        while (found := await shop.collector.task_get(shop.id, task_id)).code in (40601, 40602):
            await asyncio.sleep(0.02)
    return found.code, found.message


async def test_tasks_are_answered_and_settled(shop: Shop, db: Database) -> None:
    ids = await shop.post(*[f"question {number}" for number in range(50)])
    async with working(shop):
        outcomes = [await finished(shop, task_id) for task_id in ids]
    assert outcomes == [(20000, "Ok.")] * 50
    after = await shop.account()
    assert (after.held, after.spent) == (0, 50 * 200_000)
    assert not await differences(db)


def settling_waits(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Settlements wait until this is set."""
    told = asyncio.Event()
    settle = queue.settle

    async def when_told(*args: Any) -> set[str]:
        await told.wait()
        return await settle(*args)

    monkeypatch.setattr(queue, "settle", when_told)
    return told


async def test_a_slot_is_free_while_its_answer_is_being_settled(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = settling_waits(monkeypatch)
    ids = await shop.post("one", "two", "three")
    provider = Odd(
        *(Answer(model_name="odd", input_tokens=1, output_tokens=1, items=Answer.message("so")) for _ in ids)
    )
    async with working(shop, provider, concurrency=1) as runner:
        await until(lambda: len(provider.calls) == 3)
        assert runner.in_flight == 3
        told.set()
        assert [(await finished(shop, task_id))[0] for task_id in ids] == [20000] * 3
    assert not await differences(db)


async def test_no_more_is_claimed_while_too_much_waits_for_its_settlement(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = settling_waits(monkeypatch)
    monkeypatch.setattr("restante.flow.run.UNSETTLED_MAX", 1)
    ids = await shop.post("one", "two", "three")
    async with working(shop, concurrency=1) as runner:
        await until(lambda: runner.in_flight == 2)
        assert await runner._claim_round() == 0
        told.set()
        assert [(await finished(shop, task_id))[0] for task_id in ids] == [20000] * 3


async def test_a_final_failure_fails_at_once(shop: Shop, db: Database) -> None:
    [task_id] = await shop.post("hi [[blocked=SAFETY]]")
    async with working(shop):
        assert await finished(shop, task_id) == (50301, "3rd Party API Service Unavailable (blocked: SAFETY).")
    assert (await shop.account()).balance == parse_usd("10")
    assert not await differences(db)


async def test_a_transient_failure_parks_the_task_and_counts_its_tries(shop: Shop, db: Database) -> None:
    [task_id] = await shop.post("hi")
    provider = Odd(Failure(reason="overloaded", transient=True))
    async with working(shop, provider) as runner:
        await provider.asked.wait()
        await until(lambda: runner.in_flight == 0)
        assert not await queue.promote(db), "its time has not come"
    assert (await shop.collector.task_get(shop.id, task_id)).code == 40602
    assert len(provider.calls) == 1
    assert not await differences(db)


async def test_a_parked_task_runs_when_its_time_has_come(shop: Shop, db: Database) -> None:
    [task_id] = await shop.post("hi")
    provider = Odd(Failure(reason="overloaded", transient=True))
    async with working(shop, provider) as runner:
        await provider.asked.wait()
        await until(lambda: runner.in_flight == 0)
        await make_due(db)
        assert await queue.promote(db)
        runner.wake()
        await until(lambda: len(provider.calls) == 2)
        provider.go_on.set()
        assert (await finished(shop, task_id))[0] == 20000
    assert not await differences(db)


async def try_again(shop: Shop, provider: Odd, runner: Runner, times: int) -> None:
    """Let the task of the shop be tried so many times, its pauses over at once."""
    for _ in range(times):
        provider.asked.clear()
        await make_due(shop.db)
        await queue.promote(shop.db)
        runner.wake()
        await provider.asked.wait()
        await until(lambda: runner.in_flight == 0)


async def test_what_the_provider_puts_off_never_fails_a_task(shop: Shop, db: Database) -> None:
    """Contract §12.14: only the deadline ends it (test_end)."""
    [task_id] = await shop.post("hi")
    times = 3 * COSTLY_TRIES_MAX
    provider = Odd(*[Failure(reason="overloaded", transient=True)] * times)
    async with working(shop, provider) as runner:
        await try_again(shop, provider, runner, times)
        assert (await shop.collector.task_get(shop.id, task_id)).code == 40602
    row = await db._on.fetchrow("select tries, wasted from queue where id = $1", task_id)
    assert tuple(row) == (times, 0)
    assert not await differences(db)


@pytest.mark.parametrize("cause", [Failure(reason="malformed reply", transient=True, costly=True), RuntimeError("bug")])
async def test_what_costs_each_time_is_bounded(shop: Shop, db: Database, cause: Failure | Exception) -> None:
    [task_id] = await shop.post("hi")
    provider = Odd(*[cause] * COSTLY_TRIES_MAX)
    async with working(shop, provider) as runner:
        await try_again(shop, provider, runner, COSTLY_TRIES_MAX)
        reason = cause.reason if isinstance(cause, Failure) else "internal error"
        assert await finished(shop, task_id) == (50301, f"3rd Party API Service Unavailable ({reason}).")
    assert len(provider.calls) == COSTLY_TRIES_MAX
    assert (await shop.account()).balance == parse_usd("10")
    assert not await differences(db)


async def test_a_bug_in_a_provider_parks_the_task(shop: Shop, db: Database, caplog: pytest.LogCaptureFixture) -> None:
    [task_id] = await shop.post("hi")
    provider = Odd(RuntimeError("a bug"))
    async with working(shop, provider) as runner:
        await provider.asked.wait()
        await until(lambda: runner.in_flight == 0)
    assert (await shop.collector.task_get(shop.id, task_id)).code == 40602
    assert f"provider scripted broke on task {task_id}" in caplog.text
    assert not await differences(db)


async def test_a_task_that_kills_its_workers_fails_in_the_end(shop: Shop, db: Database) -> None:
    [task_id] = await shop.post("hi")
    for _ in range(LOST_LEASES_MAX + 1):
        await shop.claim(await shop.lease(seconds=-1))
        assert await reap(db) == 1
    provider = Odd()
    async with working(shop, provider):
        code, message = await finished(shop, task_id)
    assert (code, provider.calls) == (50301, [])
    assert message.endswith("(given up after 6 workers were lost on it).")
    assert (await shop.account()).balance == parse_usd("10")
    assert not await differences(db)


async def test_a_lost_lease_cancels_its_calls_and_a_new_one_begins(shop: Shop, db: Database) -> None:
    [task_id] = await shop.post("hi")
    provider = Odd()
    async with working(shop, provider, seconds=0.4) as runner:
        await provider.asked.wait()
        async with db.transaction() as tx:  # what a reaper does to a worker that was frozen
            await tx.rows("retire_worker", runner._lease.token)
            await queue.free(tx, [runner._lease.token], lost=True)
        await until(lambda: len(provider.calls) == 2)  # claimed anew, under the new token
        provider.go_on.set()
        assert (await finished(shop, task_id))[0] == 20000
    assert (await shop.account()).spent == 200_000
    assert not await differences(db)


async def test_draining_gives_back_what_does_not_end(shop: Shop, db: Database) -> None:
    [task_id] = await shop.post("hi")
    provider = Odd()
    lease = Lease(db, "a worker", 60)
    runner = shop.runner(lease, provider)
    await lease.begin()
    claiming = asyncio.create_task(runner.run())
    await provider.asked.wait()
    claiming.cancel()
    await runner.drain(0)
    assert await lease.end() == 1
    [claimed] = await shop.claim(await shop.lease())
    assert (claimed.id, claimed.lost) == (task_id, 0)


async def test_a_worker_claims_only_what_it_can_serve(shop: Shop, db: Database) -> None:
    await shop.post("hi")
    other = Odd()
    other.name = "gemini"
    async with working(shop, other) as runner:
        assert await runner._claim_round() == 0
    assert await queue.unserved(db, ["gemini"]) == {"scripted": 1}


@pytest.mark.parametrize(("tries", "planned"), [*enumerate(RETRY_SECONDS), (99, RETRY_SECONDS[-1])])
def test_retries_wait_longer_each_time_and_are_spread(tries: int, planned: float) -> None:
    assert retry_delay(tries, None, 0.0) == pytest.approx(planned * 0.8)
    assert retry_delay(tries, None, 1.0) == pytest.approx(planned * 1.2)
    assert retry_delay(tries, 10_000.0, 0.5) == 10_000.0


@pytest.mark.contract("12.26 a rejected key")
async def test_a_task_waits_for_a_good_key_however_often_it_looks(shop: Shop, db: Database) -> None:
    """Contract §12.26: a rejected key is the operator's to mend."""
    [task_id] = await shop.post("hi")
    looks = COSTLY_TRIES_MAX + 2
    provider = Odd(*[Failure(reason="API key rejected", transient=True, waits=True)] * looks)
    async with working(shop, provider) as runner:
        for _ in range(looks):
            provider.asked.clear()
            await make_due(db)
            await queue.promote(db)
            runner.wake()
            await provider.asked.wait()
            await until(lambda: runner.in_flight == 0)
    assert (await shop.collector.task_get(shop.id, task_id)).code == 40602
    assert not await differences(db)


async def test_a_claim_whose_answer_was_lost_is_found_again(shop: Shop, db: Database) -> None:
    """The server leased the task and then the connection broke: nobody here knows, and the lease goes on."""
    [task_id] = await shop.post("hi")
    provider = Odd()
    lease = Lease(db, "a worker", 0.4)
    runner = shop.runner(lease, provider)
    await lease.begin()
    await shop.claim(lease.token)
    lease.doubt()
    claiming = asyncio.create_task(runner.run())
    async with asyncio.timeout(30):
        await provider.asked.wait()
    provider.go_on.set()
    assert (await finished(shop, task_id))[0] == 20000
    claiming.cancel()
    await runner.drain(5)
    await lease.end()
    assert not await differences(db)


async def test_a_task_claimed_again_while_its_last_call_ends_is_no_orphan(shop: Shop, db: Database) -> None:
    """It went back to the queue and was claimed again before this process had noted that its first call was over."""
    [task_id] = await shop.post("hi")
    lease = Lease(db, "a worker", 60)
    await lease._register()
    [first] = await shop.claim(lease.token)
    lease.hold(lease.token, first.id)
    assert await queue.give_back(db, lease.token, task_id)
    [again] = await shop.claim(lease.token)
    lease.hold(lease.token, again.id)
    lease.drop(lease.token, first.id)
    lease.doubt()
    await lease._beat_once()
    assert await shop.settler.settle(success(lease.token, task_id)), "freed although it was being run"
    lease.drop(lease.token, again.id)
    [other] = await shop.post("ho")
    assert await shop.claim(lease.token)
    lease.doubt()
    await lease._beat_once()
    assert not await shop.settler.settle(success(lease.token, other)), "nobody here knew of it"
    assert not await differences(db)


async def test_what_cannot_be_written_down_fails_and_is_refunded(shop: Shop, db: Database) -> None:
    """A charge beyond 64 bits: no database takes it, and the task must not stay leased for ever."""
    [task_id] = await shop.post("hi [[cost=1e9]]")
    huge = Answer(
        model_name="odd", input_tokens=1, output_tokens=1, items=Answer.message("words"), money_spent=Nano(2**63)
    )
    async with working(shop, Odd(huge)):
        assert await finished(shop, task_id) == (50000, "Internal Error.")
    assert (await shop.account()).balance == parse_usd("10")
    assert not await differences(db)


async def test_a_worker_whose_clock_is_behind_waits_as_long_as_any_other(shop: Shop, db: Database) -> None:
    shop.clock.offset = -timedelta(minutes=10)
    [task_id] = await shop.post("hi")
    provider = Odd(Failure(reason="overloaded", transient=True, retry_after=60))
    async with working(shop, provider) as runner:
        await provider.asked.wait()
        await until(lambda: runner.in_flight == 0)
        assert not await queue.promote(db)
    assert (await shop.collector.task_get(shop.id, task_id)).code == 40602


async def test_lanes_take_turns_when_slots_are_few(shop: Shop, db: Database) -> None:
    """With one slot free at a time, the lane that is looked at first must not take them all."""
    order: list[str] = []

    class Noting(Odd):
        async def generate(self, call: Call) -> Answer | Failure:
            order.append(call.model)
            return Answer(model_name=call.model, input_tokens=1, output_tokens=1, items=())

    ids = await shop.post(*["hi"] * 20)
    pro = Model(name="gemini-2.5-pro", served="gemini-2.5-pro", provider="scripted")
    judged = [Judged(pro, None, b'{"user_prompt":"hi","model_name":"gemini-2.5-pro"}')] * 5
    ids += (await shop.acceptor.accept(shop.id, judged))[0]
    lease = Lease(db, "a worker", 60)
    await lease.begin()
    runner = shop.runner(lease, Noting(), concurrency=1)
    claiming = asyncio.create_task(runner.run())
    for task_id in ids:
        await finished(shop, task_id)
    claiming.cancel()
    await runner.drain(1)
    await lease.end()
    assert max(place for place, model in enumerate(order) if model == pro.name) < 11, order
