"""Pausing accounts and models: what waits, what is refused, what goes on (contract §12.30)."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from restante.core.answer import Answer
from restante.core.errors import AccountPaused, ModelPaused, OperatorError
from restante.core.money import parse_usd
from restante.flow import accounts
from restante.flow.end import cancel, expire
from restante.flow.pause import pause_account, pause_model
from restante.store import queue
from restante.store.database import Database
from restante.web.wire import postback
from restante.wiring import utc_now
from tests.flow.conftest import Shop
from tests.flow.test_live import MODEL, live, prompt
from tests.flow.test_settle import success
from tests.support import differences


async def test_a_paused_accounts_tasks_wait_and_resuming_wakes_them(shop: Shop, db: Database) -> None:
    running, *waiting = await shop.post("a", "b", "c")
    token = await shop.lease()
    await shop.claim(token, 1)
    for _ in range(2):
        await pause_account(db, "shop", paused=True)
    assert (await shop.account()).paused
    waiting += await shop.post("d")
    assert await shop.claim(token) == []
    assert await shop.settler.settle(success(token, running)), "running ones end"
    assert (await shop.collector.task_get(shop.id, running)).code == 20000, "and can be fetched"
    assert (await shop.collector.task_get(shop.id, waiting[0])).code == 40602
    _, outcome, charged = await (await live(shop)).ask(shop.id, MODEL, prompt("hi"))
    assert (type(outcome), charged) == (AccountPaused, 0)
    await accounts.top_up(db, "shop", parse_usd("1"), utc_now())
    assert not await queue.promote(db)
    assert await shop.claim(token) == [], "neither money nor time wakes them"
    await pause_account(db, "shop", paused=False)
    assert {one.id for one in await shop.claim(token)} == set(waiting)
    assert isinstance((await (await live(shop)).ask(shop.id, MODEL, prompt("hi")))[1], Answer)
    assert not await differences(db)


async def test_a_debtor_that_is_resumed_still_waits_for_its_top_up(shop: Shop, db: Database) -> None:
    expensive, other = await shop.post("a", "b")
    token = await shop.lease()
    await shop.claim(token, 1)
    await pause_account(db, "shop", paused=True)
    await shop.settler.settle(success(token, expensive, "10.5"))
    assert await shop.claim(token) == []
    await pause_account(db, "shop", paused=False)
    assert await shop.claim(token) == []
    await accounts.top_up(db, "shop", parse_usd("5"), utc_now())
    assert [one.id for one in await shop.claim(token)] == [other]
    assert not await differences(db)


async def test_resuming_while_workers_claim_leaves_no_task_asleep(shop: Shop, db: Database) -> None:
    ids = await shop.post(*["a"] * 60)
    token = await shop.lease()
    for _ in range(5):
        await pause_account(db, "shop", paused=True)
        claims = await asyncio.gather(
            shop.claim(token, 5), shop.claim(token, 5), pause_account(db, "shop", paused=False), shop.claim(token, 5)
        )
        for one in [one for claimed in claims for one in claimed or []]:
            ids.remove(one.id)
    assert {one.id for one in await shop.claim(token, 100)} == set(ids)


async def test_a_paused_model_is_claimed_by_nobody(shop: Shop, db: Database) -> None:
    await pause_model(db, "scripted", MODEL, paused=True)
    assert await queue.paused_models(db, "scripted") == {MODEL.served}
    ids = await shop.post("a", "b")
    token = await shop.lease()
    assert await queue.waiting_lanes(db, ["scripted"]) == []
    assert await shop.claim(token) == []
    _, outcome, charged = await (await live(shop)).ask(shop.id, MODEL, prompt("hi"))
    assert (type(outcome), charged) == (ModelPaused, 0)
    assert str(outcome) == "50303 Update in progress. Please try after a few minutes."
    await pause_model(db, "scripted", MODEL, paused=False)
    assert len(await queue.waiting_lanes(db, ["scripted"])) == 1
    assert {one.id for one in await shop.claim(token)} == set(ids)
    assert isinstance((await (await live(shop)).ask(shop.id, MODEL, prompt("hi")))[1], Answer)
    assert not await differences(db)


@pytest.mark.parametrize("what", ["account", "model"])
async def test_what_waits_can_be_cancelled_and_meets_its_deadline(shop: Shop, db: Database, what: str) -> None:
    one, other = await shop.post("a", "b")
    if what == "account":
        await pause_account(db, "shop", paused=True)
    else:
        await pause_model(db, "scripted", MODEL, paused=True)
    assert await shop.claim(await shop.lease()) == []
    assert await cancel(db, utc_now(), postback, account_id=shop.id, ids=[one]) == [one]
    shop.clock.offset = timedelta(hours=73)
    assert await expire(db, shop.clock, postback, 72 * 3_600.0) == 1
    assert (await shop.collector.task_get(shop.id, other)).code == 40103
    assert not await differences(db)


async def test_nobody_is_paused_by_a_wrong_name(db: Database) -> None:
    with pytest.raises(OperatorError, match="no account 'nobody'"):
        await pause_account(db, "nobody", paused=True)
