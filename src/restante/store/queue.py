"""The queue: lanes, leases, claiming, settling, giving back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime

import msgspec

from restante.core.limits import NOTIFICATION_CHARS, PROMOTE_BATCH
from restante.core.task import Function, State, Trail
from restante.store.database import Session
from restante.store.deliveries import Owed
from restante.store.packing import pack, unpack_any
from restante.store.tasks import GEMINI

CHANNEL = "restante_queue"  # notified after tasks became ready
Place = tuple[datetime, str]  # a task's, in the order of posting: when it was posted, and its id
BEFORE_ALL: Place = (datetime(2000, 1, 1, tzinfo=UTC), "00000000-0000-0000-0000-000000000000")
LIVE = "live"  # the provider of lane 0: live tasks, claimable once the process that ran them is gone


class Lane(msgspec.Struct, frozen=True):
    """Work for one provider's model."""

    id: int
    provider: str
    model: str


class Claimed(msgspec.Struct, frozen=True):
    """A task leased to a worker. `request` is the client's JSON; None for a live task. `tries` counts calls that the
    provider put off, `wasted` those that were paid for and gave nothing, `lost` the leases without an answer."""

    id: str
    day: date
    account_id: int
    lost: int
    tries: int
    request: bytes | None
    posted_at: datetime
    wasted: int = 0


class Taken(msgspec.Struct, frozen=True):
    """A task leased in order to be ended, and what its client sent."""

    id: str
    day: date
    posted_at: datetime
    request: bytes | None


class LiveOrder(msgspec.Struct, frozen=True):
    """A live task on its way in. `at_once`: how many its account may have at work; `cap`: what it may spend a day, in
    nano-dollars; 0: without limit. `model`: its provider's name of it; both say what is paused."""

    id: str
    account_id: int
    hold: int
    at_once: int = 0
    cap: int = 0
    provider: str = ""
    model: str = ""


class LiveHeld(msgspec.Struct, frozen=True):
    """Ids of live tasks that are `held` now, and of those that are not: since the account or the model is paused
    (`blocked`, `halted`), beyond what the account may have at work, beyond a cap. The balance does not cover others."""

    held: set[str]
    blocked: set[str]
    halted: set[str]
    crowded: set[str]
    capped: set[str]


class Settlement(msgspec.Struct, frozen=True):
    """A task's end. `charged` in nano-dollars; exactly one of `message` (a failure) and `result` (JSON array) is set,
    except for live tasks, whose answer is not stored. `owed`: the webhooks that its client waits for. `raw`: the
    provider's JSON that the answer was made of, kept beside it; `price_date`: of the prices behind `charged`. `trail`:
    who ran it, and how long that took."""

    token: int
    id: str
    day: date
    state: State
    code: int
    charged: int
    message: str | None = None
    result: bytes | None = None
    owed: tuple[Owed, ...] = ()
    raw: bytes | None = None
    price_date: date | None = None
    trail: Trail | None = None


async def ensure_lane(db: Session, provider: str, project: str, model: str) -> int:
    """The number of a lane, made on first use."""
    for _ in range(2):  # made by another process at this moment: seen by the next statement
        number: int | None = await db.value("ensure_lane", provider, project, model)
        if number is not None:
            return number
    raise AssertionError("a lane vanished")


async def pause_lane(db: Session, lane: int, *, paused: bool) -> None:
    """Pause or resume a model: a paused lane is claimed by nobody."""
    await db.rows("pause_lane", lane, paused)


async def paused_models(db: Session, provider: str) -> set[str]:
    """The models of a provider that are paused, by its own names."""
    return {row["model"] for row in await db.rows("paused_models", provider)}


async def waiting_lanes(db: Session, providers: Sequence[str]) -> list[Lane]:
    """Lanes of these providers with tasks ready now."""
    return [Lane(*row.values()) for row in await db.rows("waiting_lanes", list(providers))]


async def unserved(db: Session, providers: Sequence[str]) -> dict[str, int]:
    """Unfinished tasks of other providers: {provider: count}."""
    return {row["provider"]: row["tasks"] for row in await db.rows("unserved_lanes", [*providers, LIVE])}


async def models_waited_for(db: Session, provider: str) -> dict[str, int]:
    """Models of a provider that unfinished tasks are for: {model: tasks}."""
    return {row["model"]: row["tasks"] for row in await db.rows("queued_models", provider)}


async def claim(db: Session, token: int, lane: int, most: int) -> list[Claimed]:
    """Lease up to `most` tasks of a lane; none if the worker's own lease has ended."""
    return [
        Claimed(
            id=str(row["id"]),
            day=row["day"],
            account_id=row["account_id"],
            lost=row["lost"],
            tries=row["tries"],
            request=unpack_any(row["request"]),
            posted_at=row["posted_at"],
            wasted=row["wasted"],
        )
        for row in await db.rows("claim", token, lane, most)
    ]


async def hold_live(
    db: Session, token: int, now: datetime, wanted: Sequence[LiveOrder], cap_of_all: int = 0
) -> LiveHeld | None:
    """Hold the money of live tasks and lease them. `cap_of_all`: what all accounts may spend a day, 0: without limit;
    needs `spending.lock_spending` in a statement before.

    None: the token's lease has ended, so nothing was held.
    """
    row = await db.row(
        "hold_live",
        token,
        now.date(),
        now,
        [one.id for one in wanted],
        [one.account_id for one in wanted],
        [one.hold for one in wanted],
        GEMINI,
        Function.LIVE,
        [one.at_once for one in wanted],
        [one.cap for one in wanted],
        [one.model for one in wanted],
        [one.provider for one in wanted],
        cap_of_all,
    )
    assert row is not None
    fates = ("ids", "blocked", "halted", "crowded", "capped")
    return LiveHeld(*({str(one) for one in row[fate]} for fate in fates)) if row["alive"] else None


async def settle(db: Session, token: int, day: date, now: datetime, group: Sequence[Settlement]) -> set[str]:
    """Settle tasks of one token and posting day; returns the ids settled. Those the token lost are passed over."""
    owed = [(one.id, hook) for one in group for hook in one.owed]
    rows = await db.rows(
        "settle",
        token,
        day,
        [one.id for one in group],
        [one.state for one in group],
        [one.code for one in group],
        [one.message for one in group],
        [one.charged for one in group],
        [None if one.result is None else pack(one.result) for one in group],
        now,
        [task_id for task_id, _ in owed],
        [hook.kind for _, hook in owed],
        [hook.host for _, hook in owed],
        [hook.url for _, hook in owed],
        [hook.body for _, hook in owed],
        [None if one.raw is None else pack(one.raw) for one in group],
        [one.price_date for one in group],
        [None if one.trail is None else msgspec.json.encode(one.trail) for one in group],
    )
    return {str(row["id"]) for row in rows}


async def ends(db: Session, day: date, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """How tasks of a day ended, {id: (code, charged)}; unfinished ones are left out."""
    return {str(row["id"]): (row["code"], row["charged"]) for row in await db.rows("ends", day, list(ids))}


async def park(
    db: Session, token: int, task_id: str, seconds: float, *, tried: bool = True, wasted: bool = False
) -> bool:
    """Give a leased task back, to be run again after so many seconds of the database's clock; `tried` and `wasted`
    count it."""
    return await db.value("park", token, task_id, seconds, int(tried), int(wasted)) is not None


async def give_back(db: Session, token: int, task_id: str) -> bool:
    """Make a leased task ready again, as if it had not been claimed."""
    return await db.value("give_back", token, task_id) is not None


async def promote(db: Session) -> bool:
    """Make parked tasks whose time has come ready; says whether there were any."""
    return bool(await db.rows("promote", PROMOTE_BATCH))


async def register(
    db: Session, token: int, name: str, lease_seconds: float, *, providers: Sequence[str] = (), claims: bool = False
) -> None:
    """Begin a worker's incarnation under a fresh random token. `claims`: it runs queued tasks of the providers."""
    await db.rows("register_worker", token, name, lease_seconds, " ".join(providers), claims)


async def heartbeat(db: Session, token: int, lease_seconds: float, calls: str | None = None) -> bool:
    """Prolong the lease, and say in JSON how its providers did. False: it ended, and its tasks are others' now."""
    return await db.value("heartbeat", token, lease_seconds, calls) is not None


async def clock(db: Session) -> tuple[datetime, datetime]:
    """The database's time, and since when its server runs."""
    row = await db.row("database_clock")
    assert row is not None
    return row["now"], row["started"]


async def expire(tx: Session, now: datetime) -> dict[int, str]:
    """End the leases that had run out by then: {token: worker's name}. In one transaction with `free`, as its first
    statement."""
    return {row["token"]: row["name"] for row in await tx.rows("expire_workers", now)}


async def retire(tx: Session, token: int) -> None:
    """End one's own lease, in one transaction with `free`."""
    await tx.rows("retire_worker", token)


async def free(tx: Session, tokens: Sequence[int], *, lost: bool) -> int:
    """Tasks leased to these tokens are ready again; `lost` counts it against them. Returns how many."""
    return len(await tx.rows("free_leases", list(tokens), int(lost)))


async def take(
    db: Session,
    token: int,
    most: int,
    *,
    accounts: Sequence[int] | None = None,
    ids: Sequence[str] | None = None,
    tag: str | None = None,
    posted_before: datetime | None = None,
    no_accounts: Sequence[int] = (),
    beyond: Place = BEFORE_ALL,
) -> list[Taken]:
    """Lease queued tasks in order to end them: those that meet every condition given, of none of `no_accounts`, that
    come after `beyond` in the order of posting; the first ones of them, in no order."""
    rows = await db.rows("take", token, most, accounts, ids, tag, posted_before, no_accounts, *beyond)
    return [Taken(str(row["id"]), row["day"], row["posted_at"], unpack_any(row["request"])) for row in rows]


async def free_orphans(db: Session, token: int, held: Sequence[str]) -> int:
    """Make what the token leases beyond the ids `held` ready again; returns how many tasks."""
    return len(await db.rows("free_orphans", token, list(held)))


async def notify(db: Session, lanes: Iterable[int] = ()) -> None:
    """Wake the listening workers; `lanes` are where tasks became ready, none: anywhere. Never inside a money
    transaction: a notification serialises commits."""
    named = " ".join(map(str, lanes))
    await db.rows("notify", CHANNEL, named if len(named) <= NOTIFICATION_CHARS else "")


def notified(text: str) -> list[int]:
    """The lanes that a notification names."""
    return [int(number) for number in text.split()]
