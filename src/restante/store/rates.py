"""Rate windows: how often an account called an endpoint this minute, counted for all API processes together."""

from __future__ import annotations

from datetime import datetime

import msgspec

from restante.store.database import Session


class Reserved(msgspec.Struct, frozen=True):
    """`taken` counts the block just reserved and may exceed the limit by what of it was not to be had; None: nothing
    was left. The minute ends in `seconds_left`."""

    taken: int | None
    seconds_left: float


async def reserve(
    db: Session, account_id: int, endpoint: str, limit: int, block: int, at: datetime | None = None
) -> Reserved:
    """Reserve a block of this minute's calls. `at` stands for the database's clock, for tests."""
    row = await db.row("take_rate", account_id, endpoint, limit, block, at)
    assert row is not None
    return Reserved(row["taken"], row["seconds_left"])


async def forget(db: Session) -> None:
    """Delete the minutes that are over."""
    await db.rows("drop_rates")
