"""Batches: tasks that a provider answers later at a lower price, and where each batch stands."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from enum import IntEnum
from typing import Any

import msgspec

from restante.store.database import Row, Session
from restante.store.packing import unpack
from restante.store.queue import Lane


class Stage(IntEnum):
    """Numbers kept in rows. ASKED: the provider may have made it, whoever asked for it may be dead."""

    GATHERED = 0
    ASKED = 1
    RUNNING = 2
    OVER = 3


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that its reader looks after. `name` is ours, `remote` and `file` the provider's; `age` the seconds since
    it was gathered, `since_asked` those since it was asked for, `left` those until its deadline."""

    id: int
    name: str
    provider: str
    project: str
    model: str
    state: Stage
    remote: str | None
    file: str | None
    outcome: str | None
    asks: int
    looks: int
    age: float
    since_asked: float
    left: float


class Member(msgspec.Struct, frozen=True):
    """A task in a batch, and what its client sent."""

    id: str
    day: date
    request: bytes


class Known(msgspec.Struct, frozen=True):
    """A batch as people see it; `saved` in nano-dollars, `fell_back` the tasks left to direct calls."""

    name: str
    provider: str
    project: str
    model: str
    state: Stage
    remote: str | None
    outcome: str | None
    tasks: int
    answered: int
    failed: int
    fell_back: int
    saved: int
    made_at: datetime
    deadline: datetime
    ended_at: datetime | None


async def gatherable(
    db: Session, providers: Sequence[str], seconds: float, full: int, most_open: int, *, within: float
) -> list[Lane]:
    """Lanes in which tasks have gathered for so long, or so many, that a batch is due; none while so many are open.
    Only tasks count that `gather` takes into a batch which is over `within` so many seconds."""
    rows = await db.rows("gatherable", list(providers), seconds, full, most_open, within)
    return [Lane(*row.values()) for row in rows]


async def gather(
    db: Session, token: int, lane: Lane, project: str, name: str, most: int, *, seconds: float, spare: float
) -> Batch | None:
    """Make a batch of what has gathered, to be over in so many seconds; `spare` seconds later its tasks are called
    directly whatever it says. None when another worker was faster."""
    row = await db.row("gather", lane.id, most, name, lane.provider, project, lane.model, seconds, spare, token)
    return None if row is None else _batch(row)


async def take(db: Session, token: int, providers: Sequence[str]) -> Batch | None:
    """A batch that is due for a look, looked after by this worker from now on."""
    row = await db.row("take_batch", token, list(providers))
    return None if row is None else _batch(row)


async def write(db: Session, token: int, batch: Batch, *, look_in: float | None = None, asking: bool = False) -> bool:
    """Keep where the batch stands: state, project, remote, file and outcome. It stays this worker's unless the next
    look is in so many seconds, whoever's then. False: it is another's, and nothing changed."""
    return (
        await db.value(
            "write_batch", batch.id, token, batch.state, batch.project, batch.remote, batch.file, batch.outcome,
            look_in, asking,
        )
        is not None
    )  # fmt: skip


async def put_down(db: Session, token: int, batch_id: int, seconds: float) -> None:
    """The next look at the batch is in so many seconds, whoever's then; it stands where it stood."""
    await db.rows("put_down_batch", batch_id, token, seconds)


async def members(
    db: Session, batch_id: int, most: int, *, after: str | None = None, ids: Sequence[str] | None = None
) -> list[Member]:
    """Tasks still in the batch, in the order of their ids: after one of them, or only these."""
    rows = await db.rows("batch_tasks", batch_id, after, None if ids is None else list(ids), most)
    return [Member(str(row["id"]), row["day"], unpack(row["request"])) for row in rows if row["request"] is not None]


async def leave(db: Session, token: int, batch_id: int, ids: Sequence[str] | None = None) -> int:
    """These tasks, or all, leave the batch and are ready for direct calls; returns how many. None leave another's."""
    count: int = await db.value("leave_batch", batch_id, None if ids is None else list(ids), token)
    return count


async def leave_barred(db: Session, token: int, batch_id: int) -> int:
    """Tasks of accounts that owe too much or are paused leave the batch as in `leave`; returns how many."""
    count: int = await db.value("leave_barred", batch_id, token)
    return count


async def paused(db: Session, batch: Batch) -> bool:
    """Whether the batch's model is paused."""
    return await db.value("batch_paused", batch.provider, batch.model) is not None


async def remote(db: Session, batch_id: int) -> str | None:
    """The provider's name of the batch as it is known now."""
    name: str | None = await db.value("batch_remote", batch_id)
    return name


async def gather_again(db: Session, batch_id: int, after: str, seconds: float) -> None:
    """Tasks of the batch after this id gather for another, for so many seconds at the most."""
    await db.rows("gather_again", batch_id, after, seconds)


async def lease(tx: Session, token: int, batch_id: int, ids: Sequence[str]) -> set[str]:
    """Lease tasks of the batch in order to settle them in the same transaction; those that left it are passed over."""
    return {str(row["id"]) for row in await tx.rows("lease_batched", token, batch_id, list(ids))}


async def count(tx: Session, batch_id: int, *, answered: int, failed: int, saved: int) -> None:
    """Add to what the batch brought."""
    await tx.rows("count_batched", batch_id, answered, failed, saved)


async def note_saved(tx: Session, day: date, saved: dict[str, int]) -> None:
    """Keep with tasks of a day what their batch saved: {id: nano-dollars}."""
    await tx.rows("note_saved", day, list(saved), list(saved.values()))


async def listed(db: Session, most: int, *, only_open: bool) -> list[Known]:
    """Batches, newest first."""
    rows = await db.rows("list_batches", most, only_open)
    return [
        Known(**{**{name: row[name] for name in Known.__struct_fields__}, "state": Stage(row["state"])}) for row in rows
    ]


async def forget(db: Session, before: datetime) -> int:
    """Forget batches that ended before then; returns how many."""
    return len(await db.rows("forget_batches", before))


def _batch(row: Row) -> Batch:
    return Batch(**_fields(row, Batch.__struct_fields__))


def _fields(row: Row, names: Sequence[str]) -> dict[str, Any]:
    return {name: Stage(row[name]) if name == "state" else row[name] for name in names}
