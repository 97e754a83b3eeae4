"""Server-sent nudges: "something changed", and nothing else. The page then asks for itself again.

One look a second at the database serves all pages that are open in this process, and only while some are. No listening:
notifications do not come through poolers, and one that is lost would leave a page behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from restante.core.limits import (
    CONSOLE_HEARTBEAT_SECONDS,
    CONSOLE_NUDGE_SECONDS,
    CONSOLE_STREAM_SECONDS,
    CONSOLE_STREAMS,
    CONSOLE_STREAMS_ACCOUNT,
    STANDBY_BEHIND_SECONDS,
)
from restante.flow.reading import StandbyReads
from restante.store import console
from restante.store.errors import DatabaseLost
from restante.store.reading import TooSlow
from restante.web.console.gate import viewer_of

log = logging.getLogger("restante.console")

EVERYBODY: Final = 0  # what the operator watches
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # nginx would keep them


class Nudges:
    """`stopping` ends all streams: the process is about to."""

    def __init__(
        self,
        reads: StandbyReads,
        stopping: asyncio.Event,
        *,
        most: int = CONSOLE_STREAMS,
        most_of_account: int = CONSOLE_STREAMS_ACCOUNT,
        seconds: float = CONSOLE_STREAM_SECONDS,
    ) -> None:
        self._reads = reads
        self._stopping = stopping
        self._most, self._most_of_account, self._seconds = most, most_of_account, seconds
        self._streams: Counter[int] = Counter()  # by account
        self._watched: Counter[int] = Counter()  # by what is watched: an account, or EVERYBODY
        self._marks: dict[int, str] = {}
        self._looked = asyncio.Event()  # set, and replaced, after each look
        self._watching: asyncio.Task[None] | None = None

    async def events(self, request: Request) -> Response:
        """The stream of whoever is logged in; 503 when there are too many, so that the page polls."""
        viewer = viewer_of(request)
        of_account = self._streams[viewer.account_id]
        if self._streams.total() >= self._most or of_account >= self._most_of_account or self._stopping.is_set():
            return Response("Too many pages watch.", 503, {"Retry-After": "30"}, media_type="text/plain")
        watched = EVERYBODY if viewer.operator else viewer.account_id
        stream = self._stream(viewer.account_id, watched)
        return StreamingResponse(stream, media_type="text/event-stream", headers=_HEADERS)

    async def _stream(self, account_id: int, watched: int) -> AsyncIterator[bytes]:
        with self._counted(account_id, watched):
            yield b"retry: 2000\n\n"
            mark = self._marks.get(watched)
            end = time.monotonic() + self._seconds
            beat = time.monotonic()
            while time.monotonic() < end:
                await self._looked.wait()
                if self._stopping.is_set():
                    return
                now = self._marks.get(watched)
                if now != mark:
                    if mark is not None:  # the first look tells nothing new
                        beat = time.monotonic()
                        yield b"event: nudge\ndata: changed\n\n"
                    mark = now
                elif time.monotonic() - beat >= CONSOLE_HEARTBEAT_SECONDS:
                    beat = time.monotonic()
                    yield b": still here\n\n"

    @contextlib.contextmanager
    def _counted(self, account_id: int, watched: int) -> Iterator[None]:
        self._streams[account_id] += 1
        self._watched[watched] += 1
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            for counter, number in ((self._streams, account_id), (self._watched, watched)):
                counter[number] -= 1
                if not counter[number]:
                    del counter[number]

    async def _watch(self) -> None:
        """Look each second until nobody watches, or the process stops."""
        while self._watched:
            try:
                marks, behind = await self._reads.dated(lambda tx: console.marks(tx, list(self._watched)))
                # A standby that stands still changes nothing: pages are to say it, again when it is twice as late.
                late = int((behind or 0.0) / STANDBY_BEHIND_SECONDS).bit_length()
                self._marks = {watched: f"{late} {mark}" for watched, mark in marks.items()}
            except (DatabaseLost, TooSlow) as error:
                log.debug("pages are not nudged until the database is back: %s", error)
            except Exception:
                log.exception("pages could not be nudged; please report it")
            looked, self._looked = self._looked, asyncio.Event()
            looked.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONSOLE_NUDGE_SECONDS):
                    await self._stopping.wait()
            if self._stopping.is_set():
                self._looked.set()
                return
        self._marks = {}
