"""One answer of every kind from a running server, each with what it must be (contract §1.1, §2, §3)."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import msgspec

from restante.core.task import Function
from restante.flow import accounts
from restante.providers.registry import scripted_models
from restante.store.database import Database
from tests.contract.shape import DATA, FAMILY, MOMENT, TOKENS, envelope, own_id, task
from tests.support import Http, Restante, open_account

UNKNOWN = "11201415-{account:04x}-0613-0000-ffffffffffff"
RATE = "The rates limit per minute has been exceeded: 1 >= 1."


class Recorded(NamedTuple):
    """An answer, and its specification."""

    answer: Any
    spec: Any


def record(restante: Restante) -> dict[str, Recorded]:
    """Ask for all of them, as an account of its own, whose rate of models is 1."""

    async def open_one(db: Database) -> tuple[tuple[str, str], int]:
        credentials = await open_account(db, "recorded@example.org", "10")
        await accounts.change_limits(db, credentials[0], {"models": 1})
        return credentials, (await accounts.find(db, credentials[0])).id

    credentials, account = restante.look(open_one)
    return asyncio.run(_record(restante, credentials, account))


async def _record(restante: Restante, credentials: tuple[str, str], account: int) -> dict[str, Recorded]:
    async with Http(restante.url, credentials) as http, Http(restante.url, None) as stranger:
        calls = _Calls(http, account)
        made = await calls.posted() | await calls.fetched() | await calls.live() | await calls.lists()
        made["an unknown path"] = Recorded((await http.send("GET", "v3/nothing"))[1], _NOT_FOUND)
        made["a stranger"] = Recorded((await stranger.send("GET", "v3/nothing"))[1], _UNAUTHORIZED)
    return made


class _Calls:
    def __init__(self, http: Http, account: int) -> None:
        self.http = http
        self.account = account

    def own(self, function: Function) -> Any:
        return own_id(self.account, function)

    async def send(self, method: str, name: str, tasks: object = None) -> Any:
        body = None if tasks is None else msgspec.json.encode(tasks)
        status, answer = await self.http.send(method, "/".join([*FAMILY, name]), body)
        assert status == 200
        return answer

    async def posted(self) -> dict[str, Recorded]:
        """task_post: two good tasks and a bad one; no body."""
        good, bad = _asked("one lake", tag="run-17", temperature=1), _asked("one lake", top_p=9)
        path = [*FAMILY, "task_post"]
        made: dict[str, Any] = {"code": 20100, "message": "Task Created.", "cost": 0.0102}
        created = task(self.own(Function.TASK_POST), path, **made, data=DATA | good)
        refused = task(
            self.own(Function.TASK_POST),
            path,
            code=40501,
            message="Invalid Field: 'top_p'.",
            time=NO_TIME,
            data=DATA | bad,
        )
        empty = task(
            self.own(Function.TASK_POST), path, code=40502, message="POST Data Is Empty.", time=NO_TIME, data=DATA
        )
        answer = await self.send("POST", "task_post", [good, bad, good])
        return {
            "task_post": Recorded(answer, envelope(created, refused, created, cost=0.0204, errors=1)),
            "task_post of nothing": Recorded(await self.send("POST", "task_post"), envelope(empty, errors=1)),
        }

    async def fetched(self) -> dict[str, Recorded]:
        """task_get: answered, failed, waiting, running, never heard of."""
        sent = {
            "answered": _asked("one lake [[cost=0.0358913]]", web_search=True, use_reasoning=True, tag="run-17"),
            "plain": _asked("one lake [[cost=0.0001035]]"),
            "failed": _asked("one lake [[fail=no such luck]]"),
            "waiting": _asked("one lake [[fail=overloaded]] [[retry_after=3600]]"),
        }
        posted = await self.send("POST", "task_post", list(sent.values()))
        ids = {name: entry["id"] for name, entry in zip(sent, posted["tasks"], strict=True)}
        ids["unknown"] = UNKNOWN.format(account=self.account)
        said: dict[str, dict[str, Any]] = {
            "answered": {"count": 1, "result": [SEARCHED]},
            "plain": {"count": 1, "result": [PLAIN]},
            "failed": {"code": 50301, "message": "3rd Party API Service Unavailable (no such luck)."},
            "waiting": {"code": 40602, "message": "Task In Queue."},
            "unknown": {"code": 40401, "message": "Task Not Found."},
        }
        made = {}
        for name, task_id in ids.items():
            final = said[name].get("code", 20000)
            answer = await self._fetch(task_id, final)
            one = task(task_id, [*FAMILY, "task_get", task_id], **said[name], data=DATA | sent.get(name, {}))
            made[f"task_get, {name}"] = Recorded(answer, envelope(one, errors=int(final != 20000)))
        return made

    async def _fetch(self, task_id: str, code: int) -> Any:
        async with asyncio.timeout(20):
            while True:
                answer = await self.send("GET", f"task_get/{task_id}")
                if answer["tasks"][0]["status_code"] == code:
                    return answer
                await asyncio.sleep(0.02)  # polls as a client does

    async def live(self) -> dict[str, Recorded]:
        """live: answered, and refused by the provider."""
        path = [*FAMILY, "live"]
        good, bad = _asked("one lake [[cost=0.0001035]]", tag="l-1"), _asked("one lake [[fail=rate_limit_exceeded]]")
        answered = task(self.own(Function.LIVE), path, cost=0.0007035, count=1, data=DATA | good, result=[PLAIN])
        why = "3rd Party API Service Unavailable (rate_limit_exceeded)."
        failed = task(self.own(Function.LIVE), path, code=50301, message=why, data=DATA | bad)
        return {
            "live": Recorded(await self.send("POST", "live", [good]), envelope(answered, cost=0.0007035)),
            "live, failed": Recorded(await self.send("POST", "live", [bad]), envelope(failed, errors=1)),
        }

    async def lists(self) -> dict[str, Recorded]:
        """models, once and beyond its rate; tasks_ready, with rows and without; a wrong path."""
        rows = [
            {
                "model_name": one.name,
                "reasoning": one.reasoning,
                "web_search_supported": one.web_search,
                "task_post_supported": True,
            }
            for one in scripted_models()
        ]
        listed = task(self.own(Function.MODELS), [*FAMILY, "models"], count=len(rows), data=DATA, result=rows)
        excess = task(self.own(Function.MODELS), [*FAMILY, "models"], code=40202, message=RATE, time=NO_TIME, data=DATA)
        wrong = task(
            self.own(Function.TASK_POST),
            [*FAMILY, "nothing"],
            code=40402,
            message="Invalid Path.",
            time=NO_TIME,
            data=None,
        )
        models = await self.send("GET", "models")
        return {
            "models": Recorded(models, envelope(listed)),
            "models beyond its rate": Recorded(
                await self._until_refused(), envelope(excess, errors=1, code=40202, message=RATE)
            ),
            "a wrong path": Recorded(await self.send("GET", "nothing"), envelope(wrong, errors=1)),
            **await self._ready(),
        }

    async def _until_refused(self) -> Any:
        """The second call of a minute; the third, when a minute ended between the first two."""
        answers = [await self.send("GET", "models") for _ in range(2)]
        return next(one for one in answers if one["status_code"] != 20000)

    async def _ready(self) -> dict[str, Recorded]:
        async with asyncio.timeout(20):
            while len((answer := await self.send("GET", "tasks_ready"))["tasks"][0]["result"]) < 2:
                await asyncio.sleep(0.02)  # the two of `posted`
        ids = [row["id"] for row in answer["tasks"][0]["result"]]
        path = [*FAMILY, "tasks_ready"]
        rows = [
            {
                "id": task_id,
                "se": "gemini",
                "function": "llm_responses",
                "date_posted": MOMENT,
                "tag": "run-17",
                "endpoint": "/" + "/".join([*FAMILY, "task_get", task_id]),
            }
            for task_id in ids
        ]
        full = task(self.own(Function.TASKS_READY), path, count=len(rows), data=DATA, result=rows)
        for task_id in ids:
            await self.send("GET", f"task_get/{task_id}")
        empty = task(self.own(Function.TASKS_READY), path, data=DATA, result=[])
        return {
            "tasks_ready": Recorded(answer, envelope(full)),
            "tasks_ready, empty": Recorded(await self.send("GET", "tasks_ready"), envelope(empty)),
        }


def _asked(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"user_prompt": prompt, "model_name": "gemini-2.5-flash"} | fields


NO_TIME = "0.0000 sec."  # §2.3: of what was refused

_BARE = {"time": "0 sec.", "cost": 0, "tasks_count": 0, "tasks_error": 0}
_NOT_FOUND = envelope() | {"status_code": 40400, "status_message": "Not Found."} | _BARE | {"tasks": None}
_UNAUTHORIZED = {
    "status_code": 40100,
    "status_message": "You are not Authorized to Access this Resource. "
    "Your Login Information Here: https://app.dataforseo.com/login .",
    **_BARE,
    "tasks": [],
}

_WORDS = (
    "Forest ridge snow castle reef quarry rail meadow canal delta quarry delta delta forest coast forest island "
    "valley plain tide shore chapel plain heath."
)
PLAIN = {
    "model_name": "gemini-2.5-flash",
    "input_tokens": TOKENS,
    "output_tokens": TOKENS,
    "reasoning_tokens": 0,
    "web_search": False,
    "money_spent": 0.0001035,
    "datetime": MOMENT,
    "items": [
        {
            "type": "message",
            "sections": [
                {"type": "text", "text": f"Scripted answer to: one lake\n\n{_WORDS}", "annotations": None},
            ],
        }
    ],
    "fan_out_queries": None,
}

_FOUND = (
    "Valley pier hill glacier cloud delta cedar lantern trail field willow coast trail quarry stone night tower "
    "snow castle signal road summer snow tide."
)
_SOURCES = ("Zürich’s trains 🚆 reach every valley.", "In 京都 the night bus — 夜行バス — costs less.")
SEARCHED = {
    "model_name": "gemini-2.5-flash",
    "input_tokens": TOKENS,
    "output_tokens": TOKENS,
    "reasoning_tokens": TOKENS,
    "web_search": True,
    "money_spent": 0.0358913,
    "datetime": MOMENT,
    "items": [
        {
            "type": "reasoning",
            "sections": [{"type": "summary_text", "text": "Scripted reasoning about: one lake"}],
        },
        {
            "type": "message",
            "sections": [
                {
                    "type": "text",
                    "text": f"Scripted answer to: one lake\n\n{_FOUND}\n\n{_SOURCES[0]}\n\n{_SOURCES[1]}",
                    "annotations": [
                        {
                            "title": "example.org",
                            "url": "https://redirect.example.org/scripted",
                            "direct_url": "https://example.org/scripted",
                            "start_index": 180,
                            "end_index": 217,
                            "text": _SOURCES[0],
                        },
                        {
                            "title": "example.com",
                            "url": "https://redirect.example.com/scripted",
                            "direct_url": "https://example.com/scripted",
                            "start_index": 219,
                            "end_index": 259,
                            "text": _SOURCES[1],
                        },
                    ],
                }
            ],
        },
    ],
    "fan_out_queries": ["one lake", "night trains to 京都"],
}
