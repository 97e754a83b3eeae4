"""Housekeeping that time asks for: ending leases of the dead, waking the parked, making days ahead, forgetting."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import date, datetime, timedelta

from restante.core.limits import (
    BUCKET_FORGOTTEN_SECONDS,
    CONSOLE_FIGURES_DAYS,
    HEARTBEATS_PER_LEASE,
    HOUSEKEEPING_SECONDS,
    PROMOTE_SECONDS,
    RETENTION_SECONDS,
    USAGE_DAYS,
)
from restante.flow.deliver import Envelope
from restante.flow.end import expire
from restante.flow.lease import Reaper
from restante.store import console, deliveries, pacing, queue, rates, spending, tasks, usage
from restante.store import idempotency as idempotency_store
from restante.store.database import Database
from restante.store.errors import DatabaseLost

log = logging.getLogger("restante.expire")


async def keep_days(db: Database, clock: Callable[[], datetime]) -> None:
    """Compare the clocks and make the daily partitions ahead of their days, until cancelled. Every process that writes
    tasks runs this."""

    async def look() -> None:
        await db.compare_clocks()
        await db.prepare_days(clock().date())

    await _every(HOUSEKEEPING_SECONDS, db, look)


async def keep_deadlines(
    db: Database, clock: Callable[[], datetime], envelope: Envelope, deadline_seconds: float
) -> None:
    """Fail tasks that are past their deadline, until cancelled."""

    async def look() -> None:
        now = await _agreed(db, clock)
        await expire(db, lambda: now, envelope, deadline_seconds)

    await _every(HOUSEKEEPING_SECONDS, db, look)


async def keep_retention(
    db: Database,
    clock: Callable[[], datetime],
    *,
    ready_seconds: float,
    result_days: int,
    task_days: int,
    error_days: int,
) -> None:
    """Take listings off tasks_ready, forget ended webhooks and drop days whose time is over, until cancelled. The
    ledger stays."""

    async def look() -> None:
        await forget(
            db,
            await _agreed(db, clock),
            ready_seconds=ready_seconds,
            result_days=result_days,
            task_days=task_days,
            error_days=error_days,
        )

    await _every(RETENTION_SECONDS, db, look)


async def forget(
    db: Database, now: datetime, *, ready_seconds: float, result_days: int, task_days: int, error_days: int
) -> None:
    """One look at what is over: listings, ended webhooks, days."""
    kept = (
        ("answer", result_days),
        ("answer_raw", result_days),
        ("task_request", result_days),
        ("task", task_days),
        ("attempt", error_days),
    )
    while await tasks.expire_ready(db, now - timedelta(seconds=ready_seconds)):
        pass
    today = now.date()
    await sweep_deliveries(db, today - timedelta(days=result_days))
    for table, days in kept:
        for name in await db.drop_days(table, today - timedelta(days=days)):
            log.info("dropped %s: its time is over", name)


async def sweep_deliveries(db: Database, before: date) -> int:
    """Forget the ended webhooks of tasks posted before that day, batch by batch; returns how many."""
    last, swept, more = 0, 0, True
    while more:
        last, count, more = await deliveries.sweep(db, last, before)
        swept += count
    return swept


async def keep_swept(db: Database, clock: Callable[[], datetime], idempotency: timedelta) -> None:
    """Forget rate windows, idempotency keys, counts of duplicates, usage figures and pauses that are over, until
    cancelled."""

    async def sweep() -> None:
        now = await _agreed(db, clock)
        await rates.forget(db)
        await idempotency_store.forget(db, now - idempotency)
        await usage.forget(db, now.date() - timedelta(days=USAGE_DAYS))
        await console.forget_settled(db, now - timedelta(days=CONSOLE_FIGURES_DAYS))
        await spending.forget(db, now - timedelta(days=2))  # a day and what clocks differ by
        await pacing.forget(db, BUCKET_FORGOTTEN_SECONDS)

    await _every(HOUSEKEEPING_SECONDS, db, sweep)


async def keep_leases(db: Database, lease_seconds: float, on_ready: Callable[[], None]) -> None:
    """Give the tasks of dead workers back to the queue, until cancelled; `on_ready` when there were any."""

    reaper = Reaper(db, lease_seconds)

    async def look() -> None:
        if await reaper.look():
            on_ready()

    await _every(lease_seconds / HEARTBEATS_PER_LEASE, db, look)


async def keep_parked(db: Database, on_ready: Callable[[], None]) -> None:
    """Make parked tasks and deliveries ready when their time comes, until cancelled; `on_ready` when there were any."""

    async def look() -> None:
        if await queue.promote(db) | await deliveries.promote(db):
            on_ready()

    await _every(PROMOTE_SECONDS, db, look)


async def _agreed(db: Database, clock: Callable[[], datetime]) -> datetime:
    """The earlier of this process's time and the database's. What is forgotten does not come back: one machine whose
    clock is ahead must not fail everybody's tasks, or drop their answers, before the time."""
    return min(clock(), (await queue.clock(db))[0])


async def _every(seconds: float, db: Database, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await db.settled(work)  # what others do to the same rows may win a race
        except DatabaseLost as error:
            log.warning("housekeeping waits for the database: %s", error)
            await db.revive()
        except Exception:
            log.exception("housekeeping broke and is tried again; please report it")
        await asyncio.sleep(seconds)
