"""Usage figures: an account's calls by endpoint, of a day and of its newest minute, and what its tasks cost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

import msgspec

from restante.store.database import Session


class Counted(msgspec.Struct, frozen=True):
    """Calls of an endpoint to be added: `calls` of the day, of which `minute_calls` fell into `minute`."""

    day: date
    account_id: int
    endpoint: str
    calls: int
    minute: datetime
    minute_calls: int


async def add(db: Session, counted: Sequence[Counted]) -> None:
    """Add calls; each (day, account, endpoint) at most once."""
    await db.rows(
        "count_calls",
        [one.day for one in counted],
        [one.account_id for one in counted],
        [one.endpoint for one in counted],
        [one.calls for one in counted],
        [one.minute for one in counted],
        [one.minute_calls for one in counted],
    )


async def read(db: Session, account_id: int, minute: datetime) -> dict[str, tuple[int, int]]:
    """Calls by endpoint of the day that a minute (UTC) belongs to, and of that minute."""
    rows = await db.rows("read_usage", minute.date(), account_id, minute)
    return {row["endpoint"]: (row["calls"], row["minute_calls"]) for row in rows}


async def spent_between(db: Session, day: date, first: str, last: str) -> dict[int, int]:
    """Nano-dollars by function that the tasks of a range of ids cost: charges, and the holds of unfinished ones."""
    return {row["function"]: row["spent"] for row in await db.rows("spent_between", day, first, last)}


async def spent_on(db: Session, account_id: int, day: date) -> tuple[int, int]:
    """Nano-dollars that an account's tasks of a day cost, (task_post, live); (0, 0) of any day but the newest."""
    row = await db.row("spent_today", account_id, day)
    return (0, 0) if row is None else (row["posted"], row["live"])


async def forget(db: Session, before: date) -> None:
    """Delete the figures of days before this one."""
    await db.rows("drop_usage", before)
