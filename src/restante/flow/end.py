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
from restante.core.task import State
from restante.flow import observed
from restante.flow.deliver import Envelope, with_webhooks
from restante.flow.pulse import Pulse
from restante.flow.settle import failed
from restante.store import accounts, queue
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
    of = None if account_id is None else [account_id]
    return await _end(db, now, envelope, "cancelled", of=of, ids=ids, tag=tag)


async def expire(db: Database, clock: Callable[[], datetime], envelope: Envelope, deadline_seconds: float) -> int:
    """Fail the tasks that were posted longer ago than their deadline; returns how many.

    `deadline_seconds` is the installation's. Accounts with a deadline of their own are passed over by it and looked at
    apart, those of one deadline together (contract §12.25).
    """
    now = clock()
    own = await accounts.own_deadlines(db)
    apart = [one for ids in own.values() for one in ids]
    looks: list[tuple[float, list[int] | None]] = [(deadline_seconds, None)]
    looks += [(hours * 3_600, ids) for hours, ids in own.items()]
    total = 0
    for seconds, of in looks:
        before = now - timedelta(seconds=seconds)
        besides = apart if of is None else []
        ended = await _end(db, now, envelope, "not done in time", of=of, posted_before=before, besides=besides)
        if ended:
            log.warning("%d tasks were not done within %g hours; they failed", len(ended), seconds / 3_600)
        total += len(ended)
    return total


async def _end(
    db: Database,
    now: datetime,
    envelope: Envelope,
    why: str,
    *,
    of: Sequence[int] | None = None,
    ids: Sequence[str] | None = None,
    tag: str | None = None,
    posted_before: datetime | None = None,
    besides: Sequence[int] = (),
) -> list[str]:
    await db.in_time()
    token = secrets.randbits(63)
    await queue.register(db, token, f"ending tasks: {why}", LEASE_SECONDS)
    pulse = Pulse(db, lambda: now)
    ended: list[str] = []
    beyond = queue.BEFORE_ALL
    try:
        while taken := await queue.take(
            db, token, END_BATCH,
            accounts=of, ids=ids, tag=tag, posted_before=posted_before, no_accounts=besides, beyond=beyond,
        ):  # fmt: skip
            beyond = max((one.posted_at, one.id) for one in taken)
            for day in sorted({one.day for one in taken}):
                group = [
                    with_webhooks(failed(token, one.id, day, TaskFailed(why)), one.request, envelope)
                    for one in taken
                    if one.day == day
                ]
                began = observed.now()
                settled = await db.settled(lambda: queue.settle(db, token, day, now, group))  # noqa: B023
                observed.settled(group, settled, began)
                pulse.settled((one, State.FAILED) for one in settled)
                ended += settled
            await queue.heartbeat(db, token, LEASE_SECONDS)
    finally:
        async with db.transaction() as tx:
            await queue.retire(tx, token)
            await queue.free(tx, [token], lost=False)
        await pulse.flush()
    return ended
