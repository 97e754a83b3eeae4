"""Erasing an account's texts: what is gone, what stays, and what comes late (contract §5.3)."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from typing import Any

import msgspec
import pytest

from restante.core.errors import OperatorError
from restante.core.money import parse_usd
from restante.flow import accounts
from restante.flow.accept import Judged
from restante.flow.erase import erase
from restante.flow.idempotency import Once, key_of
from restante.store import queue
from restante.store.database import Database
from restante.store.deliveries import Kind, Owed
from tests.flow.conftest import Shop
from tests.flow.test_live import MODEL, live, prompt
from tests.flow.test_run import Odd
from tests.flow.test_settle import success
from tests.support import differences, open_account

TEXTS = ["task_request", "answer", "ready", "delivery", "attempt", "idempotency", "fingerprint", "queue"]


async def kept(db: Database) -> dict[str, int]:
    """How many rows each table with texts has; tags count as a table."""
    counts = {name: await db._on.fetchval(f"select count(*) from {name}") for name in TEXTS}
    counts["tags"] = await db._on.fetchval("select count(*) from task where tag is not null")
    return {name: count for name, count in counts.items() if count}


async def used(shop: Shop, db: Database, token: int) -> list[str]:
    """A finished task with a webhook and its attempt, one that runs and one that waits; nothing is left unused."""
    done, running = await shop.post("a", "b", tag="secret")
    assert len(await shop.claim(token)) == 2
    owed = (Owed(Kind.PINGBACK, "h:1", "http://h:1/secret", None),)
    assert await shop.settler.settle(msgspec.structs.replace(success(token, done), owed=owed))
    # Of this webhook, and of one that was forgotten before: attempts may be kept for longer.
    for other, error in ((0, None), (1_000, None), (1_000, "refused"), (0, "refused")):
        await db._on.execute(
            "insert into attempt"
            " (day, delivery_id, made_at, milliseconds, reply, error, account_id, task_id, kind, url)"
            " select $1, d.id + $2, clock_timestamp(), 1, 'secret', $3::text, d.account_id, d.task_id, d.kind,"
            " case when $3 is not null then d.url end from delivery d where d.account_id = $4",
            shop.clock().date() - timedelta(days=1 if other else 0),
            other,
            error,
            shop.id,
        )
    await db._on.execute("insert into fingerprint values ($1, 'x', now(), 1)", shop.id)
    once = Once(db, shop.acceptor, shop.clock, timedelta(hours=24))
    waiting: list[str] = []

    def answer(ids: Any, _: Any) -> bytes:
        waiting[:] = ids
        return b"an answer with the prompt"

    await once.accept(key_of(shop.id, "k", b""), [Judged(MODEL, "secret", b'{"user_prompt":"hi"}')], answer)
    return [done, running, *waiting]


async def test_prompts_and_answers_are_gone_and_the_ledger_stays(shop: Shop, db: Database) -> None:
    token = await shop.lease()
    ids = await used(shop, db, token)
    shop.clock.offset = timedelta(days=1)
    [tomorrows] = await shop.post("c")
    assert set(await kept(db)) == {*TEXTS, "tags"}
    told: list[tuple[date, int]] = []
    erased = await erase(db, "shop", shop.clock(), lambda day, tasks: told.append((day, tasks)))
    assert (erased.cancelled, erased.tasks, erased.webhooks) == (3, 4, 1)
    today = shop.clock().date()
    assert told == [(today - timedelta(days=1), 3), (today, 1)]
    assert await kept(db) == {}
    assert [(await shop.collector.task_get(shop.id, one)).code for one in [*ids, tomorrows]] == [40403] * 4
    after = await shop.account()
    assert (after.balance, after.held) == (parse_usd("10") - parse_usd("0.0002"), 0)
    assert await shop.settler.settle(success(token, ids[1], "0.5")) is False, "a late answer"
    assert await kept(db) == {}
    again = await erase(db, "shop", shop.clock())
    assert (again.cancelled, again.tasks, again.webhooks) == (0, 0, 0)
    assert not await differences(db)


async def test_others_keep_what_they_have_and_new_tasks_are_whole(shop: Shop, db: Database) -> None:
    await open_account(db, "another", "1")
    other = Shop(db, (await accounts.find(db, "another")).id)
    token = await shop.lease()
    await used(other, db, token)
    before = await kept(db)
    await shop.post("a", tag="mine")
    assert (await erase(db, "shop", shop.clock())).cancelled == 1
    assert await kept(db) == before
    [fresh] = await shop.post("b")
    [claimed] = [one for one in await shop.claim(token) if one.id == fresh]
    assert claimed.request is not None
    with pytest.raises(OperatorError):
        await erase(db, "nobody", shop.clock())
    assert not await differences(db)


async def test_answers_that_are_just_being_stored_do_not_come_back(shop: Shop, db: Database) -> None:
    """Workers settle while the account is erased: what they got in is erased, what they did not is refunded."""
    ids = await shop.post(*["a"] * 300, tag="secret")
    token = await shop.lease()
    await shop.claim(token, 300)

    async def work() -> int:
        return sum(await asyncio.gather(*(shop.settler.settle(success(token, one, "0.001")) for one in ids)))

    settled, erased = await asyncio.gather(work(), erase(db, "shop", shop.clock()))
    assert settled + erased.cancelled == 300
    assert await kept(db) == {}
    assert (await shop.account()).spent == settled * parse_usd("0.0012")
    assert not await differences(db)


async def test_an_uncommitted_answer_is_waited_for(shop: Shop, db: Database) -> None:
    [task_id] = await shop.post("a")
    token = await shop.lease()
    await shop.claim(token)
    async with db.transaction() as tx:
        await queue.settle(tx, token, shop.clock().date(), shop.clock(), [success(token, task_id)])
        erasing = asyncio.create_task(erase(db, "shop", shop.clock()))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(erasing), 0.5)
    assert (await erasing).cancelled == 0
    assert await kept(db) == {}
    assert not await differences(db)


async def test_a_live_task_is_ended_too(shop: Shop, db: Database) -> None:
    provider = Odd()
    asking = asyncio.create_task((await live(shop, provider)).ask(shop.id, MODEL, prompt("hi")))
    await provider.asked.wait()
    assert (await erase(db, "shop", shop.clock())).cancelled == 1
    provider.go_on.set()
    assert (await asking)[2] == 0
    assert (await shop.account()).balance == parse_usd("10")
    assert not await differences(db)
