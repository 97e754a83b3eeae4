"""DataForSEO's JSON: the envelope, the tasks in it, the results (contract §1.1, §3). Floats of money exist only here.

Key order is the order of the fields below. Stored texts (a task's request, an answer's result) are spliced in as they
are, never parsed on the way out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from restante.core.allowance import Endpoint
from restante.core.answer import Annotation, Answer, Item
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
FAMILY: Final = "/" + "/".join(FAMILY_PATH)
OURS: Final = "/restante/v1"  # of what is ours

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


_Id = Annotated[str, Meta(description="The task's id; looks like a UUID.")]
_Code = Annotated[int, Meta(description="What became of it: 20000 is success, from 40000 on it is an error.")]
_Message = Annotated[str, Meta(description="The code in words.")]
_Time = Annotated[
    str, Meta(description="Time taken.", pattern=r"^[0-9]+(\.[0-9]{4})? sec\.$", examples=["0.1071 sec."])
]
_Moment = Annotated[
    str,
    Meta(
        description="In UTC.",
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} \+00:00$",
        examples=["2026-11-20 12:15:08 +00:00"],
    ),
]
_Count = Annotated[int, Meta(ge=0)]
_ModelName = Annotated[str, Meta(examples=["gemini-2.5-flash"])]


class TaskEntry(msgspec.Struct, frozen=True):
    """A task as an envelope shows it."""

    id: _Id
    status_code: _Code
    status_message: _Message
    time: _Time
    cost: Annotated[int | float, Meta(description="What this call took, in USD.")]
    result_count: Annotated[_Count, Meta(description="Length of `result`; 0 when that is null.")]
    path: Annotated[Sequence[str], Meta(description="The call's path, split at its slashes.")]
    data: msgspec.Raw | None
    result: msgspec.Raw | None


class Envelope(msgspec.Struct, frozen=True):
    """What every call answers. HTTP says 200 even when every task in it failed: look at the tasks' codes."""

    version: Annotated[str, Meta(pattern=r"^0\.1\.[0-9]{8}$")]
    status_code: _Code
    status_message: _Message
    time: _Time
    cost: Annotated[int | float, Meta(description="Sum of the tasks' cost, in USD.")]
    tasks_count: _Count
    tasks_error: Annotated[_Count, Meta(description="How many of the tasks have a code from 40000 on.")]
    tasks: Sequence[TaskEntry] | None


class ReadyResult(msgspec.Struct, frozen=True):
    """A finished task that nobody collected yet."""

    id: _Id
    se: Annotated[str, Meta(description="The platform.", examples=[PLATFORM])]
    function: Annotated[str, Meta(examples=[FUNCTION])]
    date_posted: _Moment
    tag: Annotated[str, Meta(description="As posted; empty without one.")]
    endpoint: Annotated[str, Meta(description="The path that collects it.")]


class ModelResult(msgspec.Struct, frozen=True):
    """A model that may be named."""

    model_name: _ModelName
    reasoning: Annotated[bool, Meta(description="It can reason: `use_reasoning` has an effect.")]
    web_search_supported: bool
    task_post_supported: bool


class MessageSection(msgspec.Struct, frozen=True):
    """A piece of the answer's text."""

    type: Literal["text"]
    text: Annotated[str, Meta(description="Markdown, as the model wrote it.")]
    annotations: Annotated[
        Sequence[Annotation] | None,
        Meta(description="Sources, when the web was searched; null when it was not, and may be empty when it was."),
    ]


class ReasoningSection(msgspec.Struct, frozen=True):
    """A piece of the model's summary of its thoughts."""

    type: Literal["summary_text"]
    text: str


class MessageItem(msgspec.Struct, frozen=True, tag_field="type", tag="message"):
    """What the model answered."""

    sections: Sequence[MessageSection]


class ReasoningItem(msgspec.Struct, frozen=True, tag_field="type", tag="reasoning"):
    """What the model thought before it answered; stands before the message. Its sections have no annotations."""

    sections: Sequence[ReasoningSection]


class AnswerResult(msgspec.Struct, frozen=True):
    """An answer."""

    model_name: Annotated[_ModelName, Meta(description="The model that served it.")]
    input_tokens: _Count
    output_tokens: Annotated[_Count, Meta(description="All that the provider bills as output, reasoning included.")]
    reasoning_tokens: _Count
    web_search: Annotated[bool, Meta(description="The web was searched.")]
    money_spent: Annotated[int | float, Meta(description="What the model's provider took, in USD.")]
    datetime: Annotated[_Moment, Meta(description="When the answer came, in UTC.")]
    items: Sequence[MessageItem | ReasoningItem]
    fan_out_queries: Annotated[
        Sequence[str] | None, Meta(description="What the model searched for; null when nothing.")
    ]


def usd(nano: int) -> int | float:
    """Nano-dollars as the JSON number of US dollars: the division is correctly rounded, so the shortest decimal that
    JSON writes for it is the exact amount, of at most nine places."""
    return nano / NANO_PER_USD if nano else 0


def seconds(elapsed: float) -> str:
    """A duration as the original writes it: `0.1071 sec.`"""
    return f"{elapsed:.4f} sec."


def moment(at: datetime) -> str:
    """A time in UTC as the original writes it: `2026-11-20 12:15:08 +00:00`."""
    return at.isoformat(" ")[:19] + " +00:00"  # strftime takes ten times as long


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


def _item(item: Item) -> MessageItem | ReasoningItem:
    """Contract §3.6."""
    if item.type == "reasoning":
        return ReasoningItem([ReasoningSection("summary_text", section.text) for section in item.sections])
    return MessageItem([MessageSection("text", section.text, section.annotations) for section in item.sections])
