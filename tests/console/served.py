"""Every route that the console serves, as app.py puts them together."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final, cast

from restante import app
from restante.config import Settings

#: What needs no session: the log-in page and what it looks like.
OPEN: Final = {("GET", "/login"), ("POST", "/login"), ("GET", "/static/{name}")}


def _routes() -> set[tuple[str, str]]:
    nothing = cast(Any, _Anything())
    settings = Settings(provider="scripted")
    stack = contextlib.AsyncExitStack()
    parts = (nothing, settings, nothing, b"pepper", nothing, nothing, nothing)
    console = app.console(stack, *parts, asyncio.Event())
    assert console is not None
    return {(method, route.path) for route in console.served for method in (route.methods or set()) - {"HEAD"}}


class _Anything:
    """What is not called in putting the console together."""

    def __getattr__(self, name: str) -> Any:
        return self


#: Every (method, path below /console) but the open ones.
PATHS: Final = _routes() - OPEN
