"""Collecting: listed until fetched, withheld from debtors; whose an id is (contract §2.3, §3.2-3.3, §12.7, §12.29)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from restante.core.answer import Answer
from restante.core.money import parse_usd
from restante.core.pricing import STANDARD_FEE
from restante.flow import accounts
from restante.flow.settle import answered
from restante.store import tasks
from restante.store.database import Database
from restante.wiring import utc_now
from tests.flow.conftest import Shop
from tests.support import differences, open_account


async def settle(shop: Shop, ids: list[str], spent: str = "0") -> None:
    token = await shop.lease()
    while claimed := await shop.claim(token):
        for one in claimed:
            answer = Answer(model_name="m", input_tokens=1, output_tokens=1, items=(), money_spent=parse_usd(spent))
            assert await shop.settler.settle(answered(token, one.id, one.day, STANDARD_FEE, answer, b'["result"]'))


async def test_a_task_is_queued_then_running_then_there(shop: Shop) -> None:
    [task_id] = await shop.post("hi")
    assert (await shop.collector.task_get(shop.id, task_id)).code == 40602
    token = await shop.lease()
    await shop.claim(token)
    found = await shop.collector.task_get(shop.id, task_id)
    assert (found.code, found.message, found.result) == (40601, "Task Handed.", None)
    assert found.request is not None


async def test_fetching_takes_off_the_list_and_can_be_repeated(shop: Shop) -> None:
    ids = await shop.post("a", "b", tag="a tag")
    await settle(shop, ids)
    listed = await shop.collector.ready(shop.id)
    assert [(one.id, one.tag) for one in listed] == [(ids[0], "a tag"), (ids[1], "a tag")]
    for _ in range(2):
        found = await shop.collector.task_get(shop.id, ids[0])
        assert (found.code, found.result) == (20000, b'["result"]')
        assert found.request == b'{"user_prompt":"a","model_name":"gemini-2.5-flash"}'
    assert [one.id for one in await shop.collector.ready(shop.id)] == [ids[1]]


async def test_many_fetch_the_same_and_different_tasks_at_once(shop: Shop, db: Database) -> None:
    ids = await shop.post(*["hi"] * 100)
    await settle(shop, ids)
    found = await asyncio.gather(*(shop.collector.task_get(shop.id, task_id) for task_id in ids * 3))
    assert {one.code for one in found} == {20000}
    assert await shop.collector.ready(shop.id) == []
    assert not await differences(db)


@pytest.mark.contract("6 Negative balance")
async def test_debtors_are_shown_nothing_until_they_pay(shop: Shop, db: Database) -> None:
    ids = await shop.post("hi")
    await settle(shop, ids, spent="10.5")
    assert (await shop.account()).balance == parse_usd("-0.5002")
    found = await shop.collector.task_get(shop.id, ids[0])
    assert (found.code, found.message, found.result) == (40200, "Payment Required.", None)
    assert await shop.collector.ready(shop.id) == []
    await accounts.top_up(db, "shop", parse_usd("0.5002"), utc_now())
    assert [one.id for one in await shop.collector.ready(shop.id)] == ids
    assert (await shop.collector.task_get(shop.id, ids[0])).code == 20000
    assert not await differences(db)


@pytest.mark.contract("12.29 40001, 40004")
async def test_ids_of_others_and_of_nobody(shop: Shop, db: Database) -> None:
    await open_account(db, "another", "1")
    other = Shop(db, (await accounts.find(db, "another")).id)
    ids = await shop.post("hi")
    await settle(shop, ids)
    assert (await other.collector.task_get(other.id, ids[0])).code == 40001
    assert [one.id for one in await other.collector.ready(other.id)] == []
    assert len(await shop.collector.ready(shop.id)) == 1


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda task_id: task_id[:-4] + "0000", 40401),
        (lambda task_id: task_id.replace("-0613-", "-0612-"), 40401),
        (lambda task_id: task_id.replace("-0613-", "-0616-"), 40004),
        (lambda task_id: "13" + task_id[2:], 40401),
        (lambda task_id: "no id", 40401),
        (lambda task_id: "", 40401),
        (lambda task_id: task_id.upper(), 20000),
    ],
)
async def test_odd_ids(shop: Shop, change: object, code: int) -> None:
    ids = await shop.post("hi")
    await settle(shop, ids)
    assert callable(change)
    assert (await shop.collector.task_get(shop.id, change(ids[0]))).code == code


async def test_a_task_that_settles_between_the_two_looks_is_withheld_like_any_other(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await shop.post("hi")
    find = tasks.find_unanswered

    async def settled_meanwhile(*args: Any) -> Any:
        await settle(shop, ids, spent="10.5")
        return await find(*args)

    monkeypatch.setattr(tasks, "find_unanswered", settled_meanwhile)
    found = await shop.collector.task_get(shop.id, ids[0])
    assert (found.code, found.result) == (40200, None)
