"""What the endpoints share: who calls, the path as the envelope shows it, and answering (contract §1.1)."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Scope

from restante.core.allowance import Allowance
from restante.core.errors import InternalError
from restante.core.task import Function, mint_id
from restante.flow.disk import DiskFull
from restante.store.errors import DatabaseLost
from restante.web import wire

log = logging.getLogger("restante.api")

#: What calls raise although nothing is wrong with the program. A full disk is said once, by flow/disk.
FORESEEN: Final = (ClientDisconnect, DatabaseLost, DiskFull)


def account_of(request: Request) -> int:
    """The number of the account that calls."""
    account_id: int = request.scope["account_id"]
    return account_id


def login_of(request: Request) -> str:
    """The login of the account that calls."""
    login: str = request.scope["login"]
    return login


def allowance_of(request: Request) -> Allowance:
    """How much the account may call."""
    allowance: Allowance = request.scope["allowance"]
    return allowance


def path_of(request: Request) -> Sequence[str]:
    """The call's path, decoded, so that task_get's path ends with the very id."""
    path: str = request.scope["path"]
    return path.strip("/").split("/")


def mint(now: datetime, account_id: int, function: Function) -> str:
    """An id for a call or a refused task."""
    return mint_id(now, account_id, function, secrets.randbits(48))


def answer(entries: Sequence[wire.TaskEntry], started: float, *, cost: int = 0) -> Response:
    """The envelope of these tasks; `started` by time.perf_counter, `cost` in nano-dollars."""
    return json_text(wire.envelope(entries, elapsed=time.perf_counter() - started, cost=cost))


def json_text(body: bytes, status: int = 200) -> Response:
    """A JSON text as it is."""
    return Response(body, status, media_type="application/json")


def failed(scope: Scope, error: Exception) -> Response:
    """What is answered to a call that raised: 50000. Of what is not FORESEEN whoever caught it shows the traceback."""
    if isinstance(error, ClientDisconnect):
        return Response()  # nobody reads it
    if isinstance(error, DatabaseLost):
        log.error("%s %s: 50000, for want of the database: %s", scope["method"], scope["path"], error)
    return json_text(wire.refused_call(InternalError()), 500)
