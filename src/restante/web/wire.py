"""DataForSEO's JSON: the envelope, the tasks in it, the results (contract §1.1, §3). Floats of money exist only here.

Key order is the order of the fields below. Stored texts (a task's request, an answer's result) are spliced in as they
are, never parsed on the way out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from restante.core.allowance import Endpoint
from restante.core.answer import Answer, Item
from restante.core.errors import ERROR_CODES_FROM, OK_CODE, OK_MESSAGE, Refusal, Unauthorized
from restante.core.money import NANO_PER_USD
from restante.core.task import Model
from restante.flow.collect import Fetched
from restante.store.tasks import Listed

VERSION: Final = "0.1.20261122"
API: Final = "ai_optimization"
FUNCTION: Final = "llm_responses"
PLATFORM: Final = "gemini"
FAMILY_PATH: Final = ("v3", API, PLATFORM, FUNCTION)

#: What `data` begins with: for this family all of it (contract §1.1), for the appendix without `se`.
LLM_RESPONSES: Final = msgspec.json.encode({"api": API, "function": FUNCTION, "se": PLATFORM})
_NOTHING: Final = b"{}"
_ORIGINS: Final = {
    name: msgspec.json.encode({"api": api, "function": function})
    for name, api, function in (
        ("user_data", "appendix", "user_data"),
        ("appendix_errors", "appendix", "errors"),
        ("status", "appendix", "status"),
        ("webhook_resend", "appendix", "webhook_resend"),
        ("id_list", API, "id_list"),
        ("errors", API, "errors"),
    )
}

#: The body of a 401, byte for byte as the original serves it: no version, escaped slashes (contract §2.1).
UNAUTHORIZED_BODY: Final = (
    b'{"status_code":%d,"status_message":"%b","time":"0 sec.","cost":0,"tasks_count":0,"tasks_error":0,"tasks":[]}'
    % (Unauthorized.code, Unauthorized.template.replace("/", r"\/").encode())
)


class TaskEntry(msgspec.Struct, frozen=True):
    """A task as an envelope shows it."""

    id: str
    status_code: int
    status_message: str
    time: str
    cost: int | float
    result_count: int
    path: Sequence[str]
    data: msgspec.Raw | None
    result: msgspec.Raw | None


class Envelope(msgspec.Struct, frozen=True):
    """What every call answers."""

    version: str
    status_code: int
    status_message: str
    time: str
    cost: int | float
    tasks_count: int
    tasks_error: int
    tasks: Sequence[TaskEntry] | None


class ReadyResult(msgspec.Struct, frozen=True):
    """A row of tasks_ready (contract §3.2)."""

    id: str
    se: str
    function: str
    date_posted: str
    tag: str
    endpoint: str


class ModelResult(msgspec.Struct, frozen=True):
    """A row of models (contract §3.5)."""

    model_name: str
    reasoning: bool
    web_search_supported: bool
    task_post_supported: bool


class AnswerResult(msgspec.Struct, frozen=True):
    """The result of task_get and live (contract §3.3)."""

    model_name: str
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    web_search: bool
    money_spent: int | float
    datetime: str
    items: Sequence[dict[str, Any]]
    fan_out_queries: Sequence[str] | None


def usd(nano: int) -> int | float:
    """Nano-dollars as the JSON number of US dollars: the division is correctly rounded, so the shortest decimal that
    JSON writes for it is the exact amount, of at most nine places."""
    return nano / NANO_PER_USD if nano else 0


def seconds(elapsed: float) -> str:
    """A duration as the original writes it: `0.1071 sec.`"""
    return f"{elapsed:.4f} sec."


def moment(at: datetime) -> str:
    """A time in UTC as the original writes it: `2026-11-20 12:15:08 +00:00`."""
    return f"{at:%Y-%m-%d %H:%M:%S} +00:00"


def data(request: bytes | None, origin: bytes = LLM_RESPONSES) -> msgspec.Raw:
    """The echo: `origin` (`api`, `function`, `se`), then just what the client sent, as JSON."""
    if request is None or request == _NOTHING:
        return msgspec.Raw(origin)
    return msgspec.Raw(b"%b,%b" % (origin[:-1], request[1:]))


def origin_of(endpoint: Endpoint) -> bytes:
    """What `data` begins with in the answers of an endpoint."""
    return _ORIGINS.get(endpoint, LLM_RESPONSES)


def entry(
    task_id: str,
    path: Sequence[str],
    *,
    elapsed: float = 0.0,
    refusal: Refusal | None = None,
    code: int = OK_CODE,
    message: str = OK_MESSAGE,
    cost: int = 0,
    request: bytes | None = None,
    origin: bytes = LLM_RESPONSES,
    result: bytes | None = None,
    result_count: int = 0,
) -> TaskEntry:
    """A task of an envelope. `cost` in nano-dollars, `elapsed` in seconds; `request` and `result` are JSON texts."""
    if refusal is not None:
        code, message = refusal.code, refusal.message
    return TaskEntry(
        id=task_id,
        status_code=code,
        status_message=message,
        time=seconds(elapsed),
        cost=usd(cost),
        result_count=result_count,
        path=path,
        data=data(request, origin),
        result=None if result is None else msgspec.Raw(result),
    )


def envelope(
    tasks: Sequence[TaskEntry], *, elapsed: float, cost: int = 0, code: int = OK_CODE, message: str = OK_MESSAGE
) -> bytes:
    """An answered call: 20000, whatever became of its tasks, save when a rate was exceeded (contract §12.6). `cost` is
    the tasks' sum in nano-dollars."""
    return msgspec.json.encode(
        Envelope(
            version=VERSION,
            status_code=code,
            status_message=message,
            time=seconds(elapsed),
            cost=usd(cost),
            tasks_count=len(tasks),
            tasks_error=sum(task.status_code >= ERROR_CODES_FROM for task in tasks),
            tasks=tasks,
        )
    )


def refused_call(refusal: Refusal) -> bytes:
    """A call that never came to tasks: unknown path (40400), internal error (50000)."""
    return msgspec.json.encode(
        Envelope(
            VERSION, refusal.code, refusal.message, time="0 sec.", cost=0, tasks_count=0, tasks_error=0, tasks=None
        )
    )


def fetched_entry(task_id: str, found: Fetched, path: Sequence[str], elapsed: float = 0.0) -> TaskEntry:
    """What task_get says of a task."""
    return entry(
        task_id,
        path,
        elapsed=elapsed,
        code=found.code,
        message=found.message,
        request=found.request,
        result=found.result,
        result_count=0 if found.result is None else 1,
    )


def postback(found: Fetched, task_id: str) -> bytes:
    """The body of a postback, before compression: what task_get would answer (contract §12.18)."""
    return envelope([fetched_entry(task_id, found, (*FAMILY_PATH, "task_get", task_id))], elapsed=0.0)


def ready_result(listed: Sequence[Listed]) -> bytes:
    """tasks_ready's result array; empty when nothing is ready (contract §12.2)."""
    prefix = "/" + "/".join((*FAMILY_PATH, "task_get", ""))
    return msgspec.json.encode(
        [
            ReadyResult(one.id, PLATFORM, FUNCTION, moment(one.posted_at), one.tag or "", prefix + one.id)
            for one in listed
        ]
    )


def models_result(models: Sequence[Model]) -> bytes:
    """models' result array; every model may be used with task_post (contract §12.23)."""
    return msgspec.json.encode(
        [ModelResult(model.name, model.reasoning, model.web_search, task_post_supported=True) for model in models]
    )


def answer_result(answer: Answer, received_at: datetime) -> bytes:
    """An answer as the result array of task_get and live; this text is what is stored."""
    return msgspec.json.encode(
        [
            AnswerResult(
                model_name=answer.model_name,
                input_tokens=answer.input_tokens,
                output_tokens=answer.output_tokens,
                reasoning_tokens=answer.reasoning_tokens,
                web_search=answer.web_search,
                money_spent=usd(answer.money_spent),
                datetime=moment(received_at),
                items=[_item(item) for item in answer.items],
                fan_out_queries=answer.fan_out_queries or None,
            )
        ]
    )


def _item(item: Item) -> dict[str, Any]:
    """Contract §3.6: the reasoning item's sections have no annotations."""
    if item.type == "reasoning":
        sections = [{"type": "summary_text", "text": section.text} for section in item.sections]
        return {"type": item.type, "sections": sections}
    return {
        "type": item.type,
        "sections": [
            {"type": "text", "text": section.text, "annotations": section.annotations} for section in item.sections
        ],
    }
