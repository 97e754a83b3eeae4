"""The first answers to POSTs that carry an Idempotency-Key (contract §12.24)."""

from __future__ import annotations

from datetime import datetime

import msgspec

from restante.core.limits import SWEEP_BATCH
from restante.store.database import Session
from restante.store.packing import pack, unpack


class Kept(msgspec.Struct, frozen=True):
    """An answer as it was given, and the hash of the body it was given to."""

    body_hash: bytes
    answer: bytes


async def find(db: Session, account_id: int, key: str, since: datetime) -> Kept | None:
    """What was answered to the key, if not before `since`."""
    row = await db.row("find_answer_kept", account_id, key, since)
    return None if row is None else Kept(row["body_hash"], unpack(row["answer"]))


async def keep(tx: Session, account_id: int, key: str, kept: Kept, now: datetime, since: datetime) -> bool:
    """Keep the answer to the key. False: it has one already (waits for a transaction that is just giving it one).

    The last statement of the transaction that accepts the tasks, so that neither is ever there without the other.
    """
    args = (account_id, key, kept.body_hash, pack(kept.answer), now, since)
    return await tx.value("keep_answer", *args) is not None


async def forget(db: Session, before: datetime) -> None:
    """Delete answers that were given before this, so many at a time."""
    await db.rows("drop_answers_kept", before, SWEEP_BATCH)
