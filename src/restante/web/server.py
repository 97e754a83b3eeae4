"""How uvicorn serves here: by our protocol, without its lifespan, its log and its signal handlers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from functools import partial
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from restante.core.limits import KEEP_ALIVE_SECONDS
from restante.web.closing import ClosingProtocol
from restante.web.connections import Connections


class Server(uvicorn.Server):
    """Without signal handlers of its own: the process has one place for signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def http_server(app: ASGIApp, connections: Connections, drain_seconds: float | None = None) -> uvicorn.Config:
    """How an application is served; `connections` has to be kept (Connections.keep). Requests may go on for
    `drain_seconds` when it stops; None: until they end, or the server is forced to."""
    return uvicorn.Config(
        app,
        http=cast("type[asyncio.Protocol]", partial(ClosingProtocol, connections)),
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        loop="none",
        proxy_headers=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=None if drain_seconds is None else int(drain_seconds) + 1,
    )
