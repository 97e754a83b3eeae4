"""What is checked before money is held: the cap of all accounts, and how often a task was posted (§12.30)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from restante.core.limits import SWEEP_BATCH
from restante.store.database import Session

Fingerprint = tuple[int, bytes]  # an account and the digest of what goes to the model


async def lock_spending(tx: Session) -> None:
    """Until the end of the transaction nobody else accepts under the cap of all accounts. Before any other lock."""
    await tx.rows("lock_spending")


async def lock_payers(tx: Session, accounts: Sequence[int]) -> None:
    """Until the end of the transaction nobody else accepts for these accounts."""
    await tx.rows("lock_payers", list(accounts))


async def posted(tx: Session, wanted: Sequence[Fingerprint], now: datetime) -> dict[Fingerprint, tuple[int, int]]:
    """How many such tasks were accepted in the clock hour and on the UTC day of `now`. Under `lock_payers`."""
    day = _hour(now).replace(hour=0)
    rows = await tx.rows(
        "count_fingerprints", [one for one, _ in wanted], [digest for _, digest in wanted], _hour(now), day
    )
    return {(row["account_id"], row["digest"]): (row["this_hour"], row["this_day"]) for row in rows}


async def add(tx: Session, accepted: Mapping[Fingerprint, int], now: datetime) -> None:
    """Count accepted tasks; in the transaction that accepts them, under `lock_payers`."""
    keys = list(accepted)
    accounts, digests = [one for one, _ in keys], [digest for _, digest in keys]
    await tx.rows("add_fingerprints", accounts, digests, _hour(now), [accepted[key] for key in keys])


async def forget(db: Session, before: datetime) -> None:
    """Delete counts of hours before this, so many at a time."""
    await db.rows("drop_fingerprints", before, SWEEP_BATCH)


def _hour(now: datetime) -> datetime:
    return now.replace(minute=0, second=0, microsecond=0)
