"""The five llm_responses endpoints over HTTP, to the letter (contract §1-§3, §5.4, §12)."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pytest
from yarl import URL

from restante.core.money import parse_usd
from restante.core.task import Function, Model, mint_id
from restante.flow import accounts
from restante.providers.registry import scripted_models
from restante.store.database import Database
from restante.web.wire import FAMILY
from restante.wiring import utc_now
from tests.support import Http, Restante, differences, task
from tests.web.calls import (
    FAMILY_DATA,
    TASK_HANDED,
    TASK_IN_QUEUE,
    Shop,
    basic,
    call,
    check_envelope,
    check_id,
    fetched,
    listed,
    one_task,
    open_shop,
)

pytestmark = pytest.mark.usefixtures("quiet_log")

NO_SUCH_TASK = "11201415-0042-0613-0000-ffffffffffff"

# --- the envelope (§1.1) -------------------------------------------------------------------------------

ENDPOINTS = {
    "task_post": ("POST", "task_post", Function.TASK_POST),
    "live": ("POST", "live", Function.LIVE),
    "tasks_ready": ("GET", "tasks_ready", Function.TASKS_READY),
    "models": ("GET", "models", Function.MODELS),
    "task_get": ("GET", f"task_get/{NO_SUCH_TASK}", None),  # its id is the one asked for
}
every_endpoint = pytest.mark.parametrize(("method", "path", "function"), ENDPOINTS.values(), ids=ENDPOINTS)


@pytest.mark.contract(
    "1 host and prefix",
    "1 time",
    "1 version",
    "1.1 envelope: order of keys",
    "1.1 envelope: version",
    "1.1 envelope: status_code",
    "1.1 envelope: status_message",
    "1.1 envelope: time",
    "1.1 envelope: tasks_count",
    "1.1 task: order of keys",
    "1.1 task: id",
    "1.1 task: result_count",
    "1.1 task: path",
    "1.1 data of the family",
    "3.5 the call",
    "5.4 MMDDHHMM",
    "5.4 AAAA",
    "5.4 FFFF",
    "5.4 PPPP",
    "5.4 calls have ids too",
)
@every_endpoint
async def test_every_endpoint_answers_in_the_envelope(
    http: Http, shop: Shop, method: str, path: str, function: Function | None
) -> None:
    """§1.1: keys in order, `time`, counts, `path`; §5.4: an id of the call's own, with its account and function."""
    body = b'[{"user_prompt":"hi","model_name":"gemini-2.5-flash"}]' if method == "POST" else None
    status, answer = await http.send(method, path, body)
    assert status == 200
    [entry] = check_envelope(answer, *path.split("/"))
    assert list(entry["data"].items())[:3] == list(FAMILY_DATA.items())
    if function is None:
        assert entry["id"] == NO_SUCH_TASK
    else:
        check_id(entry["id"], shop, function)


@pytest.mark.contract("1 GET requests", "1 response content type", "1.4 text/plain")
@every_endpoint
async def test_answers_are_json_for_every_client(
    restante: Restante, visitor: Shop, method: str, path: str, function: Function | None
) -> None:
    """§1, §1.4: the content type that the official client insists on; a GET with a content type and an empty body
    (the documentation's curl) is as good as one without."""
    answered = await call(
        method, f"{restante.family}/{path}", visitor.credentials, data=b"", headers={"Content-Type": "application/json"}
    )
    assert answered.status == 200
    assert answered.headers["content-type"].startswith("application/json")
    assert "WWW-Authenticate" not in answered.headers


@pytest.mark.contract(
    "1 request body",
    "1.1 task: status_code",
    "1.1 task: status_message",
    "1.1 task: result",
    "1.4 HTTP 201/202",
    "2.2 20100",
    "3.1 the answer",
    "6 Standard prepayment",
)
async def test_a_posted_task_is_answered_created(http: Http, shop: Shop) -> None:
    """§3.1: 20100 with the hold as its cost, and no result yet."""
    [entry] = check_envelope(await http.post([task(tag="run-17")]), "task_post")
    check_id(entry["id"], shop, Function.TASK_POST)
    assert (entry["status_code"], entry["status_message"]) == (20100, "Task Created.")
    assert (entry["cost"], entry["result_count"], entry["result"]) == (0.0102, 0, None)
    assert entry["data"] == FAMILY_DATA | task(tag="run-17")


@pytest.mark.contract(
    "1.1 envelope: cost", "1.1 task: cost", "3.1 several tasks", "6 cost at task_post", "12.13 numbers"
)
@pytest.mark.parametrize(
    ("count", "cost"), [(1, b"0.0102"), (3, b"0.0306"), (7, b"0.0714"), (49, b"0.4998"), (100, b"1.02")]
)
async def test_cost_is_an_exact_decimal(restante: Restante, visitor: Shop, count: int, cost: bytes) -> None:
    """§12.13: no 0.030600000000000002: the envelope's cost is the tasks' sum to the nano-dollar."""
    body = b"[" + b",".join([b'{"user_prompt":"hi","model_name":"gemini-2.5-flash"}'] * count) + b"]"
    answered = await call("POST", f"{restante.family}/task_post", visitor.credentials, body)
    assert re.search(rb'sec\.","cost":([^,]*),"tasks_count":%d,' % count, answered.body)
    assert re.findall(rb'"cost":([^,]*),', answered.body) == [cost] + [b"0.0102"] * count


ECHOES = {
    "as it is": (b'{"user_prompt":"hi","model_name":"gemini-2.5-flash"}', None),
    "order of the request": (
        b'{"tag":"t","model_name":"gemini-2.5-flash","top_p":0.5,"user_prompt":"hi","system_message":"s"}',
        None,
    ),
    "numbers as spelled": (
        b'{"user_prompt":"hi","model_name":"gemini-2.5-flash","temperature":1.0,"top_p":5e-1,"max_output_tokens":7}',
        None,
    ),
    "an integer stays one": (b'{"user_prompt":"hi","model_name":"gemini-2.5-flash","temperature":1,"top_p":0}', None),
    "unicode": ('{"user_prompt":"Zürich 🚆 京都","model_name":"gemini-2.5-flash","tag":"é"}'.encode(), None),
    "escapes": (rb'{"user_prompt":"Z\u00fcrich \"\n\/","model_name":"gemini-2.5-flash"}', None),
    "a backslash before u0000": (
        rb'{"user_prompt":"C:\\u0000","model_name":"gemini-2.5-flash","temperature":1.50}',
        None,
    ),
    "blanks between tokens go": (
        b' { "user_prompt" :\t"a  b" ,\r\n "message_chain" : [ { "role" : "user" , "message" : "x" } ] ,'
        b'"model_name":"gemini-2.5-flash" } ',
        b'{"user_prompt":"a  b","message_chain":[{"role":"user","message":"x"}],"model_name":"gemini-2.5-flash"}',
    ),
    "nulls are dropped (§12.1)": (
        b'{"tag":null,"user_prompt":"null","model_name":"gemini-2.5-flash","temperature": null ,"top_p":0.50,'
        b'"web_search":null,"postback_url":null,"message_chain":null}',
        b'{"user_prompt":"null","model_name":"gemini-2.5-flash","top_p":0.50}',
    ),
    "of a refused task": (
        b'{"temperature":9.50,"user_prompt":"hi","tag":null,"model_name":"gemini-2.5-flash","top_p":1E0}',
        b'{"temperature":9.50,"user_prompt":"hi","model_name":"gemini-2.5-flash","top_p":1E0}',
    ),
    "webhook variables stay (§1.1)": (
        b'{"user_prompt":"hi","model_name":"gemini-2.5-flash","pingback_url":"https://hooks.example.org/p?i=$id&t=$tag"}',
        None,
    ),
}


@pytest.mark.contract("1.1 task: data", "1.1 no defaults in data", "1.1 webhook URLs in data", "12.1 nulls")
@pytest.mark.parametrize(("sent", "echoed"), ECHOES.values(), ids=ECHOES)
async def test_the_echo_is_just_what_was_sent(
    restante: Restante, visitor: Shop, sent: bytes, echoed: bytes | None
) -> None:
    """§1.1: `data` is `api`, `function`, `se`, then the request's own fields: no defaults, nothing respelled."""
    answered = await call("POST", f"{restante.family}/task_post", visitor.credentials, b"[" + sent + b"]")
    data = b'"data":{"api":"ai_optimization","function":"llm_responses","se":"gemini",%b,"result":null}'
    assert data % (echoed or sent)[1:] in answered.body


@pytest.mark.contract("3.3 the task's echo")
async def test_the_echo_comes_back_with_the_answer(http: Http) -> None:
    """§3.3: task_get's `data` repeats the posted fields, in their order."""
    sent = {"tag": "t-1", "model_name": "gemini-2.5-flash", "temperature": 0.5, "user_prompt": "Zürich 🚆"}
    posted = one_task(await http.post([sent]))
    entry = (await http.answers([posted["id"]]))[posted["id"]]
    assert list(entry["data"].items()) == list((FAMILY_DATA | sent).items())


# --- who calls (§2.1) ----------------------------------------------------------------------------------

BODY_401 = (
    b'{"status_code":40100,"status_message":"You are not Authorized to Access this Resource. Your Login Information '
    rb'Here: https:\/\/app.dataforseo.com\/login .",'
    b'"time":"0 sec.","cost":0,"tasks_count":0,"tasks_error":0,"tasks":[]}'
)


HEADERS_401 = {
    "none": None,
    "empty": "",
    "scheme alone": "Basic",
    "no base64": "Basic !!!",
    "no ASCII": "Basic é",
    "cut base64": "Basic b3BlcmF0b3",
    "no colon": basic("operator"),
    "nothing in it": basic(""),
    "colon alone": basic(":"),
    "unknown login": basic("nobody:a Password of 27 letters"),
    "wrong password": basic("operator:a Password of 27 letterz"),
    "no password": basic("operator:"),
    "a letter too many": basic("operator:a Password of 27 letters "),
    "login in capitals": basic("OPERATOR:a Password of 27 letters"),
    "U+0000 in the login": basic("operator\0:a Password of 27 letters"),
    "no UTF-8": "Basic b3D/cmF0b3I6YSBQYXNzd29yZCBvZiAyNyBsZXR0ZXJz",
    "other scheme": basic("operator:a Password of 27 letters").replace("Basic", "Bearer"),
    "right, but twice": f"{basic('operator:a Password of 27 letters')},{basic('operator:a Password of 27 letters')}",
}


@pytest.mark.contract(
    "1 authentication",
    "1.1 envelope: tasks",
    "1.3 no headers on a 401",
    "2.1 401",
    "2.2 40100",
    "2.3 no/wrong credentials",
)
@every_endpoint
async def test_without_credentials_every_endpoint_answers_the_very_401(
    restante: Restante, method: str, path: str, function: Function | None
) -> None:
    """§2.1: 223 bytes, without `version`; the header that makes clients ask for a password; no rate headers (§1.3)."""
    answered = await call(method, f"{restante.family}/{path}", data=b"no JSON" if method == "POST" else None)
    assert (answered.status, answered.body, len(answered.body)) == (401, BODY_401, 223)
    assert answered.headers["content-type"].startswith("application/json")
    assert answered.headers["www-authenticate"].startswith("Basic realm=")
    assert not any(name.lower().startswith("x-ratelimit") for name in answered.headers)


@pytest.mark.contract("2.1 401")
@pytest.mark.parametrize("header", HEADERS_401.values(), ids=HEADERS_401)
async def test_whatever_is_wrong_with_the_credentials_the_401_is_the_same(
    restante: Restante, header: str | None
) -> None:
    """§2.1: nothing tells a wrong login from a wrong password or from nonsense."""
    headers = {} if header is None else {"Authorization": header}
    answered = await call("GET", f"{restante.family}/models", headers=headers)
    assert (answered.status, answered.body) == (401, BODY_401)


@pytest.mark.contract("12.27 order")
async def test_unknown_paths_tell_strangers_nothing(restante: Restante) -> None:
    """§12.27: 401 comes before everything else, so that nobody learns which paths there are."""
    for path in ("/v3/ai_optimization/nothing", "/v3/nothing"):
        assert (await call("GET", restante.url + path)).body == BODY_401


@pytest.fixture
def odd_credentials(restante: Restante) -> tuple[str, str]:
    """A login and a password that need care on their way through a header."""
    login, password = "Zürich@example.org", "pass:word: with ünïcödé 🚆"

    async def work(db: Database) -> None:
        await accounts.open_account(
            db, login, password, balance=parse_usd("1"), credit_limit=parse_usd("0"), now=utc_now()
        )

    restante.look(work)
    return login, password


@pytest.mark.contract("1 authentication")
async def test_credentials_are_utf8_and_the_first_colon_parts_them(
    restante: Restante, odd_credentials: tuple[str, str]
) -> None:
    async with Http(restante.family, odd_credentials) as http:
        check_envelope(await http.get("models"), "models")
    lower = basic(*odd_credentials).replace("Basic", "basic")  # a scheme's case does not matter
    assert (await call("GET", f"{restante.family}/models", headers={"Authorization": lower})).status == 200


# --- paths and methods (§2.3, §12.15) ------------------------------------------------------------------

BODY_404 = {
    "status_code": 40400,
    "status_message": "Not Found.",
    "time": "0 sec.",
    "cost": 0,
    "tasks_count": 0,
    "tasks_error": 0,
    "tasks": None,
}


@pytest.mark.contract(
    "1 time",
    "1.1 envelope: tasks",
    "1.4 HTTP 401 / 403 / 404 / 400 / 5xx / other ≥300",
    "2.1 404",
    "2.2 40400",
    "2.3 path wholly wrong",
    "12.15 40400",
)
@pytest.mark.parametrize(
    "path", ["/", "/v3", "/v3/", "/v4/ai_optimization", "/v3/serp/google/organic/task_post", "/v3/ai_optimizations/x"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_path_of_no_api_is_not_found(restante: Restante, visitor: Shop, method: str, path: str) -> None:
    """§12.15: HTTP 404 with the 40400 envelope, whose `tasks` is null."""
    answered = await call(method, restante.url + path, visitor.credentials)
    assert answered.status == 404
    assert list(answered.json.items())[1:] == list(BODY_404.items())


INVALID_PATHS = {
    "the API alone": ("GET", "/v3/ai_optimization"),
    "another platform": ("POST", "/v3/ai_optimization/chat_gpt/llm_responses/task_post"),
    "the family alone": ("GET", FAMILY),
    "no such endpoint": ("GET", f"{FAMILY}/tasks_done"),
    "task_get without an id": ("GET", f"{FAMILY}/task_get"),
    "task_get, empty id": ("GET", f"{FAMILY}/task_get/"),
    "task_get, two ids": ("GET", f"{FAMILY}/task_get/{NO_SUCH_TASK}/{NO_SUCH_TASK}"),
    "task_get, 36 characters that are no id": ("GET", f"{FAMILY}/task_get/{'a' * 18}/{'b' * 17}"),
    "a slash in the id": ("GET", f"{FAMILY}/task_get/a%2Fb"),
    "one segment too many": ("POST", f"{FAMILY}/task_post/x"),
    "a slash too many": ("GET", f"{FAMILY}/models/"),
    "a slash too many, POST": ("POST", f"{FAMILY}/task_post/"),
    "capitals": ("GET", f"{FAMILY}/MODELS"),
    "appendix": ("GET", "/v3/appendix/nothing"),
    # a wrong method is a wrong path
    "GET task_post": ("GET", f"{FAMILY}/task_post"),
    "PUT task_post": ("PUT", f"{FAMILY}/task_post"),
    "GET live": ("GET", f"{FAMILY}/live"),
    "POST tasks_ready": ("POST", f"{FAMILY}/tasks_ready"),
    "POST models": ("POST", f"{FAMILY}/models"),
    "POST task_get": ("POST", f"{FAMILY}/task_get/{NO_SUCH_TASK}"),
    "DELETE task_get": ("DELETE", f"{FAMILY}/task_get/{NO_SUCH_TASK}"),
    "OPTIONS live": ("OPTIONS", f"{FAMILY}/live"),
    "a rare method": ("PROPFIND", f"{FAMILY}/models"),
}


@pytest.mark.contract("1.1 task: data", "2.2 40402", "2.3 path wrong inside the API", "12.15 40402")
@pytest.mark.parametrize(("method", "path"), INVALID_PATHS.values(), ids=INVALID_PATHS)
async def test_a_wrong_path_or_method_inside_the_api_is_a_task_that_says_so(
    restante: Restante, visitor: Shop, method: str, path: str
) -> None:
    """§12.15: HTTP 200 and a task 40402 with an id of its own, `data` and `result` null."""
    answered = await call(method, restante.url + path, visitor.credentials)
    assert answered.status == 200
    answer = answered.json
    entry = one_task(answer)
    check_id(entry.pop("id"), visitor, Function.TASK_POST)
    assert (answer["status_code"], answer["tasks_error"], answer["cost"]) == (20000, 1, 0)
    assert list(entry.items()) == [
        ("status_code", 40402),
        ("status_message", "Invalid Path."),
        ("time", "0.0000 sec."),
        ("cost", 0),
        ("result_count", 0),
        ("path", path.replace("%2F", "/").strip("/").split("/")),
        ("data", None),
        ("result", None),
    ]


async def test_looking_at_the_head_of_an_answer_does_not_collect_it(restante: Restante, shop: Shop, http: Http) -> None:
    """HEAD is no method of the contract: it must not take a task off tasks_ready, unread."""
    task_id = one_task(await http.post([task()]))["id"]
    await listed(http, 1)
    assert (await call("HEAD", f"{restante.family}/task_get/{task_id}", shop.credentials)).body == b""
    assert [row["id"] for row in await listed(http, 1)] == [task_id]


# --- models (§3.5) -------------------------------------------------------------------------------------


def models_row(model: Model) -> dict[str, Any]:
    return {
        "model_name": model.name,
        "reasoning": model.reasoning,
        "web_search_supported": model.web_search,
        "task_post_supported": True,  # §12.23
    }


@pytest.mark.contract(
    "3.5 model_name",
    "3.5 web_search_supported",
    "3.5 task_post_supported",
    "3.5 reasoning",
    "6 When charged",
    "12.23 models",
)
async def test_models_lists_every_name_newest_first(http: Http) -> None:
    """§3.5, §12.23: aliases and versions both, with what each can do."""
    [entry] = check_envelope(await http.get("models"), "models")
    assert entry["data"] == FAMILY_DATA
    assert [list(row.items()) for row in entry["result"]] == [list(models_row(m).items()) for m in scripted_models()]
    names = [row["model_name"] for row in entry["result"]]
    assert {
        "gemini-2.5-flash",
        "gemini-2.5-pro",
        "gemini-2.5-flash-lite",
        "gemini-1.5-pro",
        "gemini-1.5-pro-002",
    } < set(names)
    assert len(set(names)) == len(names)


@pytest.mark.contract("12.23 models")
@pytest.mark.parametrize("name", [model.name for model in scripted_models()])
async def test_every_listed_model_may_be_posted(restante: Restante, visitor: Shop, name: str) -> None:
    async with Http(restante.family, visitor.credentials) as http:
        assert one_task(await http.post([task(model_name=name)]))["status_code"] == 20100


# --- tasks_ready (§3.2) --------------------------------------------------------------------------------


@pytest.mark.contract("3.2 free", "6 When charged", "12.2 empty tasks_ready")
async def test_nothing_ready_is_an_empty_list(http: Http) -> None:
    """§12.2: a loop over `result` works."""
    [entry] = check_envelope(await http.get("tasks_ready"), "tasks_ready")
    assert (entry["status_code"], entry["data"]) == (20000, FAMILY_DATA)
    assert (entry["result_count"], entry["result"]) == (0, [])


@pytest.mark.contract(
    "1 date format in results", "3.2 what is listed", "3.2 id", "3.2 se", "3.2 function", "3.2 date_posted", "3.2 tag"
)
async def test_finished_tasks_are_listed_oldest_first_until_they_are_collected(restante: Restante, http: Http) -> None:
    """§3.2: id, se, function, date_posted, tag, endpoint; a task without a tag has an empty one."""
    ids = []
    for count, fields in enumerate(({"tag": "run-17 ü"}, {}, {"tag": ""}), start=1):
        ids.append(one_task(await http.post([task(**fields)]))["id"])
        await listed(http, count)
    rows = await listed(http, 3)
    assert [row["id"] for row in rows] == ids
    assert [row["tag"] for row in rows] == ["run-17 ü", "", ""]
    for row in rows:
        assert list(row) == ["id", "se", "function", "date_posted", "tag", "endpoint"]
        assert (row["se"], row["function"]) == ("gemini", "llm_responses")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+00:00", row["date_posted"])
        posted = datetime.strptime(row["date_posted"], "%Y-%m-%d %H:%M:%S %z")
        assert timedelta(0) <= datetime.now(UTC) - posted < timedelta(minutes=1)
        assert row["endpoint"] == f"/v3/ai_optimization/gemini/llm_responses/task_get/{row['id']}"
    await http.get(f"task_get/{ids[1]}")
    assert [row["id"] for row in await listed(http, 2)] == [ids[0], ids[2]]


@pytest.mark.contract(
    "3.2 endpoint", "3.3 free and repeatable", "6 When charged", "6 cost at task_get", "12.13 task_get cost"
)
async def test_the_listed_endpoint_can_be_followed_verbatim(restante: Restante, shop: Shop, http: Http) -> None:
    """§3.2: as the documentation's C# example does; the answer may be fetched again, and says the same."""
    task_id = one_task(await http.post([task()]))["id"]
    [row] = await listed(http, 1)
    first = (await call("GET", restante.url + row["endpoint"], shop.credentials)).json
    [entry] = check_envelope(first, "task_get", task_id)
    assert (entry["id"], entry["status_code"], entry["cost"], first["cost"]) == (task_id, 20000, 0, 0)  # §12.13
    assert one_task(await http.get("tasks_ready"))["result"] == []
    again = one_task(await http.get(f"task_get/{task_id}"))
    assert (again["data"], again["result"]) == (entry["data"], entry["result"])


async def test_nobody_sees_another_accounts_tasks(restante: Restante, http: Http) -> None:
    await http.post([task()])
    await listed(http, 1)
    async with Http(restante.family) as operator:
        assert await operator.get("tasks_ready")
        theirs = {row["id"] for row in one_task(await operator.get("tasks_ready"))["result"]}
    assert not theirs & {row["id"] for row in await listed(http, 1)}


@pytest.fixture
def metered(restante: Restante) -> Shop:
    """An account that may owe without limit."""
    return open_shop(restante, "0", credit_limit=None)


@pytest.mark.contract("3.2 at most 1000")
async def test_a_thousand_are_listed_and_the_rest_as_these_are_collected(restante: Restante, metered: Shop) -> None:
    """§3.2: at most 1,000 rows; the next one shows when one of them is gone."""
    async with Http(restante.family, metered.credentials) as http:
        for count in [100] * 10 + [2]:
            await http.post([task()] * count)
        first = await listed(http, 1000, seconds=60)
        assert len(first) == 1000
        for row in first[:2]:
            assert one_task(await http.get(f"task_get/{row['id']}"))["status_code"] == 20000
        second = await listed(http, 1000)
        assert second[:998] == first[2:]
        assert not {row["id"] for row in second[998:]} & {row["id"] for row in first}


# --- task_get (§3.3, §2.3) -----------------------------------------------------------------------------

RESULT_KEYS = [
    "model_name",
    "input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "web_search",
    "money_spent",
    "datetime",
    "items",
    "fan_out_queries",
]


def check_result(entry: Any) -> Any:
    """§3.3, §3.6: the one result of an answered task, its keys in order; returned."""
    assert (entry["status_code"], entry["status_message"], entry["result_count"]) == (20000, "Ok.", 1)
    [result] = entry["result"]
    assert list(result) == RESULT_KEYS
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+00:00", result["datetime"])
    for name in ("input_tokens", "output_tokens", "reasoning_tokens"):
        assert type(result[name]) is int
    for item in result["items"]:
        assert list(item) == ["type", "sections"]
    return result


@pytest.mark.contract(
    "1 date format in results",
    "2.2 20000",
    "3.3 input_tokens",
    "3.3 output_tokens",
    "3.3 reasoning_tokens",
    "3.3 datetime",
    "3.3 items",
    "3.3 fan_out_queries",
    "3.6 annotations",
    "12.12 reasoning_tokens, fan_out_queries",
)
async def test_an_answer_has_the_documented_shape(http: Http) -> None:
    """§3.3: model, tokens, money, time, one message; null for what there was not."""
    prompt = "name one Alpine lake [[words=0]] [[tokens_in=15]] [[tokens_out=7]] [[cost=0.000104]]"
    task_id = one_task(await http.post([task(prompt)]))["id"]
    result = check_result((await http.answers([task_id]))[task_id])
    result.pop("datetime")
    assert result == {
        "model_name": "gemini-2.5-flash",
        "input_tokens": 15,
        "output_tokens": 7,
        "reasoning_tokens": 0,  # §12.12
        "web_search": False,
        "money_spent": 0.000104,
        "items": [
            {
                "type": "message",
                "sections": [{"type": "text", "text": "Scripted answer to: name one Alpine lake", "annotations": None}],
            }
        ],
        "fan_out_queries": None,
    }


@pytest.mark.contract(
    "3.1 web_search",
    "3.3 reasoning_tokens",
    "3.3 web_search",
    "3.3 fan_out_queries",
    "3.6 item",
    "3.6 message section",
    "3.6 reasoning section",
    "3.6 annotation",
    "3.6 order",
    "12.12 annotations",
)
async def test_an_answer_with_search_and_reasoning(http: Http) -> None:
    """§3.6: reasoning before the message; §12.12: annotation offsets are code points into their section's text."""
    asked = task("alpine trains", web_search=True, use_reasoning=True, max_output_tokens=1024)
    task_id = one_task(await http.post([asked]))["id"]
    result = check_result((await http.answers([task_id]))[task_id])
    assert (result["web_search"], result["reasoning_tokens"] > 0) == (True, True)
    assert result["fan_out_queries"] == ["alpine trains", "night trains to 京都"]
    reasoning, message = result["items"]
    assert (reasoning["type"], [list(section) for section in reasoning["sections"]]) == (
        "reasoning",
        [["type", "text"]],
    )
    assert reasoning["sections"][0]["type"] == "summary_text"
    [section] = message["sections"]
    assert (message["type"], list(section), section["type"]) == ("message", ["type", "text", "annotations"], "text")
    assert len(section["annotations"]) == 2
    for annotation in section["annotations"]:
        assert list(annotation) == ["title", "url", "direct_url", "start_index", "end_index", "text"]
        assert section["text"][annotation["start_index"] : annotation["end_index"]] == annotation["text"]


@pytest.mark.contract("3.1 web_search", "3.3 web_search", "3.6 annotations")
async def test_a_search_that_found_nothing_has_an_empty_list(http: Http) -> None:
    """§3.6: `annotations` is null unless search was allowed, and may be empty although it was."""
    result = check_result(one_task(await http.post([task("hi [[search=none]]", web_search=True)], "live")))
    [message] = result["items"]
    assert (result["web_search"], result["fan_out_queries"]) == (False, None)
    assert message["sections"][0]["annotations"] == []


@pytest.mark.contract("1.1 model_name in data", "3.1 model_name", "3.3 model_name")
async def test_an_alias_is_echoed_as_asked_and_answered_by_its_newest_version(http: Http) -> None:
    """§3.1: the documentation's own example of it."""
    for path in ("live", "task_post"):
        entry = one_task(await http.post([task(model_name="gemini-1.5-pro")], path))
        if path == "task_post":
            entry = (await http.answers([entry["id"]]))[entry["id"]]
        assert entry["data"]["model_name"] == "gemini-1.5-pro"
        assert check_result(entry)["model_name"] == "gemini-1.5-pro-002"


@pytest.mark.contract("3.1 use_reasoning")
async def test_a_pro_model_reasons_without_being_asked(http: Http) -> None:
    """§3.1: `use_reasoning` is forced, and still not echoed."""
    task_id = one_task(await http.post([task(model_name="gemini-2.5-pro")]))["id"]
    entry = (await http.answers([task_id]))[task_id]
    assert [item["type"] for item in check_result(entry)["items"]] == ["reasoning", "message"]
    assert entry["data"] == FAMILY_DATA | task(model_name="gemini-2.5-pro")


@pytest.mark.contract("1.1 envelope: tasks_error", "2.2 40601", "2.3 not finished", "12.4 tasks_error")
async def test_a_running_task_is_handed_then_answered(http: Http) -> None:
    """§2.3: 40601 while the model thinks, counted in tasks_error (§12.4); nothing is listed yet."""
    sent = task("hi [[latency=1]]", tag="slow")
    task_id = one_task(await http.post([sent]))["id"]
    entry = await fetched(http, task_id, until=TASK_HANDED)
    assert (entry["status_message"], entry["result_count"], entry["result"]) == ("Task Handed.", 0, None)
    assert entry["data"] == FAMILY_DATA | sent
    assert one_task(await http.get("tasks_ready"))["result"] == []
    check_result((await http.answers([task_id]))[task_id])


@pytest.mark.contract("2.2 40602", "2.3 not finished")
async def test_a_task_that_waits_is_in_the_queue(http: Http) -> None:
    """§2.3: 40602, also while it waits for its next try."""
    sent = task("hi [[fail=overloaded]] [[retry_after=3600]]")
    task_id = one_task(await http.post([sent]))["id"]
    entry = await fetched(http, task_id, until=TASK_IN_QUEUE)
    assert (entry["status_message"], entry["result"], entry["data"]) == ("Task In Queue.", None, FAMILY_DATA | sent)
    check_envelope(await http.get(f"task_get/{task_id}"), "task_get", task_id)


FAILURES = {
    "[[fail=quota used up]]": "3rd Party API Service Unavailable (quota used up).",
    "[[blocked=SAFETY]]": "3rd Party API Service Unavailable (blocked: SAFETY).",
}


@pytest.mark.contract(
    "2.2 50301",
    "2.3 finished with LLM failure",
    "6 LLM error (50301)",
    "12.3 failed tasks",
    "12.14 codes of failure",
    "12.14 blocked",
)
@pytest.mark.parametrize(("directive", "message"), FAILURES.items(), ids=["failed", "blocked"])
async def test_a_failed_task_is_listed_and_says_why(
    restante: Restante, shop: Shop, http: Http, directive: str, message: str
) -> None:
    """§12.3, §12.14: 50301 with the provider's reason and `result` null; it is collected like any other."""
    task_id = one_task(await http.post([task(f"hi {directive}")]))["id"]
    assert [row["id"] for row in await listed(http, 1)] == [task_id]
    [entry] = check_envelope(await http.get(f"task_get/{task_id}"), "task_get", task_id)
    assert (entry["status_code"], entry["status_message"], entry["cost"]) == (50301, message, 0)
    assert (entry["result_count"], entry["result"]) == (0, None)
    assert entry["data"] == FAMILY_DATA | task(f"hi {directive}")
    assert one_task(await http.get("tasks_ready"))["result"] == []
    assert await balance(restante, shop) == (parse_usd("10"), 0)  # §12.8: fee and hold are back


async def balance(restante: Restante, shop: Shop) -> tuple[int, int]:
    """The account's balance and what of it is held, in nano-dollars; the ledger adds up."""

    async def work(db: Database) -> tuple[int, int]:
        assert not await differences(db)
        account = await accounts.find(db, shop.credentials[0])
        return account.balance, account.held

    return await asyncio.to_thread(restante.look, work)


def own(shop: Shop, function: Function = Function.TASK_POST, random48: int = 0x5D0C1BE9A7F3) -> str:
    return mint_id(utc_now(), shop.number, function, random48)


@pytest.mark.contract(
    "2.2 40004",
    "2.2 40401",
    "2.3 unknown id in task_get",
    "2.3 id of a Live task in task_get",
    "3.4 not stored",
    "5.3 live",
    "12.21 not stored",
)
async def test_ids_of_the_account_that_name_no_task(http: Http, shop: Shop) -> None:
    """§2.3, §12.21, §12.29: 40401 for what was never posted or was live, 40004 for another function's id."""
    live = one_task(await http.post([task()], "live"))["id"]
    refused = one_task(await http.post([task("")]))["id"]
    expected = {
        own(shop): (40401, "Task Not Found."),
        own(shop).replace("-0000-", "-1000-"): (40401, "Task Not Found."),
        f"0101{own(shop)[4:]}": (40401, "Task Not Found."),  # a day of which nothing is kept
        refused: (40401, "Task Not Found."),
        live: (40401, "Task Not Found."),
        one_task(await http.get("models"))["id"]: (40004, "This id is used by another function, check the id."),
        one_task(await http.get("tasks_ready"))["id"]: (40004, "This id is used by another function, check the id."),
    }
    for task_id, (code, message) in expected.items():
        [entry] = check_envelope(await http.get(f"task_get/{task_id}"), "task_get", task_id)
        assert (entry["id"], entry["status_code"], entry["status_message"]) == (task_id, code, message)
        assert (entry["data"], entry["result"], entry["cost"]) == (FAMILY_DATA, None, 0)


@pytest.mark.contract("2.2 40001", "12.29 40001, 40004")
async def test_a_foreign_id_is_refused_unseen_and_not_collected(restante: Restante, http: Http) -> None:
    """§12.29: 40001, whether there is such a task or not; nothing of it leaks or changes."""
    async with Http(restante.family) as operator:
        theirs = one_task(await operator.post([task("a secret", tag="theirs")]))["id"]
        await operator.get("tasks_ready")
        invented = theirs[:-12] + "0" * 12
        for task_id in (theirs, invented):
            [entry] = check_envelope(await http.get(f"task_get/{task_id}"), "task_get", task_id)
            assert entry["status_code"] == 40001
            assert entry["status_message"] == "This id is used by another client, check the id."
            assert (entry["data"], entry["result"]) == (FAMILY_DATA, None)
        assert check_result((await operator.answers([theirs]))[theirs])


@pytest.mark.contract("1.1 task: path", "1.4 percent-encoded ids", "2.2 40401")
@pytest.mark.parametrize(
    "text",
    [
        "x",
        "0",
        "%20",
        "%00",
        "%FF",
        "%3Fid",
        "..%5C",
        "'%20or%201=1--",
        "null",
        "ü",
        "00000000-0000-0000-0000-000000000000",
        "13011200-0001-0613-0000-5d0c1be9a7f3",  # month 13
        "02301200-0001-0613-0000-5d0c1be9a7f3",  # 30 February
        "112014150042061300005d0c1be9a7f3",
        "{11201415-0042-0613-0000-5d0c1be9a7f3}",
        "11201415-0042-0613-0000-5d0c1be9a7f",
        "11201415-0042-0613-0000-5d0c1be9a7fg",
        "١١201415-0042-0613-0000-5d0c1be9a7f3",  # digits, but not ASCII's
        "a" * 5_000,
    ],
)
async def test_what_cannot_be_an_id_is_not_found(restante: Restante, visitor: Shop, text: str) -> None:
    """§2.3: 40401 with the id as it was asked for, which also ends the path."""
    url = URL(f"{restante.family}/task_get/{text}", encoded=text.isascii())
    answered = await call("GET", url, visitor.credentials)
    asked = unquote(text)
    [entry] = check_envelope(answered.json, "task_get", asked)
    assert (answered.status, entry["id"], entry["status_code"]) == (200, asked, 40401)


async def test_an_id_may_be_asked_for_in_capitals(http: Http) -> None:
    """Hexadecimal has no case."""
    task_id = one_task(await http.post([task()]))["id"]
    await http.answers([task_id])
    assert one_task(await http.get(f"task_get/{task_id.upper()}"))["status_code"] == 20000


# --- live (§3.4) ---------------------------------------------------------------------------------------


@pytest.mark.contract(
    "3.3 money_spent", "3.4 not stored", "3.4 cost", "6 Live base fee", "6 money_spent", "12.8 success", "12.13 numbers"
)
async def test_live_answers_at_once_and_charges_fee_and_model(restante: Restante, http: Http, shop: Shop) -> None:
    """§12.8: cost is 0.0006 + money_spent, exactly; nothing is stored or listed (§12.21)."""
    sent = task("hi [[cost=0.0001035]]", tag="l-1", temperature=1)
    answer = await http.post([sent], "live")
    [entry] = check_envelope(answer, "live")
    check_id(entry["id"], shop, Function.LIVE)
    assert (entry["cost"], answer["cost"]) == (0.0007035, 0.0007035)
    assert entry["data"] == FAMILY_DATA | sent
    assert check_result(entry)["money_spent"] == 0.0001035
    assert one_task(await http.get("tasks_ready"))["result"] == []
    assert await balance(restante, shop) == (parse_usd("9.9992965"), 0)


@pytest.mark.contract("1.1 envelope: time", "1.1 task: time", "3.4 time")
async def test_live_time_holds_the_models(http: Http) -> None:
    """§3.4: the envelope's time is the call's, the task's the model's."""
    [entry] = check_envelope(await http.post([task("hi [[latency=0.2]]")], "live"), "live")
    assert float(entry["time"].removesuffix(" sec.")) >= 0.2


@pytest.mark.contract("2.2 50301", "3.4 failure", "6 LLM error (50301)", "12.14 blocked")
@pytest.mark.parametrize(
    ("directive", "message"),
    {**FAILURES, "[[fail=overloaded]]": "3rd Party API Service Unavailable (overloaded)."}.items(),
    ids=["failed", "blocked", "transient"],
)
async def test_a_live_failure_costs_nothing(
    restante: Restante, http: Http, shop: Shop, directive: str, message: str
) -> None:
    """§3.4: the provider's reason at once, without further tries."""
    [entry] = check_envelope(await http.post([task(f"hi {directive}")], "live"), "live")
    assert (entry["status_code"], entry["status_message"], entry["cost"]) == (50301, message, 0)
    assert (entry["data"], entry["result"]) == (FAMILY_DATA | task(f"hi {directive}"), None)
    assert await balance(restante, shop) == (parse_usd("10"), 0)


LIVE_REFUSALS = {
    "two tasks": ([task(), task()], 40000, "You can set only one task at a time.", False),
    "no task": ([], 40502, "POST Data Is Empty.", False),
    "no array": (task(), 40503, "POST Data Is Invalid.", False),
    "a number for a task": ([7], 40503, "POST Data Is Invalid.", False),
    "no model": ([{"user_prompt": "hi"}], 40501, "Invalid Field: 'model_name'.", True),
    "postback_url": (
        [task(postback_url="https://hooks.example.org/")],
        40501,
        "Invalid Field: 'postback_url'.",
        True,
    ),
    "pingback_url": (
        [task(pingback_url="https://hooks.example.org/")],
        40501,
        "Invalid Field: 'pingback_url'.",
        True,
    ),
    "unknown field": ([task(promt="hi")], 40506, "Unknown Fields in POST Data: 'promt'.", True),
}


@pytest.mark.contract("2.2 40000", "2.3 2+ tasks to live", "3.4 one task", "12.5 40000, 40502, 40503")
@pytest.mark.parametrize(("body", "code", "message", "echoed"), LIVE_REFUSALS.values(), ids=LIVE_REFUSALS)
async def test_live_refuses(
    restante: Restante, visitor: Shop, body: Any, code: int, message: str, echoed: bool
) -> None:
    """§3.4: task_post's rules without webhooks, one task a call (§12.5)."""
    async with Http(restante.family, visitor.credentials) as http:
        [entry] = check_envelope(await http.post(body, "live"), "live")
        check_id(entry["id"], visitor, Function.LIVE)
        assert (entry["status_code"], entry["status_message"], entry["cost"]) == (code, message, 0)
        assert (entry["data"], entry["result"]) == (FAMILY_DATA | (body[0] if echoed else {}), None)


# --- money (§12.7) -------------------------------------------------------------------------------------


@pytest.fixture
def poor(restante: Restante) -> Shop:
    """A prepaid account with 5 cents."""
    return open_shop(restante, "0.05")


@pytest.mark.contract("2.2 40210", "12.7 credit limit", "12.27 order")
async def test_tasks_are_paid_for_in_order_while_the_balance_lasts(restante: Restante, poor: Shop) -> None:
    """§12.7, acceptance 8: a bad task costs nothing and four of five are covered; the fifth is 40210 at cost 0."""
    sent = [task(""), *[task(tag=str(number)) for number in range(5)]]
    async with Http(restante.family, poor.credentials) as http:
        answer = await http.post(sent)
        entries = check_envelope(answer, "task_post")
        assert [entry["status_code"] for entry in entries] == [40501, 20100, 20100, 20100, 20100, 40210]
        assert [entry["cost"] for entry in entries] == [0, 0.0102, 0.0102, 0.0102, 0.0102, 0]
        assert (answer["cost"], answer["tasks_error"]) == (0.0408, 2)
        assert entries[-1]["status_message"] == "Insufficient Funds."
        assert (entries[-1]["data"], entries[-1]["result"]) == (FAMILY_DATA | sent[-1], None)
        assert len({entry["id"] for entry in entries}) == 6
        for entry in entries:
            check_id(entry["id"], poor, Function.TASK_POST)
        await http.answers([entry["id"] for entry in entries[1:5]])
    assert await balance(restante, poor) == (parse_usd("0.0492"), 0)


@pytest.fixture
def penniless(restante: Restante) -> Shop:
    return open_shop(restante, "0.0101")


@pytest.mark.contract("2.2 40210", "2.3 balance insufficient at task_post/live", "12.7 HTTP 402")
@pytest.mark.parametrize("path", ["task_post", "live"])
async def test_a_prepaid_account_cannot_owe(restante: Restante, penniless: Shop, path: str) -> None:
    async with Http(restante.family, penniless.credentials) as http:
        answer = await http.post([task()], path)
        [entry] = check_envelope(answer, path)
        assert (entry["status_code"], entry["status_message"]) == (40210, "Insufficient Funds.")
        assert (answer["cost"], entry["data"], entry["result"]) == (0, FAMILY_DATA | task(), None)


@pytest.fixture
def overdrawn(restante: Restante) -> Shop:
    return open_shop(restante, "1")


@pytest.mark.contract(
    "2.2 40200",
    "2.3 balance negative at task_get / webhook",
    "6 LLM cost above 0.01",
    "6 Negative balance",
    "12.7 below the limit",
)
async def test_results_are_withheld_while_the_account_owes_too_much(restante: Restante, overdrawn: Shop) -> None:
    """§12.7: a task dearer than its hold; 40200 and an empty list until a top-up, then all of it is there."""
    async with Http(restante.family, overdrawn.credentials) as http:
        sent = task("hi [[cost=5]]")
        task_id = one_task(await http.post([sent]))["id"]
        entry = await fetched(http, task_id, until=40200)
        assert (entry["status_message"], entry["result_count"], entry["result"]) == ("Payment Required.", 0, None)
        assert entry["data"] == FAMILY_DATA | sent
        check_envelope(await http.get(f"task_get/{task_id}"), "task_get", task_id)
        assert one_task(await http.get("tasks_ready"))["result"] == []
        assert one_task(await http.post([task()]))["status_code"] == 40210
        assert await balance(restante, overdrawn) == (parse_usd("-4.0002"), 0)

        done = await asyncio.to_thread(restante.run, "account", "top-up", overdrawn.credentials[0], "4.0002")
        assert done.returncode == 0, done.stderr
        assert [row["id"] for row in await listed(http, 1)] == [task_id]  # looking did not collect it
        assert check_result(one_task(await http.get(f"task_get/{task_id}")))["money_spent"] == 5
        assert one_task(await http.get("tasks_ready"))["result"] == []
