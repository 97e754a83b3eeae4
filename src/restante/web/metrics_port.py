"""A port of a worker's own, for its metrics and its health. Nothing that goes wrong here stops the work."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from restante.core.limits import METRICS_RETRY_SECONDS
from restante.web.connections import Connections
from restante.web.server import Server, http_server

log = logging.getLogger("restante.metrics")


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
    server = Server(http_server(Starlette(routes=list(routes)), connections))
    looking, serving = asyncio.create_task(connections.keep()), asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = server.force_exit = True
        looking.cancel()
        await asyncio.wait([serving])
