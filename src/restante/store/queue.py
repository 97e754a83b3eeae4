"""The queue: lanes, leases, claiming, settling, giving back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

import msgspec

from restante.core.limits import PROMOTE_BATCH
from restante.core.task import Function, State
from restante.store.database import Session
from restante.store.deliveries import Owed
from restante.store.packing import pack, unpack
from restante.store.tasks import GEMINI

CHANNEL = "restante_queue"  # notified after tasks became ready
LIVE = "live"  # the provider of lane 0: live tasks, claimable once the process that ran them is gone


class Lane(msgspec.Struct, frozen=True):
    """Work for one provider's model."""

    id: int
    provider: str
    model: str


class Claimed(msgspec.Struct, frozen=True):
    """A task leased to a worker. `request` is the client's JSON; None for a live task. `tries` counts calls that the
    provider put off, `lost` the leases that ended without an answer."""

    id: str
    day: date
    account_id: int
    lost: int
    tries: int
    request: bytes | None


class Taken(msgspec.Struct, frozen=True):
    """A task leased in order to be ended, and what its client sent."""

    id: str
    day: date
    request: bytes | None


class LiveOrder(msgspec.Struct, frozen=True):
    """A live task on its way in. `at_once`: how many its account may have at work; `cap`: what it may spend a day, in
    nano-dollars; 0: without limit. `model`: the provider's name of it."""

    id: str
    account_id: int
    hold: int
    at_once: int = 0
    cap: int = 0
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
    except for live tasks, whose answer is not stored. `owed`: the webhooks that its client waits for."""

    token: int
    id: str
    day: date
    state: State
    code: int
    charged: int
    message: str | None = None
    result: bytes | None = None
    owed: tuple[Owed, ...] = ()


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


async def claim(db: Session, token: int, lane: int, most: int) -> list[Claimed]:
    """Lease up to `most` tasks of a lane; none if the worker's own lease has ended."""
    return [
        Claimed(
            id=str(row["id"]),
            day=row["day"],
            account_id=row["account_id"],
            lost=row["lost"],
            tries=row["tries"],
            request=None if row["request"] is None else unpack(row["request"]),
        )
        for row in await db.rows("claim", token, lane, most)
    ]


async def hold_live(
    db: Session, token: int, now: datetime, wanted: Sequence[LiveOrder], provider: str = "", cap_of_all: int = 0
) -> LiveHeld | None:
    """Hold the money of live tasks and lease them. `provider` runs them, for what is paused of it. `cap_of_all`: what
    all accounts may spend a day, 0: without limit; needs `spending.lock_spending` in a statement before.

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
        provider,
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
    )
    return {str(row["id"]) for row in rows}


async def ends(db: Session, day: date, ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """How tasks of a day ended, {id: (code, charged)}; unfinished ones are left out."""
    return {str(row["id"]): (row["code"], row["charged"]) for row in await db.rows("ends", day, list(ids))}


async def park(db: Session, token: int, task_id: str, seconds: float, *, tried: bool) -> bool:
    """Give a leased task back, to be run again after so many seconds of the database's clock; `tried` counts it."""
    return await db.value("park", token, task_id, seconds, int(tried)) is not None


async def promote(db: Session) -> bool:
    """Make parked tasks whose time has come ready; says whether there were any."""
    return bool(await db.rows("promote", PROMOTE_BATCH))


async def register(
    db: Session, token: int, name: str, lease_seconds: float, *, provider: str = "", claims: bool = False
) -> None:
    """Begin a worker's incarnation under a fresh random token. `claims`: it runs queued tasks of the provider."""
    await db.rows("register_worker", token, name, lease_seconds, provider, claims)


async def heartbeat(db: Session, token: int, lease_seconds: float, calls: str | None = None) -> bool:
    """Prolong the lease, and say in JSON how the provider did. False: it ended, and its tasks are others' now."""
    return await db.value("heartbeat", token, lease_seconds, calls) is not None


async def expire(tx: Session) -> dict[int, str]:
    """End the leases that ran out: {token: worker's name}. In one transaction with `free`, as its first statement."""
    return {row["token"]: row["name"] for row in await tx.rows("expire_workers")}


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
) -> list[Taken]:
    """Lease queued tasks in order to end them: those that meet every condition given, and of none of `no_accounts`."""
    rows = await db.rows("take", token, most, accounts, ids, tag, posted_before, no_accounts)
    return [
        Taken(str(row["id"]), row["day"], None if row["request"] is None else unpack(row["request"])) for row in rows
    ]


async def free_orphans(db: Session, token: int, held: Sequence[str]) -> int:
    """Make what the token leases beyond the ids `held` ready again; returns how many tasks."""
    return len(await db.rows("free_orphans", token, list(held)))


async def notify(db: Session) -> None:
    """Wake the listening workers. Never inside a money transaction: a notification serialises commits."""
    await db.rows("notify", CHANNEL)
