"""The ASGI application: every operation, its documentation, and what is said of every other path (contract §12.15)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from restante.core.allowance import Allowance
from restante.core.errors import InvalidPath, NotFound
from restante.core.limits import GZIP_FROM_BYTES
from restante.core.task import Function
from restante.web import wire
from restante.web.auth import BasicAuth, Door
from restante.web.formats import Formats
from restante.web.openapi import document
from restante.web.operation import Operation
from restante.web.pages import Documentation
from restante.web.rate_limit import RateLimits
from restante.web.respond import FORESEEN, account_of, answer, failed, json_text, mint, path_of

_OUR_APIS = ("/v3/ai_optimization", "/v3/appendix")  # inside them a wrong path is 40402, elsewhere 40400


def create_app(
    operations: Sequence[Operation],
    rates: RateLimits,
    allowance: Allowance,
    door: Door,
    clock: Callable[[], datetime],
    others: Sequence[BaseRoute] = (),
) -> Starlette:
    """These operations, and the pages that document them. `allowance` is the installation's; `others` are paths that no
    client needs to know."""
    pages = Documentation(document(operations, allowance))

    async def unknown_path(request: Request, _: Exception) -> Response:
        """§12.15: 40402 inside our APIs, with a task and no data; 40400 and HTTP 404 elsewhere."""
        path = request.scope["path"]
        if not any(path == ours or path.startswith(f"{ours}/") for ours in _OUR_APIS):
            return json_text(wire.refused_call(NotFound()), 404)
        task_id = mint(clock(), account_of(request), Function.TASK_POST)
        entry = wire.entry(task_id, path_of(request), refusal=InvalidPath())
        return answer([msgspec.structs.replace(entry, data=None)], time.perf_counter())

    async def broken(request: Request, error: Exception) -> Response:
        return failed(request.scope, error)

    app = Starlette(
        routes=[operation.route(rates) for operation in operations] + pages.routes() + [*others],
        middleware=[
            Middleware(GZipMiddleware, minimum_size=GZIP_FROM_BYTES, compresslevel=1),
            Middleware(BasicAuth, door=door),
            Middleware(Formats),  # inside: a 401 is the same bytes whatever was asked for
        ],
        exception_handlers={
            HTTPException: unknown_path,
            **dict.fromkeys(FORESEEN, broken),
            Exception: broken,
        },
    )
    app.router.redirect_slashes = False  # a path with a slash too many is a wrong path (§12.15), not a redirect
    return app
