"""id_list, errors and webhook_resend over HTTP (contract §3.10-3.12, §5.3, §12.13, §12.21)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from dataforseo_client import ApiClient, Configuration
from dataforseo_client.api.appendix_api import AppendixApi
from dataforseo_client.models.appendix_webhook_resend_request_info import AppendixWebhookResendRequestInfo
from starlette.requests import Request

from restante.core.limits import ID_LIST_AT_ONCE
from restante.core.task import Function
from restante.flow.resend import NO_WEBHOOKS
from restante.store import tasks
from restante.web.records import Records
from restante.wiring import utc_now
from tests.support import Http, Restante, running, task
from tests.web.calls import FAMILY_DATA, Shop, check_id, one_task, open_shop
from tests.webhooks.receiver import Receiver, receiving

ID_LIST, ERRORS, RESEND = "ai_optimization/id_list", "ai_optimization/errors", "appendix/webhook_resend"


@pytest.fixture(scope="module")
def restante(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restante]:
    """One whose webhooks may go to this machine, without rates on what is asked here."""
    settings = {"WEBHOOK_ALLOW": "127.0.0.1", "RATE_ID_LIST": "0", "RATE_ERRORS": "0"}
    with running(tmp_path_factory.mktemp("records"), "--provider", "scripted", **settings) as up:
        yield up


def moment(at: datetime) -> str:
    """As clients write it: `2026-11-20 12:15:08 +00:00`."""
    zone = at.strftime("%z")
    return f"{at:%Y-%m-%d %H:%M:%S} {zone[:3]}:{zone[3:]}"


def around(**more: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {"datetime_from": moment(now - timedelta(hours=1)), "datetime_to": moment(now)} | more


async def ask(restante: Restante, shop: Shop, path: str, *objects: Any) -> list[Any]:
    async with Http(restante.url + "/v3", shop.credentials) as http:
        answer = await http.post(objects, path)
    assert answer["status_code"] == 20000
    assert answer["tasks_error"] == sum(entry["status_code"] >= 40000 for entry in answer["tasks"])
    assert all(entry["path"] == ["v3", *path.split("/")] for entry in answer["tasks"])
    tasks: list[Any] = answer["tasks"]
    return tasks


async def hits(receiver: Receiver, count: int) -> None:
    async with asyncio.timeout(20):
        while len(receiver.hits) < count:
            await asyncio.sleep(0.01)


async def test_id_list_has_every_task_of_the_account(restante: Restante, shop: Shop, http: Http) -> None:
    posted = [task(tag="a"), task("[[fail=nonsense]]"), task("[[fail=overloaded]]")]
    done, failed, parked = [entry["id"] for entry in (await http.post(posted))["tasks"]]
    await http.answers([done, failed])
    live = one_task(await http.post([task("a live one")], "live"))
    [entry] = await ask(restante, shop, ID_LIST, around(include_metadata=True))
    check_id(entry["id"], shop, Function.ID_LIST)
    assert list(entry["data"]) == ["api", "function", "datetime_from", "datetime_to", "include_metadata"]
    assert (entry["data"]["api"], entry["data"]["function"]) == ("ai_optimization", "id_list")
    rows = {row["id"]: row for row in entry["result"]}
    assert set(rows) == {done, failed, parked, live["id"]} and entry["result_count"] == 4 and entry["cost"] == 0
    assert list(rows[done]) == ["id", "url", "datetime_posted", "datetime_done", "status", "cost", "metadata"]
    assert rows[done]["url"] == "v3/ai_optimization/gemini/llm_responses/task_post"
    assert rows[live["id"]]["url"] == "v3/ai_optimization/gemini/llm_responses/live"
    assert rows[live["id"]]["metadata"] == FAMILY_DATA and rows[live["id"]]["cost"] == live["cost"]
    assert rows[done]["metadata"] == FAMILY_DATA | task(tag="a")
    assert rows[done]["status"] == rows[live["id"]]["status"] == "20000" and rows[done]["cost"] > 0
    assert (rows[failed]["status"], rows[failed]["cost"]) == ("50301", 0)
    assert (rows[parked]["status"], rows[parked]["cost"], rows[parked]["datetime_done"]) == ("40602", 0, None)
    [plain] = await ask(restante, shop, ID_LIST, around(limit=1, offset=1, sort="desc"))
    [row] = plain["result"]
    newest = sorted(rows.values(), key=lambda one: (one["datetime_posted"], one["id"]), reverse=True)
    assert "metadata" not in row and row["id"] in {one["id"] for one in newest}
    [stranger] = await ask(restante, await asyncio.to_thread(open_shop, restante), ID_LIST, around())
    assert (stranger["result"], stranger["result_count"]) == ([], 0)


async def test_id_list_in_another_time_zone_and_paged(restante: Restante, shop: Shop, http: Http) -> None:
    ids = [entry["id"] for entry in (await http.post([task()] * 7))["tasks"]]
    zone = timezone(timedelta(hours=2))
    now = datetime.now(zone)
    span = {"datetime_from": moment(now - timedelta(minutes=2)), "datetime_to": moment(now)}
    pages = [
        (await ask(restante, shop, ID_LIST, span | {"limit": 3, "offset": offset}))[0]["result"]
        for offset in (0, 3, 6, 7)
    ]
    assert [len(page) for page in pages] == [3, 3, 1, 0]
    assert [row["id"] for page in pages for row in page] == sorted(ids)
    [back] = await ask(restante, shop, ID_LIST, span | {"sort": "desc"})
    assert [row["id"] for row in back["result"]] == sorted(ids, reverse=True)
    [before] = await ask(restante, shop, ID_LIST, span | {"datetime_to": moment(now - timedelta(minutes=1))})
    assert before["result"] == []


NOW = datetime.now(UTC)
FAR, TODAY = moment(NOW - timedelta(days=190)), moment(NOW)


@pytest.mark.parametrize(
    ("path", "sent", "code", "field"),
    [
        (ID_LIST, {}, 40501, "datetime_from"),
        (ID_LIST, {"datetime_from": TODAY}, 40501, "datetime_to"),
        (ID_LIST, {"datetime_from": None, "datetime_to": TODAY}, 40501, "datetime_from"),
        (ID_LIST, {"datetime_from": FAR, "datetime_to": TODAY}, 40501, "datetime_from"),
        (ID_LIST, {"datetime_from": "2026-02-30 00:00:00 +00:00", "datetime_to": TODAY}, 40501, "datetime_from"),
        (ID_LIST, {"datetime_from": "0001-01-01 00:00:00 +14:00", "datetime_to": TODAY}, 40501, "datetime_from"),
        (ID_LIST, {"datetime_from": "yesterday", "datetime_to": TODAY}, 40501, "datetime_from"),
        (ID_LIST, around(datetime_to=moment(NOW - timedelta(hours=3))), 40501, "datetime_to"),
        (ID_LIST, around(datetime_to=moment(NOW + timedelta(hours=1))), 40501, "datetime_to"),
        (
            ID_LIST,
            around(datetime_from=moment(NOW - timedelta(days=33)), include_metadata=True),
            40501,
            "datetime_from",
        ),
        (ID_LIST, around(limit=0), 40501, "limit"),
        (ID_LIST, around(limit=1_001), 40501, "limit"),
        (ID_LIST, around(limit="5"), 40501, "limit"),
        (ID_LIST, around(limit=True), 40501, "limit"),
        (ID_LIST, around(offset=-1), 40501, "offset"),
        (ID_LIST, around(offset=100_000_001), 40501, "offset"),
        (ID_LIST, around(sort="up"), 40501, "sort"),
        (ID_LIST, around(include_metadata=1), 40501, "include_metadata"),
        (ID_LIST, around(limits=5), 40506, "limits"),
        (ID_LIST, around(limit=5.0, offset=0.0), 20000, None),
        (ID_LIST, around(datetime_from=moment(NOW - timedelta(days=183))), 20000, None),
        (ID_LIST, [], 40503, None),
        (ERRORS, {"limit": 0}, 40501, "limit"),
        (ERRORS, {"filtered_function": "a\0"}, 40501, "filtered_function"),
        (ERRORS, {"datetime_from": moment(NOW - timedelta(days=9))}, 40501, "datetime_from"),
        (ERRORS, {"datetime_from": moment(NOW + timedelta(days=1))}, 40501, "datetime_from"),
        (ERRORS, {"datetime_to": moment(NOW + timedelta(days=1))}, 40501, "datetime_to"),
        (ERRORS, {"x": 1}, 40506, "x"),
        (ERRORS, {"filtered_function": "serp/task_get/advanced"}, 20000, None),
        (ERRORS, {}, 20000, None),
        (RESEND, {}, 40501, "id"),
        (RESEND, {"id": "nonsense"}, 40501, "id"),
        (RESEND, {"id": 5}, 40501, "id"),
        (RESEND, {"id": "11201415-0042-0613-0000-5d0c1be9a7f3", "tag": "x"}, 40506, "tag"),
    ],
)
async def test_what_is_refused(
    restante: Restante, visitor: Shop, path: str, sent: Any, code: int, field: str | None
) -> None:
    [entry] = await ask(restante, visitor, path, sent)
    assert entry["status_code"] == code, entry
    if field is not None:
        assert f"'{field}'" in entry["status_message"] and entry["result"] is None
        shown = {name: value for name, value in sent.items() if value is not None}
        function = path.rpartition("/")[2]
        assert entry["data"] == {"api": path.split("/")[0], "function": function} | shown


@pytest.mark.parametrize("path", [ID_LIST, ERRORS, RESEND])
async def test_bodies_that_are_none(restante: Restante, visitor: Shop, path: str) -> None:
    async with Http(restante.url + "/v3", visitor.credentials) as http:
        for body, code in ((b"", 40502), (b"[]", 40502), (b"{}", 40503), (b"[{", 40503), (b'[{"id":"\xff"}]', 40503)):
            _, answer = await http.send("POST", path, body)
            assert one_task(answer)["status_code"] == code, body
        if path != RESEND:
            assert one_task(await http.post([around(), around()], path))["status_code"] == 40000


async def test_failed_webhooks_are_listed_as_errors(restante: Restante, shop: Shop, http: Http) -> None:
    async with receiving() as client:
        client.status, client.reply = 500, b"oo\xffps\0"
        url = client.url + "/$id"
        [both] = [entry["id"] for entry in (await http.post([task(pingback_url=url, postback_url=url)]))["tasks"]]
        [refused] = [entry["id"] for entry in (await http.post([task(pingback_url="http://127.0.0.1:1/")]))["tasks"]]
        rows: list[Any] = []
        async with asyncio.timeout(20):
            while len({(row["id"], row["function"]) for row in rows}) < 3:
                [entry] = await ask(restante, shop, ERRORS, {})
                rows = entry["result"]
    check_id(entry["id"], shop, Function.ERRORS)
    assert [row["datetime"] for row in rows] == sorted((row["datetime"] for row in rows), reverse=True)
    ping = next(row for row in rows if row["id"] == both and row["function"] == "pingback_url")
    assert list(ping) == [
        "id", "datetime", "function", "error_code", "error_message", "http_url", "http_method", "http_code",
        "http_time", "http_response",
    ]  # fmt: skip
    assert (ping["error_code"], ping["http_code"], ping["http_method"]) == (500, 500, "GET")
    assert ping["error_message"] == ping["http_url"] == client.url + f"/{both}"
    assert ping["http_response"] == "oo\ufffdps" and 0 <= ping["http_time"] < 10
    no_answer = next(row for row in rows if row["id"] == refused)
    assert no_answer["http_code"] == no_answer["error_code"] == 0
    assert "cannot connect" in no_answer["http_response"]
    [posts] = await ask(restante, shop, ERRORS, {"filtered_function": "postback_url"})
    assert {(row["id"], row["http_method"]) for row in posts["result"]} == {(both, "POST")}
    [one] = await ask(restante, shop, ERRORS, {"limit": 1, "offset": 1})
    assert one["result_count"] == 1
    [none] = await ask(restante, await asyncio.to_thread(open_shop, restante), ERRORS, {})
    assert none["result"] == []


async def test_each_id_is_judged_alone(restante: Restante, shop: Shop, http: Http) -> None:
    stranger = await asyncio.to_thread(open_shop, restante)
    async with Http(restante.family, stranger.credentials) as other:
        [foreign] = [entry["id"] for entry in (await other.post([task()]))["tasks"]]
    posted = [task(), task("[[fail=overloaded]]", pingback_url="http://127.0.0.1:1/")]
    plain, parked = [entry["id"] for entry in (await http.post(posted))["tasks"]]
    live = one_task(await http.post([task("now")], "live"))["id"]
    await http.answers([plain])
    unknown = plain[:-12] + "0" * 12
    sent = [foreign, live, unknown, "13" + plain[2:], plain, parked, "?"]
    entries = await ask(restante, shop, RESEND, *({"id": one} for one in sent))
    assert [entry["status_code"] for entry in entries] == [40001, 40004, 40401, 40401, 40501, 40602, 40501]
    assert [entry["id"] for entry in entries[:-1]] == sent[:-1]
    assert entries[4]["status_message"] == f"Invalid Field: '{NO_WEBHOOKS}'."
    assert entries[2]["data"] == {"api": "appendix", "function": "webhook_resend", "id": unknown}
    assert entries[5]["data"] == FAMILY_DATA | posted[1]
    # The hundred-and-first is one too many; an answer whose time is over is known, and gone.
    many = await ask(restante, shop, RESEND, *({"id": unknown} for _ in range(101)))
    assert Counter(entry["status_code"] for entry in many) == {40401: 100, 40006: 1}
    gone = "with answers as (delete from answer where id = $1) delete from task_request where id = $1"
    await asyncio.to_thread(restante.look, lambda db: db._on.execute(gone, plain))
    [over] = await ask(restante, shop, RESEND, {"id": plain})
    assert (over["status_code"], over["status_message"]) == (40403, "Results Expired.")


@pytest.mark.contract("10.1 PyPI dataforseo-client")
async def test_the_official_client_resends(restante: Restante, shop: Shop, http: Http) -> None:
    async with receiving() as client:
        url = client.url + "/$id"
        [task_id] = [
            entry["id"] for entry in (await http.post([task(pingback_url=url, postback_url=url, tag="t")]))["tasks"]
        ]
        await hits(client, 2)
        # One that was received is not recorded yet; until then a resend counts it as the one that is asked for.
        ended = "select count(*) = 2 from delivery where task_id = $1 and state = 3"
        async with asyncio.timeout(20):
            while not await asyncio.to_thread(restante.look, lambda db: db._on.fetchval(ended, task_id)):
                await asyncio.sleep(0.02)

        def resend() -> Any:
            login, password = shop.credentials
            with ApiClient(Configuration(host=restante.url, username=login, password=password)) as api:
                found = AppendixApi(api).webhook_resend([AppendixWebhookResendRequestInfo(id=task_id)] * 2)
                api.rest_client.pool_manager.clear()
                return found

        answer = await asyncio.to_thread(resend)
        await hits(client, 4)
    assert (answer.status_code, answer.cost, answer.tasks_count, answer.tasks_error) == (20000, 0, 2, 0)
    for one in answer.tasks:
        assert (one.id, one.status_code, one.status_message, one.cost) == (task_id, 20100, "Task Created.", 0)
        assert (one.result_count, one.result) == (0, None)
        assert one.path == ["v3", "appendix", "webhook_resend"]
        assert one.data["se"] == "gemini" and one.data["tag"] == "t"
    seen = Counter(hit.headers["webhook-id"] for hit in client.hits)
    assert seen == {f"{task_id}-pingback": 2, f"{task_id}-postback": 2}
    bodies = [hit.body for hit in client.hits if hit.method == "POST"]
    assert bodies[0] == bodies[1]
    assert (await asyncio.to_thread(restante.run, "ledger", "audit")).returncode == 0


async def test_id_list_takes_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an account asks for at once, its walks go one after the other."""
    going, most = 0, 0

    async def recorded(*_: object, **__: object) -> list[object]:
        nonlocal going, most
        going += 1
        most = max(most, going)
        await asyncio.sleep(0)
        going -= 1
        return []

    class Away:
        async def again(self, work: Callable[[], Awaitable[object]]) -> object:
            return await work()

    monkeypatch.setattr(tasks, "recorded", recorded)
    records = Records(Away(), None, utc_now)  # type: ignore[arg-type]
    when = moment(utc_now())
    body = msgspec.json.encode([{"datetime_from": when, "datetime_to": when}])

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body}

    async def call(account_id: int) -> bytes:
        path = "/v3/ai_optimization/id_list"
        scope = {"type": "http", "method": "POST", "path": path, "headers": [], "account_id": account_id}
        return bytes((await records.id_list(Request(scope, receive))).body)

    assert all(b'"status_code":20000,' in one for one in await asyncio.gather(*(call(1) for _ in range(5))))
    assert most == 1
    await asyncio.gather(*(call(account_id) for account_id in range(1, 6)))
    assert most == ID_LIST_AT_ONCE
