"""Deliveries: webhooks owed, claimed by (host, account), their attempts; and the secrets that sign them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime
from enum import IntEnum

import msgspec

from restante.core.limits import DELIVERIES_SWEPT_BATCH, DELIVERY_PAIRS, PROMOTE_BATCH
from restante.store.database import Session

LIVE_SECRETS = 2  # the newest of an account


class Kind(IntEnum):
    """Of a delivery, as its row says it."""

    PINGBACK = 1
    POSTBACK = 2


class Owed(msgspec.Struct, frozen=True):
    """A webhook that a settlement owes. `body` only of a postback: gzip."""

    kind: Kind
    host: str
    url: str
    body: bytes | None = None


class Waiting(msgspec.Struct, frozen=True):
    """Deliveries of an account to a host are ready; `owes`: but the account is below its credit limit."""

    host: str
    account_id: int
    owes: bool = False


class Leased(msgspec.Struct, frozen=True):
    """A delivery this worker is to make. `attempts`: those recorded before this one."""

    id: int
    task_id: str
    account_id: int
    kind: Kind
    host: str
    url: str
    body: bytes | None
    attempts: int


class Attempt(msgspec.Struct, frozen=True):
    """What became of one attempt; `error` None: it succeeded. `pause`: seconds until the next one, None: never.
    `before`: the attempts that were recorded when it was claimed."""

    delivery_id: int
    made_at: datetime
    milliseconds: int
    status: int | None
    reply: bytes | None
    error: str | None
    pause: float | None
    before: int = 0


class Webhooks(msgspec.Struct, frozen=True):
    """A task whose webhooks go out again; `body` of its postback, if it has one: gzip."""

    task_id: str
    body: bytes | None


class FailedAttempt(msgspec.Struct, frozen=True):
    """An attempt that failed. `status` None: no answer came; `reply` is what came of it, as it came."""

    task_id: str
    made_at: datetime
    milliseconds: int
    status: int | None
    reply: bytes | None
    error: str
    kind: Kind
    url: str


async def waiting(db: Session, after: tuple[str, int]) -> list[Waiting]:
    """Up to DELIVERY_PAIRS (host, account) pairs with ready deliveries, in order, beyond `after`."""
    return [Waiting(*row.values()) for row in await db.rows("waiting_deliveries", *after, DELIVERY_PAIRS)]


async def claim(db: Session, token: int, wanted: Sequence[tuple[str, int, int]]) -> list[Leased]:
    """Lease deliveries: of each (host, account) so many at the most, oldest first. None if the lease has ended."""
    hosts, accounts, most = ([one[part] for one in wanted] for part in range(3))
    return [
        Leased(
            row["id"],
            str(row["task_id"]),
            row["account_id"],
            Kind(row["kind"]),
            row["host"],
            row["url"],
            row["body"],
            row["attempts"],
        )
        for row in await db.rows("claim_deliveries", token, hosts, accounts, most)
    ]


async def record(db: Session, token: int, now: datetime, group: Sequence[Attempt]) -> set[int]:
    """Record attempts of one token and what follows from them; the ids of those it still held. Rows are locked in the
    order of their ids."""
    group = sorted(group, key=lambda one: one.delivery_id)
    rows = await db.rows(
        "record_attempts",
        token,
        [one.delivery_id for one in group],
        [one.made_at for one in group],
        [one.milliseconds for one in group],
        [one.status for one in group],
        [one.reply for one in group],
        [one.error for one in group],
        [one.pause for one in group],
        now,
        [one.before for one in group],
    )
    return {row["id"] for row in rows}


async def resend(db: Session, account_id: int, wanted: Sequence[Webhooks]) -> set[str]:
    """Send the webhooks of these tasks again, all in one statement; returns the tasks whose are on their way, without
    those that are forgotten."""
    rows = await db.rows("resend", account_id, [one.task_id for one in wanted], [one.body for one in wanted])
    return {str(row["task_id"]) for row in rows}


async def sweep(db: Session, after: int, before: date) -> tuple[int, int, bool]:
    """Forget ended deliveries of tasks posted before that day, one batch beyond the id `after`: the last id looked at,
    how many left, and whether there may be more."""
    row = await db.row("sweep_deliveries", after, before, DELIVERIES_SWEPT_BATCH)
    assert row is not None
    return row["last"] or after, row["swept"], row["more"]


async def failures(
    db: Session, account_id: int, since: datetime, until: datetime, kind: Kind | None, most: int, skip: int
) -> list[FailedAttempt]:
    """An account's failed attempts made from `since` until before `until`, newest first."""
    return [
        FailedAttempt(
            str(row["task_id"]),
            row["made_at"],
            row["milliseconds"],
            row["status"],
            row["reply"],
            row["error"],
            Kind(row["kind"]),
            row["url"],
        )
        for row in await db.rows("webhook_errors", account_id, since, until, kind, most, skip)
    ]


async def promote(db: Session) -> bool:
    """Make parked deliveries whose time has come ready; says whether there were any."""
    return bool(await db.rows("promote_deliveries", PROMOTE_BATCH))


async def free(tx: Session, tokens: Sequence[int]) -> int:
    """Deliveries leased to these tokens are ready again; returns how many."""
    return len(await tx.rows("free_deliveries", list(tokens)))


async def free_orphans(db: Session, token: int, held: Sequence[int]) -> int:
    """Make what the token leases beyond the ids `held` ready again; returns how many deliveries."""
    return len(await db.rows("free_orphan_deliveries", token, list(held)))


async def secrets(db: Session, fresh: dict[int, bytes]) -> dict[int, list[bytes]]:
    """The live signing secrets of accounts, newest first. `fresh`: by account, what becomes its first one if it has
    none."""
    found: dict[int, list[bytes]] = defaultdict(list)
    for _ in range(2):  # made by another process at this moment: seen by the next statement
        found.clear()
        for row in await db.rows("webhook_secrets", list(fresh), list(fresh.values())):
            found[row["account_id"]].append(row["secret"])
        if found.keys() == fresh.keys():
            return {account: live[:LIVE_SECRETS] for account, live in found.items()}
    raise AssertionError("a webhook secret vanished")


async def rotate(db: Session, account_id: int, fresh: bytes) -> None:
    """Make `fresh` the account's newest signing secret; the one before stays live beside it. Raises Conflict when
    another process does so at this moment."""
    await db.rows("rotate_webhook_secret", account_id, fresh)
