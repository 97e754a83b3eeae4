"""What the console shows of webhooks: hosts and how they fare, lists of webhooks, one with its attempts.

An account's are found by its tasks, everybody's by their own numbers; a list looks at so many of them, whatever the
filters let through, and says where that ended. `account_id` None: of all accounts.
"""

from __future__ import annotations

from datetime import date, datetime
from enum import IntEnum
from typing import Any

import msgspec

from restante.core.limits import CONSOLE_COUNTED, CONSOLE_LOOKED, TASKS_PER_POST_RELAXED
from restante.store.database import Row, Session
from restante.store.deliveries import Kind


class Stage(IntEnum):
    """Of a webhook, as its row says it."""

    READY = 0
    PARKED = 1
    LEASED = 2
    DELIVERED = 3
    GIVEN_UP = 4


class HostShown(msgspec.Struct, frozen=True):
    """What is owed to a host: `waiting` for the first attempt, `retrying` after a failure, `given_up`; the `oldest` of
    the first two. Of the newest webhooks (`seen`) so many were `delivered`, of these `at_once` by the first attempt."""

    host: str
    waiting: int = 0
    retrying: int = 0
    given_up: int = 0
    oldest: datetime | None = None
    seen: int = 0
    delivered: int = 0
    at_once: int = 0


class LastAttempt(msgspec.Struct, frozen=True):
    """How the newest attempt ended; `error` None: it succeeded, `status` None: no answer came."""

    made_at: datetime
    milliseconds: int
    status: int | None
    error: str | None


class WebhookShown(msgspec.Struct, frozen=True):
    """A webhook. `next_at`: of its next attempt, where one waits for its time. `login`, `last`: in lists."""

    id: int
    task_id: str
    account_id: int
    kind: Kind
    host: str
    url: str
    stage: Stage
    next_at: datetime | None
    attempts: int
    created_at: datetime
    login: str | None = None
    last: LastAttempt | None = None


class Page(msgspec.Struct, frozen=True):
    """Some webhooks, newest first. `after`: where the next page begins, None: there is none. `looked`: how many
    webhooks, or an account's tasks, were looked at, where a filter may have passed over others."""

    webhooks: list[WebhookShown]
    after: tuple[Any, ...] | None
    looked: int | None = None


class Wanted(msgspec.Struct, frozen=True):
    """Which webhooks: of these stages (None: all), tried or not yet (None: both), to this host (None: all)."""

    stages: tuple[Stage, ...] | None = None
    tried: bool | None = None
    host: str | None = None


class AttemptShown(msgspec.Struct, frozen=True):
    """One attempt, with what came of it."""

    made_at: datetime
    milliseconds: int
    status: int | None
    reply: bytes | None
    error: str | None


async def hosts(db: Session, account_id: int | None, since: datetime, now: datetime) -> list[HostShown]:
    """Hosts by what they are owed, most first; counted no further than CONSOLE_COUNTED in each state. How webhooks
    fared is of the newest ones, an account's since `since`."""
    owed = await db.rows("books_open_hosts", account_id, CONSOLE_COUNTED)
    if account_id is None:
        fared = await db.rows("books_hosts_of_all", CONSOLE_LOOKED)
    else:
        fared = await db.rows("books_hosts_of_account", account_id, since, now, CONSOLE_LOOKED)
    found = {row["host"]: HostShown(*row.values()) for row in owed}
    for row in fared:
        one = found.get(row["host"], HostShown(row["host"]))
        found[one.host] = msgspec.structs.replace(
            one, seen=row["seen"], delivered=row["delivered"], at_once=row["at_once"]
        )
    return sorted(found.values(), key=lambda one: (-one.given_up - one.retrying, -one.waiting, -one.seen, one.host))


async def of_all(db: Session, wanted: Wanted, below: int | None, most: int, tried_since: date) -> Page:
    """Everybody's, the newest first, below an id."""
    args = (below, _numbers(wanted), wanted.tried, wanted.host, CONSOLE_LOOKED, most + 1, tried_since)
    rows = await db.rows("books_deliveries_of_all", *args)
    found = [_tried(row) for row in rows if row["id"] is not None]
    if len(found) > most:
        return Page(found[:most], (found[most - 1].id,), None)
    looked = rows[0]["looked"]
    return Page(found, (rows[0]["last"],) if looked == CONSOLE_LOOKED else None, looked)


async def of_account(
    db: Session,
    account_id: int,
    wanted: Wanted,
    since: datetime,
    until: datetime,
    after: tuple[datetime, str] | None,
    most: int,
    tried_since: date,
) -> Page:
    """An account's: those of its newest tasks first, posted from `since` until before `until`, `after` a task."""
    # Tasks of one POST have one time: some of those looked at may be of the page before.
    look = CONSOLE_LOOKED + (TASKS_PER_POST_RELAXED if after else 0)
    args = (account_id, since, until, *(after or (None, None)), _numbers(wanted), wanted.tried, wanted.host)
    rows = await db.rows("books_deliveries", *args, look, most, tried_since)
    found = [_tried(row) for row in rows if row["id"] is not None]
    looked = rows[0]["looked"]
    if len(found) >= most:
        last = [row for row in rows if row["id"] is not None][-1]
        return Page(found, (last["posted_at"], str(last["task_id"])), None)
    more = looked >= CONSOLE_LOOKED
    return Page(found, (rows[0]["last_at"], str(rows[0]["last_id"])) if more else None, looked)


async def given_up(
    db: Session, account_id: int | None, host: str | None, below: int | None, most: int, tried_since: date
) -> Page:
    """Those that were given up, the newest first, below an id."""
    rows = await db.rows("books_given_up", account_id, below, host, most + 1, tried_since)
    found = [_tried(row) for row in rows]
    return Page(found[:most], (found[most - 1].id,) if len(found) > most else None)


async def one(db: Session, delivery_id: int, account_id: int | None) -> tuple[WebhookShown, bytes | None, bool] | None:
    """A webhook, its body (gzip) while it is still to be brought, and whether its account owes more than it may."""
    row = await db.row("books_delivery", delivery_id, account_id)
    return None if row is None else (_webhook(row), row["body"], row["owes"])


async def attempts(db: Session, delivery_id: int, since: date, most: int) -> list[AttemptShown]:
    """Its attempts, newest first."""
    return [AttemptShown(*row.values()) for row in await db.rows("books_attempts", delivery_id, since, most)]


async def failed(
    db: Session, account_id: int | None, since: datetime, host: str | None, most: int
) -> list[tuple[int, str]]:
    """Tasks, with their accounts, of webhooks owed since then that failed and were not delivered."""
    rows = await db.rows("failed_deliveries", account_id, since, host, most)
    return [(row["account_id"], str(row["task_id"])) for row in rows]


def _numbers(wanted: Wanted) -> list[int] | None:
    return None if wanted.stages is None else [int(stage) for stage in wanted.stages]


def _webhook(row: Row) -> WebhookShown:
    return WebhookShown(
        row["id"],
        str(row["task_id"]),
        row["account_id"],
        Kind(row["kind"]),
        row["host"],
        row["url"],
        Stage(row["state"]),
        row["run_at"],
        row["attempts"],
        row["created_at"],
        row["login"],
    )


def _tried(row: Row) -> WebhookShown:
    """With its newest attempt, as lists have it."""
    last = (row["made_at"], row["milliseconds"], row["status"], row["error"])
    return msgspec.structs.replace(_webhook(row), last=None if last[0] is None else LastAttempt(*last))
