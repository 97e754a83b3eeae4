"""user_data, errors and status over HTTP: real calls, real charges, real ills (contract §3.7-3.9)."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dataforseo_client import ApiClient, Configuration
from dataforseo_client.api.appendix_api import AppendixApi

from restante.core.errors import Refusal, code_book
from restante.core.limits import STATUS_QUEUE_SECONDS
from restante.core.task import Function
from restante.providers.api_key import KEY_REJECTED
from restante.store.database import Database
from restante.web.wire import FAMILY
from tests.support import Http, Process, Restante, differences, running, task
from tests.web.calls import ENVELOPE_KEYS, TASK_KEYS, Answered, Shop, call, check_id, one_task, open_shop

LLM_RESPONSES = ["live", "task_post", "tasks_ready", "task_get", "models"]


async def ask(url: str, path: str, shop: Shop, method: str = "GET", **headers: str) -> Answered:
    return await call(method, f"{url}/v3/appendix/{path}", shop.credentials, headers=headers)


async def user_data(url: str, shop: Shop) -> Any:
    [result] = one_task((await ask(url, "user_data", shop)).json)["result"]
    return result


async def eventually(seen: Callable[[], Any], wanted: Callable[[Any], bool], seconds: float = 20.0) -> Any:
    """What `seen` returns once it is as wanted: what other processes wrote is seen when they wrote it."""
    async with asyncio.timeout(seconds):
        while not wanted(found := await seen()):
            await asyncio.sleep(0.1)
    return found


# --- shapes ---------------------------------------------------------------------------------------------


@pytest.mark.contract(
    "3.7 the call", "3.8 the call", "3.9 the call", "5.1 user_data", "5.1 appendix/errors, appendix/status"
)
@pytest.mark.parametrize(
    ("path", "function"),
    [("user_data", Function.USER_DATA), ("errors", Function.APPENDIX_ERRORS), ("status", Function.STATUS)],
)
async def test_the_envelope(restante: Restante, shop: Shop, path: str, function: Function) -> None:
    """§1.1, §1.3: the common envelope, `data` of the endpoint's own, the rate's headers."""
    answered = await ask(restante.url, path, shop)
    body = answered.json
    assert (answered.status, answered.headers["Content-Type"]) == (200, "application/json")
    limit = {"user_data": "6"}.get(path, "10")
    assert answered.headers["X-RateLimit-Limit"] == limit
    assert answered.headers["X-RateLimit-Remaining"] == str(int(limit) - 1)
    assert list(body) == ENVELOPE_KEYS
    assert (body["status_code"], body["cost"], body["tasks_error"]) == (20000, 0, 0)
    entry = one_task(body)
    assert list(entry) == TASK_KEYS
    check_id(entry["id"], shop, function)
    assert (entry["status_code"], entry["cost"], entry["path"]) == (20000, 0, ["v3", "appendix", path])
    assert entry["data"] == {"api": "appendix", "function": path}
    assert list(entry["data"]) == ["api", "function"]
    assert entry["result_count"] == len(entry["result"])


@pytest.mark.contract(
    "3.7 login and timezone",
    "3.7 rates.limits",
    "3.7 rates.statistics",
    "3.7 money",
    "3.7 price",
    "3.7 expiry dates",
    "6 Priorities",
)
async def test_the_nesting_of_user_data(restante: Restante, shop: Shop) -> None:
    """§3.7, key by key."""
    result = await user_data(restante.url, shop)
    assert list(result) == [
        "login", "timezone", "rates", "money", "price",
        "backlinks_subscription_expiry_date", "llm_mentions_subscription_expiry_date",
    ]  # fmt: skip
    assert (result["login"], result["timezone"]) == (shop.credentials[0], "UTC")
    assert result["backlinks_subscription_expiry_date"] is result["llm_mentions_subscription_expiry_date"] is None
    for part, kind, period in itertools.product(("rates", "money"), ("limits", "statistics"), ("day", "minute")):
        figures = dict(result[part][kind][period])
        if kind == "statistics":
            assert len(figures.pop("value")) == {"day": 10, "minute": 16}[period]
        assert list(figures) == ["ai_optimization", "total_ai_optimization", "appendix", "total"]
        assert list(figures["ai_optimization"]) == ["llm_responses", "errors", "id_list"]
        assert list(figures["ai_optimization"]["llm_responses"]) == LLM_RESPONSES
        assert list(figures["appendix"]) == ["user_data", "errors", "status"]
    prices = result["price"]["ai_optimization"]["llm_responses"]
    cost = {name: price["priority_normal"][0]["cost"] for name, price in prices.items()}
    assert cost == {"live": 0.0006, "task_post": 0.0002, "tasks_ready": 0, "task_get": 0, "models": 0}
    for price in prices.values():
        assert list(price) == ["priority_low", "priority_normal", "priority_high"]
        assert price["priority_low"] == price["priority_normal"] == price["priority_high"]
        assert [list(part) for part in price["priority_low"]] == [["cost_type", "cost"]]
        assert price["priority_low"][0]["cost_type"] == "per_request"


@pytest.mark.contract("3.7 rates.limits", "3.7 money")
async def test_limits_are_the_callers_own(restante: Restante, shop: Shop) -> None:
    """The installation's, the account's own over them, 0 for none; the daily cap in US dollars."""
    limits = (await user_data(restante.url, shop))["rates"]["limits"]
    assert limits["minute"]["ai_optimization"] == {
        "llm_responses": {"live": 2000, "task_post": 2000, "tasks_ready": 0, "task_get": 0, "models": 0},
        "errors": 10, "id_list": 10,
    }  # fmt: skip
    assert limits["minute"]["appendix"] == {"user_data": 6, "errors": 10, "status": 10}
    assert (limits["day"]["total"], limits["day"]["ai_optimization"]["llm_responses"]["live"]) == (0, 0)
    arguments = ("account", "limit", shop.credentials[0], "--models", "77", "--spend-per-day", "1.25")
    done = await asyncio.to_thread(restante.run, *arguments)
    assert done.returncode == 0, done.stderr
    await ask(restante.url, "status", shop)
    found = await eventually(
        lambda: user_data_of(restante, shop), lambda one: one["money"]["limits"]["day"]["total"] == 1.25
    )
    assert found["rates"]["limits"]["minute"]["ai_optimization"]["llm_responses"]["models"] == 77


async def user_data_of(restante: Restante, shop: Shop) -> Any:
    """user_data without waiting for its rate: what a password's memory of three seconds hides may take many looks."""
    await asyncio.sleep(1)
    return await user_data(restante.url, shop)


@pytest.mark.contract(
    "10.1 PyPI dataforseo-client", "1.4 user_data price entries as object instead of list of {cost_type,cost}"
)
def test_the_official_client(restante: Restante) -> None:
    """§1.4: its models are strict about types, and keep what they do not know in additional_properties."""
    login, password = restante.account("appendix-client", "12.5")
    with ApiClient(Configuration(host=restante.url, username=login, password=password)) as client:
        api = AppendixApi(client)
        data, errors, status = api.user_data(), api.errors(), api.appendix_status()
        client.rest_client.pool_manager.clear()
    [result] = data.tasks[0].result
    assert (result.login, result.money.total, result.money.balance) == (login, 12.5, 12.5)
    assert result.rates.limits.minute.ai_optimization.llm_responses.task_post == 2000
    assert result.rates.limits.minute.appendix.status == 10
    assert result.rates.statistics.minute.appendix.user_data == 1
    assert result.rates.statistics.day.total == 1
    assert result.price.ai_optimization.llm_responses.live.priority_high[0].cost == 0.0006
    assert {(row.code, row.message) for row in errors.tasks[0].result} == set(code_book())
    assert [row.api for row in status.tasks[0].result] == ["ai_optimization", "appendix"]
    for response in (data, errors, status):
        assert (response.status_code, response.tasks_error, response.additional_properties) == (20000, 0, {})


@pytest.mark.contract("3.8 rows")
def test_the_code_book() -> None:
    """§3.8: every code that can be answered, sorted, one message each, no blank left open."""
    book = code_book()
    codes = [code for code, _ in book]
    assert codes == sorted(set(codes))
    assert {20000, 20100, 40002, 40101, 50302} < set(codes)
    for kind in Refusal.__subclasses__():
        assert kind.code in codes
    said = dict(book)
    assert said[40006] == "You can set no more than 100 tasks at a time."
    assert said[40103] == "Task execution failed, please try to resubmit the task."
    assert said[40202] == "The rates limit per minute has been exceeded."
    assert said[40501] == "Invalid Field."
    assert said[40506] == "Unknown Fields in POST Data."
    assert said[50301] == "3rd Party API Service Unavailable."
    assert not [message for message in said.values() if "{" in message or not message.endswith((".", ". .", " ."))]


async def test_other_forms(restante: Restante, shop: Shop) -> None:
    """§1.2: .ai and .xml behind each path, gzip when asked for."""
    ai = (await ask(restante.url, "user_data.ai", shop)).json
    assert (ai["status_code"], ai["login"], ai["money"]["balance"]) == (20000, shop.credentials[0], 10)
    assert (await ask(restante.url, "errors.ai", shop)).json["items"][0] == {"code": 20000, "message": "Ok."}
    xml = await ask(restante.url, "status.xml", shop)
    assert xml.headers["Content-Type"].startswith("application/xml")
    assert b"<api>ai_optimization</api>" in xml.body
    packed = await ask(restante.url, "errors", shop, **{"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.json["status_code"] == 20000


@pytest.mark.parametrize("path", ["user_data", "errors", "status"])
async def test_a_wrong_method_and_too_many_calls(restante: Restante, shop: Shop, path: str) -> None:
    """§12.6, §12.15: the refusals too are of this very path."""
    wrong = one_task((await ask(restante.url, path, shop, "POST")).json)
    assert (wrong["status_code"], wrong["path"], wrong["data"]) == (40402, ["v3", "appendix", path], None)
    answers = [(await ask(restante.url, path, shop)).json for _ in range(21)]  # two minutes' limits, should one end
    refused = [one for one in answers if one["status_code"] == 40202]
    assert refused
    entry = one_task(refused[0])
    assert (entry["status_code"], entry["data"]) == (40202, {"api": "appendix", "function": path})
    assert entry["path"] == ["v3", "appendix", path]


# --- figures --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restante]:
    """A restante whose user_data may be polled."""
    limits = {"RATE_USER_DATA": "0", "RATE_STATUS": "3", "DRAIN_SECONDS": "5"}
    with running(tmp_path_factory.mktemp("busy"), "--provider", "scripted", **limits) as up:
        yield up


def another_api(up: Restante, name: str) -> tuple[Process, str]:
    process = Process(["api", "--provider", "scripted"], up.env, up.directory, name)
    return process, process.wait_for(r"answers at (http://\S+?),", log=True)[1]


def total(result: Any) -> int:
    count: int = result["rates"]["statistics"]["day"]["total"]
    return count


@pytest.mark.contract("3.7 rates.statistics", "3.7 money")
async def test_figures_are_what_was_called_and_charged(busy: Restante) -> None:
    """Two API processes. Every call of every endpoint once, a refused one too; the money of an answered task, of a live
    one, of none for a failed one. A process that stops writes what it counted."""
    shop = await asyncio.to_thread(open_shop, busy)
    second, other = await asyncio.to_thread(another_api, busy, "second")
    try:
        async with Http(busy.url + FAMILY, shop.credentials) as one, Http(other + FAMILY, shop.credentials) as two:
            posted = await one.post([task("[[cost=0.003]] hi"), task("[[fail=no]]"), task("hi", model_name="none")])
            ids = [entry["id"] for entry in posted["tasks"][:2]]
            charge = one_task(await two.post([task("[[cost=0.0021]] hi")], "live"))["cost"]
            assert charge == 0.0027
            await two.get("models")
            await two.get("tasks_ready")
            await one.get("tasks_ready")
            gets = 0
            for task_id in ids:
                while one_task(await two.get(f"task_get/{task_id}"))["status_code"] in (40601, 40602):
                    gets += 1
                gets += 1
        codes = [(await ask(other, "status", shop)).json["status_code"] for _ in range(4)]
        await ask(other, "errors", shop)
        assert await asyncio.to_thread(second.stop) == 0
    finally:
        second.kill()
    result = await user_data(busy.url, shop)
    day, minute = (result["rates"]["statistics"][period] for period in ("day", "minute"))
    assert 40202 in codes or minute["value"] != day["value"]
    responses = {"live": 1, "task_post": 1, "tasks_ready": 2, "task_get": gets, "models": 1}
    assert day["ai_optimization"] == {"llm_responses": responses, "errors": 0, "id_list": 0}
    assert day["appendix"] == {"user_data": 1, "errors": 1, "status": 4}
    assert (day["total_ai_optimization"], day["total"]) == (5 + gets, 11 + gets)
    money = result["money"]
    assert (money["total"], money["balance"]) == (10, 9.9941)  # 0.0027 + 0.0032
    spent = money["statistics"]["day"]
    assert spent["ai_optimization"]["llm_responses"] == {
        "live": 0.0027, "task_post": 0.0032, "tasks_ready": 0, "task_get": 0, "models": 0,
    }  # fmt: skip
    assert spent["total"] == spent["total_ai_optimization"] == 0.0059
    assert minute["value"].startswith(day["value"])
    assert not await asyncio.to_thread(busy.look, differences)


async def test_a_killed_process_loses_its_last_second_at_the_most(busy: Restante) -> None:
    shop = await asyncio.to_thread(open_shop, busy)
    second, other = await asyncio.to_thread(another_api, busy, "killed")
    try:
        async with Http(other + FAMILY, shop.credentials) as http:
            for _ in range(50):
                await http.get("models")
            calls = itertools.count(1)

            async def seen() -> int:
                made = next(calls)
                return total(await user_data(busy.url, shop)) - made

            # "At the most a second" is the process's own schedule; on a busy machine it may be late, hence the wait.
            assert await eventually(seen, lambda found: found == 50) == 50
            for _ in range(20):
                await http.get("models")
            second.signal(signal.SIGKILL)
    finally:
        second.kill()
    assert 50 <= await seen() <= 70


# --- status ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restante]:
    """A restante without workers, whose processes die fast and whose worker runs one task at a time."""
    settings = {"RATE_STATUS": "0", "LEASE_SECONDS": "4", "CONCURRENCY": "1", "DRAIN_SECONDS": "1"}
    arguments = ("--provider", "scripted", "--workers", "0")
    with running(tmp_path_factory.mktemp("ill"), *arguments, **settings) as up:
        yield up


@pytest.mark.contract("3.9 values", "12.22 status")
async def test_statuses_that_really_occur(ill: Restante) -> None:
    """No worker, a worker, failing calls, good ones, a rejected key, a good one, a task that waits, a killed worker."""
    shop = await asyncio.to_thread(open_shop, ill)

    async def status() -> dict[str, str]:
        ours, appendix = one_task((await ask(ill.url, "status", shop)).json)["result"]
        assert appendix == {"api": "appendix", "status": "ok", "endpoints": []}
        return {one["endpoint"]: one["status"] for one in ours["endpoints"]} | {"api": ours["status"]}

    async def becomes(**wanted: str) -> None:
        well = dict.fromkeys(("task_post", "task_get", "live", "postback/pingback", "api"), "ok")
        found: dict[str, str] = {}
        try:
            found = await eventually(status, lambda one: one == well | wanted)
        except TimeoutError:
            raise AssertionError(f"never {wanted}, but {await status()}") from None
        assert found

    major = "major_outage"
    await becomes(task_post=major, api=major, **{"postback/pingback": major})
    worker = Process(["worker", "--provider", "scripted"], ill.env, ill.directory, "worker")
    try:
        await becomes()
        async with Http(ill.family, shop.credentials) as http:
            for _ in range(10):
                entry = one_task(await http.post([task("[[fail=overloaded]]")], "live"))
                assert entry["status_code"] == 50301
            await becomes(task_post="partial_outage", live="partial_outage", api="partial_outage")
            for _ in range(10):
                assert one_task(await http.post([task()], "live"))["status_code"] == 20000
            await becomes()
            await http.post([task(f"[[fail={KEY_REJECTED}]]")], "live")
            await becomes(task_post=major, live=major, api=major)
            await http.post([task()], "live")
            await becomes()
            await http.post([task("[[latency=600]]")])
            await eventually(lambda: asyncio.to_thread(ill.look, leased), lambda count: count == 1)
            await http.post([task()])
            await becomes()
            await asyncio.to_thread(ill.look, let_wait)
            await becomes(task_post="long_execution_time", api="long_execution_time")
        worker.signal(signal.SIGKILL)
        await becomes(task_post=major, api=major, **{"postback/pingback": major})
    finally:
        worker.kill()
    assert not await asyncio.to_thread(ill.look, differences)


async def leased(db: Database) -> int:
    count: int = await db._pool.fetchval("select count(*) from queue where state = 2")
    return count


async def let_wait(db: Database) -> None:
    late = "update queue set posted_at = now() - make_interval(secs => $1) where state = 0"
    await db._pool.execute(late, STATUS_QUEUE_SECONDS + 1)
