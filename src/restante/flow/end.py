"""Ends that are not answers: the owner's word and the deadline (contract §5.2, §12.14, §12.31). All money returns.

Both lease the tasks they end, as a worker would, and settle them as failed: one way to end a task, one place where its
hold is resolved. Tasks that are running go on; a kill in between gives the tasks back to the queue.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from restante.core.errors import TaskFailed
from restante.core.limits import END_BATCH, LEASE_SECONDS
from restante.flow.deliver import Envelope, with_webhooks
from restante.flow.settle import failed
from restante.store import queue
from restante.store.database import Database

log = logging.getLogger("restante.end")


async def cancel(
    db: Database,
    now: datetime,
    envelope: Envelope,
    *,
    account_id: int | None = None,
    ids: Sequence[str] | None = None,
    tag: str | None = None,
) -> list[str]:
    """Cancel queued tasks that meet every condition given; returns the ids. Running and finished ones are left."""
    return await _end(db, now, envelope, "cancelled", account_id=account_id, ids=ids, tag=tag)


async def expire(db: Database, clock: Callable[[], datetime], envelope: Envelope, deadline_seconds: float) -> int:
    """Fail the tasks that were posted longer ago than their deadline; returns how many."""
    now = clock()
    ended = await _end(db, now, envelope, "not done in time", posted_before=now - timedelta(seconds=deadline_seconds))
    if ended:
        log.warning("%d tasks were not done within %.0f hours; they failed", len(ended), deadline_seconds / 3_600)
    return len(ended)


async def _end(
    db: Database,
    now: datetime,
    envelope: Envelope,
    why: str,
    *,
    account_id: int | None = None,
    ids: Sequence[str] | None = None,
    tag: str | None = None,
    posted_before: datetime | None = None,
) -> list[str]:
    token = secrets.randbits(63)
    await queue.register(db, token, f"ending tasks: {why}", LEASE_SECONDS)
    ended: list[str] = []
    try:
        while taken := await queue.take(
            db, token, END_BATCH, account_id=account_id, ids=ids, tag=tag, posted_before=posted_before
        ):
            for day in sorted({one.day for one in taken}):
                group = [
                    with_webhooks(failed(token, one.id, day, TaskFailed(why)), one.request, envelope)
                    for one in taken
                    if one.day == day
                ]
                ended += await db.settled(lambda: queue.settle(db, token, day, now, group))  # noqa: B023
            await queue.heartbeat(db, token, LEASE_SECONDS)
    finally:
        async with db.transaction() as tx:
            await queue.retire(tx, token)
            await queue.free(tx, [token], lost=False)
    return ended
