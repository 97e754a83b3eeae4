"""id_list, errors and webhook_resend over HTTP: what may be asked (contract §3.10-3.12, §5.1, §5.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.chaos.processes import eventually, house
from tests.chaos.test_webhooks import client, secrets, verified
from tests.support import Http, Restante, running, task
from tests.web.calls import FAMILY_DATA, Shop, call, one_task, open_shop


def moment(**back: float) -> str:
    return f"{datetime.now(UTC) - timedelta(**back):%Y-%m-%d %H:%M:%S} +00:00"


def asked(**changes: Any) -> dict[str, Any]:
    made = {"datetime_from": moment(days=1), "datetime_to": moment()} | changes
    return {name: value for name, value in made.items() if value is not ...}


@pytest.fixture(scope="module")
def ample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restante]:
    """A restante without rates on what is asked here, and without workers: tasks stay queued."""
    arguments = ("--provider", "scripted", "--workers", "0")
    with running(tmp_path_factory.mktemp("ample"), *arguments, RATE_ID_LIST="0", RATE_ERRORS="0") as up:
        yield up


@pytest.fixture(scope="module")
def listed_shop(ample: Restante) -> Shop:
    """An account with three tasks."""
    shop = open_shop(ample)

    async def post() -> None:
        async with Http(ample.family, shop.credentials) as http:
            await http.post([task(tag=str(number)) for number in range(3)])

    asyncio.run(post())
    return shop


async def ask(restante: Restante, shop: Shop, name: str, *objects: Any) -> Any:
    body = msgspec.json.encode(list(objects))
    return one_task((await call("POST", f"{restante.url}/v3/{name}", shop.credentials, body)).json)


GOOD: dict[str, list[dict[str, Any]]] = {
    "datetime_from": [
        {"datetime_from": moment(days=183)},
        {"datetime_from": moment(days=29), "include_metadata": True},
    ],
    "datetime_to": [{"datetime_to": "2026-11-20 12:00:00 +02:00", "datetime_from": "2026-11-20 09:00:00 +00:00"}],
    "limit": [{"limit": 1}, {"limit": 1000}, {"limit": None}],
    "offset": [{"offset": 0}, {"offset": 100_000_000}],
    "sort": [{"sort": "asc"}, {"sort": "desc"}],
    "include_metadata": [{"include_metadata": False}, {"include_metadata": True}],
}
BAD: dict[str, list[Any]] = {
    "datetime_from": [..., None, "", "yesterday", 7, moment(days=200), "2026-02-30 00:00:00 +00:00"],
    "datetime_to": [..., None, "", 7, moment(days=-2), moment(days=3)],
    "limit": [0, -1, 1001, "10", 1.5, True],
    "offset": [-1, 100_000_001, "0"],
    "sort": ["up", "", "ASC", 1],
    "include_metadata": [1, "true"],
}


@pytest.mark.contract(
    "3.11 datetime_from", "3.11 datetime_to", "3.11 limit", "3.11 offset", "3.11 sort", "3.11 include_metadata"
)
async def test_what_id_list_may_be_asked(ample: Restante, listed_shop: Shop) -> None:
    """Within the limits it answers; beyond them the field is named, and what was sent is echoed."""
    for name, changes in GOOD.items():
        for change in changes:
            entry = await ask(ample, listed_shop, "ai_optimization/id_list", asked(**change))
            assert entry["status_code"] == 20000, (name, change, entry)
    for name, values in BAD.items():
        for value in values:
            sent = asked(**{name: value})
            entry = await ask(ample, listed_shop, "ai_optimization/id_list", sent)
            assert (entry["status_code"], entry["status_message"]) == (40501, f"Invalid Field: '{name}'."), sent
            echoed = {field: value for field, value in sent.items() if value is not None}
            assert entry["data"] == {"api": "ai_optimization", "function": "id_list"} | echoed
    old = asked(datetime_from=moment(days=40), include_metadata=True)
    assert (await ask(ample, listed_shop, "ai_optimization/id_list", old))["status_code"] == 40501  # §5.3


@pytest.mark.contract("3.11 the call", "5.3 id_list")
async def test_what_id_list_answers(ample: Restante, listed_shop: Shop) -> None:
    """One object a call; pages by limit and offset, in either order; open tasks have no end and cost nothing yet."""
    whole = (await ask(ample, listed_shop, "ai_optimization/id_list", asked()))["result"]
    assert len(whole) == 3
    assert {(row["status"], row["datetime_done"], row["cost"]) for row in whole} == {("40602", None, 0)}
    assert list(whole[0]) == ["id", "url", "datetime_posted", "datetime_done", "status", "cost"]
    turned = (await ask(ample, listed_shop, "ai_optimization/id_list", asked(sort="desc")))["result"]
    assert turned == whole[::-1]
    pages = [
        (await ask(ample, listed_shop, "ai_optimization/id_list", asked(limit=2, offset=offset)))["result"]
        for offset in (0, 2)
    ]
    assert pages[0] + pages[1] == whole
    with_data = (await ask(ample, listed_shop, "ai_optimization/id_list", asked(include_metadata=True)))["result"]
    assert sorted(row["metadata"]["tag"] for row in with_data) == ["0", "1", "2"]
    assert (await ask(ample, listed_shop, "ai_optimization/id_list", asked(), asked()))["status_code"] == 40000
    assert (await ask(ample, listed_shop, "ai_optimization/id_list"))["status_code"] == 40502
    stranger = await asyncio.to_thread(open_shop, ample)
    assert (await ask(ample, stranger, "ai_optimization/id_list", asked()))["result"] == []


@pytest.mark.contract("3.12 the call", "3.12 filters", "5.3 errors")
async def test_what_errors_may_be_asked(ample: Restante, listed_shop: Shop) -> None:
    good: list[dict[str, Any]] = [
        *({}, {"limit": 1000, "offset": 100_000_000}, {"filtered_function": "postback_url"}),
        *({"filtered_function": "ai_optimization/gemini/task_get"}, {"datetime_from": moment(days=6)}),
        {"datetime_from": moment(days=1), "datetime_to": moment()},
    ]
    for sent in good:
        entry = await ask(ample, listed_shop, "ai_optimization/errors", sent)
        assert (entry["status_code"], entry["result"]) == (20000, []), sent
        assert entry["data"] == {"api": "ai_optimization", "function": "errors"} | sent
    bad = [("limit", 0), ("limit", 1001), ("offset", -1), ("filtered_function", 7), ("datetime_from", moment(days=9))]
    for name, value in bad:
        entry = await ask(ample, listed_shop, "ai_optimization/errors", {name: value})
        assert (entry["status_code"], entry["status_message"]) == (40501, f"Invalid Field: '{name}'.")


@pytest.mark.contract("5.1 id_list, errors")
async def test_their_rates(restante: Restante) -> None:
    shop = await asyncio.to_thread(open_shop, restante)
    for name in ("id_list", "errors"):
        answered = await call("POST", f"{restante.url}/v3/ai_optimization/{name}", shop.credentials, b"[]")
        told = answered.headers.get("X-RateLimit-Limit"), answered.headers.get("X-RateLimit-Remaining")
        assert told == ("10", "9")


@pytest.mark.contract("3.10 the call", "3.10 unknown ids")
async def test_what_webhook_resend_may_be_asked(ample: Restante, listed_shop: Shop) -> None:
    """Up to a hundred ids, each judged alone: what is unknown, another's, unfinished or no id says so."""
    stranger = await asyncio.to_thread(open_shop, ample)
    async with Http(ample.family, stranger.credentials) as http:
        foreign = one_task(await http.post([task()]))["id"]
    rows = (await ask(ample, listed_shop, "ai_optimization/id_list", asked()))["result"]
    unknown = rows[0]["id"][:-12] + "0" * 12
    sent = [{"id": rows[0]["id"]}, {"id": unknown}, {"id": foreign}, {"id": "x"}, {}, {"id": unknown, "x": 1}]
    body = msgspec.json.encode([*sent, *[{"id": unknown}] * 95])
    answer = (await call("POST", f"{ample.url}/v3/appendix/webhook_resend", listed_shop.credentials, body)).json
    codes = [entry["status_code"] for entry in answer["tasks"]]
    assert codes[:6] == [40602, 40401, 40001, 40501, 40501, 40506]
    assert codes[6:] == [40401] * 94 + [40006]
    assert (answer["cost"], answer["tasks_error"], answer["status_code"]) == (0, 101, 20000)
    assert {tuple(entry["path"]) for entry in answer["tasks"]} == {("v3", "appendix", "webhook_resend")}
    assert {entry["result"] for entry in answer["tasks"]} == {None}


@pytest.mark.contract("3.10 the answer", "4 resend", "12.28 webhook-id")
def test_a_resend_brings_both_webhooks_again(tmp_path: Path) -> None:
    """Under the same webhook-id, signed anew, at no cost, though both had arrived before."""
    with house(tmp_path, WEBHOOK_ALLOW="127.0.0.1") as home, client(tmp_path) as receiver:
        home.up()
        posted = task(postback_url=f"{receiver.url}/$id", pingback_url=f"{receiver.url}/$id", tag="again")
        [task_id] = home.post([posted])
        eventually("both webhooks", lambda: len(receiver.hits()) == 2)
        home.until("select count(*) = 2 from delivery where state = 3")

        async def resend(_: Http) -> Any:
            async with Http(home.url + "/v3") as http:
                return await http.post([{"id": task_id}], "appendix/webhook_resend")

        entry = one_task(home.http(resend))
        assert (entry["id"], entry["status_code"], entry["cost"]) == (task_id, 20100, 0)
        assert (entry["data"], entry["result"]) == (FAMILY_DATA | posted, None)
        eventually("both webhooks again", lambda: len(receiver.hits()) == 4)
        [secret] = secrets(home)
        hits = receiver.hits()
        assert sorted(hit["method"] for hit in hits) == ["GET", "GET", "POST", "POST"]
        for hit in hits:
            verified(hit, secret)
        assert len({hit["headers"]["webhook-id"] for hit in hits}) == 2
        home.audit()
