"""How many webhooks a worker has under way, of whom, and what it says of each attempt."""

from __future__ import annotations

from typing import Any

import pytest

from restante import faults
from restante.core.limits import DELIVERIES_UNRECORDED
from restante.flow import deliver
from restante.observing import current
from restante.store import deliveries
from restante.store.database import Database
from restante.store.deliveries import Leased, Waiting
from restante.store.errors import DatabaseLost
from restante.webhooks.sender import Outcome
from restante.webhooks.signature import sign
from tests.flow.conftest import Shop, until
from tests.flow.test_deliver import (
    LEASED,
    READY,
    post,
    posted_and_settled,
    rows,
    states,
    until_hits,
    until_states,
    working,
)
from tests.flow.test_deliverer import Told, account, breaks_once, delivering
from tests.webhooks.receiver import receiving


async def test_a_worker_has_so_many_slots_and_an_account_half_of_them(shop: Shop, db: Database) -> None:
    async with receiving() as client, delivering(shop, concurrency=4) as deliverer:
        client.hang = True
        await posted_and_settled(shop, *[{"pingback_url": client.url}] * 5)
        assert await deliverer._round()
        await deliverer._round()
        assert deliverer.in_flight == 2
        for login in ("b", "c"):
            await posted_and_settled(await account(db, login), *[{"pingback_url": client.url}] * 5)
        while await deliverer._round():
            pass
        assert deliverer.in_flight == 4
        await until_hits(client, 4)
        assert client.most_at_once == 4 and await states(db) == {LEASED: 4, READY: 11}


async def test_a_single_slot_is_used(shop: Shop, db: Database) -> None:
    async with receiving() as client, working(shop, concurrency=1):
        await post(shop, *[{"pingback_url": client.url}] * 3)
        await until_states(db, done=3)
        assert client.most_at_once == 1


@pytest.mark.parametrize(("slots", "of_account"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)])
async def test_an_account_has_half_of_the_slots_and_one_at_least(shop: Shop, slots: int, of_account: int) -> None:
    async with receiving() as client, delivering(shop, concurrency=slots) as deliverer:
        client.hang = True
        await posted_and_settled(shop, *[{"pingback_url": client.url}] * 3)
        await deliverer._round()
        assert deliverer.in_flight == of_account


async def test_each_host_has_the_room_that_its_breaker_leaves(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as slow, receiving() as quick, delivering(shop, concurrency=20, per_host=3) as deliverer:
        slow.hang = quick.hang = True
        rooms = {slow.url.removeprefix("http://"): 1, quick.url.removeprefix("http://"): 2}
        monkeypatch.setattr(deliverer._breaker, "room", lambda host, most: rooms[host])
        await posted_and_settled(shop, *[{"pingback_url": one.url} for one in (slow, quick) for _ in range(3)])
        await deliverer._round()
        assert deliverer.in_flight == 3
        await until_hits(slow, 1)
        await until_hits(quick, 2)


async def test_without_room_nothing_is_looked_for(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every slot is under way; or so many attempts are not written down that no more may be made."""
    looks = 0

    async def looked(*_: object) -> list[Waiting]:
        nonlocal looks
        looks += 1
        return []

    monkeypatch.setattr(deliveries, "waiting", looked)
    async with delivering(shop, concurrency=2) as deliverer:
        for sending, running, expected in (
            (2, 0, 0), (1, 0, 1), (0, 2 + DELIVERIES_UNRECORDED, 1), (0, 1 + DELIVERIES_UNRECORDED, 2),
        ):  # fmt: skip
            deliverer._sending = {number: leased(number) for number in range(sending)}  # type: ignore[misc]
            deliverer._running = {number: (0, leased(number)) for number in range(running)}  # type: ignore[misc]
            assert not await deliverer._round()
            assert looks == expected
        deliverer._running = {}


def leased(number: int) -> Leased:
    """A webhook on its way."""
    return Leased(number, "a-task", 1, deliveries.Kind.PINGBACK, "host:1", "http://host:1/", None, 0)


@pytest.mark.parametrize(
    ("before", "status", "gives_up", "word", "last"),
    [
        (0, 200, False, "delivered", False),
        (9, 200, False, "delivered", False),
        (0, 500, False, "http_5xx", False),
        (9, 500, False, "http_5xx", True),
        (0, 200, True, "not_tried", False),
        (0, 0, False, "broken", False),
    ],
)
async def test_what_is_counted_of_an_attempt(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch, before: int, status: int, gives_up: bool, word: str,
    last: bool,
) -> None:  # fmt: skip
    counted: list[tuple[str, bool]] = []

    def attempted(_: Leased, outcome: Outcome, began: int, *, last: bool) -> None:
        assert began > 0
        counted.append((outcome.word, last))

    monkeypatch.setattr("restante.flow.observed.attempted", attempted)
    async with receiving() as client, delivering(shop) as deliverer:
        client.status = status
        deliverer._breaker = Told(gives_up=gives_up)
        await posted_and_settled(shop, {"postback_url": client.url})
        await rows(db, "update delivery set attempts = $1", before)
        if status == 0:
            monkeypatch.setattr(deliver, "sign", lambda *_: 1 / 0)
        await deliverer._round()
        await until(lambda: deliverer.in_flight == 0)
    assert counted == [(word, last)] and counted[0][1] is last


async def test_an_attempt_knows_its_task_and_ends_at_a_fault_point(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Log lines on the way say whose they are; a process can be made to die between sending and recording."""
    seen: list[Any] = []

    def signed(*args: Any) -> dict[str, str]:
        seen.append(current.task.get())
        return sign(*args)

    monkeypatch.setattr(deliver, "sign", signed)
    monkeypatch.setattr(faults, "reach", seen.append)
    async with receiving() as client, delivering(shop) as deliverer:
        [task_id] = await posted_and_settled(shop, {"pingback_url": client.url})
        del seen[:]
        await deliverer._round()
        await until(lambda: deliverer.in_flight == 0)
    assert seen == [task_id, faults.Point.WEBHOOK_SENT]


@pytest.mark.parametrize(("lost", "committed"), [(False, False), (True, False), (True, True)])
async def test_an_attempt_is_written_down_once_and_nobody_is_alarmed(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, lost: bool,
    committed: bool,
) -> None:  # fmt: skip
    """Nor when the database is lost on the way, before it committed or after."""
    calls = breaks_once(monkeypatch, "record", DatabaseLost("cut") if lost else None, done=committed)
    async with receiving() as client, working(shop):
        await post(shop, {"pingback_url": client.url})
        await until_states(db, done=1)
    assert len(calls) == 1 + lost and len(client.hits) == 1
    assert len(await rows(db, "select from attempt")) == 1
    assert "after its lease had ended" not in caplog.text
    assert ("are kept until the database is back" in caplog.text) == lost


async def test_an_attempt_whose_lease_ended_says_that_another_follows(
    shop: Shop, db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving() as client, delivering(shop) as deliverer:
        client.hang = True
        await posted_and_settled(shop, {"pingback_url": client.url})
        await deliverer._round()
        await until_hits(client, 1)
        await rows(db, "update delivery set state = 0, token = null")
        client.released.set()
        await until(lambda: deliverer.in_flight == 0)
    assert "after its lease had ended" in caplog.text
    assert not await rows(db, "select from attempt")
