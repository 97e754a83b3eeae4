"""What a worker does around its deliveries: slots, looks, stopping, its lease, and what it does when something breaks.
Each of these once made no test fail (docs/mutation.md)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from restante.core.limits import DELIVERY_RETRY_SECONDS
from restante.flow import accounts
from restante.flow.deliver import Deliverer
from restante.flow.lease import Lease
from restante.store import deliveries
from restante.store.database import Database, Row
from restante.store.deliveries import Waiting
from restante.store.errors import DatabaseLost
from restante.webhooks.address_guard import AllowList
from restante.webhooks.breaker import Breaker
from restante.webhooks.sender import Sender
from tests.flow.conftest import Shop, until
from tests.flow.test_deliver import (
    LEASED,
    PARKED,
    post,
    posted_and_settled,
    resend,
    rows,
    states,
    until_hits,
    until_states,
    working,
)
from tests.support import differences, open_account
from tests.webhooks.receiver import receiving


@contextlib.asynccontextmanager
async def delivering(shop: Shop, **options: Any) -> AsyncIterator[Deliverer]:
    """A deliverer on a lease, which looks when the test says so."""
    lease, sender = Lease(shop.db, "a worker", 60.0), Sender(AllowList("127.0.0.1"), seconds=60.0)
    await lease.begin()
    deliverer = Deliverer(shop.db, lease, sender, shop.clock, **options)
    try:
        yield deliverer
    finally:
        await deliverer.drain(0)
        await lease.end()
        await sender.close()


def breaks_once(
    monkeypatch: pytest.MonkeyPatch, name: str, error: Exception | None, *, done: bool = False
) -> list[tuple[Any, ...]]:
    """The first call of a statement of `deliveries` ends with the error, if any; `done`: when its work is done. Returns
    the calls, as they come."""
    statement = getattr(deliveries, name)
    calls: list[tuple[Any, ...]] = []

    async def breaks(*args: Any) -> Any:
        calls.append(args)
        if error is None or len(calls) > 1:
            return await statement(*args)
        if done:
            await statement(*args)
        raise error

    monkeypatch.setattr(deliveries, name, breaks)
    return calls


async def account(db: Database, login: str) -> Shop:
    """Another account with ten dollars."""
    await open_account(db, login, "10")
    return Shop(db, (await accounts.find(db, login)).id)


async def test_looks_go_on_behind_what_the_last_one_saw(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look sees one pair here, and the first one's host has no room. Nobody waits for the next look by the clock."""
    monkeypatch.setattr("restante.store.deliveries.DELIVERY_PAIRS", 1)
    monkeypatch.setattr("restante.flow.deliver.DELIVERY_PAIRS", 1)
    monkeypatch.setattr("restante.flow.deliver.POLL_SECONDS", 60.0)
    async with contextlib.AsyncExitStack() as stack:
        found = [await stack.enter_async_context(receiving()) for _ in range(3)]
        first, *others = sorted(found, key=lambda one: one.url)
        first.hang = True
        urls = [first.url, first.url, others[0].url, others[1].url]
        await posted_and_settled(shop, *[{"pingback_url": url} for url in urls])
        await stack.enter_async_context(working(shop, per_host=1, concurrency=20))
        for one in others:
            await until_hits(one, 1)
        await until_hits(first, 1)
        first.hang = False
        first.released.set()
        await until_states(db, done=4)


async def test_an_empty_look_behind_the_last_pair_begins_at_the_first_again(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restante.flow.deliver.POLL_SECONDS", 60.0)
    async with receiving() as client:
        await posted_and_settled(shop, {"pingback_url": client.url})
        async with delivering(shop) as deliverer:
            deliverer._after = ("~", 0)
            running = asyncio.create_task(deliverer.run())
            await until_states(db, done=1)
            running.cancel()


async def test_an_idle_worker_looks_seldom(shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    waiting = deliveries.waiting

    async def counted(*args: Any) -> list[Waiting]:
        nonlocal looks
        looks += 1
        return await waiting(*args)

    monkeypatch.setattr(deliveries, "waiting", counted)
    monkeypatch.setattr("restante.flow.deliver.POLL_SECONDS", 60.0)
    async with delivering(shop) as deliverer:
        running = asyncio.create_task(deliverer.run())
        await until(lambda: looks == 1)
        for number in range(20):
            await db.rows("alive")  # time for others, and for another look
            assert looks <= 1, number
        running.cancel()


async def test_looks_follow_what_there_is_to_do(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once while there is more, when woken, by itself after a while; not at once after it failed."""
    async with delivering(shop) as deliverer:
        found: list[bool | Exception] = [True, False, DatabaseLost("away"), RuntimeError("a bug"), False]
        looks, revived = 0, 0

        async def look() -> bool:
            nonlocal looks
            looks += 1
            what = found.pop(0) if found else False
            if isinstance(what, Exception):
                raise what
            return what

        async def revive() -> None:
            nonlocal revived
            revived += 1

        monkeypatch.setattr(deliverer, "_round", look)
        monkeypatch.setattr(shop.db, "revive", revive)
        monkeypatch.setattr("restante.flow.deliver.POLL_SECONDS", 60.0)
        running = asyncio.create_task(deliverer.run())
        for expected in (2, 3, 4, 5):
            await until(lambda expected=expected: looks == expected)  # type: ignore[misc]
            for _ in range(20):
                await asyncio.sleep(0)
            assert looks == expected
            if expected == 5:
                monkeypatch.setattr("restante.flow.deliver.POLL_SECONDS", 0.01)
            deliverer.wake()
        assert revived == 1 and deliverer._lease._doubtful
        await until(lambda: looks > 7)
        running.cancel()


async def test_stopping_waits_for_attempts_but_not_for_ever(shop: Shop, db: Database) -> None:
    async with receiving() as client, receiving() as dead, delivering(shop) as deliverer:
        client.hang = dead.hang = True
        await posted_and_settled(shop, {"pingback_url": client.url}, {"pingback_url": dead.url})
        assert await deliverer._round()
        await until(lambda: len(client.hits) == len(dead.hits) == 1)
        client.released.set()
        async with asyncio.timeout(20):
            await deliverer.drain(1.0)
        assert deliverer.in_flight == 0
        await until_states(db, done=1, leased=1)


async def test_deliveries_of_a_lease_that_ended_are_let_go(shop: Shop, db: Database) -> None:
    async with receiving() as client, delivering(shop) as deliverer:
        client.hang = True
        await posted_and_settled(shop, {"pingback_url": client.url})
        assert await deliverer._round()
        await until_hits(client, 1)
        deliverer.abandon(deliverer._lease.token + 1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert deliverer.in_flight == 1
        deliverer.abandon(deliverer._lease.token)
        await until(lambda: deliverer.in_flight == 0)
        assert not deliverer._sending, "its slot is free"
        assert not deliverer._lease._holds and not deliverer._lease._doubtful


async def test_a_doubt_frees_nothing_that_is_being_delivered(shop: Shop, db: Database) -> None:
    async with receiving() as client, working(shop, lease_seconds=3.0) as deliverer:
        client.hang = True
        await post(shop, {"pingback_url": client.url})
        await until_hits(client, 1)
        deliverer._lease.doubt()
        await until(lambda: not deliverer._lease._doubtful)
        assert await states(db) == {LEASED: 1}
        client.released.set()
        await until_states(db, done=1)
    assert len(client.hits) == 1


async def test_what_breaks_while_it_is_delivered_goes_back_to_the_queue(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks_once(monkeypatch, "record", RuntimeError("a bug"))
    async with receiving() as client, working(shop, lease_seconds=3.0):
        [task_id] = await post(shop, {"pingback_url": client.url})
        await until_states(db, done=1)
    assert Counter(hit.headers["webhook-id"] for hit in client.hits) == {f"{task_id}-pingback": 2}


async def test_what_was_claimed_when_the_database_left_goes_back_to_the_queue(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks_once(monkeypatch, "secrets", DatabaseLost("cut"))
    async with receiving() as client, working(shop, lease_seconds=3.0) as deliverer:
        await post(shop, *[{"pingback_url": client.url}] * 2)
        await until_states(db, done=2)
        await until(lambda: not deliverer._lease._holds)
    assert len(client.hits) == 2


async def test_a_look_that_breaks_is_not_the_last(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker goes on, so its webhooks do."""
    breaks_once(monkeypatch, "waiting", RuntimeError("what nobody thought of"))
    async with receiving() as client, working(shop):
        await post(shop, {"pingback_url": client.url})
        await until_states(db, done=1)
    assert "claiming webhooks broke" in caplog.text and "what nobody thought of" in caplog.text


class Told(Breaker):
    """Gives every host up, or none; remembers what it was told."""

    def __init__(self, *, gives_up: bool) -> None:
        super().__init__()
        self._gives_up = gives_up
        self.told: list[tuple[str, bool | None]] = []

    def gives_up(self, name: str) -> bool:
        assert name
        return self._gives_up

    def began(self, name: str) -> None:
        self.told.append((name, None))
        super().began(name)

    def ended(self, name: str, *, hung: bool | None) -> None:
        self.told.append((name, hung))
        super().ended(name, hung=hung)


async def last_attempt(db: Database) -> Row:
    [row] = await rows(db, "select * from attempt order by made_at desc limit 1")
    found: Row = row
    return found


@pytest.mark.parametrize(("before", "tried"), [(0, False), (8, False), (9, True)])
async def test_a_host_that_is_given_up_gets_only_the_last_attempt(
    shop: Shop, db: Database, before: int, tried: bool
) -> None:
    async with receiving() as client, delivering(shop) as deliverer:
        client.status = 500
        deliverer._breaker = told = Told(gives_up=True)
        await posted_and_settled(shop, {"postback_url": client.url})
        await rows(db, "update delivery set attempts = $1", before)
        assert await deliverer._round()
        await until(lambda: deliverer.in_flight == 0)
        assert (len(client.hits), len(told.told)) == ((1, 2) if tried else (0, 0))
        row = await last_attempt(db)
        host = client.url.removeprefix("http://")
        if tried:
            assert (row["status"], row["error"]) == (500, "HTTP 500")
            await until_states(db, failed=1)
        else:
            assert row["error"] == f"not tried: {host} let its last 10 attempts hang"
            assert (row["milliseconds"], row["status"], row["reply"]) == (0, None, None)
            [parked] = await rows(db, "select extract(epoch from run_at - now())::float8 as wait from delivery")
            assert 0.79 * DELIVERY_RETRY_SECONDS[before] - 5 < parked["wait"] <= 1.2 * DELIVERY_RETRY_SECONDS[before]


async def test_the_breaker_hears_how_each_attempt_ended(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving() as client, delivering(shop) as deliverer:
        host = client.url.removeprefix("http://")
        deliverer._breaker = told = Told(gives_up=False)
        await posted_and_settled(shop, {"pingback_url": client.url})
        await deliverer._round()
        await until(lambda: deliverer.in_flight == 0)
        assert told.told == [(host, None), (host, False)]
        monkeypatch.setattr("restante.flow.deliver.sign", lambda *_: 1 / 0)
        await posted_and_settled(shop, {"pingback_url": client.url})
        await deliverer._round()
        await until(lambda: deliverer.in_flight == 0)
        assert told.told[2:] == [(host, None), (host, None)], "a mistake of ours says nothing of the host"
        row = await last_attempt(db)
        assert (row["error"], row["milliseconds"], row["status"]) == ("internal error: ZeroDivisionError", 0, None)
        await until_states(db, done=1, parked=1)


async def test_the_breaker_hears_of_a_host_that_hangs(shop: Shop, db: Database) -> None:
    async with receiving() as client, working(shop, seconds=0.1) as deliverer:
        deliverer._breaker = told = Told(gives_up=False)
        client.hang = True
        await post(shop, {"pingback_url": client.url})
        await until_states(db, parked=1)
        assert [hung for _, hung in told.told] == [None, True]


async def test_a_resend_during_an_attempt_begins_anew_at_once(shop: Shop, db: Database) -> None:
    async with receiving() as client, delivering(shop) as deliverer:
        client.hang, client.status = True, 500
        [task_id] = await posted_and_settled(shop, {"postback_url": client.url})
        await rows(db, "update delivery set attempts = 3")
        assert await deliverer._round()
        await until_hits(client, 1)
        assert await resend(shop, task_id) == [20100]
        client.released.set()
        await until(lambda: deliverer.in_flight == 0)
        [row] = await rows(db, "select state, attempts, run_at <= now() as due from delivery")
        assert tuple(row) == (PARKED, 1, True)


async def test_an_attempt_on_a_day_that_nobody_prepared_is_recorded(shop: Shop, db: Database) -> None:
    async with receiving() as client, delivering(shop) as deliverer:
        await posted_and_settled(shop, {"pingback_url": client.url})
        shop.clock.offset = timedelta(days=60)
        assert await deliverer._round()
        await until(lambda: deliverer.in_flight == 0)
        assert await states(db) == {3: 1}
        assert (await last_attempt(db))["day"] == shop.clock().date()
    shop.clock.offset = timedelta()
    assert not await differences(db)
