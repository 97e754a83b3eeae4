"""What the console shows of the ledger: an account's statement, money that came in, and what the audits said."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from restante.core.limits import DEADLINE_HOURS_MAX
from restante.store.database import Session
from restante.store.ledger import KINDS, Transfer

#: From its hold a task is resolved within its deadline and the look that finds it over.
_RESOLVED_DAYS = DEADLINE_HOURS_MAX // 24 + 2

#: Where a page ended: the last row's time, task and kind.
Place = tuple[datetime, str, int]


class Span(msgspec.Struct, frozen=True):
    """From `since` until before `until`."""

    since: datetime
    until: datetime


class Totals(msgspec.Struct, frozen=True):
    """What all accounts own together, in nano-dollars."""

    accounts: int
    balance: int
    held: int
    spent: int
    funded: int


class Entry(msgspec.Struct, frozen=True):
    """A transfer, with its account where the list is of all of them."""

    transfer: Transfer
    number: int  # of its kind
    login: str | None = None

    @property
    def place(self) -> Place:
        return (self.transfer.made_at, self.transfer.task_id, self.number)


class Verdict(msgspec.Struct, frozen=True):
    """An audit: when it began and ended (None: it goes on, or its process died), whether of every day (`whole`), what
    it went over, how many differences it found and the first of them."""

    id: int
    begun_at: datetime
    ended_at: datetime | None
    whole: bool
    accounts: int | None
    transfers: int | None
    differences: int | None
    said: list[str] | None


async def statement(
    db: Session, account_id: int, span: Span, kind: int | None, after: Place | None, most: int
) -> list[Entry]:
    """An account's transfers made in a span, newest first, after a place."""
    args = (account_id, span.since, span.until, kind, *(after or (None, None, None)), most, _RESOLVED_DAYS)
    return [
        Entry(
            Transfer(row["made_at"], KINDS[row["kind"]], str(row["task_id"]), *list(row.values())[3:]),
            row["kind"],
        )
        for row in await db.rows("books_transfers", *args)
    ]


async def money_in(db: Session, account_id: int | None, span: Span, after: Place | None, most: int) -> list[Entry]:
    """Top-ups of an account, or of all, newest first."""
    at = (None, None) if after is None else after[:2]
    return [
        Entry(
            Transfer(row["made_at"], KINDS[row["kind"]], str(row["task_id"]), *list(row.values())[3:7]),
            row["kind"],
            row["login"],
        )
        for row in await db.rows("books_money_in", account_id, span.since, span.until, *at, most)
    ]


async def totals(db: Session) -> Totals:
    """The sums over all accounts."""
    row = await db.row("books_totals")
    assert row is not None
    return Totals(*row.values())


async def begin_verdict(db: Session, now: datetime, *, whole: bool) -> int:
    """An audit begins; its number."""
    number: int = await db.value("begin_verdict", now, whole)
    return number


async def end_verdict(
    db: Session, number: int, now: datetime, accounts: int, transfers: int, differences: int, said: Sequence[str]
) -> None:
    """It ended, and this is what it found."""
    await db.rows("end_verdict", number, now, accounts, transfers, differences, list(said))


async def verdicts(db: Session, most: int) -> list[Verdict]:
    """The newest audits first."""
    return [Verdict(*row.values()) for row in await db.rows("verdicts", most)]
