"""The marks that listings of tasks_ready begin at; who lists moves them now and then (docs/adr/0003)."""

from __future__ import annotations

import time

from restante.core.limits import READY_MARK_SECONDS, READY_MARK_STEP
from restante.store import ready_mark
from restante.store.database import Database


class Marks:
    """One per process. Each move is proven by what the database says, so that any number of processes may make them;
    what is remembered here is only when this one looked last."""

    def __init__(self, db: Database, *, seconds: float = READY_MARK_SECONDS, step: int = READY_MARK_STEP) -> None:
        self._db = db
        self._seconds = seconds
        self._step = step
        self._looked: dict[int, float] = {}  # at the most an entry for each account there is

    async def advance(self, account_id: int) -> None:
        """Move the account's mark if it is time to look and worth it. Two moves apart: the first says how far the mark
        may go, the next goes there. Raises DatabaseLost."""
        now = time.monotonic()
        if now - self._looked.get(account_id, -self._seconds) < self._seconds:
            return
        self._looked[account_id] = now
        move = await ready_mark.look(self._db, account_id, self._step)
        if move is not None:
            await ready_mark.move(self._db, account_id, move)
