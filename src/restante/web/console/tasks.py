"""Tasks: the list, by what people look for; newest first, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from restante.core.limits import CONSOLE_ROWS, LOGIN_CHARS, MODEL_NAME_CHARS, TAG_CHARS
from restante.core.task import Function, State, parse_id
from restante.store import console_tasks as stored
from restante.store.console_tasks import Found, Lane, Place, Wanted
from restante.store.database import Session
from restante.web.console.desk import Desk, Invalid, done, pages, text_of
from restante.web.console.gate import PREFIX, viewer_of, wants_json
from restante.web.console.session import Viewer

HERE: Final = f"{PREFIX}/tasks"
#: What a task is doing, as people choose it: the word and what it means.
STATES: Final = {
    "queued": "ready for a worker",
    "running": "at a model now",
    "waiting": "for another try, a batch, money or being resumed",
    "done": "answered",
    "failed": "ended without an answer, free of charge",
}
_QUEUE_STATES: Final = {"queued": 0, "waiting": 1, "running": 2}
_SPANS: Final = {
    "15m": ("Last 15 minutes", timedelta(minutes=15)),
    "1h": ("Last hour", timedelta(hours=1)),
    "24h": ("Last 24 hours", timedelta(hours=24)),
    "7d": ("Last 7 days", timedelta(days=7)),
    "30d": ("Last 30 days", timedelta(days=30)),
    "": ("any time", timedelta(days=36_500)),
}
_KINDS: Final = {"live": (Function.LIVE,), "posted": (Function.TASK_POST,)}
_FIRST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LAST_ID: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"
_AHEAD: Final = timedelta(minutes=2)  # that another node's clock may be


class Filter(msgspec.Struct, frozen=True):
    """What a list was asked for, as its address says it."""

    state: str = ""
    model: str = ""
    tag: str = ""
    account: str = ""
    kind: str = ""
    time: str = ""

    def url(self, **changed: str) -> str:
        """The list with some of it changed."""
        fields = msgspec.structs.asdict(self) | changed
        query = urlencode({name: value for name, value in fields.items() if value})
        return f"{HERE}?{query}" if query else HERE


class TaskRow(msgspec.Struct, frozen=True):
    """A task in a list. Amounts in nano-dollars; `prompt` None: of a live task, or not kept any more."""

    id: str
    url: str
    state: str
    code: int | None
    account: str
    live: bool
    posted_at: datetime
    settled_at: datetime | None
    model: str | None
    tag: str | None
    prompt: str | None
    held: int
    charged: int | None


class _Asked(msgspec.Struct, frozen=True):
    """The parts of a stored request that a list shows."""

    user_prompt: str = ""
    model_name: str = ""


class Tasks:
    """`/console/tasks`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[Route]:
        """The list and its twin."""
        return pages("/tasks", self.page)

    async def page(self, request: Request) -> Response:
        """A page of the list. `q` is the id of a task, which leads to it, or a tag."""
        viewer = viewer_of(request)
        asked = _filter(request.query_params, viewer)
        sought = text_of(request.query_params, "q", TAG_CHARS)
        if sought:
            if parse_id(sought) is not None:
                return done(f"{HERE}/{sought.lower()}" + (".json" if wants_json(request) else ""))
            return done(asked.url(tag=sought))
        account = await self._desk.chosen(request)
        number = viewer.account(None if account is None else account.id)
        now = self._desk.clock()
        before = _place(request.query_params.get("before", ""), now)

        async def read(tx: Session) -> tuple[list[Lane], Found]:
            lanes = await stored.lanes(tx)
            return lanes, await stored.find(tx, _wanted(asked, number, lanes, now), before, CONSOLE_ROWS)

        lanes, found = await self._desk.look(request, read)
        models = {lane.id: lane.model for lane in lanes}
        rows = [_row(one, models) for one in found.tasks]
        older = asked.url(before=_mark((found.tasks[-1].posted_at, rows[-1].id))) if found.more else None
        if found.reached is not None:
            older = asked.url(before=_mark((found.reached, _FIRST_ID)))
        data = {"filter": asked, "tasks": rows, "older": older, "searched_back_to": found.reached}
        return self._desk.page(
            request,
            "tasks.html",
            data,
            states=STATES,
            spans={name: words for name, (words, _) in _SPANS.items()},
            models=sorted({lane.model for lane in lanes}),
            newest="before" not in request.query_params,
            filtered=asked != Filter(account=asked.account),
        )


_FIRST_ID: Final = "00000000-0000-0000-0000-000000000000"


def _filter(asked: Mapping[str, str], viewer: Viewer) -> Filter:
    found = Filter(
        state=text_of(asked, "state", 20),
        model=text_of(asked, "model", MODEL_NAME_CHARS),
        tag=text_of(asked, "tag", TAG_CHARS),
        account=text_of(asked, "account", LOGIN_CHARS) if viewer.operator else "",
        kind=text_of(asked, "kind", 20),
        time=text_of(asked, "time", 20),
    )
    for name, known in (("state", STATES), ("kind", _KINDS), ("time", _SPANS)):
        value = getattr(found, name)
        if value and value not in known:
            raise Invalid(f"There is no {name} {value}; there are {', '.join(filter(None, known))}.")
    return found


def _wanted(asked: Filter, account: int | None, lanes: Sequence[Lane], now: datetime) -> Wanted:
    queue = _QUEUE_STATES.get(asked.state)
    ended = {"done": State.DONE, "failed": State.FAILED}.get(asked.state)
    return Wanted(
        account,
        now - _SPANS[asked.time][1] if asked.time else _FIRST,
        state=ended,
        queue_states=None if queue is None else [queue],
        lanes=[lane.id for lane in lanes if lane.model == asked.model] if asked.model else None,
        tag=asked.tag or None,
        functions=_KINDS.get(asked.kind),
    )


def state_of(state: int, queue_state: int | None) -> str:
    """What a task is doing, in a word."""
    if state != State.QUEUED:
        return "done" if state == State.DONE else "failed"
    return next((word for word, number in _QUEUE_STATES.items() if number == queue_state), "queued")


def _row(one: stored.Task, models: Mapping[int, str]) -> TaskRow:
    said = _Asked() if one.request is None else msgspec.json.decode(one.request, type=_Asked)
    return TaskRow(
        one.id,
        f"{HERE}/{one.id}",
        state_of(one.state, one.queue_state),
        one.code,
        one.login,
        one.id[14:18] == f"{Function.LIVE:04d}",
        one.posted_at,
        one.settled_at,
        said.model_name or (None if one.lane is None else models.get(one.lane)),
        one.tag,
        said.user_prompt or None,
        one.held,
        one.charged,
    )


def _mark(place: Place) -> str:
    """A place in a list, as addresses say it: microseconds since 1970, and an id."""
    posted_at, task_id = place
    return f"{round(posted_at.timestamp() * 1_000_000)}_{task_id}"


def _place(mark: str, now: datetime) -> Place:
    if not mark:
        return now + _AHEAD, _LAST_ID
    number, _, task_id = mark.partition("_")
    plain = len(number) <= 17 and number.isascii() and number.isdigit()
    if not plain or (task_id != _FIRST_ID and parse_id(task_id) is None):
        raise Invalid("This is no page of this list.")
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(number)), task_id
