"""The standby that people's pages are read from, RESTANTE_READ_DATABASE_URL: connected while it is of use.

Nobody waits for it. It is connected to in the background; while it is gone, still starting, or behind a migration,
there is none, and it is asked again every few seconds, when somebody reads.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

import asyncpg

from restante.core.errors import OperatorError
from restante.core.limits import CONSOLE_READS, STANDBY_AGAIN_SECONDS, STANDBY_OPEN_SECONDS
from restante.observing.current import nobody
from restante.store import schema
from restante.store.connecting import Prepared
from restante.store.database import Database, Session
from restante.store.errors import DatabaseLost

log = logging.getLogger("restante.database")

SETTING: Final = "RESTANTE_READ_DATABASE_URL"


async def behind(tx: Session) -> float | None:
    """How many seconds old what a standby shows is; None: it is a primary. Raises DatabaseLost."""
    found: float | None = await tx.value("behind")
    return found


async def connect(dsn: str, primary: Database, prepared: Prepared = "auto") -> Database:
    """The server to read from, connected. Raises OperatorError when it cannot be, or is not of use: another
    installation's, not yet migrated, or a primary other than ours; DatabaseLost when ours is gone."""
    pages_and_an_audit = CONSOLE_READS + 1  # which takes long: a page that waits for it would be taken for silence
    db = Database(dsn, connections=pages_and_an_audit, prepared=prepared, setting=SETTING, target="standby")
    try:
        async with asyncio.timeout(STANDBY_OPEN_SECONDS):
            await db.open()
            await _refuse_unfit(db, primary)
    except BaseException as error:
        db.abort()
        if isinstance(error, TimeoutError):
            raise OperatorError(f"The server of {SETTING} does not answer.", "Look at its log.") from None
        raise
    return db


async def _refuse_unfit(db: Database, primary: Database) -> None:
    ours = await primary.row("identity")
    try:
        found = await db.row("identity")
    except asyncpg.UndefinedTableError:
        found = None
    if ours is None or found is None or found["installation"] != ours["installation"]:
        raise OperatorError(
            f"The server of {SETTING} does not have this installation's database.", "Name a standby of the primary."
        )
    if found["version"] < schema.migrations()[-1][0]:
        raise OperatorError(
            f"The server of {SETTING} has not replayed the migrations that this restante needs.",
            "It will by itself, once it receives what the primary writes.",
        )
    if not found["standby"] and found["started"] != ours["started"]:  # a copy that went its own way
        raise OperatorError(
            f"The server of {SETTING} is a primary, and not the one that this restante writes to.",
            "Make it a standby again.",
        )


class Standby:
    """Of one process. `again`: seconds between asking a server that was not of use."""

    def __init__(
        self, dsn: str, primary: Database, prepared: Prepared = "auto", *, again: float = STANDBY_AGAIN_SECONDS
    ) -> None:
        self._dsn = dsn
        self._primary = primary
        self._prepared = prepared
        self._again = again
        self._db: Database | None = None
        self._not_before = 0.0  # monotonic
        self._connecting: asyncio.Task[None] | None = None
        self._missed = self._warned = False  # said in the log

    def ask(self) -> Database | None:
        """The server, if it is of use now; else it is connected to meanwhile."""
        connecting = self._connecting is not None and not self._connecting.done()
        if self._db is None and not connecting and time.monotonic() >= self._not_before:
            self._connecting = asyncio.create_task(self._connect(), context=nobody())
        return self._db

    def give_up(self, db: Database, why: object) -> None:
        """It failed, or is not what it was: whoever reads from it is cut off, and it is connected to anew."""
        if self._db is db:
            self._db = None
            self._miss(why)
        db.abort()

    async def close(self) -> None:
        """At the end of the process."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._db is not None:
            await self._db.close()

    async def _connect(self) -> None:
        try:
            db = await connect(self._dsn, self._primary, self._prepared)
        except OperatorError as error:
            self._miss(error.problem)
        except DatabaseLost as error:
            self._miss(error)
        except Exception as error:  # whatever it is, pages are read from the primary
            self._miss(f"{type(error).__name__}: {error}")
        else:
            self._db = db
            self._not_before = 0.0
            if self._missed:
                log.info("console: pages are read from the standby again")
            self._missed = False
            if not db.standby and not self._warned:
                self._warned = True
                log.warning("console: %s names the primary: pages are read from it as without that setting", SETTING)

    def _miss(self, why: object) -> None:
        self._not_before = time.monotonic() + self._again
        level = logging.DEBUG if self._missed else logging.WARNING
        log.log(level, "console: pages are read from the primary until the standby is of use: %s", why)
        self._missed = True
