"""Pausing an account or a model: queued tasks wait, live ones are refused, what runs ends (contract §12.30-31).

A paused account's tasks are parked when they are claimed, like a debtor's; resuming wakes them in its own transaction.
What the operator paused, its owner cannot resume. A paused model's lane is claimed by nobody. Both survive restarts.
Posts are accepted and wait, the deadline goes on.
"""

from __future__ import annotations

from restante.core.errors import OperatorError
from restante.core.task import Model
from restante.store import accounts, ledger, queue
from restante.store.accounts import By
from restante.store.database import Database


async def pause_account(db: Database, login: str, *, paused: bool, by: By) -> bool:
    """Pause or resume an account; the same again changes nothing. False: the operator paused it, so that its owner's
    word does not resume it. Raises OperatorError for an unknown login."""

    async def work() -> tuple[bool | None, int]:
        async with db.transaction() as tx:
            done = await accounts.set_paused(tx, login, paused=paused, by=by)
            return done, await ledger.wake_paid(tx, login) if done and not paused else 0

    done, woken = await db.settled(work)
    if done is None:
        raise OperatorError(f"There is no account {login!r}.", "`restante account list` shows them.")
    if woken:
        await queue.notify(db)
    return done


async def pause_model(db: Database, model: Model, *, paused: bool) -> None:
    """Pause or resume a model, and every name of its provider that it answers to."""
    lane = await queue.ensure_lane(db, model.provider, "", model.served)
    await queue.pause_lane(db, lane, paused=paused)
    if not paused:
        await queue.notify(db)
