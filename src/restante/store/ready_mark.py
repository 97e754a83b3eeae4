"""Marks in tasks_ready: below its mark nothing of an account is listed, nor ever will be (docs/adr/0003)."""

from __future__ import annotations

import msgspec

from restante.store.database import Session
from restante.store.tasks import GEMINI


class Move(msgspec.Struct, frozen=True):
    """A mark that may move to `seq`. `version`: the one that was looked at, None where there was no mark; `boundary`:
    how far the next move may go."""

    version: int | None
    boundary: int
    seq: int


async def look(db: Session, account_id: int, step: int) -> Move | None:
    """What the account's mark may do by what is committed now; None: nothing, or less than `step` places to gain."""
    row = await db.row("look_at_ready_mark", account_id, GEMINI, step)
    return None if row is None else Move(row["version"], row["boundary"], row["seq"])


async def move(db: Session, account_id: int, move: Move) -> None:
    """Move it, unless it was touched since the look. Never in the look's transaction: the boundary's proof is that this
    one begins later."""
    await db.rows("move_ready_mark", account_id, GEMINI, move.version, move.seq, move.boundary)
