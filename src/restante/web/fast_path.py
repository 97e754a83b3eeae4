"""task_get past the framework. It is called once a task, and the layers around it cost more than it does (measured).

What is unusual about a call goes the long way: other formats, rates, wrong passwords, anything that goes wrong.
"""

from __future__ import annotations

import gzip
import logging
import time
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from restante.core.allowance import Endpoint
from restante.core.errors import InternalError
from restante.core.limits import GZIP_FROM_BYTES
from restante.flow.collect import Collector
from restante.store.database import DatabaseLost
from restante.web import wire
from restante.web.auth import Passwords
from restante.web.rate_limit import Count

log = logging.getLogger("restante.api")

_ENDPOINT: Final[Endpoint] = "task_get"
_PREFIX: Final = "/" + "/".join((*wire.FAMILY_PATH, _ENDPOINT, ""))
_PATH_CHARS: Final = len(_PREFIX) + 36
_SLASHES: Final = _PREFIX.count("/")  # a path that goes on has more, another format a dot
_JSON: Final = (b"content-type", b"application/json")
_PATH_PARTS: Final = (*wire.FAMILY_PATH, _ENDPOINT)


class FastPath:
    """The ASGI application: `app`, but for the calls it is meant for. `count` is told of those."""

    def __init__(self, app: ASGIApp, passwords: Passwords, collector: Collector, count: Count) -> None:
        self._app = app
        self._passwords = passwords
        self._collector = collector
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET":
            path: str = scope["path"]
            if len(path) == _PATH_CHARS and path.startswith(_PREFIX) and "." not in path and path.count("/") == _SLASHES:
                answer = await self._task_get(scope, path[len(_PREFIX) :])
                if answer is not None:
                    status, headers, body = answer
                    await send({"type": "http.response.start", "status": status, "headers": headers})
                    await send({"type": "http.response.body", "body": body})
                    return
        await self._app(scope, receive, send)

    async def _task_get(self, scope: Scope, task_id: str) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
        """The status, the headers and the body; None: go the long way."""
        started = time.perf_counter()
        proof, encodings = b"", b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                proof = proof or value
            elif name == b"accept-encoding":
                encodings += value
        try:
            caller = await self._passwords.check(proof.decode("latin-1"))
            if caller is None or caller.allowance.task_get:
                return None
            found = await self._collector.task_get(caller.account_id, task_id)
        except DatabaseLost as error:
            log.error("GET %s: %d, %s", scope["path"], InternalError.code, error)
            body = wire.refused_call(InternalError())
            return 500, [_JSON, (b"content-length", b"%d" % len(body))], body
        except Exception:  # said by the long way, where it happens again; asking twice changes nothing
            return None
        self._count(caller.account_id, _ENDPOINT)
        entry = wire.fetched_entry(task_id, found, (*_PATH_PARTS, task_id), time.perf_counter() - started)
        body = wire.envelope([entry], elapsed=time.perf_counter() - started)
        headers = [_JSON, (b"vary", b"Accept-Encoding")]
        if b"gzip" in encodings and len(body) >= GZIP_FROM_BYTES:
            body = gzip.compress(body, 1, mtime=0)
            headers.append((b"content-encoding", b"gzip"))
        headers.append((b"content-length", b"%d" % len(body)))
        return 200, headers, body
