"""restante's own endpoints, under /restante/v1/ and never under /v3/ (contract §12.31). Plain JSON and HTTP codes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from restante.core.errors import Refusal
from restante.core.limits import CANCEL_IDS_MAX, TAG_CHARS
from restante.core.task import parse_id
from restante.flow.end import cancel
from restante.providers.gemini_answer import search_suggestions
from restante.store import tasks
from restante.store.database import Database
from restante.store.tasks import Raw
from restante.web import body
from restante.web.wire import postback

PREFIX = "/restante/v1"


class CancelRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which queued tasks to cancel: exactly one of the three."""

    ids: Annotated[list[str], Meta(max_length=CANCEL_IDS_MAX)] | None = None
    tag: Annotated[str, Meta(min_length=1, max_length=TAG_CHARS)] | None = None
    all: bool | None = None


class Cancelled(msgspec.Struct, frozen=True):
    """The tasks that were cancelled, all their money returned. Running and finished ones are not among them."""

    cancelled: list[str]


class Fault(msgspec.Struct, frozen=True):
    """Why a request was not carried out."""

    error: str


class Own:
    """The endpoints; `routes()` is what Starlette serves."""

    def __init__(self, db: Database, clock: Callable[[], datetime], body_bytes: int) -> None:
        self._db = db
        self._clock = clock
        self._body_bytes = body_bytes

    def routes(self) -> list[Route]:
        """Our own paths."""
        return [
            Route(f"{PREFIX}/tasks/cancel", self.cancel, methods=["POST"]),
            Route(f"{PREFIX}/tasks/{{task_id}}/raw", self.raw, methods=["GET"]),
            Route(f"{PREFIX}/tasks/{{task_id}}/suggestions", self.suggestions, methods=["GET"]),
        ]

    async def cancel(self, request: Request) -> Response:
        """Cancel queued tasks of the caller by id, by tag, or all."""
        sent = await body.read(request, self._body_bytes)
        try:
            asked = msgspec.json.decode(b"" if isinstance(sent, Refusal) else sent, type=CancelRequest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _json(Fault(f"not understood: {error}"), 400)
        if sum((asked.ids is not None, asked.tag is not None, asked.all is True)) != 1:
            return _json(Fault('name the tasks by one of {"ids": [...]}, {"tag": "..."}, {"all": true}'), 400)
        ids = None if asked.ids is None else [text for text in asked.ids if parse_id(text)]
        if asked.tag is not None and "\0" in asked.tag:
            return _json(Fault("a tag has no NUL"), 400)
        account_id: int = request.scope["account_id"]
        ended = await cancel(self._db, self._clock(), postback, account_id=account_id, ids=ids, tag=asked.tag)
        return _json(Cancelled(ended))

    async def raw(self, request: Request) -> Response:
        """The provider's own reply to a task of the caller, byte for byte; `X-Price-Date` is the day of the prices that
        its charge was reckoned with."""
        found = await self._raw(request)
        if isinstance(found, Response):
            return found
        headers = {} if found.price_date is None else {"X-Price-Date": found.price_date.isoformat()}
        return Response(found.body, headers=headers, media_type="application/json")

    async def suggestions(self, request: Request) -> Response:
        """The search suggestions that Google wants shown beside a grounded answer, as the HTML it sent (docs/legal.md).

        Read in a sandbox: it is another's HTML, and must not act as a page of this server."""
        found = await self._raw(request)
        if isinstance(found, Response):
            return found
        html = search_suggestions(found.body or b"")
        if html is None:
            return _json(Fault("the answer has no search suggestions"), 404)
        return Response(html, headers={"Content-Security-Policy": "sandbox"}, media_type="text/html")

    async def _raw(self, request: Request) -> Raw | Response:
        account_id: int = request.scope["account_id"]
        parsed = parse_id(request.path_params["task_id"])
        day = None if parsed is None else parsed.posted_on(self._clock().date())
        if parsed is None or day is None or parsed.account_id != account_id:
            return _json(Fault("no task of this account has this id"), 404)
        found = await self._db.again(lambda: tasks.raw(self._db, day, account_id, str(parsed)))
        if found is None:
            return _json(Fault("no reply of a provider is kept for this task"), 404)
        if found.body is None:
            return _json(Fault("withheld: the account owes more than its credit limit"), 402)
        return found


def _json(answer: Cancelled | Fault, status: int = 200) -> Response:
    return Response(msgspec.json.encode(answer), status, media_type="application/json")
