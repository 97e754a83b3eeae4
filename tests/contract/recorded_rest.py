"""One answer of each other endpoint of the family, with what it must be (contract §3.7-3.12)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from restante.core.task import Function
from restante.flow import accounts
from restante.store.database import Database
from tests.contract.recorded import NO_TIME, UNKNOWN, Recorded
from tests.contract.shape import COUNT, DATA, DAY, DURATION, FAMILY, MINUTE, MOMENT, STATUS, envelope, own_id, task
from tests.support import Http, Restante, open_account

LOGIN = "rest@example.org"


def record(restante: Restante) -> dict[str, Recorded]:
    """Ask for all of them, as an account of its own that posted one task, with a webhook that fails, and a live one."""

    async def open_one(db: Database) -> tuple[tuple[str, str], int]:
        return await open_account(db, LOGIN, "10"), (await accounts.find(db, LOGIN)).id

    credentials, account = restante.look(open_one)

    async def run() -> dict[str, Recorded]:
        async with Http(restante.url + "/v3", credentials) as http:
            calls = _Calls(http, account)
            await calls.prepare()
            return await calls.appendix() | await calls.records()

    return asyncio.run(run())


class _Calls:
    def __init__(self, http: Http, account: int) -> None:
        self.http = http
        self.account = account

    async def prepare(self) -> None:
        family = "/".join(FAMILY[1:])
        url = "http://localhost:9/$id?t=$tag"  # a name is judged when it is called, and this one is refused
        self.posted = _asked("one lake [[cost=0.0358913]]", tag="run 17", pingback_url=url)
        [entry] = (await self.http.post([self.posted], f"{family}/task_post"))["tasks"]
        self.id: str = entry["id"]
        async with asyncio.timeout(20):
            while not (await self.http.post([{}], "ai_optimization/errors"))["tasks"][0]["result"]:
                await asyncio.sleep(2.0)  # its rate is 10 a minute
        [entry] = (await self.http.post([_asked("one lake [[cost=0.0001035]]")], f"{family}/live"))["tasks"]
        self.live: str = entry["id"]

    def one(self, function: Function, *path: str, **more: Any) -> dict[str, Any]:
        task_id = own_id(self.account, function)
        return task(task_id, ["v3", *path], data={"api": path[0], "function": path[1]} | more.pop("sent", {}), **more)

    async def appendix(self) -> dict[str, Recorded]:
        """user_data, errors, status, webhook_resend."""
        errors = await self.http.get("appendix/errors")
        rows = [{"code": code, "message": errors_message(code, errors)} for code in CODES]
        book = self.one(Function.APPENDIX_ERRORS, "appendix", "errors", count=len(rows), result=rows)
        health = self.one(Function.STATUS, "appendix", "status", count=2, result=_STATUS)
        user_data = await self.http.get("appendix/user_data")
        data = self.one(Function.USER_DATA, "appendix", "user_data", count=1, result=[_user_data(user_data)])
        path = ["v3", "appendix", "webhook_resend"]
        unknown = UNKNOWN.format(account=self.account)
        asked = {"api": "appendix", "function": "webhook_resend"}
        sent = task(self.id, path, code=20100, message="Task Created.", data=DATA | self.posted)
        missing = task(unknown, path, code=40401, message="Task Not Found.", data=asked | {"id": unknown})
        answer = await self.http.post([{"id": self.id}, {"id": unknown}], "appendix/webhook_resend")
        return {
            "user_data": Recorded(user_data, envelope(data)),
            "appendix errors": Recorded(errors, envelope(book)),
            "status": Recorded(await self.http.get("appendix/status"), envelope(health)),
            "webhook_resend": Recorded(
                answer, envelope(sent | {"time": NO_TIME}, missing | {"time": NO_TIME}, errors=1)
            ),
        }

    async def records(self) -> dict[str, Recorded]:
        """id_list with metadata and without, errors; a field refused."""
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} +00:00"
        asked = {"datetime_from": f"{datetime.now(UTC):%Y-%m-%d} 00:00:00 +00:00", "datetime_to": now}
        whole = asked | {"limit": 10, "sort": "asc", "include_metadata": True}
        ours = {"datetime_posted": MOMENT, "datetime_done": MOMENT, "status": "20000"}
        url = "/".join(FAMILY)
        row = {"id": self.id, "url": f"{url}/task_post", **ours, "cost": 0.0360913}
        live = {"id": self.live, "url": f"{url}/live", **ours, "cost": 0.0007035}
        rows = [row | {"metadata": DATA | self.posted}, live | {"metadata": DATA}]
        listed = self.one(Function.ID_LIST, "ai_optimization", "id_list", sent=whole, count=2, result=rows)
        newest = asked | {"sort": "desc"}
        bare = self.one(Function.ID_LIST, "ai_optimization", "id_list", sent=newest, count=2, result=[live, row])
        bad = asked | {"limit": 1001}
        refused = self.one(
            Function.ID_LIST, "ai_optimization", "id_list", sent=bad, code=40501, message="Invalid Field: 'limit'.",
            time=NO_TIME,
        )  # fmt: skip
        wanted = {"limit": 1, "offset": 0, "filtered_function": "pingback_url"}
        called = f"http://localhost:9/{self.id}?t=run%2017"
        failure = {
            "id": self.id,
            "datetime": MOMENT,
            "function": "pingback_url",
            "error_code": 0,
            "error_message": called,
            "http_url": called,
            "http_method": "GET",
            "http_code": 0,
            "http_time": DURATION,
            "http_response": "cannot connect: 127.0.0.1 is not a public address; RESTANTE_WEBHOOK_ALLOW can admit it",
        }
        failed = self.one(Function.ERRORS, "ai_optimization", "errors", sent=wanted, count=1, result=[failure])
        return {
            "id_list, whole": Recorded(await self._list("id_list", whole), envelope(listed)),
            "id_list, newest first": Recorded(await self._list("id_list", newest), envelope(bare)),
            "id_list, refused": Recorded(await self._list("id_list", bad), envelope(refused, errors=1)),
            "errors": Recorded(await self._list("errors", wanted), envelope(failed)),
        }

    async def _list(self, name: str, asked: dict[str, Any]) -> Any:
        return await self.http.post([asked], f"ai_optimization/{name}")


def errors_message(code: int, answer: Any) -> str:
    """The wording where the contract fixes it; elsewhere any text, as it came."""
    if code in WORDS:
        return WORDS[code]
    found = [row["message"] for row in answer["tasks"][0]["result"] if row["code"] == code]
    assert len(found) == 1 and isinstance(found[0], str) and found[0], code
    return str(found[0])


def _asked(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"user_prompt": prompt, "model_name": "gemini-2.5-flash"} | fields


def _figures(
    live: Any = 0, task_post: Any = 0, tasks_ready: Any = 0, task_get: Any = 0, models: Any = 0, *, slow: Any = 0,
    user_data: Any = 0, total: Any = 0, sum_of_all: Any = 0, **value: Any,
) -> dict[str, Any]:  # fmt: skip
    responses = {
        "live": live, "task_post": task_post, "tasks_ready": tasks_ready, "task_get": task_get, "models": models,
    }  # fmt: skip
    return {
        "ai_optimization": {"llm_responses": responses, "errors": slow, "id_list": slow},
        "total_ai_optimization": total,
        "appendix": {"user_data": user_data, "errors": slow, "status": slow},
        "total": sum_of_all,
        **value,
    }


def _counted(value: Any) -> dict[str, Any]:
    every = dict.fromkeys(("live", "task_post", "tasks_ready", "task_get", "models", "slow", "user_data"), COUNT)
    return _figures(**every, total=COUNT, sum_of_all=COUNT, value=value)


def _spent(value: Any, live: Any = 0.0007035, task_post: Any = 0.0360913) -> dict[str, Any]:
    both = round(live + task_post, 9)
    return _figures(live=live, task_post=task_post, total=both, sum_of_all=both, value=value)


def _user_data(answer: Any) -> dict[str, Any]:
    """Of the current minute it has the whole figure, or nothing of it when the minute it was spent in is over."""
    minute = answer["tasks"][0]["result"][0]["money"]["statistics"]["minute"]["ai_optimization"]["llm_responses"]
    spent = _spent(MINUTE, minute["live"] and 0.0007035, minute["task_post"] and 0.0360913)
    return _USER_DATA | {"money": _MONEY | {"statistics": {"day": _spent(DAY), "minute": spent}}}


def _price(cost: float | int) -> dict[str, Any]:
    return {f"priority_{one}": [{"cost_type": "per_request", "cost": cost}] for one in ("low", "normal", "high")}


_NOTHING = _figures()
_MONEY: dict[str, Any] = {
    "total": 10.0,
    "balance": 9.9632052,
    "limits": {"day": _NOTHING, "minute": _NOTHING},
    "statistics": {},
}
_USER_DATA: dict[str, Any] = {
    "login": LOGIN,
    "timezone": "UTC",
    "rates": {
        # tasks_ready is without limit in the tests' environment; 20 as it comes
        "limits": {"day": _NOTHING, "minute": _figures(live=2000, task_post=2000, slow=10, user_data=6)},
        "statistics": {"day": _counted(DAY), "minute": _counted(MINUTE)},
    },
    "money": {},  # see _user_data
    "price": {
        "ai_optimization": {
            "llm_responses": {
                "live": _price(0.0006),
                "task_post": _price(0.0002),
                "tasks_ready": _price(0),
                "task_get": _price(0),
                "models": _price(0),
            }
        }
    },
    "backlinks_subscription_expiry_date": None,
    "llm_mentions_subscription_expiry_date": None,
}
_KINDS = ("task_post", "task_get", "live", "postback/pingback")
_STATUS = [
    {
        "api": "ai_optimization",
        "status": STATUS,  # other tests make calls fail on the same installation
        "endpoints": [{"endpoint": kind, "status": STATUS} for kind in _KINDS],
    },
    {"api": "appendix", "status": "ok", "endpoints": []},
]

WORDS = {
    20000: "Ok.",
    20100: "Task Created.",
    40000: "You can set only one task at a time.",
    40001: "This id is used by another client, check the id.",
    40004: "This id is used by another function, check the id.",
    40006: "You can set no more than 100 tasks at a time.",
    40103: "Task execution failed, please try to resubmit the task.",
    40200: "Payment Required.",
    40210: "Insufficient Funds.",
    40400: "Not Found.",
    40401: "Task Not Found.",
    40402: "Invalid Path.",
    40403: "Results Expired.",
    40501: "Invalid Field.",
    40502: "POST Data Is Empty.",
    40503: "POST Data Is Invalid.",
    40506: "Unknown Fields in POST Data.",
    40601: "Task Handed.",
    40602: "Task In Queue.",
    50000: "Internal Error.",
    50301: "3rd Party API Service Unavailable.",
    50303: "Update in progress. Please try after a few minutes.",
    50401: "Internal Error - Timeout.",
}
#: Every code of §2.2 that has a documented meaning in this family or in all of them, in order.
CODES = sorted(
    {*WORDS, 40002, 40003, 40100, 40101, 40102, 40104, 40106, 40201, 40202, 40203, 40204, 40205, 40206, 40207, 40209}
    | {40404, 40505, 50001, 50100, 50302, 50304}
)
