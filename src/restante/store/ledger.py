"""The ledger: top-ups, statements, receipts and totals, in nano-dollars. What checks it is in store/audit.py."""

from __future__ import annotations

from datetime import date, datetime

import msgspec

from restante.core.task import State
from restante.store.database import Session

KINDS = {1: "top-up", 2: "hold", 3: "settlement"}


class Transfer(msgspec.Struct, frozen=True):
    """One row of the ledger: the changes it made to the four places of its account."""

    made_at: datetime
    kind: str
    task_id: str
    balance: int
    held: int
    spent: int
    funded: int


class Receipt(msgspec.Struct, frozen=True):
    """What one task cost; `charged` is None until it is settled, `refunded` what came back of the hold,
    `batch_saved` what a direct call would have cost more; None when it was one."""

    held: int
    charged: int | None
    state: State
    code: int | None
    batch_saved: int | None = None

    @property
    def refunded(self) -> int | None:
        return None if self.charged is None else max(0, self.held - self.charged)


class Totals(msgspec.Struct, frozen=True):
    """What the audit went over, as sums of all transfers."""

    accounts: int
    transfers: int
    difference: int
    funded: int
    spent: int
    held: int
    balance: int


async def top_up(db: Session, login: str, now: datetime, transfer_id: str, amount: int) -> int | None:
    """Put money into an account (negative: take it back); returns the new balance, None without such an account.

    Raises Conflict when the transfer exists already.
    """
    balance: int | None = await db.value("top_up", login, now.date(), now, transfer_id, amount)
    return balance


async def wake_paid(tx: Session, login: str) -> int:
    """Tasks that waited for this account's money are ready again, if it is above its limit now; returns how many."""
    return len(await tx.rows("wake_paid", login))


async def statement(db: Session, account_id: int, most: int) -> list[Transfer]:
    """An account's newest transfers."""
    return [
        Transfer(row["made_at"], KINDS[row["kind"]], str(row["task_id"]), *list(row.values())[3:])
        for row in await db.rows("statement", account_id, most)
    ]


async def receipt(db: Session, account_id: int, day: date, task_id: str) -> Receipt | None:
    """What a task of the account cost, by id and posting day."""
    row = await db.row("receipt", day, task_id, account_id)
    if row is None:
        return None
    return Receipt(row["held"], row["charged"], State(row["state"]), row["code"], row["batch_saved"])


async def totals(db: Session) -> Totals:
    """The sums over all transfers."""
    row = await db.row("audit_totals")
    assert row is not None
    return Totals(*row.values())
