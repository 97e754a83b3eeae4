"""task_get past the framework. It is called once a task, and the layers around it cost more than it does (measured).

What is unusual about a call goes the long way: other formats, rates, wrong passwords, anything that goes wrong.
"""

from __future__ import annotations

import gzip
import logging
import time
from typing import Any, Final, NamedTuple

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from restante.core.allowance import Endpoint
from restante.core.errors import InternalError
from restante.core.limits import GZIP_FROM_BYTES
from restante.flow.collect import Collector
from restante.observing.metrics import HTTP_REQUESTS, HTTP_SECONDS
from restante.store.errors import DatabaseLost
from restante.web import wire
from restante.web.auth import Passwords
from restante.web.connections import Guarded
from restante.web.rate_limit import Count
from restante.web.room import Place, Room

log = logging.getLogger("restante.api")

_ENDPOINT: Final[Endpoint] = "task_get"
_PATH_PARTS: Final = (*wire.FAMILY_PATH, _ENDPOINT)
_PREFIX: Final = "/" + "/".join((*_PATH_PARTS, ""))
_PATH_CHARS: Final = len(_PREFIX) + 36
_SLASHES: Final = _PREFIX.count("/")  # a path that goes on has more, another format a dot
_JSON: Final = b"content-type: application/json\r\n"
_VARY: Final = b"vary: Accept-Encoding\r\n"
_GZIPPED: Final = b"content-encoding: gzip\r\n"


class _Reply(NamedTuple):
    """An HTTP answer, its own headers written out."""

    status: int
    headers: bytes
    body: bytes
    place: Place | None = None  # to be left when it is written


class FastPath:
    """The ASGI application: `app`, and beside it what HttpProtocol asks instead. `count` is told of those calls, which
    take their places in the `room` as all others do."""

    def __init__(self, app: ASGIApp, passwords: Passwords, collector: Collector, count: Count, room: Room) -> None:
        self._app = app
        self._passwords = passwords
        self._collector = collector
        self._count = count
        self._room = room
        self.closing = False  # the process stops: connections end with their next answer (web/closing.py)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def asked_for(self, method: str, path: str) -> str | None:
        """The id of the task that a call asks task_get for; None: it is another call."""
        if len(path) != _PATH_CHARS or method != "GET" or not path.startswith(_PREFIX):
            return None
        return None if "." in path or path.count("/") != _SLASHES else path[len(_PREFIX) :]

    async def task_get(self, scope: Scope, task_id: str) -> _Reply | None:
        """What task_get answers; None: go the long way."""
        started = time.perf_counter()
        proof, encodings, place = None, b"", None
        for name, value in scope["headers"]:
            if name == b"authorization":
                proof = value if proof is None else proof  # the first, as BasicAuth reads it
            elif name == b"accept-encoding":
                encodings += value
        try:
            caller = await self._passwords.check((proof or b"").decode("latin-1"))
            if caller is None or caller.allowance.task_get:
                return None
            place = self._room.enter(caller.account_id)
            if place is None:
                return None
            found = await self._collector.task_get(caller.account_id, task_id)
            self._count(caller.account_id, _ENDPOINT)
            HTTP_REQUESTS.add(1, _ENDPOINT, "200")
            HTTP_SECONDS.observe(time.perf_counter() - started, _ENDPOINT)
            entry = wire.fetched_entry(task_id, found, (*_PATH_PARTS, task_id), time.perf_counter() - started)
            body = wire.envelope([entry], elapsed=time.perf_counter() - started)
            headers = _JSON + _VARY
            if b"gzip" in encodings and len(body) >= GZIP_FROM_BYTES:
                headers, body = headers + _GZIPPED, gzip.compress(body, 1, mtime=0)
            reply, place = _Reply(200, headers, body, place), None
            return reply
        except DatabaseLost as error:
            log.error("GET %s: %d, for want of the database: %s", scope["path"], InternalError.code, error)
            HTTP_REQUESTS.add(1, _ENDPOINT, "500")
            return _Reply(500, _JSON, wire.refused_call(InternalError()))
        except Exception:  # said by the long way, where it happens again; asking twice changes nothing
            return None
        finally:
            if place is not None:
                place.leave()


class HttpProtocol(Guarded):
    """uvicorn's, but a call that FastPath answers is written at once, head and body together: half of what such a call
    cost was spent between uvicorn's protocol and the application (measured)."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        task_id = app.asked_for(cycle.scope["method"], cycle.scope["path"]) if isinstance(app, FastPath) else None
        if task_id is None:
            super()._start_asgi_task(cycle, app)
            return
        task = self.loop.create_task(self._task_get(cycle, app, task_id))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    async def _task_get(self, cycle: RequestResponseCycle, app: Any, task_id: str) -> None:
        try:
            reply: _Reply | None = await app.task_get(cycle.scope, task_id)
        except BaseException:  # nobody else would answer: a client must not wait for what will not come
            self.transport.close()
            raise
        if reply is None:
            await cycle.run_asgi(app)
            return
        try:
            if self.flow.write_paused:
                await self.flow.drain()
        finally:
            if reply.place is not None:
                reply.place.leave()
        if cycle.disconnected:
            return
        cycle.response_started = cycle.response_complete = True
        head = [STATUS_LINE[reply.status]]
        for name, value in cycle.default_headers:
            head += (name, b": ", value, b"\r\n")
        head += (reply.headers, b"content-length: %d\r\n" % len(reply.body))
        head += (b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n", reply.body)
        self.transport.write(b"".join(head))
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
