"""Forgetting what an account's tasks said: prompts, answers, tags, webhooks. The ledger and the slim task rows stay.

`until` is everywhere the moment that the erase began: what was posted later stays whole.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

from restante.core.limits import ERASE_BATCH
from restante.store.database import Session
from restante.store.queue import BEFORE_ALL, Place

_FIRST_OF_ALL = "00000000-0000-0000-0000-000000000000"  # of task ids
_BEFORE_ATTEMPTS = (0, datetime(2000, 1, 1, tzinfo=UTC))


async def seize(
    db: Session, token: int, most: int, account_id: int, until: datetime, beyond: Place = BEFORE_ALL
) -> tuple[list[tuple[str, date]], Place]:
    """Lease unfinished tasks of an account that were posted until then and come after `beyond` in the order of posting,
    whoever runs them; their ids and days, and the place of the last one."""
    rows = await db.rows("seize", token, most, account_id, until, *beyond)
    last = max(((row["posted_at"], str(row["id"])) for row in rows), default=beyond)
    return [(str(row["id"]), row["day"]) for row in rows], last


async def unfinished(db: Session, account_id: int, until: datetime) -> bool:
    """Whether any of these is left."""
    found: bool = await db.value("unfinished", account_id, until)
    return found


async def days(db: Session, table: str) -> list[date]:
    """The days that a table is kept of, oldest first."""
    return [row["day"] for row in await db.rows("kept_days", table)]


async def erase_day(db: Session, account_id: int, day: date, until: datetime) -> int:
    """Forget the texts of finished tasks of one day; returns of how many."""
    erased: int = await db.value("erase_day", day, account_id, until)
    return erased


async def erase_deliveries(
    db: Session, account_id: int, day: date, until: datetime, beyond: str = _FIRST_OF_ALL
) -> tuple[int, str | None]:
    """Forget webhooks of one day's tasks, a batch; returns how many, and beyond which task the next batch begins (None:
    that was all). Nobody records another attempt of them."""
    rows = await db.rows("erase_deliveries", day, account_id, until, beyond, ERASE_BATCH)
    if len(rows) < ERASE_BATCH:
        return len(rows), None
    # The last task's other webhook may be left: the next batch begins with it.
    last = max(row["task_id"].int for row in rows)
    return len(rows), f"{last - 1:032x}"


async def erase_attempts(
    db: Session, account_id: int, day: date, beyond: tuple[int, datetime] = _BEFORE_ATTEMPTS
) -> tuple[int, datetime] | None:
    """Forget attempts recorded on one day, a batch, those of forgotten webhooks too; what still has its webhook stays.
    Returns where the next batch begins; None: that was all."""
    row = await db.row("erase_attempts", day, account_id, *beyond, ERASE_BATCH)
    assert row is not None
    return (row["delivery"], row["made_at"]) if row["looked"] == ERASE_BATCH else None


async def erase_rest(db: Session, account_id: int, until: datetime) -> None:
    """Forget listings, answers to idempotency keys and fingerprints."""
    await db.rows("erase_rest", account_id, until)
