"""One task: everything that happened to it, what was asked, what was answered, and how to ask it again."""

from __future__ import annotations

import json
import pprint
import shlex
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from restante.core.errors import OK_CODE, OK_MESSAGE, PaymentRequired
from restante.core.task import Function, State, parse_id
from restante.flow.collect import Fetched
from restante.store import console_tasks as stored
from restante.store import tasks
from restante.store.console_tasks import Whole
from restante.web import wire
from restante.web.console import answers
from restante.web.console.desk import Desk, Missing, pages
from restante.web.console.gate import viewer_of
from restante.web.console.session import Viewer
from restante.web.console.tasks import state_of
from restante.web.console.timeline import Event, timeline

_TASK_GET: Final = (*wire.FAMILY_PATH, "task_get")


class TaskPage(msgspec.Struct, frozen=True, kw_only=True):
    """A task as its page, and the page's twin, tells it. Amounts in nano-dollars. `request` is what its client sent,
    `envelope` what task_get answers now."""

    id: str
    state: str
    code: int | None
    message: str | None
    account: str
    live: bool
    tag: str | None
    model: str | None
    posted_at: datetime
    settled_at: datetime | None
    held: int
    charged: int | None
    withheld: bool
    timeline: Sequence[Event]
    request: msgspec.Raw | None
    envelope: msgspec.Raw | None


class TaskView:
    """`/console/tasks/ID`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[Route]:
        """The page, its twin, and the provider's own reply."""
        raw = Route("/tasks/{task_id}/reply.json", self.reply, methods=["GET"])
        return [raw, *pages("/tasks/{task_id}", self.page)]

    async def page(self, request: Request) -> Response:
        """Everything about a task. Raises Missing for another account's as for one that never was."""
        viewer = viewer_of(request)
        task = await self._task(request, viewer)
        withheld = task.owes and not viewer.operator  # as task_get has it
        result = None if withheld else task.result
        said = None if result is None else answers.read(result)
        events = timeline(task, said)
        data = TaskPage(
            id=task.id,
            state=state_of(task.state, task.queue_state),
            code=task.code,
            message=task.message,
            account=task.login,
            live=task.function == Function.LIVE,
            tag=task.tag,
            model=task.model,
            posted_at=task.posted_at,
            settled_at=task.settled_at,
            held=task.held,
            charged=task.charged,
            withheld=withheld,
            timeline=events,
            request=None if task.request is None else msgspec.Raw(task.request),
            envelope=_envelope(task, withheld),
        )
        asked: dict[str, Any] | None = None if task.request is None else json.loads(task.request)
        return self._desk.page(
            request,
            "task.html",
            msgspec.structs.asdict(data),
            asked=asked,
            answer=None if said is None else answers.shown(said),
            settings=_settings(asked or {}),
            envelope_text="" if data.envelope is None else _pretty(bytes(data.envelope)),
            copies=_copies(_base(request), task, asked),
            has_reply=task.has_raw and not withheld,
            took=None if task.settled_at is None else (task.settled_at - task.posted_at).total_seconds(),
        )

    async def reply(self, request: Request) -> Response:
        """The provider's reply, byte for byte. Raises Missing."""
        viewer = viewer_of(request)
        task = await self._task(request, viewer)
        found = await self._desk.look(request, lambda tx: tasks.raw(tx, task.day, task.account_id, task.id))
        if found is None or found.body is None:
            raise Missing
        return Response(found.body, media_type="application/json")

    async def _task(self, request: Request, viewer: Viewer) -> Whole:
        parsed = parse_id(request.path_params["task_id"])
        if parsed is None or viewer.account(parsed.account_id) != parsed.account_id:
            raise Missing
        day = parsed.posted_on(self._desk.clock().date())
        if day is None:
            raise Missing
        found = await self._desk.look(request, lambda tx: stored.whole(tx, day, parsed.account_id, str(parsed)))
        if found is None:
            raise Missing
        return found


def _envelope(task: Whole, withheld: bool) -> msgspec.Raw | None:
    """What task_get answers; None where it has no answer to give, or not yet."""
    if task.function == Function.LIVE or task.code is None:
        return None
    if withheld:
        why = PaymentRequired()
        found = Fetched(why.code, why.message, task.request)
    elif task.state == State.DONE and task.result is None:
        return None  # its time is over
    else:
        good = task.code == OK_CODE
        found = Fetched(task.code, OK_MESSAGE if good else task.message or "", task.request, task.result)
    return msgspec.Raw(wire.envelope([wire.fetched_entry(task.id, found, (*_TASK_GET, task.id))], elapsed=0.0))


def _settings(asked: dict[str, Any]) -> dict[str, Any]:
    """What was asked for beside the prompt, as its client wrote it."""
    long = ("user_prompt", "system_message", "message_chain")
    return {name: value for name, value in asked.items() if name not in long and value is not None}


def _pretty(text: bytes) -> str:
    return json.dumps(json.loads(text), indent=2, ensure_ascii=False)


def _base(request: Request) -> str:
    forwarded = request.headers.get("x-forwarded-proto", "").split(",")[0].strip()
    scheme = forwarded if forwarded in ("http", "https") else request.url.scheme
    return f"{scheme}://{request.url.netloc}"


def _copies(base: str, task: Whole, asked: dict[str, Any] | None) -> dict[str, str]:
    """Commands that fetch a task and that ask the same again, to be pasted."""
    made = {}
    if task.function != Function.LIVE:
        made["curl, fetch"] = f'curl -u "$LOGIN:$PASSWORD" {shlex.quote(base + wire.FAMILY)}/task_get/{task.id}'
    if asked is None:
        return made
    url = f"{base}{wire.FAMILY}/task_post"
    body = json.dumps([asked], indent=2, ensure_ascii=False)
    made["curl, ask again"] = (
        f'curl -u "$LOGIN:$PASSWORD" {shlex.quote(url)} \\\n'
        f"  -H 'Content-Type: application/json' \\\n  -d {shlex.quote(body)}"
    )
    literal = pprint.pformat([asked], width=88, sort_dicts=False)
    made["Python, ask again"] = (
        f"import requests\n\nanswer = requests.post(\n    {url!r},\n    auth=(login, password),\n"
        f"    json={literal},\n).json()"
    )
    return made
