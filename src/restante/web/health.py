"""/healthz and /readyz, for whoever runs restante: no password, no secrets, HTTP codes (contract §12.26)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from restante.core.limits import READY_DATABASE_SECONDS
from restante.store.database import Database, DatabaseLost
from restante.web.respond import json_text


class State(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether this process is well, and why not."""

    ok: bool
    reasons: list[str] = []


class Health:
    """`provider_faults`: why providers cannot be called now, those that cannot."""

    def __init__(self, db: Database, provider_faults: Callable[[], Sequence[str]]) -> None:
        self._db = db
        self._provider_faults = provider_faults

    def routes(self) -> list[Route]:
        """The two paths, for GET and HEAD."""
        return [Route("/healthz", self.healthz), Route("/readyz", self.readyz)]

    async def healthz(self, request: Request) -> Response:
        """The process lives: 200, always."""
        return _said([])

    async def readyz(self, request: Request) -> Response:
        """200 when tasks can be taken and answered, else 503 and why not."""
        reasons = []
        if not await self._database_answers():
            reasons.append("the database does not answer")
        return _said(reasons + list(self._provider_faults()))

    async def _database_answers(self) -> bool:
        try:
            async with asyncio.timeout(READY_DATABASE_SECONDS):
                return bool(await self._db.value("alive"))
        except (DatabaseLost, TimeoutError):
            return False


def _said(reasons: list[str]) -> Response:
    return json_text(msgspec.json.encode(State(not reasons, reasons)), 503 if reasons else 200)
