"""The provider's own replies to an account's tasks, and what in them is to be shown (contract §12.31; docs/legal.md).

Here rather than among own.py's: they answer what others wrote.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from restante.core.task import parse_id
from restante.providers.gemini_answer import search_suggestions
from restante.store import tasks
from restante.store.database import Database
from restante.store.tasks import Raw
from restante.web import examples
from restante.web.operation import Operation
from restante.web.own import Fault
from restante.web.respond import account_of, json_text
from restante.web.wire import OURS

_ID_PARAMETER: Final = {
    "name": "task_id",
    "in": "path",
    "required": True,
    "description": "The id of a task of yours.",
    "schema": {"type": "string"},
    "example": examples.TASK_ID,
}


class _Missing(Exception):
    """There is nothing to show: the HTTP status, and why."""

    def __init__(self, status: int, why: str) -> None:
        self.status = status
        self.why = why


class RawReplies:
    """The endpoints; `operations()` is what is served."""

    def __init__(self, db: Database, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._clock = clock

    def operations(self) -> list[Operation]:
        """The two paths. Answers are kept, and withheld from debtors, as task_get's are (contract §12.4, §12.9)."""
        replies = partial(
            Operation,
            group="restante's own",
            method="GET",
            parameters=[_ID_PARAMETER],
            answers={402: Fault, 404: Fault},
        )
        return [
            replies(
                name="raw_reply",
                path=f"{OURS}/tasks/{{task_id}}/raw",
                summary="Read the provider's own reply",
                description="What the provider said, byte for byte, kept as long as the answer. The header "
                "`X-Price-Date` is the day of the prices that the charge was reckoned with.",
                endpoint=_shown(self.raw),
                media={200: "application/json"},
                rows=[_EXAMPLE],
            ),
            replies(
                name="search_suggestions",
                path=f"{OURS}/tasks/{{task_id}}/suggestions",
                summary="Read Google's search suggestions",
                description="The HTML that Google wants shown beside a grounded answer, as it was sent. Show it in a "
                "frame of its own: it is another's HTML.",
                endpoint=_shown(self.suggestions),
                media={200: "text/html"},
                rows=['<div class="container">…</div>'],
            ),
        ]

    async def raw(self, request: Request) -> Response:
        """The provider's own reply to a task of the caller, byte for byte; `X-Price-Date` is the day of the prices that
        its charge was reckoned with."""
        reply, found = await self._find(request)
        headers = {} if found.price_date is None else {"X-Price-Date": found.price_date.isoformat()}
        return Response(reply, headers=headers, media_type="application/json")

    async def suggestions(self, request: Request) -> Response:
        """The search suggestions that Google wants shown beside a grounded answer, as the HTML it sent (docs/legal.md).

        Read in a sandbox: it is another's HTML, and must not act as a page of this server."""
        reply, _ = await self._find(request)
        html = search_suggestions(reply)
        if html is None:
            raise _Missing(404, "the answer has no search suggestions")
        return Response(html, headers={"Content-Security-Policy": "sandbox"}, media_type="text/html")

    async def _find(self, request: Request) -> tuple[bytes, Raw]:
        account_id = account_of(request)
        parsed = parse_id(request.path_params["task_id"])
        day = None if parsed is None else parsed.posted_on(self._clock().date())
        if parsed is None or day is None or parsed.account_id != account_id:
            raise _Missing(404, "no task of this account has this id")
        found = await self._db.again(lambda: tasks.raw(self._db, day, account_id, str(parsed)))
        if found is None:
            raise _Missing(404, "no reply of a provider is kept for this task")
        if found.body is None:
            raise _Missing(402, "withheld: the account owes more than its credit limit")
        return found.body, found


def _shown(work: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            return await work(request)
        except _Missing as missing:
            return json_text(msgspec.json.encode(Fault(missing.why)), missing.status)

    return endpoint


_EXAMPLE: Final[dict[str, Any]] = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "Lake Geneva."}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 15, "candidatesTokenCount": 4, "totalTokenCount": 19},
    "modelVersion": "gemini-2.5-flash",
}
