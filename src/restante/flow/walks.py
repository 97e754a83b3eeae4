"""Turns at the walks that read an account's tasks of a time range: id_list (contract §3.11).

A walk looks at each minute in which anybody posted. A day with posts in all its minutes costs 35-60 ms, so the six
months that may be asked for cost an account that has no tasks in them 6-11 s of PostgreSQL (measured on two shared
cores); a page that is full ends it sooner. Hence one walk of an account at a time, and ID_LIST_AT_ONCE of a process,
whoever asks. Others wait in line, and hold no connection that a POST could use.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from restante.core.limits import ID_LIST_AT_ONCE


class Walks:
    """The turns of one process."""

    def __init__(self, at_once: int = ID_LIST_AT_ONCE) -> None:
        self._slots = asyncio.Semaphore(at_once)
        self._own: dict[int, tuple[asyncio.Lock, int]] = {}  # by account, and how many hold or await it

    @contextlib.asynccontextmanager
    async def turn(self, account_id: int) -> AsyncIterator[None]:
        """Wait for the account's turn, and then for one of the process's, both in the order of coming."""
        lock, users = self._own.get(account_id, (asyncio.Lock(), 0))
        self._own[account_id] = (lock, users + 1)
        try:
            async with lock, self._slots:
                yield
        finally:
            lock, users = self._own.pop(account_id)
            if users > 1:
                self._own[account_id] = (lock, users - 1)
