"""What restante remembers of an account's calls: id_list, errors, and sending webhooks again (contract §3.10-3.12).

The structs state the formats: requests are judged by them, results written from them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from restante.core import limits
from restante.core.errors import Refusal, TaskHanded, TaskInQueue, TooManyLiveTasks, TooManyTasks
from restante.core.task import Function, parse_id
from restante.flow.collect import Fetched
from restante.flow.resend import Resender
from restante.store import deliveries, tasks
from restante.store.database import Database
from restante.store.deliveries import FailedAttempt, Kind
from restante.store.tasks import Recorded
from restante.web import body, judge, wire
from restante.web.fields import Asked, Reader
from restante.web.rate_limit import RateLimits
from restante.web.respond import account_of, answer, endpoint_route, mint, path_of

T = TypeVar("T", bound=msgspec.Struct)

_MOMENT: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{2}:[0-9]{2}$"
_ID: Final = r"^[0-9]{8}-[0-9a-fA-F]{4}-[0-9]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"

_Limit = Annotated[int, Meta(ge=1, le=limits.LISTED_ROWS_MAX, description="How many rows at the most.")]
_Offset = Annotated[int, Meta(ge=0, le=limits.LISTED_OFFSET_MAX, description="How many rows to leave out before them.")]


class ResendRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A task whose webhooks are to go out again (§3.10)."""

    id: Annotated[str, Meta(pattern=_ID, description="The task's id, as task_post answered it.")] | None = None


class IdListRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tasks to list (§3.11)."""

    datetime_from: (
        Annotated[
            str,
            Meta(
                pattern=_MOMENT,
                description="Posted at this time or later: `yyyy-mm-dd hh:mm:ss +00:00`, six months back at the most,"
                " one month with include_metadata.",
            ),
        ]
        | None
    ) = None
    datetime_to: (
        Annotated[str, Meta(pattern=_MOMENT, description="Posted at this time or earlier; not in the future.")] | None
    ) = None
    limit: _Limit | None = None
    offset: _Offset | None = None
    sort: Annotated[Literal["asc", "desc"], Meta(description="Oldest first, or newest first.")] | None = None
    include_metadata: Annotated[bool, Meta(description="With what each task was posted with.")] | None = None


class ErrorsRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which errors to list (§3.12)."""

    limit: _Limit | None = None
    offset: _Offset | None = None
    filtered_function: (
        Annotated[str, Meta(description="Only errors of this function: `pingback_url` or `postback_url`.")] | None
    ) = None
    datetime_from: (
        Annotated[
            str,
            Meta(
                pattern=_MOMENT,
                description="At this time or later: `yyyy-mm-dd hh:mm:ss +00:00`, seven days back at the most.",
            ),
        ]
        | None
    ) = None
    datetime_to: (
        Annotated[str, Meta(pattern=_MOMENT, description="At this time or earlier; not in the future.")] | None
    ) = None


class IdListRow(msgspec.Struct, frozen=True, kw_only=True):
    """A task of the account, Live ones included."""

    id: str
    url: Annotated[str, Meta(description="The path it was posted to, without the leading slash.")]
    datetime_posted: str
    datetime_done: Annotated[str, Meta(description="Null while it is open.")] | None
    status: Annotated[str, Meta(description="The status code that task_get answers.")]
    cost: Annotated[int | float, Meta(description="What was finally charged, in US dollars; 0 while it is open.")]
    metadata: msgspec.Raw | UnsetType = UNSET


class ErrorRow(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt to bring a webhook that failed."""

    id: str
    datetime: str
    function: Literal["pingback_url", "postback_url"]
    error_code: Annotated[int, Meta(description="The HTTP status; 0 when no answer came.")]
    error_message: Annotated[str, Meta(description="The URL that was called.")]
    http_url: str
    http_method: Literal["GET", "POST"]
    http_code: int
    http_time: Annotated[float, Meta(description="Seconds.")]
    http_response: Annotated[str, Meta(description="How the answer's body began; when no answer came, why not.")]


_WEBHOOK_RESEND: Final = b'{"api":"appendix","function":"webhook_resend"}'
_ID_LIST: Final = b'{"api":"ai_optimization","function":"id_list"}'
_ERRORS: Final = b'{"api":"ai_optimization","function":"errors"}'
_FUNCTIONS: Final[dict[Kind, tuple[Literal["pingback_url", "postback_url"], Literal["GET", "POST"]]]] = {
    Kind.PINGBACK: ("pingback_url", "GET"),
    Kind.POSTBACK: ("postback_url", "POST"),
}
_SECOND: Final = timedelta(seconds=1)  # rows show whole seconds, so "until 12:15:08" has all of that second


class Records:
    """The endpoints; `routes()` is what Starlette serves. `error_days`: how long attempts are kept."""

    def __init__(
        self,
        db: Database,
        resender: Resender,
        rates: RateLimits,
        clock: Callable[[], datetime],
        *,
        error_days: int = limits.ERROR_DAYS,
        ignore_unknown: bool = False,
        body_bytes: int = limits.BODY_BYTES,
    ) -> None:
        self._db = db
        self._resender = resender
        self._rates = rates
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

    def routes(self) -> list[Route]:
        """The three paths."""
        return [
            endpoint_route(self._rates, "POST", "/v3/appendix/webhook_resend", "webhook_resend", self.webhook_resend),
            endpoint_route(self._rates, "POST", "/v3/ai_optimization/id_list", "id_list", self.id_list),
            endpoint_route(self._rates, "POST", "/v3/ai_optimization/errors", "errors", self.errors),
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
