"""A port of a worker's own, for its metrics and its health. Nothing that goes wrong here stops the work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator, Sequence
from functools import partial
from typing import cast

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from restante.core.limits import KEEP_ALIVE_SECONDS, METRICS_RETRY_SECONDS
from restante.web.closing import ClosingProtocol
from restante.web.connections import Connections

log = logging.getLogger("restante.metrics")


class _Server(uvicorn.Server):
    """Without signal handlers of its own: the process has one place for signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def keep_serving(address: tuple[str, int], routes: Sequence[BaseRoute]) -> None:
    """Serve until cancelled. A port that is taken is asked for again."""
    host, port = address
    while True:
        try:
            with socket.create_server(address, family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
                named = f"[{host}]" if ":" in host else host
                log.info("metrics and health of this worker are at http://%s:%d", named, listening.getsockname()[1])
                await _serve(listening, routes)
        except OSError as error:
            log.error(
                "metrics and health of this worker are not served, its work goes on: cannot listen on %s port %d: %s",
                host, port, error.strerror or error,
            )  # fmt: skip
        await asyncio.sleep(METRICS_RETRY_SECONDS)


async def _serve(listening: socket.socket, routes: Sequence[BaseRoute]) -> None:
    connections = Connections()
    server = _Server(
        uvicorn.Config(
            Starlette(routes=list(routes)),
            http=cast("type[asyncio.Protocol]", partial(ClosingProtocol, connections)),
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            loop="none",
            proxy_headers=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
        )
    )
    looking, serving = asyncio.create_task(connections.keep()), asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = server.force_exit = True
        looking.cancel()
        await asyncio.wait([serving])
