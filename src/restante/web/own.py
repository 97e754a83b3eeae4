"""restante's own endpoints, under /restante/v1/ and never under /v3/ (contract §12.31). Plain JSON and HTTP codes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from restante.core.errors import Refusal
from restante.core.limits import CANCEL_IDS_MAX, TAG_CHARS
from restante.core.task import parse_id
from restante.flow.end import cancel
from restante.store.database import Database
from restante.web import body, examples
from restante.web.operation import Operation
from restante.web.wire import postback

PREFIX = "/restante/v1"


class CancelRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which queued tasks to cancel: exactly one of the three."""

    ids: Annotated[list[str], Meta(max_length=CANCEL_IDS_MAX, description="These tasks.")] | None = None
    tag: Annotated[str, Meta(min_length=1, max_length=TAG_CHARS, description="All tasks with this tag.")] | None = None
    all: Annotated[bool, Meta(description="True: all tasks.")] | None = None


class Cancelled(msgspec.Struct, frozen=True):
    """The tasks that were cancelled, all their money returned. Running and finished ones are not among them."""

    cancelled: list[str]


class Fault(msgspec.Struct, frozen=True):
    """Why a request was not carried out."""

    error: str


class Own:
    """The endpoints; `operations()` is what is served."""

    def __init__(self, db: Database, clock: Callable[[], datetime], body_bytes: int) -> None:
        self._db = db
        self._clock = clock
        self._body_bytes = body_bytes

    def operations(self) -> list[Operation]:
        """Our own paths."""
        return [
            Operation(
                group="restante's own",
                name="cancel_tasks",
                method="POST",
                path=f"{PREFIX}/tasks/cancel",
                summary="Cancel queued tasks",
                description="Ends queued tasks of yours, named by one of `ids`, `tag` and `all`, and gives their money "
                "back. Tasks that are running or finished, and ids that are not yours, are passed over.",
                endpoint=self.cancel,
                request=CancelRequest,
                answers={200: Cancelled, 400: Fault},
                sent={"tag": "run-17"},
                rows=[Cancelled([examples.TASK_ID])],
            )
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


def _json(answer: Cancelled | Fault, status: int = 200) -> Response:
    return Response(msgspec.json.encode(answer), status, media_type="application/json")
