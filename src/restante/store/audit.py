"""What the audit reads: each function looks for rows that break promises of docs/invariants.md, named by their numbers.

Everything is read in bounded parts (AUDIT_ROWS), one statement each, but the sums of transfers by account and an
account's spending of one day. Nothing is written, so that a read replica may be asked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import date

from restante.core.errors import OK_CODE
from restante.core.limits import AUDIT_ROWS
from restante.core.task import Function
from restante.store.database import Session

_FIRST = "00000000-0000-0000-0000-000000000000"
_LAST = "ffffffff-ffff-ffff-ffff-ffffffffffff"


async def unprotected(db: Session) -> list[str]:
    """Tables that have lost the triggers which keep their rows."""
    return [
        f"{row['number']}: the table {row['name']} has lost a trigger that protects its rows"
        for row in await db.rows("audit_triggers")
    ]


async def balances(db: Session) -> list[str]:
    """Each difference between an account's cached amounts and its transfers, in nano-dollars."""
    places = ("balance", "held", "spent", "funded")
    found = []
    for row in await db.rows("audit_balances"):
        cached, sums = [row[place] for place in places], [row[f"sum_{place}"] for place in places]
        found.append(
            f"{'I1' if row['from_nowhere'] else 'I2'}: account {row['id']} ({row['login']}): {', '.join(places)} are"
            f" {cached}, its transfers say {sums}"
        )
    return found


async def days(db: Session, *, over: bool) -> list[date]:
    """The days to visit; those whose answers are `over` too?"""
    return [row["day"] for row in await db.rows("audit_days", over)]


async def day(db: Session, at: date, part: int = AUDIT_ROWS) -> AsyncIterator[str]:
    """The holds, resolutions, answers and queue rows of the tasks of a day, so many tasks at a time; then what accounts
    spent on it."""
    beyond = _FIRST
    while beyond != _LAST:
        upto = str(await db.value("audit_part", at, beyond, part))
        for row in await db.rows("audit_holds", at, beyond, upto):
            yield (
                f"I3: {at} account {row['account_id']}: its tasks hold {row['tasks_held']},"
                f" its transfers {row['transfers_held']}"
            )
        for row in await db.rows("audit_tasks", at, beyond, upto, OK_CODE):
            yield (
                f"{row['fault']}: {at} task {row['id']} of account {row['account_id']}: state {row['state']},"
                f" held {row['held']}, charged {row['charged']},"
                f" resolution {row['resolved_held']}/{row['resolved_spent']}"
            )
        for row in await db.rows("audit_answers", at, beyond, upto, Function.LIVE):
            yield f"{row['fault']}: {at} task {row['id']} of account {row['account_id']}"
        beyond = upto
    for row in await db.rows("audit_today", at, Function.LIVE):
        yield (
            f"I2: account {row['id']} ({row['login']}): spent {row['today_posted']} posted and {row['today_live']} live"
            f" on {row['today']}, its tasks of {at} say {row['posted']} and {row['live']}"
        )


def queue(db: Session, part: int = AUDIT_ROWS) -> AsyncIterator[str]:
    """Queue rows that are not of an unfinished task, and leases of nobody."""
    return _walk(db, "audit_queue", part, {"last": _FIRST})


def listings(db: Session, part: int = AUDIT_ROWS) -> AsyncIterator[str]:
    """Rows of tasks_ready that should not be there."""
    return _walk(db, "audit_ready", part, {"account_id": 0, "platform": 0, "seq": 0})


def deliveries(db: Session, part: int = AUDIT_ROWS) -> AsyncIterator[str]:
    """Webhooks that should not be there, and leases of nobody."""
    return _walk(db, "audit_deliveries", part, {"last": 0})


async def _walk(db: Session, statement: str, part: int, beyond: Mapping[str, object]) -> AsyncIterator[str]:
    """What a statement finds, part after part; `beyond` are its columns that say where one ended, and the beginning."""
    more = True
    while more:
        row = await db.row(statement, *beyond.values(), part, Function.LIVE)
        assert row is not None
        for fault in row["faults"]:
            yield fault
        beyond, more = {name: row[name] for name in beyond}, row["more"]
