"""Rate windows: calendar minutes of the database's clock, shared by all API processes (contract §12.6).

A process reserves blocks of calls in the database and counts them down in memory, so that a call costs a statement only
where the limit is small. What it knows ends with the minute in which it was reserved: until then by its own monotonic
clock, counted from before the reservation was sent, hence never for longer than by the database's clock.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime

import msgspec

from restante.core.allowance import Endpoint
from restante.core.limits import RATE_BLOCKS, RATE_SINGLE_MAX, RATE_WINDOWS_REMEMBERED
from restante.store import rates
from restante.store.database import Database


class Verdict(msgspec.Struct, frozen=True):
    """Whether a call may go on, and how many more may this minute, as far as this process knows."""

    allowed: bool
    limit: int
    remaining: int


class _Window:
    """What a process knows of one account's endpoint in the current minute."""

    def __init__(self) -> None:
        self.reserving = asyncio.Lock()
        self.limit = 0
        self.until = 0.0  # on the monotonic clock
        self.block = 0  # reserved and not yet used
        self.beyond = 0  # of the limit, what nobody has reserved

    def take(self, limit: int) -> Verdict | None:
        """A verdict without asking the database; None: it has to be asked."""
        known = limit == self.limit and time.monotonic() < self.until
        return self.use() if known and (self.block or not self.beyond) else None

    def use(self) -> Verdict:
        """One call of the block, if there is one."""
        allowed = self.block > 0
        self.block -= allowed
        return Verdict(allowed, self.limit, self.block + self.beyond)


class Rates:
    """Counts calls; one per API process. `now` stands for the database's clock where it gives a time, for tests."""

    def __init__(self, db: Database, now: Callable[[], datetime | None] = lambda: None) -> None:
        self._db = db
        self._now = now
        self._windows: OrderedDict[tuple[int, Endpoint], _Window] = OrderedDict()

    async def take(self, account_id: int, endpoint: Endpoint, limit: int) -> Verdict:
        """Count one call of an endpoint that has a limit. Raises DatabaseLost."""
        window = self._window(account_id, endpoint)
        verdict = window.take(limit)
        if verdict is None:
            async with window.reserving:  # one block for all who wait
                verdict = window.take(limit) or await self._reserve(window, account_id, endpoint, limit)
        return verdict

    async def _reserve(self, window: _Window, account_id: int, endpoint: Endpoint, limit: int) -> Verdict:
        block = 1 if limit <= RATE_SINGLE_MAX else limit // RATE_BLOCKS or 1
        sent = time.monotonic()
        # Asked twice when the server was lost on the way: at worst a block is wasted.
        found = await self._db.again(lambda: rates.reserve(self._db, account_id, endpoint, limit, block, self._now()))
        taken = limit if found.taken is None else found.taken
        window.limit = limit
        window.until = sent + found.seconds_left
        window.block = 0 if found.taken is None else block - max(0, taken - limit)
        window.beyond = max(0, limit - taken)
        return window.use()

    def _window(self, account_id: int, endpoint: Endpoint) -> _Window:
        window = self._windows.get((account_id, endpoint))
        if window is None:
            window = self._windows[account_id, endpoint] = _Window()
            if len(self._windows) > RATE_WINDOWS_REMEMBERED:
                self._windows.popitem(last=False)
        return window
