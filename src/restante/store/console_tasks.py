"""What the console reads of tasks: lists by what people look for, and one task with everything about it.

No index serves these lists beyond those that the work itself needs: accepting pays for none. A list is read in
stretches that begin at the newest task and grow where little is found, day by day, until the page is full or its time
is over; then it says how far it looked.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

import msgspec

from restante.core.limits import CONSOLE_QUEUE_SEEN, CONSOLE_SEARCH_SECONDS
from restante.core.task import Trail
from restante.store.database import Row, Session
from restante.store.deliveries import Kind
from restante.store.packing import unpack_any
from restante.store.tasks import GEMINI

_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)
_GROWS: Final = 4  # times as long, each stretch that did not fill the page
_LAST_ID: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"

Place = tuple[datetime, str]  # in a list: when a task was posted, and its id


class Wanted(msgspec.Struct, frozen=True):
    """Which tasks; None: any. `queue_states`: unfinished ones only, of these states of the queue."""

    account: int | None
    since: datetime
    state: int | None = None
    queue_states: Sequence[int] | None = None
    lanes: Sequence[int] | None = None
    tag: str | None = None
    functions: Sequence[int] | None = None

    @property
    def rare(self) -> bool:
        """Whether what is wanted may be far apart."""
        return any(one is not None for one in (self.state, self.lanes, self.tag, self.functions))


class Task(msgspec.Struct, frozen=True):
    """A row of a list. `charged` of a settled one, `queue_state` of an open one; `request` while it is kept."""

    day: date
    id: str
    account_id: int
    login: str
    posted_at: datetime
    tag: str | None
    lane: int | None
    held: int
    state: int = 0
    queue_state: int | None = None
    code: int | None = None
    charged: int | None = None
    settled_at: datetime | None = None
    request: bytes | None = None


class Found(msgspec.Struct, frozen=True):
    """A page of tasks, newest first. `more`: there are older ones. `reached`: how far back it looked before its
    time was over; None: to the end, or until the page was full."""

    tasks: list[Task]
    more: bool
    reached: datetime | None


class Lane(msgspec.Struct, frozen=True):
    """A provider's model that tasks are, or were, for."""

    id: int
    provider: str
    model: str
    paused: bool


class Attempt(msgspec.Struct, frozen=True):
    """One attempt to bring a webhook; `error` None: it was taken."""

    made_at: datetime
    milliseconds: int
    status: int | None
    reply: bytes | None
    error: str | None


class Delivery(msgspec.Struct, frozen=True):
    """A webhook of a task. `state` as its row says: 0 ready, 1 parked until `run_at`, 2 at work, 3 done, 4 given up."""

    kind: Kind
    url: str
    state: int
    run_at: datetime | None
    created_at: datetime
    collected: bool
    worker: str | None
    attempts: list[Attempt]


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a task. `request` and `result` are JSON; `owes`: its account is below its credit limit."""

    day: date
    id: str
    account_id: int
    login: str
    owes: bool
    function: int
    state: int
    code: int | None
    held: int
    charged: int | None
    attempts: int
    posted_at: datetime
    settled_at: datetime | None
    tag: str | None
    batch_saved: int | None
    provider: str | None
    model: str | None
    request: bytes | None
    message: str | None
    result: bytes | None
    trail: Trail | None
    resolved_at: datetime | None
    price_date: date | None
    has_raw: bool
    queue_state: int | None
    run_at: datetime | None
    tries: int
    wasted: int
    lost: int
    batch: int | None
    worker: str | None
    listed_at: datetime | None
    batch_name: str | None
    batch_state: int | None
    batch_asked_at: datetime | None
    deliveries: list[Delivery] = []


async def lanes(db: Session) -> list[Lane]:
    """Every model that tasks were ever for."""
    return [Lane(*row.values()) for row in await db.rows("console_lanes")]


async def find(db: Session, wanted: Wanted, before: Place, most: int) -> Found:
    """A page of tasks posted before a place."""
    if wanted.queue_states is not None:
        return await _open(db, wanted, before, most)
    end = time.monotonic() + CONSOLE_SEARCH_SECONDS
    rows: list[Row] = []
    reached: datetime | None = None
    width = 15 * _MINUTE if wanted.rare else _MINUTE
    days = [row["day"] for row in await db.rows("console_days")]
    upper = before[0].replace(second=0, microsecond=0) + _MINUTE  # exclusive, a whole minute as all bounds
    for day in days:
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        if midnight >= upper:
            continue
        upper = min(upper, midnight + _DAY)
        while len(rows) <= most and upper > max(midnight, wanted.since):
            if reached is not None and time.monotonic() > end:
                return Found(await _named(db, rows), False, reached)
            newest = None if wanted.rare else await db.value("console_newest", day, _ids(midnight, upper)[1])
            if newest is not None:  # over minutes without any
                upper = min(upper, _minute_of(str(newest), midnight) + _MINUTE)
            elif not wanted.rare:
                break
            lower = max(midnight, upper - width)
            missing = most + 1 - len(rows)
            began = time.monotonic()
            rows += await db.rows(
                "console_tasks", day, *_ids(lower, upper), wanted.since, *before, wanted.account, wanted.state,
                wanted.lanes, wanted.tag, wanted.functions, missing,
            )  # fmt: skip
            reached = upper = lower
            # Growing on would make the last stretch take far longer than all of them may.
            if time.monotonic() - began < CONSOLE_SEARCH_SECONDS / 4:
                width *= _GROWS
            elif width > _MINUTE * _GROWS:
                width = width // _GROWS // _MINUTE * _MINUTE
        if len(rows) > most or upper <= wanted.since:
            break
    return Found(await _named(db, rows[:most]), len(rows) > most, None)


async def _open(db: Session, wanted: Wanted, before: Place, most: int) -> Found:
    """Of unfinished tasks, which the queue has in the order of posting."""
    rows = await db.rows(
        "console_open", wanted.since, *before, wanted.account, wanted.queue_states, wanted.lanes, wanted.tag, most + 1,
        CONSOLE_QUEUE_SEEN,
    )  # fmt: skip
    return Found(await _named(db, rows[:most]), len(rows) > most, None)


async def _named(db: Session, rows: Sequence[Row]) -> list[Task]:
    """With what their own rows do not say."""
    beside: dict[object, Row] = {}
    for day in sorted({row["day"] for row in rows}):  # a day is a partition: one is planned for, not all of them
        columns = [[row[name] for row in rows if row["day"] == day] for name in ("id", "account_id")]
        beside |= {row["id"]: row for row in await db.rows("console_rows", day, *columns)}
    made = []
    for row in rows:
        more = beside[row["id"]]
        known = dict(row)  # type: ignore[call-overload]
        known |= {"id": str(row["id"]), "login": more["login"], "queue_state": more["queue_state"]}
        known["request"] = unpack_any(more["request"])
        known.pop("function", None)
        made.append(Task(**known))
    return made


def _ids(lower: datetime, upper: datetime) -> tuple[str, str]:
    """The first and the last id of the minutes from `lower` until before `upper`."""
    last = upper - _MINUTE
    return f"{lower:%m%d%H%M}-0000-0000-0000-000000000000", f"{last:%m%d%H%M}{_LAST_ID[8:]}"


def _minute_of(task_id: str, midnight: datetime) -> datetime:
    """The minute that an id names, of the day that begins then."""
    return midnight + timedelta(hours=int(task_id[4:6]), minutes=int(task_id[6:8]))


async def whole(db: Session, day: date, account_id: int, task_id: str) -> Whole | None:
    """Everything about a task of an account; None: there is no such task."""
    row = await db.row("console_task", day, task_id, account_id, GEMINI)
    if row is None:
        return None
    known = dict(row)  # type: ignore[call-overload]
    for name in ("tries", "wasted", "lost"):
        known[name] = known[name] or 0
    trail = known.pop("trail")
    return Whole(
        day=day,
        id=task_id,
        account_id=account_id,
        request=unpack_any(known.pop("request")),
        result=unpack_any(known.pop("body")),
        trail=None if trail is None else msgspec.json.decode(trail, type=Trail),
        deliveries=await _deliveries(db, day, account_id, task_id),
        **known,
    )


async def _deliveries(db: Session, day: date, account_id: int, task_id: str) -> list[Delivery]:
    made: dict[Kind, Delivery] = {}
    for row in await db.rows("console_deliveries", task_id, account_id, day):
        kind = Kind(row["kind"])
        delivery = made.setdefault(
            kind,
            Delivery(
                kind, row["url"], row["state"], row["run_at"], row["created_at"], row["collected"], row["worker"], []
            ),
        )
        if row["made_at"] is not None:
            names = ("made_at", "milliseconds", "status", "reply", "error")
            delivery.attempts.append(Attempt(*(row[name] for name in names)))
    return list(made.values())
