"""What an operator wants to know of the database: its server, its schema, and what waits in it (`restante doctor`)."""

from __future__ import annotations

import msgspec

from restante.store.database import Session


class Owed(msgspec.Struct, frozen=True):
    """Tasks to be run, webhooks to be sent."""

    tasks: int
    deliveries: int


async def owed(db: Session) -> Owed:
    """What is still to be done."""
    row = await db.row("owed")
    assert row is not None
    return Owed(*row.values())
