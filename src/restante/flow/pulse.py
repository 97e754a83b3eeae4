"""How many tasks ended in each minute, for the console: counted in memory by whoever settles, written once a second.

A killed process's last second may be missing, and what was committed in doubt may count twice: these are figures for
people; money is in the ledger.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from restante.core.limits import USAGE_FLUSH_SECONDS
from restante.core.task import State
from restante.store import console
from restante.store.database import Database
from restante.store.errors import DatabaseLost

log = logging.getLogger("restante.usage")


class Pulse:
    """One per process that settles."""

    def __init__(self, db: Database, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._clock = clock
        self._counted: dict[tuple[int, int], list[int]] = {}  # minute since 1970, account -> [done, failed]

    def settled(self, ended: Iterable[tuple[str, State]]) -> None:
        """Tasks of these ids ended so, just now. A dictionary's increment each: it is in every settlement's way."""
        minute = int(self._clock().timestamp()) // 60
        for task_id, state in ended:
            counts = self._counted.setdefault((minute, int(task_id[9:13], 16)), [0, 0])
            counts[state is State.FAILED] += 1

    async def keep(self) -> None:
        """Write what was counted each second, until cancelled."""
        while True:
            await asyncio.sleep(USAGE_FLUSH_SECONDS)
            await asyncio.shield(self.flush())

    async def flush(self) -> None:
        """Write what was counted; while the database is away it is kept."""
        counted, self._counted = self._counted, {}
        if not counted:
            return
        rows = [
            (datetime.fromtimestamp(minute * 60, UTC), account, *ends) for (minute, account), ends in counted.items()
        ]
        try:
            await self._db.settled(lambda: console.count_settled(self._db, rows))  # type: ignore[arg-type]
        except DatabaseLost as error:
            log.debug("the console's figures wait for the database: %s", error)
            for key, ends in counted.items():
                kept = self._counted.setdefault(key, [0, 0])
                kept[0], kept[1] = kept[0] + ends[0], kept[1] + ends[1]
        except Exception:
            log.exception("the console's figures could not be written; please report it")
