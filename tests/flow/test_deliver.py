"""Webhooks owed, delivered, tried again and recorded (contract §4, §12.18-20, §12.28)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from restante.core.errors import ProviderFailed
from restante.core.limits import DELIVERY_RETRY_SECONDS, HANGING_FRESH_SECONDS
from restante.core.money import parse_usd
from restante.core.task import Model
from restante.flow import accounts
from restante.flow.accept import Judged
from restante.flow.deliver import Deliverer, allot, next_pause
from restante.flow.expire import sweep_deliveries
from restante.flow.lease import Lease, reap
from restante.flow.resend import Resender
from restante.flow.run import Runner
from restante.providers.registry import scripted_models
from restante.providers.scripted import ScriptedProvider
from restante.store import deliveries
from restante.store.database import Database
from restante.store.deliveries import Attempt, Waiting
from restante.web.wire import answer_result, postback
from restante.webhooks.address_guard import AllowList
from restante.webhooks.sender import Sender
from tests.flow.conftest import Shop
from tests.support import differences, lock_awaited
from tests.webhooks.receiver import Receiver, receiving

MODEL = Model(name="gemini-2.5-flash", served="gemini-2.5-flash", provider="scripted")
ATTEMPTS = "select a.error, a.made_at - d.created_at as wait from attempt a join delivery d on d.id = a.delivery_id"
READY, PARKED, LEASED, DONE, FAILED = range(5)


@contextlib.asynccontextmanager
async def working(
    shop: Shop, *, seconds: float = 10.0, per_host: int = 50, concurrency: int = 100, lease_seconds: float = 60.0
) -> AsyncIterator[Deliverer]:
    """A worker that runs and delivers for the block."""
    db = shop.db
    lease = Lease(db, "a worker", lease_seconds)
    sender = Sender(AllowList("127.0.0.1"), seconds=seconds)
    deliverer = Deliverer(db, lease, sender, shop.clock, per_host=per_host, concurrency=concurrency)
    runner = Runner(
        db, lease, [ScriptedProvider(scripted_models())], shop.settler, answer_result,
        concurrency=500, clock=shop.clock, envelope=postback, on_owed=deliverer.wake,
    )  # fmt: skip
    await lease.begin()
    loops = [asyncio.create_task(runner.run()), asyncio.create_task(deliverer.run())]
    try:
        yield deliverer
    finally:
        for loop in loops:
            loop.cancel()
        await runner.drain(5)
        await deliverer.drain(0.1)
        await lease.end()
        await sender.close()


async def post(shop: Shop, *tasks: dict[str, Any]) -> list[str]:
    judged = [
        Judged(MODEL, one.get("tag"), msgspec.json.encode({"user_prompt": "hi", "model_name": MODEL.name} | one))
        for one in tasks
    ]
    ids, fates = await shop.acceptor.accept(shop.id, judged)
    assert fates == [None] * len(tasks)
    return ids


async def rows(db: Database, query: str, *args: object) -> list[Any]:
    found: list[Any] = await db._on.fetch(query, *args)
    return found


async def states(db: Database) -> Counter[int]:
    return Counter(row["state"] for row in await rows(db, "select state from delivery"))


async def until_states(db: Database, seconds: float = 20.0, **expected: int) -> None:
    names = {"ready": READY, "parked": PARKED, "leased": LEASED, "done": DONE, "failed": FAILED}
    wanted = Counter({names[name]: count for name, count in expected.items()})
    try:
        async with asyncio.timeout(seconds):
            while await states(db) != wanted:
                await asyncio.sleep(0.02)  # commits of the worker send no event
    except TimeoutError:
        raise AssertionError(f"{await states(db)} is not {wanted}") from None


async def make_due(db: Database, deliverer: Deliverer) -> None:
    """The time of every parked delivery has come."""
    await rows(db, "update delivery set run_at = now() where state = 1")
    assert await deliveries.promote(db)
    deliverer.wake()


async def listed(shop: Shop) -> list[str]:
    return [one.id for one in await shop.collector.ready(shop.id)]


async def secret(shop: Shop) -> str:
    return (await accounts.webhook_secrets(shop.db, "shop"))[0]


@pytest.mark.contract(
    "3.1 postback_url", "3.1 pingback_url", "4 body shape", "4 path in postback", "4 both URLs set", "12.18 postback"
)
async def test_both_webhooks_go_out_once_each_signed_and_with_the_answer(shop: Shop, db: Database) -> None:
    async with receiving() as client, working(shop):
        url = client.url + "/$id?t=$tag"
        [task_id] = await post(shop, {"pingback_url": url, "postback_url": url, "tag": "a b"})
        await until_states(db, done=2)
    post_hit, ping_hit = sorted(client.hits, key=lambda hit: hit.method, reverse=True)
    assert post_hit.path == ping_hit.path == f"/{task_id}?t=a%20b"
    envelope = post_hit.verified(await secret(shop))
    assert ping_hit.verified(await secret(shop)) is None
    [entry] = envelope["tasks"]
    assert (envelope["status_code"], entry["id"], entry["status_code"]) == (20000, task_id, 20000)
    assert entry["path"] == ["v3", "ai_optimization", "gemini", "llm_responses", "task_get", task_id]
    assert entry["data"]["tag"] == "a b"
    got = await shop.collector.task_get(shop.id, task_id)
    assert got.result is not None and entry["result"] == msgspec.json.decode(got.result)
    assert {post_hit.headers["webhook-id"], ping_hit.headers["webhook-id"]} == {
        f"{task_id}-postback", f"{task_id}-pingback",
    }  # fmt: skip
    assert not await differences(db)


@pytest.mark.contract("3.2 tasks with a postback")
async def test_a_delivered_postback_is_not_listed_and_a_pingback_is(shop: Shop, db: Database) -> None:
    async with receiving() as client, working(shop):
        _, pinged, plain, _ = await post(
            shop,
            {"postback_url": client.url},
            {"pingback_url": client.url},
            {},
            {"postback_url": client.url, "pingback_url": client.url},
        )
        await until_states(db, done=4)
        async with asyncio.timeout(30):
            while set(await listed(shop)) != {pinged, plain}:
                await asyncio.sleep(0.02)


@pytest.mark.contract("4 failed tasks", "12.3 failed tasks")
async def test_a_failed_task_has_its_webhooks_too(shop: Shop, db: Database) -> None:
    async with receiving() as client, working(shop):
        [task_id] = await post(shop, {"user_prompt": "[[fail=nonsense]]", "postback_url": client.url})
        await until_states(db, done=1)
        [entry] = client.hits[0].verified(await secret(shop))["tasks"]
        found = await shop.collector.task_get(shop.id, task_id)
        assert (entry["status_code"], entry["status_message"]) == (found.code, found.message)
        assert entry["status_code"] == ProviderFailed.code and entry["result"] is None


@pytest.mark.contract("3.2 tasks with a postback", "4 failure", "12.19 first failure", "12.28 late success")
async def test_the_first_failure_lists_the_task_and_a_late_success_takes_it_off(shop: Shop, db: Database) -> None:
    async with receiving() as client, working(shop) as deliverer:
        client.status = 500
        [task_id] = await post(shop, {"postback_url": client.url, "pingback_url": client.url})
        await until_states(db, parked=2)
        assert await listed(shop) == [task_id]
        client.status = 200
        await make_due(db, deliverer)
        await until_states(db, done=2)
        assert await listed(shop) == []
    ids = Counter(hit.headers["webhook-id"] for hit in client.hits)
    assert ids == {f"{task_id}-postback": 2, f"{task_id}-pingback": 2}
    for hit in client.hits:
        hit.verified(await secret(shop))
    attempts = await rows(db, "select status, error, reply, milliseconds from attempt order by made_at")
    assert [(row["status"], row["error"]) for row in attempts] == [(500, "HTTP 500")] * 2 + [(200, None)] * 2
    assert all(row["reply"] == b"thanks" and 0 <= row["milliseconds"] < 10_000 for row in attempts)


@pytest.mark.contract("12.28 late success")
async def test_a_pingback_lists_and_unlists_nothing(shop: Shop, db: Database) -> None:
    async with receiving() as client, working(shop) as deliverer:
        client.status = 500
        [task_id] = await post(shop, {"pingback_url": client.url})
        await until_states(db, parked=1)
        assert await listed(shop) == [task_id]
        client.status = 200
        await make_due(db, deliverer)
        await until_states(db, done=1)
        assert await listed(shop) == [task_id]


@pytest.mark.contract("12.19 collecting")
async def test_collecting_does_not_stop_a_delivery_nor_does_its_failure_list_it_again(shop: Shop, db: Database) -> None:
    async with receiving() as client, working(shop) as deliverer:
        client.status = 500
        [task_id] = await post(shop, {"postback_url": client.url})
        await until_states(db, parked=1)
        assert (await shop.collector.task_get(shop.id, task_id)).result is not None
        await make_due(db, deliverer)
        await until_states(db, parked=1)
        async with asyncio.timeout(30):
            while len(client.hits) < 2 or (await states(db))[PARKED] != 1:
                await asyncio.sleep(0.02)
        assert await listed(shop) == []


@pytest.mark.contract("4 automatic retries", "12.19 schedule")
async def test_the_schedule_and_its_end(shop: Shop, db: Database) -> None:
    async with receiving() as client, working(shop) as deliverer:
        client.status = 503
        await post(shop, {"postback_url": client.url})
        for number, planned in enumerate(DELIVERY_RETRY_SECONDS, 1):
            await until_states(db, parked=1)
            [row] = await rows(db, "select attempts, extract(epoch from run_at - now())::float8 as wait from delivery")
            assert row["attempts"] == number
            assert planned * 0.79 - 1 < row["wait"] <= planned * 1.2
            await make_due(db, deliverer)
            async with asyncio.timeout(30):
                while (await rows(db, "select attempts from delivery"))[0]["attempts"] == number:
                    await asyncio.sleep(0.01)
        await until_states(db, failed=1)
    assert len(client.hits) == len(DELIVERY_RETRY_SECONDS) + 1 == 10
    assert len(await rows(db, "select from attempt")) == 10


@pytest.mark.contract("12.19 schedule")
def test_the_pauses() -> None:
    assert (
        tuple(
            seconds * unit
            for seconds, unit in ((5, 1), (5, 60), (30, 60), *((h, 3600) for h in (2, 5, 10, 14, 20, 24)))
        )
        == DELIVERY_RETRY_SECONDS
    )
    assert next_pause(1, 0.5) == 5 and next_pause(9, 0.0) == pytest.approx(86_400 * 0.8)
    assert next_pause(9, 1.0) == pytest.approx(86_400 * 1.2) and next_pause(10, 0.5) is None


@pytest.mark.contract("12.20 resolved ones")
async def test_a_receiver_that_cannot_be_had(shop: Shop, db: Database) -> None:
    """A guard's refusal is a failed attempt that says why; so are a time-out and a closed port."""
    async with receiving() as client, working(shop, seconds=0.3):
        client.hang = True
        ids = await post(
            shop,
            {"postback_url": client.url},
            {"postback_url": "http://127.0.0.2:1/"},
            {"postback_url": "http://127.0.0.1:1/"},
        )
        await until_states(db, parked=3)
        errors = [
            row["error"]
            for row in await rows(
                db, "select a.error from attempt a join delivery d on d.id = a.delivery_id order by d.url"
            )
        ]
        assert sorted(await listed(shop)) == sorted(ids)
    assert any("RESTANTE_WEBHOOK_ALLOW" in error for error in errors)
    assert any("within 0.3 s" in error for error in errors)
    assert any("cannot connect" in error for error in errors)


async def until_hits(receiver: Receiver, hits: int) -> None:
    async with asyncio.timeout(20):
        while len(receiver.hits) < hits:
            await asyncio.sleep(0.005)


async def until_alive(receiver: Receiver, hits: int) -> None:
    async with asyncio.timeout(20):
        while len(receiver.hits) < hits:
            await asyncio.sleep(0.005)
    await asyncio.sleep(0.3)  # the last ones are being recorded


async def test_a_host_is_called_again_while_what_it_answered_is_being_recorded(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = asyncio.Event()
    record = deliveries.record

    async def when_told(*args: Any) -> set[int]:
        await written.wait()
        return await record(*args)

    monkeypatch.setattr(deliveries, "record", when_told)
    async with receiving() as client, working(shop, per_host=1) as deliverer:
        await post(shop, *[{"pingback_url": client.url}] * 3)
        await until_hits(client, 3)
        assert client.most_at_once == 1 and deliverer.in_flight == 3
        written.set()
        await until_states(db, done=3)
        assert len(client.hits) == 3


async def test_a_hanging_host_delays_nobody_else(shop: Shop, db: Database) -> None:
    async with receiving() as dead, receiving() as alive, working(shop, per_host=20, concurrency=100):
        dead.hang = True
        for _ in range(5):
            await post(shop, *[{"pingback_url": dead.url}] * 100)
        async with asyncio.timeout(20):
            while len(dead.hits) < 20:
                await asyncio.sleep(0.01)
        for _ in range(10):
            await post(shop, *[{"pingback_url": alive.url}] * 10)
        async with asyncio.timeout(20):
            while len(done := await rows(db, ATTEMPTS + " where d.state = 3")) < 100:
                await asyncio.sleep(0.02)
        waits = sorted(row["wait"].total_seconds() for row in done)
        assert waits[95] < 5, waits
        assert dead.most_at_once == 20


async def test_one_account_with_many_hanging_hosts_delays_no_other_account(shop: Shop, db: Database) -> None:
    """Its hosts together could fill the worker: it has half of the slots at the most, and a host that hangs gets
    probes, behind which the others wait in the database."""
    await accounts.open_account(
        db, "other", None, balance=parse_usd("5"), credit_limit=parse_usd("0"), now=shop.clock()
    )
    other = Shop(db, (await accounts.find(db, "other")).id)
    async with contextlib.AsyncExitStack() as stack:
        dead = [await stack.enter_async_context(receiving()) for _ in range(8)]
        alive = await stack.enter_async_context(receiving())
        for one in dead:
            one.hang = True
        await stack.enter_async_context(working(shop, seconds=4.0, per_host=10, concurrency=40))
        await accounts.top_up(db, "shop", parse_usd("20"), shop.clock())
        for one in dead:
            await post(shop, *[{"pingback_url": one.url}] * 100)
        async with asyncio.timeout(20):
            while sum(len(one.hits) for one in dead) < 20:
                await asyncio.sleep(0.01)
        waits = []
        for number in range(10):
            began = asyncio.get_running_loop().time()
            await post(other, {"pingback_url": alive.url})
            await until_hits(alive, number + 1)
            waits.append(asyncio.get_running_loop().time() - began)
        assert max(waits) < 2.0, waits  # four seconds, were there no slot


async def test_a_thousand_to_a_hanging_host_are_listed_when_the_first_ones_have_failed(
    shop: Shop, db: Database
) -> None:
    """§12.19: the first failure lists a task at once. Those whose turn would come minutes later are not tried."""
    async with receiving() as dead, receiving() as alive, working(shop, seconds=1.0, concurrency=400) as deliverer:
        dead.hang = True
        await accounts.top_up(db, "shop", parse_usd("20"), shop.clock())
        for _ in range(10):
            await post(shop, *[{"postback_url": dead.url}] * 100)
        await until_states(db, seconds=30, parked=1_000)
        assert len(await listed(shop)) == 1_000
        waits = [row["wait"].total_seconds() for row in await rows(db, ATTEMPTS + " order by wait")]
        assert len(dead.hits) < 100, "few of them were tried"
        assert waits[-1] < 15.0, "and the last was given up with the first, not after twenty waves of a second"
        [words] = await rows(db, "select error from attempt where error like 'not tried: %' limit 1")
        assert "let its last 10 attempts hang" in words["error"]
        began = len(alive.hits)
        await post(shop, {"postback_url": alive.url})
        await until_alive(alive, began + 1)
        dead.hang = False
        dead.released.set()
        await asyncio.sleep(HANGING_FRESH_SECONDS)  # as long as the host is given up without being asked
        await make_due(db, deliverer)
        await until_states(db, done=1_001)
    assert not await listed(shop)
    assert not await differences(db)


async def test_a_delivery_starts_within_moments_of_its_settlement(shop: Shop, db: Database) -> None:
    async with receiving() as client, working(shop):
        waits = []
        for number in range(20):
            await post(shop, {"pingback_url": client.url})
            async with asyncio.timeout(30):
                while len(client.hits) <= number:
                    await asyncio.sleep(0.001)
            await until_states(db, done=number + 1)
        for row in await rows(db, ATTEMPTS):
            waits.append(row["wait"].total_seconds())
    assert sorted(waits)[10] < 0.2, waits  # looking every half second would make it 0.25 on an idle machine


@pytest.mark.contract("12.28 webhook-id")
async def test_what_a_dead_worker_leased_is_delivered_by_another_under_the_same_id(shop: Shop, db: Database) -> None:
    async with receiving() as client:
        client.hang = True
        async with working(shop) as first:
            [task_id] = await post(shop, {"postback_url": client.url})
            async with asyncio.timeout(30):
                while not client.hits:
                    await asyncio.sleep(0.01)
            assert first.in_flight == 1
            await rows(db, "update worker set expires_at = now() - interval '1 second'")
            assert await reap(db) == 1
            assert (await states(db))[READY] == 1
            client.hang = False
            async with working(shop):
                await until_states(db, done=1)
            client.released.set()  # the first one's attempt ends, too late to be recorded
            async with asyncio.timeout(30):
                while first.in_flight:
                    await asyncio.sleep(0.01)
    assert {hit.headers["webhook-id"] for hit in client.hits} == {f"{task_id}-postback"}
    assert len(client.hits) == 2 and len(await rows(db, "select from attempt")) == 1


@pytest.mark.contract(
    "2.3 balance negative at task_get / webhook", "4 postback with negative balance", "12.7 below the limit"
)
async def test_below_the_credit_limit_webhooks_wait_for_a_top_up(shop: Shop, db: Database) -> None:
    async with receiving() as client, working(shop):
        await post(shop, {"postback_url": client.url, "user_prompt": "[[cost=20]]"})
        async with asyncio.timeout(30):
            while not await rows(db, "select from delivery"):
                await asyncio.sleep(0.02)
        assert (await shop.account()).balance < 0
        await asyncio.sleep(0.7)  # longer than a look takes
        assert client.hits == [] and (await states(db)) == {READY: 1}
        await accounts.top_up(db, "shop", 30 * 10**9, shop.clock())  # type: ignore[arg-type]
        await until_states(db, done=1)


async def test_rotation_keeps_two_secrets(shop: Shop, db: Database) -> None:
    first = await accounts.webhook_secrets(db, "shop")
    assert len(first) == 1 == len(set(first + await accounts.webhook_secrets(db, "shop")))
    second = await accounts.webhook_secrets(db, "shop", rotate=True)
    assert second[1:] == first
    third = await accounts.webhook_secrets(db, "shop", rotate=True)
    assert third[1:] == second[:1] and len(third) == 2
    async with receiving() as client, working(shop):
        await post(shop, {"pingback_url": client.url})
        await until_states(db, done=1)
    for one in third:
        client.hits[0].verified(one)


def three(host: str) -> int:
    return 3


def test_slots_go_to_who_has_the_fewest() -> None:
    waiting = [Waiting("a:1", 1), Waiting("b:1", 1), Waiting("a:1", 2), Waiting("c:1", 3, owes=True)]
    given = {(host, account): most for host, account, most in allot(waiting, 6, Counter(), Counter(), three, 9)}
    by_account = Counter[int]()
    by_host = Counter[str]()
    for (host, account), most in given.items():
        by_account[account] += most
        by_host[host] += most
    assert by_account[3] == 0 and by_host["a:1"] <= 3 and by_host["b:1"] <= 3
    assert by_account.total() == 6
    assert by_account[2] >= 2
    # An account with much in flight waits for those with little.
    [(host, account, most)] = allot(waiting, 3, Counter({"b:1": 3}), Counter({1: 9}), three, 99)
    assert (host, account, most) == ("a:1", 2, 3)
    assert allot(waiting, 5, Counter({"a:1": 3, "b:1": 3}), Counter(), three, 9) == []
    # None has more than its share, and none goes to a host without room.
    assert allot(waiting, 9, Counter(), Counter({1: 4}), lambda host: 3 if host == "a:1" else 0, 4) == [("a:1", 2, 3)]


async def resend(shop: Shop, *ids: str) -> list[int]:
    return [one.code for one in await Resender(shop.db, shop.clock, postback).resend(shop.id, ids)]


async def test_a_resent_task_goes_out_again_with_the_same_words_and_ids(shop: Shop, db: Database) -> None:
    async with receiving() as client, working(shop) as deliverer:
        url = client.url + "/$id"
        [task_id] = await post(shop, {"pingback_url": url, "postback_url": url, "tag": "ü"})
        await until_states(db, done=2)
        assert [row["body"] for row in await rows(db, "select body from delivery")] == [None, None]
        assert await resend(shop, task_id, task_id.upper(), task_id) == [20100] * 3
        deliverer.wake()
        await until_hits(client, 4)
        await until_states(db, done=2)
    assert Counter(hit.headers["webhook-id"] for hit in client.hits) == {
        f"{task_id}-postback": 2, f"{task_id}-pingback": 2,
    }  # fmt: skip
    said = [hit.verified(await secret(shop)) for hit in client.hits if hit.method == "POST"]
    assert said[0] == said[1] and said[0]["tasks"][0]["data"]["tag"] == "ü"
    assert len(await rows(db, "select from attempt")) == 4
    assert not await differences(db)


async def test_a_failed_task_is_resent_with_its_failure(shop: Shop, db: Database) -> None:
    async with receiving() as client, working(shop):
        [task_id] = await post(shop, {"user_prompt": "[[fail=nonsense]]", "postback_url": client.url})
        await until_states(db, done=1)
        assert await resend(shop, task_id) == [20100]
        await until_hits(client, 2)
    said = [hit.verified(await secret(shop)) for hit in client.hits]
    assert said[0] == said[1] and said[0]["tasks"][0]["status_code"] == ProviderFailed.code


async def test_what_is_forgotten_is_not_said_to_be_resent(shop: Shop, db: Database) -> None:
    """Its webhook was swept in the hour before its answer's day is dropped; the other's goes out."""
    gone, kept = await posted_and_settled(shop, *[{"pingback_url": "http://127.0.0.1:1/"}] * 2)
    await rows(db, "delete from delivery where task_id = $1", gone)
    assert await resend(shop, gone, kept, gone.upper()) == [40403, 20100, 40403]
    assert not await differences(db)


@pytest.mark.breaks_invariants
async def test_resending_begins_the_schedule_anew_from_any_state(shop: Shop, db: Database) -> None:
    """Parked and given up are ready at once; what is ready or leased needs no second one."""
    ids = await posted_and_settled(shop, *[{"postback_url": "http://127.0.0.1:1/"}] * 5)
    for number, change in enumerate(
        ["state = 0", "state = 1, run_at = now() + interval '1 day'", "state = 2, token = 7", "state = 3, body = null",
         "state = 4, body = null"]
    ):  # fmt: skip
        await rows(db, f"update delivery set attempts = 9, {change} where task_id = $1", ids[number])
    [before] = await rows(db, "select body from delivery where task_id = $1", ids[0])
    assert await resend(shop, *ids) == [20100] * 5
    found = await rows(db, "select state, attempts, run_at, token from delivery order by id")
    assert [tuple(row) for row in found] == [
        (READY, 0, None, None), (READY, 0, None, None), (LEASED, 0, None, 7), (READY, 0, None, None),
        (READY, 0, None, None),
    ]  # fmt: skip
    bodies = await rows(db, "select body from delivery order by id")
    assert all(row["body"] is not None for row in bodies) and bodies[0]["body"] == before["body"]


async def posted_and_settled(shop: Shop, *tasks: dict[str, Any]) -> list[str]:
    """Tasks with an answer, their deliveries made by nobody."""
    ids = await post(shop, *tasks)
    lease = Lease(shop.db, "runs only", 60.0)
    runner = shop.runner(lease)
    await lease.begin()
    loop = asyncio.create_task(runner.run())
    async with asyncio.timeout(20):
        while await rows(shop.db, "select from queue"):
            await asyncio.sleep(0.01)
    loop.cancel()
    await runner.drain(5)
    await lease.end()
    return ids


async def record(shop: Shop, token: int, *, before: int, pause: float | None, error: str | None = "HTTP 500") -> None:
    [row] = await rows(shop.db, "select id from delivery where token = $1", token)
    attempt = Attempt(row["id"], shop.clock(), 12, 500, b"no", error, pause, before)
    assert await deliveries.record(shop.db, token, shop.clock(), [attempt]) == {row["id"]}


@pytest.mark.parametrize(("before", "pause"), [(9, None), (5, 36_000.0)])
async def test_a_resend_during_an_attempt_is_not_lost_when_it_fails(
    shop: Shop, db: Database, before: int, pause: float | None
) -> None:
    [task_id] = await posted_and_settled(shop, {"postback_url": "http://127.0.0.1:1/"})
    await rows(db, "update delivery set state = 2, token = 7, attempts = $1", before)
    assert await resend(shop, task_id) == [20100]
    await record(shop, 7, before=before, pause=pause)
    assert await deliveries.promote(db)
    [row] = await rows(db, "select state, attempts, body from delivery")
    assert (row["state"], row["attempts"]) == (READY, 1) and row["body"] is not None


async def test_a_task_that_was_fetched_is_listed_by_no_failure(shop: Shop, db: Database) -> None:
    """Neither by the first attempt, which was under way when it was fetched, nor by a resend's."""
    [fetched, other] = await posted_and_settled(shop, *[{"postback_url": "http://127.0.0.1:1/"}] * 2)
    await rows(db, "update delivery set state = 2, token = 7 where task_id = $1", fetched)
    await rows(db, "update delivery set state = 2, token = 8 where task_id = $1", other)
    assert (await shop.collector.task_get(shop.id, fetched)).result is not None
    await record(shop, 7, before=0, pause=None)
    await record(shop, 8, before=0, pause=None)
    assert await listed(shop) == [other]
    assert await resend(shop, fetched, other) == [20100] * 2
    await rows(db, "update delivery set state = 2, token = 7 where task_id = $1", fetched)
    await rows(db, "update delivery set state = 2, token = 8 where task_id = $1", other)
    await record(shop, 7, before=0, pause=5.0)
    await record(shop, 8, before=0, pause=5.0)  # listed already: no conflict
    assert await listed(shop) == [other]


async def test_a_failure_recorded_while_its_task_is_being_fetched_leaves_it_unlisted(shop: Shop, db: Database) -> None:
    [task_id] = await posted_and_settled(shop, {"postback_url": "http://127.0.0.1:1/"})
    await rows(db, "update delivery set state = 2, token = 7")
    [row] = await rows(db, "select id from delivery")
    async with db.transaction() as tx:
        attempt = Attempt(row["id"], shop.clock(), 12, 500, b"no", "HTTP 500", 5.0, 0)
        assert await deliveries.record(tx, 7, shop.clock(), [attempt])
        fetching = asyncio.create_task(shop.collector.task_get(shop.id, task_id))
        await lock_awaited(db)
    assert (await fetching).result is not None
    assert await listed(shop) == []


@pytest.mark.breaks_invariants
async def test_ended_deliveries_leave_after_their_time_and_open_ones_stay(shop: Shop, db: Database) -> None:
    ids = await posted_and_settled(shop, *[{"postback_url": "http://127.0.0.1:1/"}] * 6)
    changes = ["state = 0", "state = 1, run_at = now()", "state = 2, token = 7", "state = 3, body = null",
               "state = 4, body = null"]  # fmt: skip
    for task_id, change in zip(ids, changes, strict=False):
        await rows(db, f"update delivery set day = current_date - 35, {change} where task_id = $1", task_id)
    await rows(db, "update delivery set state = 3, body = null where task_id = $1", ids[5])
    assert await sweep_deliveries(db, shop.clock().date() - timedelta(days=34)) == 2
    left = [str(row["task_id"]) for row in await rows(db, "select task_id from delivery order by id")]
    assert left == [*ids[:3], ids[5]]


async def test_the_sweep_goes_on_behind_a_batch_of_open_ones(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restante.store.deliveries.DELIVERIES_SWEPT_BATCH", 2)
    await posted_and_settled(shop, *[{"pingback_url": "http://127.0.0.1:1/"}] * 7)
    await rows(db, "update delivery set day = current_date - 35 where id % 2 = 0 or id < 4")
    await rows(db, "update delivery set day = current_date - 35 where id = (select max(id) from delivery)")
    await rows(db, "update delivery set state = 3 where id > (select min(id) + 2 from delivery)")
    assert await sweep_deliveries(db, shop.clock().date() - timedelta(days=34)) == 3
    assert await states(db) == {READY: 3, DONE: 1}, "one in between is of a later day"


async def test_attempts_leave_by_dropping_their_day(shop: Shop, db: Database) -> None:
    await posted_and_settled(shop, {"pingback_url": "http://127.0.0.1:1/"})
    today = shop.clock().date()
    for back in (0, 7, 8):
        shop.clock.offset = -timedelta(days=back)
        await db.prepare_days(shop.clock().date())
        await rows(db, "update delivery set state = 2, run_at = null, token = 7, attempts = 0")
        await record(shop, 7, before=0, pause=5.0)
    shop.clock.offset = timedelta()
    dropped = await db.drop_days("attempt", today - timedelta(days=7))
    assert f"attempt_{today - timedelta(days=8):%Y%m%d}" in dropped
    kept = await rows(db, "select day from attempt order by day")
    assert [row["day"] for row in kept] == [today - timedelta(days=7), today]
