"""Tasks in and out: accepting a POST, listing what is ready, fetching answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

import msgspec

from restante.core.limits import READY_EXPIRED_BATCH
from restante.core.task import Function
from restante.store.database import Session
from restante.store.packing import pack, unpack_any

GEMINI = 1  # platform numbers, kept in rows


class Order(msgspec.Struct, frozen=True):
    """A judged task on its way in. `request` is what the client sent, as JSON; `hold` in nano-dollars; `gather`: the
    seconds for which it may wait for a batch, None when it goes by itself."""

    id: str
    lane: int
    hold: int
    tag: str | None
    request: bytes
    gather: float | None = None


class Listed(msgspec.Struct, frozen=True):
    """A row of tasks_ready."""

    id: str
    posted_at: datetime
    tag: str | None


class Collected(msgspec.Struct, frozen=True):
    """A stored answer. `result` is the JSON array; None for a failure, whose `message` is set, and when withheld."""

    id: str
    code: int
    message: str | None
    withheld: bool
    request: bytes | None
    result: bytes | None


class Raw(msgspec.Struct, frozen=True):
    """What a provider replied. `body` is None when it is withheld."""

    body: bytes | None
    price_date: date | None


class Unanswered(msgspec.Struct, frozen=True):
    """A task that has no answer: `running`, else `queued`, else a live task or one whose answer is gone."""

    function: int
    queued: bool
    running: bool
    request: bytes | None


class Resendable(msgspec.Struct, frozen=True):
    """A task of the account: finished when it has a `code`, open when `queued` (`running`: leased), else its answer is
    gone. `request` and `result` are JSON; `message` is of a failure."""

    id: str
    queued: bool
    running: bool
    request: bytes | None
    code: int | None
    message: str | None
    result: bytes | None


class Recorded(msgspec.Struct, frozen=True):
    """A task as id_list shows it. `charged` in nano-dollars and `code` are of a final one; `request` is JSON, None of a
    live task and where it was not asked for or is gone."""

    id: str
    function: int
    code: int | None
    charged: int | None
    posted_at: datetime
    settled_at: datetime | None
    running: bool
    request: bytes | None


class Covered(msgspec.Struct, frozen=True):
    """How many orders, from the first on, were accepted, and whether a cap refused the next rather than the balance."""

    number: int
    capped: bool


async def accept(
    db: Session, account_id: int, now: datetime, orders: Sequence[Order], cap: int = 0, cap_of_all: int = 0
) -> Covered:
    """Hold the money for, store and queue as many orders as the balance and the daily caps cover (nano-dollars; 0: no
    cap). `cap_of_all` needs `spending.lock_spending` in a statement before.

    `now` is the POST's one time, in UTC: it is in the ids, is posted_at and names the day. Raises Conflict when an id
    exists; then nothing was accepted.
    """
    row = await db.row(
        "accept",
        account_id,
        now.date(),
        now,
        [order.id for order in orders],
        [order.lane for order in orders],
        [order.hold for order in orders],
        [order.tag for order in orders],
        [pack(order.request) for order in orders],
        GEMINI,
        Function.TASK_POST,
        cap,
        cap_of_all,
        [order.gather for order in orders],
    )
    assert row is not None
    return Covered(row["covered"], row["capped"])


async def ready(db: Session, account_id: int, most: int, since: datetime) -> list[Listed]:
    """Finished tasks nobody fetched yet, listed since then, oldest first; none while the account owes more than its
    credit limit."""
    rows = await db.rows("list_ready", account_id, GEMINI, most, since)
    return [Listed(str(row["id"]), row["posted_at"], row["tag"]) for row in rows]


async def expire_ready(db: Session, before: datetime) -> int:
    """Take tasks off tasks_ready that were listed before then, a batch; returns how many."""
    return len(await db.rows("expire_ready", before, READY_EXPIRED_BATCH))


async def collect(db: Session, day: date, wanted: Sequence[tuple[int, str]]) -> dict[str, Collected]:
    """Answers of one posting day by (account, id), taken off tasks_ready in the same statement."""
    rows = await db.rows("collect", day, [account for account, _ in wanted], [task_id for _, task_id in wanted], GEMINI)
    if late := [row for row in rows if row["relisted"]]:
        await db.rows("unlist", [row["account_id"] for row in late], GEMINI, [row["seq"] for row in late])
    return {
        str(row["id"]): Collected(
            id=str(row["id"]),
            code=row["code"],
            message=row["message"],
            withheld=row["withheld"],
            request=unpack_any(row["request"]),
            result=unpack_any(row["body"]),
        )
        for row in rows
    }


async def find_unanswered(db: Session, day: date, account_id: int, task_id: str) -> Unanswered | None:
    """A task of the account by id, when `collect` did not know it. None: there is no such task."""
    row = await db.row("find_task", day, task_id, account_id)
    if row is None:
        return None
    state = row["queue_state"]
    request = unpack_any(row["request"])
    return Unanswered(row["function"], queued=state is not None, running=state == 2, request=request)


async def resendable(db: Session, day: date, account_id: int, ids: Sequence[str]) -> list[Resendable]:
    """Tasks of the account posted on one day, with what their webhooks would say."""
    return [
        Resendable(
            str(row["id"]),
            row["queued"],
            row["queue_state"] == 2,
            unpack_any(row["request"]),
            row["code"],
            row["message"],
            unpack_any(row["body"]),
        )
        for row in await db.rows("resendable", day, account_id, ids)
    ]


async def recorded(
    db: Session,
    account_id: int,
    since: datetime,
    until: datetime,
    *,
    backwards: bool,
    skip: int,
    most: int,
    requests: bool,
) -> list[Recorded]:
    """An account's tasks posted from `since` until before `until`, in that order or backwards."""
    return [
        Recorded(
            str(row["id"]),
            row["function"],
            row["code"],
            row["charged"],
            row["posted_at"],
            row["settled_at"],
            row["running"] is True,
            unpack_any(row["request"]),
        )
        for row in await db.rows("list_tasks", account_id, since, until, backwards, skip, most, requests)
    ]


async def raw(db: Session, day: date, account_id: int, task_id: str) -> Raw | None:
    """The provider's own reply to a task of the account; None when none is kept."""
    row = await db.row("read_raw", day, task_id, account_id)
    if row is None:
        return None
    return Raw(unpack_any(row["body"]), row["price_date"])
