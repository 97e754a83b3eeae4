"""Erase: an account's prompts and answers are gone at once (contract §5.3); its ledger stays, and the audit is clean.

What is queued or running is ended first, under a lease of ours: money returns, and a late answer finds that its lease
is another's and changes nothing. An answer that is just being stored is waited for. Then the texts of finished tasks
are deleted day by day. Every step is told when the erase began: a task that is posted later stays whole, even if it
is answered between two steps.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from datetime import date, datetime

import msgspec

from restante.core.errors import TaskFailed
from restante.core.limits import END_BATCH, ERASE_POLL_SECONDS, LEASE_SECONDS
from restante.flow import accounts
from restante.flow.settle import failed
from restante.store import erasure, queue, spending
from restante.store.database import Database
from restante.store.errors import DatabaseLost


class Erased(msgspec.Struct, frozen=True):
    """How much is gone: unfinished tasks that were cancelled, finished ones without their texts, webhooks."""

    login: str
    cancelled: int
    tasks: int
    webhooks: int


async def erase(
    db: Database, login: str, now: datetime, progress: Callable[[date, int], None] = lambda day, tasks: None
) -> Erased:
    """Erase an account's texts. `progress(day, tasks)` is told of each day that had any. May be repeated.

    Raises OperatorError for an unknown login, DatabaseLost.
    """
    await db.in_time()
    account_id = (await accounts.find(db, login)).id
    async with db.transaction() as tx:
        await spending.lock_payers(tx, [account_id])  # whoever is just accepting ends first
    cancelled = await _end(db, account_id, now)
    days = [day for day in await erasure.days(db, "task") if day <= now.date()]
    # Before the texts: a first attempt that fails lists its task, with its tag, out of its delivery.
    webhooks = 0
    for day in days:
        webhooks += await _erase_deliveries(db, account_id, day, now)
    tasks = 0
    for day in days:
        found = await db.settled(lambda: erasure.erase_day(db, account_id, day, now))  # noqa: B023
        if found:
            progress(day, found)
        tasks += found
    # After the webhooks: an attempt that was just being recorded is there by now, and no other comes.
    for day in await erasure.days(db, "attempt"):
        await _erase_attempts(db, account_id, day)
    await db.settled(lambda: erasure.erase_rest(db, account_id, now))
    return Erased(login, cancelled, tasks, webhooks)


async def _erase_deliveries(db: Database, account_id: int, day: date, now: datetime) -> int:
    erased, beyond = await db.settled(lambda: erasure.erase_deliveries(db, account_id, day, now))
    while (start := beyond) is not None:
        found, beyond = await db.settled(lambda: erasure.erase_deliveries(db, account_id, day, now, start))
        erased += found
    return erased


async def _erase_attempts(db: Database, account_id: int, day: date) -> None:
    beyond = await db.settled(lambda: erasure.erase_attempts(db, account_id, day))
    while (start := beyond) is not None:
        beyond = await db.settled(lambda: erasure.erase_attempts(db, account_id, day, start))


async def _end(db: Database, account_id: int, now: datetime) -> int:
    """Fail everything unfinished, owing no webhook: what it would say is to be forgotten."""
    token = secrets.randbits(63)
    await queue.register(db, token, "erasing an account", LEASE_SECONDS)
    ended, beyond = 0, queue.BEFORE_ALL
    try:
        while True:
            seized, beyond = await db.settled(
                lambda: erasure.seize(db, token, END_BATCH, account_id, now, beyond)  # noqa: B023
            )
            for day in sorted({day for _, day in seized}):
                group = [failed(token, one, day, TaskFailed("cancelled")) for one, its in seized if its == day]
                ended += len(await db.settled(lambda: queue.settle(db, token, day, now, group)))  # noqa: B023
            if not await queue.heartbeat(db, token, LEASE_SECONDS):
                raise DatabaseLost("the lease of this command ended; give the command again")
            if not seized:
                if not await erasure.unfinished(db, account_id, now):
                    return ended
                await asyncio.sleep(ERASE_POLL_SECONDS)  # being settled by somebody else at this moment
                beyond = queue.BEFORE_ALL
    finally:
        async with db.transaction() as tx:
            await queue.retire(tx, token)
            await queue.free(tx, [token], lost=False)
