"""/healthz and /readyz, for whoever runs restante: no password, no secrets, HTTP codes (contract §12.26)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from restante.core.limits import READY_DATABASE_SECONDS
from restante.flow.disk import Disk
from restante.store.database import Database
from restante.store.errors import DatabaseLost
from restante.web.respond import json_text


class State(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether this process is well, and why not, or not in all."""

    ok: bool
    reasons: list[str] = []


class Health:
    """`provider_faults`: why providers cannot be called now, those that cannot of so many `providers`."""

    def __init__(
        self, db: Database, provider_faults: Callable[[], Sequence[str]], providers: int = 1, disk: Disk | None = None
    ) -> None:
        self._disk = disk or Disk()
        self._db = db
        self._provider_faults = provider_faults
        self._providers = providers

    def routes(self) -> list[Route]:
        """The two paths, for GET and HEAD."""
        return [Route("/healthz", self.healthz), Route("/readyz", self.readyz)]

    async def healthz(self, request: Request) -> Response:
        """The process lives: 200, always."""
        return _said(True, [])

    async def readyz(self, request: Request) -> Response:
        """200 when tasks can be taken and answered, else 503 and why not. A provider that cannot be called while others
        can, a disk that is almost full, and clocks that are apart, are reasons too, but none to send all clients away:
        they may collect."""
        answers = await self._database_answers()
        faults = self._provider_faults()
        reasons = [] if answers else ["the database does not answer"]
        reasons += ["the disk is almost full: no new tasks are taken"] * self._disk.short
        reasons += ["this host's clock and the database's are apart: no new tasks are taken"] * self._db.clocks_apart
        return _said(answers and len(faults) < self._providers, [*reasons, *dict.fromkeys(faults)])

    async def _database_answers(self) -> bool:
        try:
            async with asyncio.timeout(READY_DATABASE_SECONDS):
                return bool(await self._db.value("alive"))
        except (DatabaseLost, TimeoutError):
            return False


def _said(ok: bool, reasons: list[str]) -> Response:
    return json_text(msgspec.json.encode(State(ok, reasons)), 200 if ok else 503)
