"""What restante remembers of an account's calls: id_list, errors, and sending webhooks again (contract §3.10-3.12).

The structs state the formats: requests are judged by them, results written from them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Final, Literal, TypeVar

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from restante.core import limits
from restante.core.errors import (
    CREATED_CODE,
    CREATED_MESSAGE,
    EmptyBody,
    ForeignTask,
    InvalidBody,
    InvalidField,
    OtherFunction,
    Refusal,
    ResultsExpired,
    TaskHanded,
    TaskInQueue,
    TaskNotFound,
    TooManyLiveTasks,
    TooManyTasks,
    UnknownField,
)
from restante.core.task import Function, parse_id
from restante.flow.collect import Fetched
from restante.flow.resend import Resender
from restante.store import deliveries, tasks
from restante.store.database import Database
from restante.store.deliveries import FailedAttempt, Kind
from restante.store.tasks import Recorded
from restante.web import body, examples, judge, wire
from restante.web.fields import Asked, Reader
from restante.web.operation import Operation
from restante.web.record_rows import ErrorRow, ErrorsRequest, IdListRequest, IdListRow, ResendRequest
from restante.web.respond import account_of, answer, mint, path_of

T = TypeVar("T", bound=msgspec.Struct)

_WEBHOOK_RESEND: Final = b'{"api":"appendix","function":"webhook_resend"}'
_ID_LIST: Final = b'{"api":"ai_optimization","function":"id_list"}'
_ERRORS: Final = b'{"api":"ai_optimization","function":"errors"}'
_FUNCTIONS: Final[dict[Kind, tuple[Literal["pingback_url", "postback_url"], Literal["GET", "POST"]]]] = {
    Kind.PINGBACK: ("pingback_url", "GET"),
    Kind.POSTBACK: ("postback_url", "POST"),
}
_RESEND_REFUSALS: Final = (ForeignTask, OtherFunction, TaskNotFound, ResultsExpired, TaskHanded, TaskInQueue)
_SECOND: Final = timedelta(seconds=1)  # rows show whole seconds, so "until 12:15:08" has all of that second


class Records:
    """The endpoints; `operations()` is what is served. `error_days`: how long attempts are kept."""

    def __init__(
        self,
        db: Database,
        resender: Resender,
        clock: Callable[[], datetime],
        *,
        error_days: int = limits.ERROR_DAYS,
        ignore_unknown: bool = False,
        body_bytes: int = limits.BODY_BYTES,
    ) -> None:
        self._db = db
        self._resender = resender
        self._ignore_unknown = ignore_unknown
        self._clock = clock
        self._error_days = error_days
        self._body_bytes = body_bytes
        self._resend = Reader(ResendRequest, required=frozenset({"id"}), ignore_unknown=ignore_unknown)
        self._id_list = Reader(
            IdListRequest,
            required=frozenset({"datetime_from", "datetime_to"}),
            fault=self._id_list_fault,
            ignore_unknown=ignore_unknown,
        )
        self._errors = Reader(ErrorsRequest, fault=self._errors_fault, ignore_unknown=ignore_unknown)

    def operations(self) -> list[Operation]:
        """The three paths."""
        records = partial(Operation, method="POST", ignores_unknown=self._ignore_unknown)
        whole = (EmptyBody, InvalidBody, InvalidField, UnknownField)
        return [
            records(
                group="Appendix",
                name="webhook_resend",
                path="/v3/appendix/webhook_resend",
                summary="Send webhooks again",
                description="The pingback and the postback of finished tasks go out again, with the ids they had.",
                endpoint=self.webhook_resend,
                rate="webhook_resend",
                request=ResendRequest,
                requires=("id",),
                tasks=limits.RESEND_IDS,
                success=(CREATED_CODE, CREATED_MESSAGE),
                refusals=(TooManyTasks, *whole, *_RESEND_REFUSALS),
                origin=wire.LLM_RESPONSES,  # the task's own echo; of what is refused, the call's
                other_origin=_WEBHOOK_RESEND,
                sent={"id": examples.TASK_ID},
            ),
            records(
                group="AI Optimization",
                name="id_list",
                path="/v3/ai_optimization/id_list",
                summary="List your tasks",
                description="Tasks by when they were posted, live ones included, for six months.",
                endpoint=self.id_list,
                rate="id_list",
                request=IdListRequest,
                requires=("datetime_from", "datetime_to"),
                result=IdListRow,
                refusals=(TooManyLiveTasks, *whole),
                origin=_ID_LIST,
                sent={"datetime_from": "2026-11-20 00:00:00 +00:00", "datetime_to": "2026-11-20 23:00:00 +00:00"},
                rows=[_EXAMPLE_ID],
            ),
            records(
                group="AI Optimization",
                name="errors",
                path="/v3/ai_optimization/errors",
                summary="List webhooks that failed",
                description="Each failed attempt to bring a webhook, newest first, for seven days by default.",
                endpoint=self.errors,
                rate="errors",
                request=ErrorsRequest,
                result=ErrorRow,
                refusals=(TooManyLiveTasks, *whole),
                origin=_ERRORS,
                sent={"limit": 10, "filtered_function": "pingback_url"},
                rows=[_EXAMPLE_ERROR],
            ),
        ]

    async def webhook_resend(self, request: Request) -> Response:
        """§3.10: the webhooks of up to 100 tasks go out again; each id is judged alone, those beyond are 40006."""
        started = time.perf_counter()
        raws = await self._split(request)
        read = raws if isinstance(raws, Refusal) else [self._resend.read(one) for one in raws]
        asked: list[Asked[ResendRequest]] = []
        for one in [read] if isinstance(read, Refusal) else read:
            if isinstance(one, Refusal):
                return self._refused(request, Function.TASK_POST, _WEBHOOK_RESEND, one, started)
            asked.append(one)
        ids = [one.value.id for one in asked[: limits.RESEND_IDS] if one.value is not None and one.value.id is not None]
        said = iter(await self._resender.resend(account_of(request), ids))
        entries = []
        for number, one in enumerate(asked):
            refusal = one.refusal if number < limits.RESEND_IDS else TooManyTasks(str(limits.RESEND_IDS))
            found = next(said) if refusal is None else Fetched(refusal.code, refusal.message)
            entries.append(self._resent(request, one, found))
        return answer(entries, started)

    def _resent(self, request: Request, asked: Asked[ResendRequest], found: Fetched) -> wire.TaskEntry:
        text = asked.value.id if asked.value is not None else None
        task_id = parse_id(text) if text is not None else None
        known = found.request is not None
        return wire.entry(
            mint(self._clock(), account_of(request), Function.TASK_POST) if task_id is None else task_id.text,
            path_of(request),
            code=found.code,
            message=found.message,
            request=found.request if known else asked.request,
            origin=wire.LLM_RESPONSES if known else _WEBHOOK_RESEND,
        )

    async def id_list(self, request: Request) -> Response:
        """§3.11: the account's tasks of a time range."""
        started = time.perf_counter()
        asked = await self._one(request, self._id_list)
        if isinstance(asked, Refusal):
            return self._refused(request, Function.ID_LIST, _ID_LIST, asked, started)
        if asked.value is None:
            return self._refused(request, Function.ID_LIST, _ID_LIST, asked.refusal, started, asked.request)
        value = asked.value
        since, until = _moment(value.datetime_from), _moment(value.datetime_to)
        assert since is not None
        assert until is not None
        rows = await self._db.again(
            lambda: tasks.recorded(
                self._db,
                account_of(request),
                since,
                until + _SECOND,
                backwards=value.sort == "desc",
                skip=value.offset or 0,
                most=value.limit or limits.LISTED_ROWS_MAX,
                requests=value.include_metadata is True,
            )
        )
        result = msgspec.json.encode([_id_list_row(row, metadata=value.include_metadata is True) for row in rows])
        return self._listed(request, Function.ID_LIST, _ID_LIST, asked.request, result, len(rows), started)

    async def errors(self, request: Request) -> Response:
        """§3.12: the account's webhooks that could not be brought, newest first."""
        started = time.perf_counter()
        asked = await self._one(request, self._errors)
        if isinstance(asked, Refusal):
            return self._refused(request, Function.ERRORS, _ERRORS, asked, started)
        if asked.value is None:
            return self._refused(request, Function.ERRORS, _ERRORS, asked.refusal, started, asked.request)
        value, now = asked.value, self._clock()
        kinds = {function: kind for kind, (function, _) in _FUNCTIONS.items()}
        name = value.filtered_function
        rows: Sequence[FailedAttempt] = ()
        if name is None or name in kinds:
            rows = await self._db.again(
                lambda: deliveries.failures(
                    self._db,
                    account_of(request),
                    _moment(value.datetime_from) or now - timedelta(days=self._error_days),
                    (_moment(value.datetime_to) or now) + _SECOND,
                    None if name is None else kinds[name],
                    value.limit or limits.LISTED_ROWS_MAX,
                    value.offset or 0,
                )
            )
        result = msgspec.json.encode([_error_row(row) for row in rows])
        return self._listed(request, Function.ERRORS, _ERRORS, asked.request, result, len(rows), started)

    async def _split(self, request: Request) -> Sequence[msgspec.Raw] | Refusal:
        sent = await body.read(request, self._body_bytes)
        return sent if isinstance(sent, Refusal) else judge.split(sent)

    async def _one(self, request: Request, reader: Reader[T]) -> Asked[T] | Refusal:
        """The call's one object; several are 40000."""
        raws = await self._split(request)
        if isinstance(raws, Refusal):
            return raws
        return reader.read(raws[0]) if len(raws) == 1 else TooManyLiveTasks()

    def _listed(
        self,
        request: Request,
        function: Function,
        origin: bytes,
        asked: bytes,
        result: bytes,
        count: int,
        started: float,
    ) -> Response:
        entry = wire.entry(
            mint(self._clock(), account_of(request), function),
            path_of(request),
            elapsed=time.perf_counter() - started,
            request=asked,
            origin=origin,
            result=result,
            result_count=count,
        )
        return answer([entry], started)

    def _refused(
        self,
        request: Request,
        function: Function,
        origin: bytes,
        why: Refusal | None,
        started: float,
        asked: bytes | None = None,
    ) -> Response:
        task_id = mint(self._clock(), account_of(request), function)
        entry = wire.entry(task_id, path_of(request), refusal=why, request=asked, origin=origin)
        return answer([entry], started)

    def _id_list_fault(self, asked: IdListRequest) -> str | None:
        days = limits.ID_LIST_METADATA_DAYS if asked.include_metadata else limits.ID_LIST_DAYS
        return self._range_fault(asked.datetime_from, asked.datetime_to, days)

    def _errors_fault(self, asked: ErrorsRequest) -> str | None:
        return self._range_fault(asked.datetime_from, asked.datetime_to, self._error_days)

    def _range_fault(self, since: str | None, until: str | None, days: int) -> str | None:
        """The faulty one of two moments. The oldest day may be had from its beginning; "now" by any clock nearby."""
        now = self._clock()
        begin = _moment(since)
        if since is not None and (begin is None or begin.date() < _days_back(now.date(), days)):
            return "datetime_from"
        end = _moment(until)
        if until is None:
            return "datetime_from" if begin is not None and begin > _tolerant(now) else None
        if end is None or end > _tolerant(now) or (begin is not None and begin > end):
            return "datetime_to"
        return None


def _days_back(today: date, days: int) -> date:
    return today - timedelta(days=days)


def _tolerant(now: datetime) -> datetime:
    return now + timedelta(seconds=limits.CLOCK_TOLERANCE_SECONDS)


def _moment(text: str | None) -> datetime | None:
    """A moment as clients write it, in UTC; None for none and for one that does not exist."""
    if text is None:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S %z").astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _id_list_row(task: Recorded, *, metadata: bool) -> IdListRow:
    code = task.code
    if code is None:
        code = TaskHanded.code if task.running else TaskInQueue.code
    name = "live" if task.function == Function.LIVE else "task_post"
    return IdListRow(
        id=task.id,
        url="/".join((*wire.FAMILY_PATH, name)),
        datetime_posted=wire.moment(task.posted_at),
        datetime_done=None if task.settled_at is None else wire.moment(task.settled_at),
        status=str(code),
        cost=wire.usd(task.charged or 0),
        metadata=wire.data(task.request) if metadata else UNSET,
    )


def _error_row(failed: FailedAttempt) -> ErrorRow:
    function, method = _FUNCTIONS[failed.kind]
    code = failed.status or 0
    reply = (failed.reply or b"").decode(errors="replace").replace("\0", "")
    return ErrorRow(
        id=failed.task_id,
        datetime=wire.moment(failed.made_at),
        function=function,
        error_code=code,
        error_message=failed.url,
        http_url=failed.url,
        http_method=method,
        http_code=code,
        http_time=failed.milliseconds / 1_000,
        http_response=reply if failed.status is not None else failed.error,
    )


_EXAMPLE_ID: Final = IdListRow(
    id=examples.TASK_ID,
    url="/".join((*wire.FAMILY_PATH, "task_post")),
    datetime_posted="2026-11-20 14:15:08 +00:00",
    datetime_done="2026-11-20 14:15:31 +00:00",
    status="20000",
    cost=0.0358498,
)
_EXAMPLE_ERROR: Final = ErrorRow(
    id=examples.TASK_ID,
    datetime="2026-11-20 14:15:41 +00:00",
    function="pingback_url",
    error_code=500,
    error_message="https://hooks.example.org/ping",
    http_url="https://hooks.example.org/ping",
    http_method="GET",
    http_code=500,
    http_time=0.42,
    http_response="oops",
)
