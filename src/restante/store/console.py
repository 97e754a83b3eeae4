"""What the console's first page reads, and what nudges it. All of it in transactions that only read
(flow/reading.py). `account` None: of all accounts."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime

import msgspec

from restante.core.limits import CONSOLE_QUEUE_SEEN
from restante.store.database import Session


class Money(msgspec.Struct, frozen=True):
    """In nano-dollars. `today`: what the tasks of this UTC day cost, open ones counted by what is held for them."""

    balance: int
    held: int
    today: int
    spent: int
    accounts: int
    paused: int


class Queue(msgspec.Struct, frozen=True):
    """Unfinished tasks. `more`: there are more than were looked at. `retrying` wait after a failure, `batched` for a
    batch, `unpaid` for money or for being resumed."""

    more: bool
    ready: int
    running: int
    retrying: int
    batched: int
    unpaid: int
    oldest: datetime | None
    oldest_ready: datetime | None

    @property
    def waiting(self) -> int:
        """All that does not run now."""
        return self.ready + self.retrying + self.batched + self.unpaid


class Minute(msgspec.Struct, frozen=True):
    """How many tasks ended in a minute."""

    minute: datetime
    done: int
    failed: int


class Host(msgspec.Struct, frozen=True):
    """A host that webhooks could not be brought to: so many wait for their next attempt."""

    host: str
    waiting: int
    attempts: int
    next_at: datetime
    since: datetime


async def marks(db: Session, accounts: Collection[int]) -> dict[int, str]:
    """By account, a text that changes when something of its changes; 0 stands for all accounts."""
    return {row["id"]: row["mark"] for row in await db.rows("console_marks", list(accounts))}


async def money(db: Session, account: int | None, today: date) -> Money:
    """What is there, held and spent."""
    row = await db.row("console_money", account, today)
    assert row is not None
    return Money(*row.values())


async def queue(db: Session, account: int | None) -> Queue:
    """What waits and runs."""
    row = await db.row("console_queue", account, CONSOLE_QUEUE_SEEN)
    assert row is not None
    seen, *counts = row.values()
    return Queue(seen >= CONSOLE_QUEUE_SEEN, *counts)


async def minutes(db: Session, account: int | None, since: datetime) -> list[Minute]:
    """How tasks ended since then; minutes in which none did are left out."""
    return [Minute(*row.values()) for row in await db.rows("console_minutes", since, account)]


async def failing_hosts(db: Session, account: int | None) -> list[Host]:
    """Hosts whose webhooks wait for another attempt, most first."""
    return [Host(*row.values()) for row in await db.rows("console_hosts", account, CONSOLE_QUEUE_SEEN)]


async def count_settled(db: Session, counted: Collection[tuple[datetime, int, int, int]]) -> None:
    """Add (minute, account, done, failed), each minute and account at most once."""
    columns = [list(column) for column in zip(*sorted(counted), strict=True)]
    await db.rows("count_settled", *columns)


async def forget_settled(db: Session, before: datetime) -> None:
    """Delete the figures of minutes before this one."""
    await db.rows("drop_settled", before)
