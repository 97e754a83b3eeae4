"""Pausing an account or a model: queued tasks wait, live ones are refused, what runs ends (contract §12.30-31).

A paused account's tasks are parked when they are claimed, like a debtor's; resuming wakes them in its own transaction.
A paused model's lane is claimed by nobody. Both survive restarts. Posts are accepted and wait, the deadline goes on.
"""

from __future__ import annotations

from restante.core.errors import OperatorError
from restante.core.task import Model
from restante.store import accounts, ledger, queue
from restante.store.database import Database


async def pause_account(db: Database, login: str, *, paused: bool) -> None:
    """Pause or resume an account; the same again changes nothing. Raises OperatorError for an unknown login."""

    async def work() -> tuple[bool, int]:
        async with db.transaction() as tx:
            known = await accounts.set_paused(tx, login, paused=paused)
            return known, 0 if paused else await ledger.wake_paid(tx, login)

    known, woken = await db.settled(work)
    if not known:
        raise OperatorError(f"There is no account {login!r}.", "`restante account list` shows them.")
    if woken:
        await queue.notify(db)


async def pause_model(db: Database, provider: str, model: Model, *, paused: bool) -> None:
    """Pause or resume a model of a provider, and every name that it answers to."""
    lane = await queue.ensure_lane(db, provider, "", model.served)
    await queue.pause_lane(db, lane, paused=paused)
    if not paused:
        await queue.notify(db)
