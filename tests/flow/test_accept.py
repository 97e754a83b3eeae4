"""Accepting against money: contract §12.7, and the lock that makes it exact."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from types import NoneType
from typing import Any

import pytest

from restante.core.errors import InsufficientFunds
from restante.core.limits import ACCEPTS_OF_ACCOUNT
from restante.core.money import parse_usd
from restante.core.pricing import STANDARD_HOLD
from restante.core.task import Model, mint_ids
from restante.flow import accept, accounts
from restante.flow.accept import Acceptor, Judged, Waker
from restante.observing import current
from restante.store import queue
from restante.store.database import Database
from restante.store.errors import Conflict, DatabaseLost
from restante.wiring import utc_now
from tests.flow.conftest import until
from tests.support import differences, open_account

MODEL = Model(name="gemini-2.5-flash", served="gemini-2.5-flash", provider="scripted")
ONE = Judged(MODEL, "a tag", b'{"user_prompt":"hi","model_name":"gemini-2.5-flash"}')


def acceptor(db: Database) -> Acceptor:
    return Acceptor(db, Waker(db), utc_now)


async def account(db: Database, usd: str, credit_limit: str | None = "0") -> int:
    await open_account(db, "shop", usd, credit_limit)
    return (await accounts.find(db, "shop")).id


@pytest.mark.contract("12.7 credit limit")
async def test_tasks_are_judged_in_order_until_the_balance_ends(db: Database) -> None:
    number = await account(db, "0.05")
    ids, fates = await acceptor(db).accept(number, [ONE] * 5)
    assert (len(set(ids)), [type(fate) for fate in fates]) == (5, [NoneType] * 4 + [InsufficientFunds])
    after = await accounts.find(db, "shop")
    assert (after.balance, after.held) == (parse_usd("0.0092"), 4 * STANDARD_HOLD)
    assert not await differences(db)


async def test_nothing_is_stored_when_nothing_is_covered(db: Database) -> None:
    number = await account(db, "0.0101")
    assert (await acceptor(db).accept(number, [ONE]))[1].count(None) == 0
    assert (await accounts.find(db, "shop")).held == 0
    assert not await differences(db)


@pytest.mark.contract("12.7 credit limit")
async def test_the_credit_limit_may_be_used_up_to_the_last_nano_dollar(db: Database) -> None:
    number = await account(db, "0", "0.0102")
    assert (await acceptor(db).accept(number, [ONE, ONE]))[1].count(None) == 1
    assert (await accounts.find(db, "shop")).balance == -STANDARD_HOLD


@pytest.mark.contract("12.7 metered")
async def test_a_metered_account_has_no_limit(db: Database) -> None:
    number = await account(db, "0", None)
    assert (await acceptor(db).accept(number, [ONE] * 100))[1].count(None) == 100
    assert not await differences(db)


@pytest.mark.contract("12.7 credit limit")
async def test_eight_connections_at_once_never_overspend(db: Database) -> None:
    """$1.00 pays for exactly 98 tasks at $0.0102, however they race; a plain read instead of the lock fails here."""
    number = await account(db, "1.00")
    racing = [acceptor(db) for _ in range(8)]
    results = await asyncio.gather(*(one.accept(number, [ONE] * 3) for one in racing for _ in range(8)))
    assert sum(fates.count(None) for _, fates in results) == 98
    after = await accounts.find(db, "shop")
    assert (after.balance, after.held) == (parse_usd("1") - 98 * STANDARD_HOLD, 98 * STANDARD_HOLD)
    assert not await differences(db)


class Bell(Waker):
    """Remembers for which lanes workers would have been woken."""

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self.rung: list[list[int]] = []

    async def nudge(self, lanes: Iterable[int]) -> None:
        self.rung.append(list(lanes))


async def test_workers_are_woken_when_there_is_something_to_do(db: Database) -> None:
    bell = Bell(db)
    accepting = Acceptor(db, bell, utc_now)
    number = await account(db, "0.0102")
    assert (await accepting.accept(number, [ONE, ONE]))[1][0] is None
    lane = await queue.ensure_lane(db, "scripted", "", MODEL.served)
    assert [set(lanes) for lanes in bell.rung] == [{lane}]
    assert None not in (await accepting.accept(number, [ONE]))[1]
    assert len(bell.rung) == 1


class Line:
    """A database that passes notifications on, each when it may."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.go_on = asyncio.Event()
        self.lost = False

    async def rows(self, name: str, channel: str, named: str) -> list[Any]:
        self.sent.append(named)
        await self.go_on.wait()
        if self.lost:
            raise DatabaseLost("away")
        return []


async def test_wakings_that_pile_up_become_one_more() -> None:
    line = Line()
    waker = Waker(line)  # type: ignore[arg-type]
    await waker.nudge([7])
    assert line.sent == ["7"], "it is on its way"
    for number in (1, 2, 1, 2, 1):
        await waker.nudge([number])
    line.lost = True  # workers look by themselves, too: it is not tried again for that
    line.go_on.set()
    await until(lambda: len(line.sent) == 2)
    for _ in range(20):
        await asyncio.sleep(0)
    assert [sorted(named.split()) for named in line.sent] == [["7"], ["1", "2"]]
    await waker.nudge([3])
    await until(lambda: line.sent[2:] == ["3"])


async def test_what_may_gather_waits_and_the_rest_is_ready(db: Database) -> None:
    number = await account(db, "1")
    patient = Judged(Model(name="m", served="m", provider="patient"), "may wait", ONE.request)
    accepting = Acceptor(db, Waker(db), utc_now, gather={"patient": 60.0})
    assert (await accepting.accept(number, [ONE, patient]))[1] == [None, None]
    found = await db._on.fetch("select tag, state, batch, run_at - now() as wait from queue order by tag")
    assert [(row["tag"], row["state"], row["batch"]) for row in found] == [("a tag", 0, None), ("may wait", 1, 0)]
    assert found[0]["wait"] is None and timedelta(seconds=30) < found[1]["wait"] <= timedelta(seconds=60)
    assert [row["tag"] for row in await db._on.fetch("select tag from task order by tag")] == ["a tag", "may wait"]
    assert not await differences(db)


async def test_a_model_has_one_lane_which_is_asked_for_once(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    ensure_lane = queue.ensure_lane

    async def counted(*args: Any) -> int:
        asked.append(args[1:])
        return await ensure_lane(*args)

    monkeypatch.setattr(queue, "ensure_lane", counted)
    number, accepting = await account(db, "1"), acceptor(db)
    for _ in range(2):
        await accepting.accept(number, [ONE, ONE])
    assert asked == [("scripted", "", "gemini-2.5-flash")]


async def test_a_day_that_nobody_prepared_is_made(db: Database) -> None:
    """A clock is behind; how far it may be: test_wrong_clock.py."""
    number, earlier = await account(db, "1"), utc_now() - timedelta(days=2)
    ids, fates = await Acceptor(db, Waker(db), lambda: earlier).accept(number, [ONE])
    assert (len(ids), fates) == (1, [None])
    assert not await differences(db)


async def test_an_id_that_exists_twice_refuses_the_post_and_changes_nothing(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, accepting = await account(db, "1"), acceptor(db)
    ids, _ = await accepting.accept(number, [ONE])
    monkeypatch.setattr("restante.flow.accept.mint_ids", lambda *_: ids)
    with pytest.raises(Conflict):
        await accepting.accept(number, [ONE])
    assert (await accounts.find(db, "shop")).held == STANDARD_HOLD
    assert not await differences(db)


async def test_an_id_that_exists_is_minted_anew_once(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    number, accepting = await account(db, "1"), acceptor(db)
    taken, _ = await accepting.accept(number, [ONE])
    minted: list[list[str]] = []

    def unlucky(*args: Any) -> list[str]:
        minted.append(mint_ids(*args))
        return minted[-1] if len(minted) == 2 else taken

    monkeypatch.setattr(accept, "mint_ids", unlucky)
    assert await accepting.accept(number, [ONE]) == (minted[1], [None])
    assert len(minted) == 2
    assert (await accounts.find(db, "shop")).held == 2 * STANDARD_HOLD
    assert not await differences(db)


async def test_what_was_accepted_is_counted_with_its_ids(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr("restante.flow.observed.accepted", lambda *args: told.append(args))
    ids, fates = await acceptor(db).accept(await account(db, "1"), [ONE])
    [(models, named, judged, began)] = told
    assert (models, named, judged) == ([MODEL], ids, fates) and began > 0


async def test_each_model_has_a_lane_of_its_own(db: Database) -> None:
    number, accepts = await account(db, "1"), acceptor(db)
    other = Judged(Model(name="gemini-2.5-pro", served="gemini-2.5-pro", provider="scripted"), None, b"{}")
    await accepts.accept(number, [ONE, other, ONE])
    lanes = [await queue.ensure_lane(db, "scripted", "", one.model.served) for one in (ONE, other)]
    assert len(set(lanes)) == 2
    await queue.register(db, 1, "worker somewhere 1", 60.0, providers=["scripted"], claims=True)
    assert [len(await queue.claim(db, 1, lane, 10)) for lane in lanes] == [2, 1]


async def test_an_accounts_posts_take_turns_and_anothers_do_not_wait(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of one account's takes so many connections and no more."""
    at_work: Counter[int] = Counter()
    go = asyncio.Event()

    async def accept(_: Acceptor, number: int, *rest: Any) -> tuple[list[str], list[None]]:
        at_work[number] += 1
        await go.wait()
        return ["an id"], [None]

    accepts = acceptor(db)
    await accepts.accept(await account(db, "1"), [ONE])  # now it knows the lane, and asks nobody
    monkeypatch.setattr(Acceptor, "_accept", accept)
    calls = [asyncio.create_task(accepts.accept(number, [ONE])) for number in (1, 2) for _ in range(10)]
    for _ in range(10):
        await asyncio.sleep(0)
    began = dict(at_work)
    go.set()
    await asyncio.gather(*calls)
    assert began == {1: ACCEPTS_OF_ACCOUNT, 2: ACCEPTS_OF_ACCOUNT}
    assert at_work == {1: 10, 2: 10}


async def test_a_notification_is_nobodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is of many posts: a line about it must not name the account whose post began it."""
    named: list[int | None] = []

    async def notify(*_: object) -> None:
        named.append(current.account.get())

    monkeypatch.setattr(queue, "notify", notify)
    token = current.account.set(7)
    try:
        await Waker(Any).nudge([1])  # type: ignore[arg-type]
    finally:
        current.account.reset(token)
    assert named == [None]


async def test_a_notification_is_on_its_way_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever posted waits for one turn of the loop, not for the notification."""
    told, go = asyncio.Event(), asyncio.Event()

    async def notify(*_: object) -> None:
        told.set()
        await go.wait()

    monkeypatch.setattr(queue, "notify", notify)
    nudge = asyncio.create_task(Waker(Any).nudge([1]))  # type: ignore[arg-type]
    await told.wait()
    await asyncio.sleep(0)
    assert nudge.done()
    go.set()
