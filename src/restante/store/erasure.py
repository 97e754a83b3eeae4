"""Forgetting what an account's tasks said: prompts, answers, tags, webhooks. The ledger and the slim task rows stay."""

from __future__ import annotations

from datetime import date, datetime

from restante.store.database import Session


async def seize(db: Session, token: int, most: int, account_id: int, until: datetime) -> list[tuple[str, date]]:
    """Lease unfinished tasks of an account that were posted until then, whoever runs them; their ids and days."""
    return [(str(row["id"]), row["day"]) for row in await db.rows("seize", token, most, account_id, until)]


async def unfinished(db: Session, account_id: int, until: datetime) -> bool:
    """Whether any of these is left."""
    found: bool = await db.value("unfinished", account_id, until)
    return found


async def days(db: Session, table: str) -> list[date]:
    """The days that a table is kept of, oldest first."""
    return [row["day"] for row in await db.rows("kept_days", table)]


async def erase_day(db: Session, account_id: int, day: date) -> int:
    """Forget the texts of finished tasks of one day; returns of how many."""
    erased: int = await db.value("erase_day", day, account_id)
    return erased


async def erase_deliveries(db: Session, account_id: int) -> int:
    """Forget webhooks; returns how many. Nobody records another attempt of them."""
    return len(await db.rows("erase_deliveries", account_id))


async def erase_attempts(db: Session, account_id: int, day: date) -> None:
    """Forget the attempts recorded on one day, those of forgotten webhooks too."""
    await db.rows("erase_attempts", day, account_id)


async def erase_rest(db: Session, account_id: int) -> None:
    """Forget listings, answers to idempotency keys and fingerprints."""
    await db.rows("erase_rest", account_id)
