"""Usage figures: every call at the door is counted in memory, and all API processes add theirs up each second (§3.7).

A killed process loses the calls of its last second at the most. Refused calls (40202) are calls.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, date, datetime

import msgspec

from restante.core.allowance import Endpoint
from restante.core.limits import USAGE_FLUSH_SECONDS
from restante.core.task import Function, mint_id
from restante.store import accounts, usage
from restante.store.accounts import Account
from restante.store.database import Database
from restante.store.errors import DatabaseLost
from restante.store.usage import Counted

log = logging.getLogger("restante.usage")

Calls = dict[tuple[int, Endpoint, int], int]  # account, endpoint, minute since 1970 -> calls


class Usage(msgspec.Struct, frozen=True):
    """An account's figures as of `minute`, a UTC minute: by endpoint, calls (of the day, of the minute), and what its
    tasks of the day and of the minute cost in nano-dollars: charges of settled ones, holds of unfinished ones."""

    account: Account
    minute: datetime
    calls: dict[str, tuple[int, int]]
    day_spent: dict[str, int]
    minute_spent: dict[str, int]


class Meter:
    """Counts calls; one per API process."""

    def __init__(self, db: Database, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._clock = clock
        self._calls: Calls = {}
        self._flushing = asyncio.Lock()

    def count(self, account_id: int, endpoint: Endpoint) -> None:
        """One call. Costs a dictionary's increment: it is in every call's way."""
        key = (account_id, endpoint, int(self._clock().timestamp()) // 60)
        self._calls[key] = self._calls.get(key, 0) + 1

    async def keep_flushed(self) -> None:
        """Write what was counted each second, until cancelled."""
        while True:
            await asyncio.sleep(USAGE_FLUSH_SECONDS)
            try:
                await asyncio.shield(self.flush())  # cancelled half-way, it could be counted twice
            except DatabaseLost as error:
                log.warning("usage figures wait for the database: %s", error)
                await self._db.revive()
            except Exception:
                log.exception("usage figures could not be written and are kept; please report it")

    async def close(self) -> None:
        """Write the rest, at the end of the process."""
        try:
            await self.flush()
        except DatabaseLost as error:
            log.warning("the last usage figures are lost: %s", error)

    async def flush(self) -> None:
        """Write what was counted. Raises DatabaseLost; then it is kept for the next time, and counted twice if it was
        committed all the same."""
        async with self._flushing:  # whoever waits here reads figures that hold what was on its way
            calls, self._calls = self._calls, {}
            if not calls:
                return
            try:
                await self._db.settled(lambda: usage.add(self._db, _summed(calls)))
            except BaseException:
                for key, number in calls.items():
                    self._calls[key] = self._calls.get(key, 0) + number
                raise

    async def read(self, account_id: int, login: str) -> Usage:
        """An account's figures, those of this process to the last call. Raises DatabaseLost."""
        await asyncio.shield(self.flush())  # a client that hangs up half-way would have it counted twice
        minute = self._clock().replace(second=0, microsecond=0)
        account = await accounts.read(self._db, login)
        assert account is not None  # it has just proved who it is, and accounts are never deleted
        posted, live = await usage.spent_on(self._db, account_id, minute.date())
        now = await usage.spent_between(self._db, minute.date(), *ids_of_minute(account_id, minute))
        return Usage(
            account,
            minute,
            await usage.read(self._db, account_id, minute),
            {"task_post": posted, "live": live},
            {"task_post": now.get(Function.TASK_POST, 0), "live": now.get(Function.LIVE, 0)},
        )


def ids_of_minute(account_id: int, minute: datetime) -> tuple[str, str]:
    """The first and the last id that an account's tasks of a UTC minute may have (contract §5.4)."""
    head = mint_id(minute, account_id, Function.LIVE, 0)[:13]  # MMDDHHMM-AAAA
    return f"{head}-0000-0000-000000000000", f"{head}-ffff-ffff-ffffffffffff"


def _summed(calls: Calls) -> list[Counted]:
    """One row for each (day, account, endpoint): around a minute's end a second's calls are of two minutes."""
    rows: dict[tuple[date, int, Endpoint], Counted] = {}
    for (account_id, endpoint, number), count in sorted(calls.items()):
        minute = datetime.fromtimestamp(number * 60, UTC)
        key = (minute.date(), account_id, endpoint)
        before = rows.get(key)
        rows[key] = Counted(*key, count + (before.calls if before else 0), minute, count)
    return list(rows.values())
