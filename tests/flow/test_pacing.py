"""Pacing: permits shared through PostgreSQL, pauses for everybody, keys that are out (contract §12.26)."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import msgspec
import pytest

from restante.core.answer import Answer, Failure
from restante.core.errors import OperatorError, ProviderFailed
from restante.core.limits import PUT_BACK_MAX
from restante.core.pacing import Quota
from restante.core.task import Model
from restante.flow.pacing import Pacer, Permit
from restante.providers.provider import Call
from restante.store import pacing
from restante.store.database import Database
from tests.flow.conftest import Shop, until
from tests.flow.test_live import live, prompt
from tests.flow.test_run import finished, working
from tests.support import differences

MODEL = "gemini-2.5-flash"
REJECTED = Failure(reason="API key rejected", transient=True, waits=True, doubts_key=True)
EXHAUSTED = Failure(reason="rate_limit_exceeded", transient=True, strain="quota", retry_after=30.0)


ANSWER = Answer(model_name="keyed", input_tokens=1, output_tokens=1, items=Answer.message("yes"))


class Keyed:
    """A paced provider that does as it is told: `outcomes` by project, answers when there are none."""

    name = "scripted"
    concurrency = 1_000

    def __init__(self, *projects: str, calls: int | None = None, tokens: int | None = None) -> None:
        self.names: tuple[str, ...] = projects or ("one",)
        self.limit = Quota(calls, tokens)
        self.bad: set[str] = set()
        self.outcomes: dict[str, list[Failure]] = {}
        self.probes: list[str] = []
        self.calls: list[Call] = []
        self.input_tokens = 1
        self.started: list[float] = []

    async def models(self) -> tuple[Model, ...]:
        return ()

    def projects(self) -> tuple[str, ...]:
        if not self.names:
            raise OperatorError("The API key file is empty.")
        return self.names

    def quota(self, model: str) -> Quota:
        return self.limit if model == MODEL else Quota()

    async def probe(self, project: str) -> Failure | None:
        self.probes.append(project)
        return REJECTED if project in self.bad else None

    async def generate(self, call: Call) -> Answer | Failure:
        self.calls.append(call)
        self.started.append(time.monotonic())
        await asyncio.sleep(0)
        if call.project in self.bad:
            return REJECTED
        if waiting := self.outcomes.get(call.project):
            return waiting.pop(0)
        return Answer(model_name="keyed", input_tokens=self.input_tokens, output_tokens=1, items=Answer.message("yes"))

    async def told(self, call: Call) -> Answer | Failure:
        """What `outcomes` say, whether the key is bad or not."""
        self.calls.append(call)
        waiting = self.outcomes.get(call.project)
        return waiting.pop(0) if waiting else ANSWER

    async def close(self) -> None: ...


async def wanted(pacer: Pacer, most: int = 1_000) -> Counter[str]:
    """Permits by project."""
    return Counter(permit.project for permit in await pacer.permits("scripted", MODEL, most))


async def heard(pacer: Pacer, permit: Permit, outcome: Answer | Failure) -> Answer | Failure:
    """A call with this permit ended so."""
    pacer.release("scripted", MODEL, permit)
    return await pacer.heard("scripted", MODEL, permit, outcome)


class Counting(Database):
    """Counts statements; on the pool of another."""

    def __init__(self, db: Database) -> None:
        self.__dict__.update(db.__dict__)
        self.asked: list[str] = []

    async def rows(self, name: str, *args: object) -> list[object]:  # type: ignore[override]
        self.asked.append(name)
        return await super().rows(name, *args)  # type: ignore[return-value]


async def test_without_a_quota_nothing_is_asked(db: Database) -> None:
    counting = Counting(db)
    assert await wanted(Pacer(counting, [Keyed()]), 500) == {"one": 500}
    assert await wanted(Pacer(counting, []), 500) == {"": 500}
    assert counting.asked == []


async def test_any_number_of_processes_stay_within_the_quota(db: Database) -> None:
    """6,000 a minute are 94 a second, booked half a second ahead and evenly apart."""
    pacers = [Pacer(db, [Keyed(calls=6_000)]) for _ in range(4)]
    granted: list[float] = []

    async def greedy(pacer: Pacer) -> None:
        while len(granted) < 240:
            granted.extend(permit.since for permit in await pacer.permits("scripted", MODEL, 1_000))
            await asyncio.sleep(max(0.001, pacer.wait_seconds("scripted", MODEL)))

    async with asyncio.timeout(60):
        await asyncio.gather(*map(greedy, pacers))
    granted.sort()
    assert len(granted) <= 94 * (granted[-1] - granted[0]) + 5
    assert min(later - first for first, later in zip(granted, granted[47:], strict=False)) < 0.55, "all that there is"
    for first, later in zip(granted, granted[71:], strict=False):
        assert later - first > 0.5, "47 and what a stall of this process moved"


async def test_a_small_quota_is_one_call_at_a_time(db: Database) -> None:
    """10 a minute: one every 6.4 s, and nobody looks half a second before that."""
    pacer = Pacer(db, [Keyed(calls=10)])
    assert await wanted(pacer) == {"one": 1}
    assert await wanted(pacer) == {}
    assert 5.5 < pacer.wait_seconds("scripted", MODEL) <= 5.9
    other = Pacer(db, [Keyed(calls=10)])
    assert await wanted(other) == {}
    assert 5.5 < other.wait_seconds("scripted", MODEL) <= 5.9


async def test_unused_permits_go_back(db: Database) -> None:
    pacer, other = Pacer(db, [Keyed(calls=6_000)]), Pacer(db, [Keyed(calls=6_000)])
    permits = await pacer.permits("scripted", MODEL, 1_000)
    assert len(permits) == 48
    await pacer.back("scripted", MODEL, permits[2:])
    assert (await wanted(other)).total() >= 46


async def test_calls_that_start_late_are_counted_anew(db: Database) -> None:
    """As after a stall: what was booked for its time starts together with what is booked for later."""
    pacer = Pacer(db, [Keyed(calls=600)])
    permits = await pacer.permits("scripted", MODEL, 5)
    for permit in permits:
        late = msgspec.structs.replace(permit, since=permit.since - 1.0)
        await pacer.turn("scripted", MODEL, late)
    for _ in range(2):
        assert await wanted(pacer) == {}
        pacer._buckets["scripted", MODEL]["one"].look_at = 0.0
    [row] = await db.rows("reserve", "scripted", MODEL, 1, ["one"], [1], [60 / 564], [None], 0.0, [0.0])
    assert 0.7 < row["seconds"] < 1.1, "ten calls are booked, not five"


async def test_tokens_are_a_debt(db: Database) -> None:
    """60,000 a minute are 940 a second: an answer that took 9,400 keeps everybody waiting for ten."""
    provider = Keyed(tokens=60_000)
    pacer, other = Pacer(db, [provider]), Pacer(db, [Keyed(tokens=60_000)])
    [permit] = await pacer.permits("scripted", MODEL, 1)
    used = Answer(model_name="keyed", input_tokens=9_400, output_tokens=1, items=())
    await heard(pacer, permit, used)
    await pacer._settle_tokens()
    assert await wanted(other) == {}
    assert 8.0 < other.wait_seconds("scripted", MODEL) < 10.1


async def test_the_project_with_most_room_is_asked_first(db: Database) -> None:
    pacer = Pacer(db, [Keyed("one", "two", calls=6_000)])
    await pacing.reserve(db, "scripted", MODEL, 20, [pacing.Wish("one", 20, 60 / 5_640, None)], 0.5)
    assert await wanted(pacer, 10) == {"two": 10}


async def test_without_quotas_projects_share_evenly(db: Database) -> None:
    assert await wanted(Pacer(db, [Keyed("one", "two", "three")]), 300) == {"one": 100, "two": 100, "three": 100}


async def test_a_429_pauses_the_bucket_for_everybody_and_no_other(db: Database) -> None:
    provider = Keyed("one", "two")
    pacer, other = Pacer(db, [provider]), Pacer(db, [provider])
    permit = next(one for one in await pacer.permits("scripted", MODEL, 2) if one.project == "one")
    await heard(pacer, permit, EXHAUSTED)
    assert (await wanted(pacer, 10)).keys() == {"two"}
    await other._refresh()
    assert (await wanted(other, 10)).keys() == {"two"}
    assert {one.project for one in await other.permits("scripted", "gemini-2.5-pro", 10)} == {"one", "two"}


async def test_many_429s_at_once_are_one_pause(db: Database) -> None:
    counting = Counting(db)
    pacer = Pacer(counting, [Keyed()])
    permits = await pacer.permits("scripted", MODEL, 100)
    for permit in permits:
        await heard(pacer, permit, EXHAUSTED)
    assert counting.asked == ["pause"]
    assert pacer._buckets["scripted", MODEL]["one"].window.size == 500, "halved once for all in flight together"


async def test_a_quota_is_learned_from_a_429(db: Database) -> None:
    provider = Keyed()
    pacer, other = Pacer(db, [provider]), Pacer(db, [provider])
    [permit] = await pacer.permits("scripted", MODEL, 1)
    named = Failure(reason="rate_limit_exceeded", transient=True, strain="quota", quota=Quota(10))
    await heard(pacer, permit, named)
    assert await wanted(pacer) == {"one": 1}
    await other._refresh()
    assert await wanted(other) == {}
    provider.limit = Quota(6_000)
    own = Pacer(db, [provider])
    await own._refresh()
    await wanted(own)
    assert own._buckets["scripted", MODEL]["one"].quota == Quota(6_000), "the operator's word goes before"


async def test_a_bucket_that_refuses_and_names_no_time_is_asked_once_a_second(db: Database) -> None:
    pacer = Pacer(db, [Keyed()])
    unnamed = Failure(reason="rate_limit_exceeded", transient=True, strain="quota")
    for _ in range(10):
        [permit] = await pacer.permits("scripted", MODEL, 1)
        await heard(pacer, permit, unnamed)
        assert pacer._buckets["scripted", MODEL]["one"].in_flight == 0
    assert await wanted(pacer) == {}
    assert 0.5 < pacer.wait_seconds("scripted", MODEL) <= 1.0


async def test_a_pause_survives_the_process_and_the_clocks_a_crash(db: Database) -> None:
    await pacing.pause(db, "scripted", "one", MODEL, 1_000.0, "rate_limit_exceeded")
    assert (await wanted(Pacer(db, [Keyed("one", "two", calls=6_000)]), 10)) == {"two": 10}
    await db._on.execute("truncate pace")  # what a crash does to an unlogged table
    pacer = Pacer(db, [Keyed("one", "two", calls=6_000)])
    await pacer._refresh()
    assert (await wanted(pacer, 10)) == {"two": 10}


# --- keys --------------------------------------------------------------------------------------------------


async def test_a_rejected_key_is_out_for_everybody_and_the_others_go_on(shop: Shop, db: Database) -> None:
    provider, other = Keyed("bad", "good"), Pacer(db, [Keyed("bad", "good")])
    provider.bad = {"bad"}
    ids = await shop.post(*["hi"] * 20)
    async with working(shop, provider):
        assert [(await finished(shop, task_id))[0] for task_id in ids] == [20000] * 20
    assert provider.probes == ["bad"], "one unpaid question for all calls that were refused"
    await other._refresh()
    assert other.keys.projects("scripted") == ("good",)
    assert other.keys.fault("scripted") is None
    assert not await differences(db)


async def test_tasks_wait_for_a_good_key_and_then_run(shop: Shop, db: Database) -> None:
    provider = Keyed("bad")
    provider.bad = {"bad"}
    ids = await shop.post(*["hi"] * 50)
    pacer = Pacer(db, [provider])
    await pacer.begin()
    assert pacer.keys.fault("scripted") == "API key rejected"
    async with working(shop, provider, pacer=pacer) as runner:
        for _ in range(3):
            assert await runner._claim_round() == 0
        assert provider.calls == [], "not one call for each queued task"
        provider.names = ("good",)
        await pacer.keys.look()
        runner.wake()
        assert [(await finished(shop, task_id))[0] for task_id in ids] == [20000] * 50
    assert not await differences(db)


async def test_a_key_that_is_good_again_opens_by_itself(db: Database) -> None:
    provider = Keyed("one")
    provider.bad = {"one"}
    changes: list[None] = []
    pacer = Pacer(db, [provider], key_wait_seconds=0.0, on_change=lambda: changes.append(None))
    other = Pacer(db, [provider])
    await pacer.begin()
    await other.begin()
    assert pacer.keys.fault("scripted") and other.keys.fault("scripted")
    provider.bad = set()
    changes.clear()
    await pacer.keys.look()
    assert pacer.keys.fault("scripted") is None and changes
    await other._refresh()
    assert other.keys.fault("scripted") is None


async def test_keys_that_cannot_be_read_are_no_keys(db: Database, caplog: pytest.LogCaptureFixture) -> None:
    provider = Keyed("one")
    pacer = Pacer(db, [provider])
    provider.names = ()
    assert pacer.keys.fault("scripted") == "API key rejected"
    assert await wanted(pacer) == {}
    provider.names = ("one",)
    assert pacer.keys.fault("scripted") is None
    assert "The API key file is empty." in caplog.text


async def test_one_odd_refusal_does_not_shut_a_good_key(shop: Shop, db: Database) -> None:
    provider = Keyed("one")
    provider.outcomes["one"] = [REJECTED]
    [task_id] = await shop.post("hi")
    async with working(shop, provider) as runner:
        await until(lambda: bool(provider.probes) and runner.in_flight == 0)
        assert runner._pacer.keys.fault("scripted") is None
    row = await db._on.fetchrow("select state, tries from queue where id = $1", task_id)
    assert tuple(row) == (1, 1)


async def test_live_is_told_at_once(shop: Shop, db: Database) -> None:
    provider = Keyed("one", calls=10)
    asking = await live(shop, provider)
    model = Model(name=MODEL, served=MODEL, provider="scripted")
    _, first, _ = await asking.ask(shop.id, model, prompt("hi"))
    assert isinstance(first, Answer)
    _, second, charged = await asking.ask(shop.id, model, prompt("hi"))
    assert isinstance(second, ProviderFailed) and "(rate_limit_exceeded)" in second.message and charged == 0
    provider.bad = {"one"}
    await asking._pacer.keys._probe("scripted", "one")
    _, third, charged = await asking.ask(shop.id, model, prompt("hi"))
    assert isinstance(third, ProviderFailed) and "(API key rejected)" in third.message and charged == 0
    assert len(provider.calls) == 1
    assert not await differences(db)


async def test_live_goes_before_what_is_queued(db: Database) -> None:
    pacer, api = Pacer(db, [Keyed(calls=6_000)]), Pacer(db, [Keyed(calls=6_000)])
    while await wanted(pacer):
        pass
    assert isinstance(await api.one("scripted", MODEL), Permit)


# --- what becomes of tasks ---------------------------------------------------------------------------------


async def test_a_quota_costs_a_task_neither_its_turn_nor_a_try(shop: Shop, db: Database) -> None:
    provider = Keyed("one")
    provider.outcomes["one"] = [EXHAUSTED]
    [task_id] = await shop.post("hi")
    async with working(shop, provider) as runner:
        await until(lambda: bool(provider.calls) and runner.in_flight == 0)
        row = await db._on.fetchrow("select state, tries, attempts, turn from queue where id = $1", task_id)
        assert tuple(row) == (0, 0, 0, 1)
        assert await runner._claim_round() == 0
    assert len(provider.calls) == 1


async def test_what_no_quota_can_hold_does_not_stand_before_the_others(shop: Shop, db: Database) -> None:
    provider = Keyed("one")
    provider.outcomes["one"] = [Failure(reason="rate_limit_exceeded", transient=True, strain="quota")] * 100
    [task_id] = await shop.post("hi")
    async with working(shop, provider) as runner:
        await until(lambda: len(provider.calls) == PUT_BACK_MAX + 1 and runner.in_flight == 0)
    row = await db._on.fetchrow("select state, tries from queue where id = $1", task_id)
    assert tuple(row) == (1, 1)


async def test_a_throttled_model_delays_no_other(shop: Shop, db: Database) -> None:
    from restante.flow.accept import Judged

    provider = Keyed("one", calls=1)
    await shop.post(*["hi"] * 50)
    pro = Model(name="gemini-2.5-pro", served="gemini-2.5-pro", provider="scripted")
    judged = [Judged(pro, None, b'{"user_prompt":"hi","model_name":"gemini-2.5-pro"}')] * 500
    ids, _ = await shop.acceptor.accept(shop.id, judged)
    async with working(shop, provider):
        for task_id in ids:
            assert (await finished(shop, task_id))[0] == 20000
    assert Counter(call.model for call in provider.calls) == {MODEL: 1, "gemini-2.5-pro": 500}
    assert not await differences(db)
