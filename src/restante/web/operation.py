"""An operation: one method on one path, with all that a client must know of it.

Routes and the OpenAPI document are made from one list of these, so that nothing is served undocumented and nothing
documented is not served.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from restante.core.allowance import Endpoint
from restante.core.errors import OK_CODE, OK_MESSAGE, Refusal
from restante.web.counted import counted
from restante.web.rate_limit import RateLimits
from restante.web.wire import LLM_RESPONSES


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one path. `path` is Starlette's and OpenAPI's alike: `/a/{b}`.

    Without `answers` the operation answers the envelope, whose tasks have `result` (its rows' type; None: always null)
    and any of the codes of `success` and `refusals`. What may be posted is an array of at most `tasks` of `request`,
    without the fields that it `omits`; those that it `requires` may not even be null.
    With `answers` (HTTP status -> type) it takes and answers plain JSON; `media` (HTTP status -> media type) are those
    that are another's JSON or no JSON, the first of `rows` being the example.
    Echoes begin with `origin`, or with `other_origin` where there is one.
    `sent`, `rows` and `cost` (nano-dollars) make the example: the posted task or object, the result's rows.
    """

    group: str
    name: str
    method: str
    path: str
    summary: str
    description: str
    endpoint: Callable[[Request], Awaitable[Response]]
    rate: Endpoint | None = None
    parameters: Sequence[Mapping[str, Any]] = ()
    request: type | None = None
    requires: Sequence[str] = ()
    omits: Sequence[str] = ()
    ignores_unknown: bool = False
    tasks: int = 1
    result: type | None = None
    success: tuple[int, str] = (OK_CODE, OK_MESSAGE)
    refusals: Sequence[type[Refusal]] = ()
    answers: Mapping[int, type] = {}
    media: Mapping[int, str] = {}
    origin: bytes = LLM_RESPONSES
    other_origin: bytes | None = None
    sent: Mapping[str, Any] | None = None
    rows: Sequence[Any] | None = None
    cost: int = 0

    def route(self, rates: RateLimits) -> Route:
        """What Starlette serves: this one method, its rate before it."""
        route = Route(self.path, self.endpoint)
        route.methods = {self.method}  # not HEAD either, which would take an answer off tasks_ready unread
        if self.rate is not None:
            route.app = rates.before(self.rate, route.app)
        route.app = counted(self.name, route.app)
        return route
