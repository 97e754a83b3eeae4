"""Rates at the door: judged after 401 and before the body is looked at (contract §12.27), told in headers (§1.3)."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from restante.core.allowance import Allowance, Endpoint
from restante.core.errors import RateExceeded
from restante.core.limits import BODY_DRAIN_BYTES
from restante.core.task import Function
from restante.flow.rates import Rates, Verdict
from restante.web import wire
from restante.web.respond import mint

# task_get and webhook_resend have no function number of their own; the id of a refusal needs one all the same.
_FUNCTIONS: Final[dict[Endpoint, Function]] = {
    "task_post": Function.TASK_POST,
    "live": Function.LIVE,
    "tasks_ready": Function.TASKS_READY,
    "task_get": Function.TASK_POST,
    "models": Function.MODELS,
    "user_data": Function.USER_DATA,
    "appendix_errors": Function.APPENDIX_ERRORS,
    "status": Function.STATUS,
    "webhook_resend": Function.TASK_POST,
    "id_list": Function.ID_LIST,
    "errors": Function.ERRORS,
}


#: Told of each call: its account and endpoint.
Count = Callable[[int, Endpoint], None]


class RateLimits:
    """Puts a rate before endpoints; where the account has no limit no window is kept and no header is sent. `count` is
    told of every call, the refused ones too, for the usage figures."""

    def __init__(
        self,
        rates: Rates,
        clock: Callable[[], datetime],
        count: Count = lambda account_id, endpoint: None,
    ) -> None:
        self._rates = rates
        self._clock = clock
        self._count = count

    def before(self, endpoint: Endpoint, app: ASGIApp) -> ASGIApp:
        """An endpoint's application with its rate before it."""

        async def limited(scope: Scope, receive: Receive, send: Send) -> None:
            started = time.perf_counter()
            verdict = await self.judge(scope, endpoint)
            if verdict is None:
                await app(scope, receive, send)
            elif verdict.allowed:
                await app(scope, receive, _telling(verdict, send))
            else:
                refused = await self.refusal(scope, receive, endpoint, verdict, started)
                await refused(scope, receive, _telling(verdict, send))

        return limited

    async def judge(self, scope: Scope, endpoint: Endpoint) -> Verdict | None:
        """What the account's rate says of a call, which is counted; None: there is no rate. Raises DatabaseLost."""
        self._count(scope["account_id"], endpoint)
        allowance: Allowance = scope["allowance"]
        limit = allowance.rate(endpoint)
        return await self._rates.take(scope["account_id"], endpoint, limit) if limit else None

    async def refusal(
        self, scope: Scope, receive: Receive, endpoint: Endpoint, verdict: Verdict, started: float
    ) -> Response:
        """§12.6: HTTP 200, the code and message in the envelope and in its single task. `started` by
        time.perf_counter."""
        await _drain(receive)
        refusal = RateExceeded(f"{verdict.limit} >= {verdict.limit}")
        task_id = mint(self._clock(), scope["account_id"], _FUNCTIONS[endpoint])
        path = scope["path"].strip("/").split("/")
        entry = wire.entry(task_id, path, refusal=refusal, origin=wire.origin_of(endpoint))
        elapsed = time.perf_counter() - started
        body = wire.envelope([entry], elapsed=elapsed, code=refusal.code, message=refusal.message)
        return Response(body, media_type="application/json")


def told(verdict: Verdict) -> list[tuple[bytes, bytes]]:
    """The headers that a verdict is told in (§1.3)."""
    return [(b"x-ratelimit-limit", b"%d" % verdict.limit), (b"x-ratelimit-remaining", b"%d" % verdict.remaining)]


def _telling(verdict: Verdict, send: Send) -> Send:
    """A `send` that adds the headers to whatever is answered."""
    headers = told(verdict)

    async def telling(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *headers]
        await send(message)

    return telling


async def _drain(receive: Receive) -> None:
    """Read the body that nobody wants, so that a client that is still sending it hears the answer, not a reset."""
    size = 0
    while size <= BODY_DRAIN_BYTES:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            return
