"""What the database knows of the installation's health: processes, and how long the oldest work waits."""

from __future__ import annotations

import msgspec

from restante.core.limits import STATUS_DELIVERIES_OF_PAIR, STATUS_OLDEST, STATUS_PAIRS
from restante.store.database import Session


class Processes(msgspec.Struct, frozen=True):
    """Processes that live: `workers`, of these `serving` the provider; the provider's calls of late in all of them, and
    when (seconds since 1970, 0: never) it last rejected and last took a key."""

    workers: int
    serving: int
    calls: int
    failed: int
    rejected_at: float
    taken_at: float


async def processes(db: Session, provider: str) -> Processes:
    """The processes that live, and how a provider did in their hands."""
    row = await db.row("processes", provider)
    assert row is not None
    return Processes(*row.values())


async def oldest_ready(db: Session, provider: str) -> float | None:
    """Seconds since the oldest ready task of a provider was posted; None: none is ready."""
    seconds: float | None = await db.value("oldest_ready", provider, STATUS_OLDEST)
    return seconds


async def oldest_delivery(db: Session) -> float | None:
    """Seconds for which the oldest webhook that may go out has not been tried; None: there is none."""
    seconds: float | None = await db.value("oldest_delivery", STATUS_PAIRS, STATUS_DELIVERIES_OF_PAIR)
    return seconds
