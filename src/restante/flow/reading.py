"""Reading for the console: short transactions that write nothing, a few at a time, so that people who look never keep
tasks waiting for a connection, nor PostgreSQL from cleaning up (design, Data 10)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from restante.core.limits import CONSOLE_READ_SECONDS, CONSOLE_READS
from restante.store.database import Database, Session
from restante.store.reading import reading

T = TypeVar("T")


class Reads:
    """All readings of a process; `at_once` at the database, the others wait."""

    def __init__(self, db: Database, *, at_once: int = CONSOLE_READS, seconds: float = CONSOLE_READ_SECONDS) -> None:
        self._db = db
        self._room = asyncio.Semaphore(at_once)
        self._seconds = seconds

    async def look(self, work: Callable[[Session], Awaitable[T]]) -> T:
        """What `work` reads, in one transaction. Raises DatabaseLost, TooSlow."""

        async def once() -> T:
            async with reading(self._db, self._seconds) as tx:
                return await work(tx)

        async with self._room:
            return await self._db.again(once)
