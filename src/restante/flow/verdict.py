"""The audit, and its verdict kept where people see it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

import msgspec

from restante.core.limits import AUDIT_SAID
from restante.flow import accounts
from restante.flow.reading import StandbyReads
from restante.store import books_ledger, ledger
from restante.store.database import Database
from restante.store.errors import DatabaseLost
from restante.store.ledger import Totals
from restante.store.reading import Overtaken, overtaking

log = logging.getLogger("restante.audit")


class Audited(msgspec.Struct, frozen=True):
    """What it went over, and each difference in words."""

    totals: Totals
    differences: list[str]


async def audit(
    db: Database, clock: Callable[[], datetime], *, whole: bool, standby: Database | None = None
) -> Audited:
    """Audit (flow/accounts.audit) and keep the verdict; a standby, which keeps nothing, is audited all the same.
    `standby`: read there what is kept in `db`; should it fail, all is read from `db`.

    Raises DatabaseLost; then the verdict has no end.
    """
    number = None if db.standby else await books_ledger.begin_verdict(db, clock(), whole=whole)
    try:
        with overtaking():
            totals, differences = await _gone_over(standby or db, whole=whole)
    except (DatabaseLost, Overtaken) as error:
        if standby is None:
            raise
        log.warning("the audit goes over the primary, since the standby failed: %s", error)
        totals, differences = await _gone_over(db, whole=whole)
    if totals.difference and not differences:
        differences = [f"I1: the transfers' sums differ by {totals.difference}"]
    if number is not None:
        said = differences[:AUDIT_SAID]
        await books_ledger.end_verdict(db, number, clock(), totals.accounts, totals.transfers, len(differences), said)
    return Audited(totals, differences)


async def _gone_over(db: Database, *, whole: bool) -> tuple[Totals, list[str]]:
    return await ledger.totals(db), [one async for one in accounts.audit(db, full=whole)]


class Auditor:
    """Runs the audit for the console: one at a time in a process, and on when its browser hangs up."""

    def __init__(self, db: Database, clock: Callable[[], datetime], reads: StandbyReads) -> None:
        self._db = db
        self._clock = clock
        self._reads = reads
        self._running: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        return self._running is not None and not self._running.done()

    def start(self, *, whole: bool) -> bool:
        """Begin one; False: one is going on in this process."""
        if self.running:
            return False
        self._running = asyncio.create_task(self._audit(whole=whole))
        return True

    async def _audit(self, *, whole: bool) -> None:
        try:
            standby = await self._reads.database()
            found = await audit(self._db, self._clock, whole=whole, standby=standby)
        except DatabaseLost as error:
            log.error("the audit ended early, for want of the database: %s", error)
        except Exception:
            log.exception("the audit broke; please report it")
        else:
            level = logging.ERROR if found.differences else logging.INFO
            log.log(
                level, "the audit of %d transfers found %d differences", found.totals.transfers, len(found.differences)
            )
            for difference in found.differences[:AUDIT_SAID]:
                log.error("audit: %s", difference)

    def close(self) -> None:
        """Give it up, at the end of the process: it changes nothing."""
        if self._running is not None:
            self._running.cancel()
