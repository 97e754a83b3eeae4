"""The family's calls past the framework: the layers around them cost more than they do (measured).

What is unusual goes the long way, through Starlette, and is answered the same: other formats, other paths.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from restante.core.allowance import Endpoint
from restante.core.limits import GZIP_FROM_BYTES, GZIP_THREAD_BYTES
from restante.flow.collect import Collector
from restante.observing.metrics import HTTP_REQUESTS, HTTP_SECONDS
from restante.web import wire
from restante.web.auth import Door
from restante.web.connections import Guarded
from restante.web.operation import Operation
from restante.web.rate_limit import RateLimits, told
from restante.web.respond import FORESEEN, failed
from restante.web.room import Place

log = logging.getLogger("restante.api")

_TASK_GET: Final[Endpoint] = "task_get"
_PATH_PARTS: Final = (*wire.FAMILY_PATH, _TASK_GET)
_PREFIX: Final = "/" + "/".join((*_PATH_PARTS, ""))
_PATH_CHARS: Final = len(_PREFIX) + 36
_SLASHES: Final = _PREFIX.count("/")  # a path that goes on has more, another format a dot


Headers = Sequence[tuple[bytes, bytes]]


class Reply(NamedTuple):
    """An HTTP answer, but for the headers that all answers have."""

    status: int
    headers: Headers
    body: bytes
    place: Place | None = None  # to be left when it is written


#: Answers a call; also one that was admitted, and may go on.
Way = Callable[[Scope, Receive], Awaitable[Reply]]

_JSON: Final = ((b"content-type", b"application/json"),)
_GZIPPED: Final = (b"content-encoding", b"gzip")


class FastPath:
    """The ASGI application: `app`, and beside it what HttpProtocol asks instead. Those of the `operations` that have a
    rate are answered here, through the same `door` and by the same `rates`."""

    def __init__(
        self, app: ASGIApp, door: Door, rates: RateLimits, collector: Collector, operations: Sequence[Operation]
    ) -> None:
        self._app = app
        self._door = door
        self._rates = rates
        self._collector = collector
        self._ways: dict[tuple[str, str], Way] = {
            (one.method, one.path): partial(self._call, one.rate, _asked(one))
            for one in operations
            if one.rate is not None and "{" not in one.path
        }
        self.closing = False  # the process stops: connections end with their next answer (web/closing.py)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def way(self, method: str, path: str) -> Way | None:
        """What answers such a call; None: the long way."""
        task_id = self.asked_for(method, path)
        if task_id is not None:
            return partial(self._call, _TASK_GET, partial(self._task_get, task_id))
        return self._ways.get((method, path))

    def asked_for(self, method: str, path: str) -> str | None:
        """The id of the task that a call asks task_get for; None: it is another call."""
        if len(path) != _PATH_CHARS or method != "GET" or not path.startswith(_PREFIX):
            return None
        return None if "." in path or path.count("/") != _SLASHES else path[len(_PREFIX) :]

    async def _call(self, name: Endpoint, endpoint: Way, scope: Scope, receive: Receive) -> Reply:
        place: Place | None = None
        try:
            admitted = await self._door.admit(scope)
            if isinstance(admitted, Response):
                return _reply(admitted)
            place = admitted
            status, headers, body, _ = await self._answer(name, endpoint, scope, receive)
            if len(body) >= GZIP_FROM_BYTES:
                headers, body = await _compressed(scope, headers, body)
        except Exception as error:
            status, headers, body, _ = _broken(scope, error)
        except BaseException:
            if place is not None:
                place.leave()
            raise
        return Reply(status, headers, body, place)

    async def _answer(self, name: Endpoint, endpoint: Way, scope: Scope, receive: Receive) -> Reply:
        """What the long way has a layer each for: the rate, the endpoint, what it raises, the metrics."""
        began = time.perf_counter()
        verdict = None
        try:
            verdict = await self._rates.judge(scope, name)
            if verdict is None or verdict.allowed:
                reply = await endpoint(scope, receive)
            else:
                reply = _reply(await self._rates.refusal(scope, receive, name, verdict, began))
        except FORESEEN as error:
            reply = _reply(failed(scope, error))
        except Exception as error:  # its answer does not tell the rate: the long way makes it outside of that layer
            reply, verdict = _broken(scope, error), None
        if verdict is not None:
            reply = Reply(reply.status, [*reply.headers, *told(verdict)], reply.body)
        HTTP_REQUESTS.add(1, name, str(reply.status))
        HTTP_SECONDS.observe(time.perf_counter() - began, name)
        return reply

    async def _task_get(self, task_id: str, scope: Scope, receive: Receive) -> Reply:
        """It is called once a task, so that a Request, its path read again and a Response would show."""
        began = time.perf_counter()
        found = await self._collector.task_get(scope["account_id"], task_id)
        entry = wire.fetched_entry(task_id, found, (*_PATH_PARTS, task_id), time.perf_counter() - began)
        return Reply(200, _JSON, wire.envelope([entry], elapsed=time.perf_counter() - began))


def _asked(operation: Operation) -> Way:
    async def answered(scope: Scope, receive: Receive) -> Reply:
        return _reply(await operation.endpoint(Request(scope, receive)))

    return answered


def _reply(response: Response) -> Reply:
    headers = [(name, value) for name, value in response.raw_headers if name != b"content-length"]
    return Reply(response.status_code, headers, bytes(response.body))


def _broken(scope: Scope, error: Exception) -> Reply:
    """What nobody thought of, with its traceback in the log."""
    log.error("%s %s broke", scope["method"], scope["path"], exc_info=error)
    return _reply(failed(scope, error))


async def _compressed(scope: Scope, headers: Headers, body: bytes) -> tuple[Headers, bytes]:
    """As the client wants it. What takes long is done beside the event loop."""
    varying = [*headers, (b"vary", b"Accept-Encoding")]
    if not any(b"gzip" in value for name, value in scope["headers"] if name == b"accept-encoding"):
        return varying, body
    if len(body) < GZIP_THREAD_BYTES:
        return [*varying, _GZIPPED], gzip.compress(body, 1, mtime=0)
    try:
        return [*varying, _GZIPPED], await asyncio.to_thread(gzip.compress, body, 1, mtime=0)
    except RuntimeError:  # no thread can be had; what was done is told all the same
        return varying, body


class HttpProtocol(Guarded):
    """uvicorn's, but a call that FastPath answers is written at once, head and body together: half of what such a call
    cost was spent between uvicorn's protocol and the application (measured)."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        way = app.way(cycle.scope["method"], cycle.scope["path"]) if isinstance(app, FastPath) else None
        if way is None:
            super()._start_asgi_task(cycle, app)
            return
        task = self.loop.create_task(self._go(cycle, way))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    async def _go(self, cycle: RequestResponseCycle, way: Way) -> None:
        try:
            reply = await way(cast("Scope", cycle.scope), cast("Receive", cycle.receive))
        except BaseException:  # such as being cancelled when the server is forced to stop
            try:
                await cycle.send_500_response()
            finally:
                self.transport.close()  # a client must not wait for what will not come
            raise
        try:
            if self.flow.write_paused:
                await self.flow.drain()
        finally:
            if reply.place is not None:
                reply.place.leave()
        if cycle.disconnected or self.transport.is_closing():  # uvicorn tells only the newest of several calls
            return
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        head = [STATUS_LINE[reply.status]]
        for name, value in (*cycle.default_headers, *reply.headers):
            head += (name, b": ", value, b"\r\n")
        head.append(b"content-length: %d\r\n" % len(reply.body))
        head += (b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n", reply.body)
        self.transport.write(b"".join(head))
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
