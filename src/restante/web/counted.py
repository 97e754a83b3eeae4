"""Calls as they are counted: by endpoint and HTTP status, and how long each took (restante.observing.metrics)."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from restante.observing.metrics import HTTP_REQUESTS, HTTP_SECONDS


def counted(endpoint: str, app: ASGIApp) -> ASGIApp:
    """An endpoint's application, its calls counted. What it raises becomes a 500 further out."""

    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        status = 500
        began = time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, noting)
        finally:
            HTTP_REQUESTS.add(1, endpoint, str(status))
            HTTP_SECONDS.observe(time.perf_counter() - began, endpoint)

    return counting
