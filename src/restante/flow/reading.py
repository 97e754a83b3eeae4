"""Reading for the console: short transactions that write nothing, a few at a time, so that people who look never keep
tasks waiting for a connection, nor PostgreSQL from cleaning up (design, Data 10)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

from restante.core.limits import (
    CONSOLE_READ_SECONDS,
    CONSOLE_READS,
    STANDBY_ANSWER_SECONDS,
    STANDBY_BEHIND_SECONDS,
    STANDBY_PAGE_SECONDS,
)
from restante.store.database import Database, Session
from restante.store.errors import DatabaseLost
from restante.store.reading import Overtaken, reading
from restante.store.standby import Standby, behind

T = TypeVar("T")
Work = Callable[[Session], Awaitable[T]]


class Reads:
    """All readings of a process from the primary; `at_once` at the database, the others wait."""

    def __init__(self, db: Database, *, at_once: int = CONSOLE_READS, seconds: float = CONSOLE_READ_SECONDS) -> None:
        self._db = db
        self._room = asyncio.Semaphore(at_once)
        self._seconds = seconds

    async def look(self, work: Work[T]) -> T:
        """What `work` reads, in one transaction. Raises DatabaseLost, TooSlow."""

        async def once() -> T:
            async with reading(self._db, self._seconds) as tx:
                return await work(tx)

        async with self._room:
            return await self._db.again(once)


class Looked(NamedTuple, Generic[T]):
    """What was found, and how many seconds old it is; `behind` None: it is as the primary has it."""

    found: T
    behind: float | None


class StandbyReads:
    """All readings of a process from the standby, and from the primary (`now`) while there is none."""

    def __init__(
        self,
        now: Reads,
        standby: Standby | None,
        *,
        at_once: int = CONSOLE_READS,
        seconds: float = CONSOLE_READ_SECONDS,
        patience: float = STANDBY_ANSWER_SECONDS,
    ) -> None:
        self._now = now
        self._standby = standby
        self._room = asyncio.Semaphore(at_once)
        self._seconds = seconds
        self._patience = patience

    async def look(self, work: Work[T]) -> T:
        """What `work` reads, in one transaction. Raises DatabaseLost, TooSlow."""
        return (await self.dated(work)).found

    async def dated(self, work: Work[T]) -> Looked[T]:
        """The same, and how old it is. `work` is run again at the primary when the standby fails it."""
        if self._standby is not None:
            async with self._room:
                db = self._standby.ask()
                looked = None if db is None else await self._tried(self._standby, db, work)
            if looked is not None:
                return looked
        return Looked(await self._now.look(work), None)

    async def prompt(self, work: Work[T]) -> Looked[T]:
        """The same of a standby that is not behind by more than goes without saying; else as the primary has it."""
        looked = await self.dated(work)
        if looked.behind is not None and looked.behind > STANDBY_BEHIND_SECONDS:
            return Looked(await self._now.look(work), None)
        return looked

    async def database(self) -> Database | None:
        """The standby itself, if there is one and it is not behind. Raises DatabaseLost."""
        _, late = await self.prompt(_nothing)
        return None if self._standby is None or late is None else self._standby.ask()

    async def _tried(self, standby: Standby, db: Database, work: Work[T]) -> Looked[T] | None:
        try:
            looked = await self._read(db, work)
        except Overtaken:
            return None
        except DatabaseLost as error:
            standby.give_up(db, error)
            return None
        if looked.behind is None and db.standby:
            standby.give_up(db, "it became a primary")
            return None
        return looked

    async def _read(self, db: Database, work: Work[T]) -> Looked[T]:
        """In a task of its own, which is not waited for when the server is silent: it ends when its connection does."""
        begun = asyncio.get_running_loop().create_future()

        async def read() -> Looked[T]:
            async with reading(db, self._seconds) as tx:
                late = await behind(tx)
                begun.set_result(None)
                found = await work(tx)
                if late is not None and late > STANDBY_BEHIND_SECONDS >= (await behind(tx) or 0.0):
                    # It caught up meanwhile; or was not late at all: after an idle minute the first change seems a
                    # minute late, for the moment that its replay takes.
                    raise Overtaken("it caught up meanwhile")
                return Looked(found, late)

        task = asyncio.create_task(read())
        task.add_done_callback(_unheard)
        try:
            await asyncio.wait([task, begun], timeout=self._patience, return_when=asyncio.FIRST_COMPLETED)
            if begun.done():
                await asyncio.wait([task], timeout=STANDBY_PAGE_SECONDS)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not task.done():
            raise DatabaseLost("the standby is silent")
        return task.result()


async def _nothing(_: Session) -> None:
    """Reads nothing."""


def _unheard(task: asyncio.Task[object]) -> None:
    if not task.cancelled():
        task.exception()  # nobody may wait for it any more
