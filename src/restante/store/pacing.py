"""Buckets: what a provider's projects may be asked now, shared by all processes through PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from restante.store.database import Session


class Known(msgspec.Struct, frozen=True):
    """A bucket; `model` is "" for a whole project, which is then `shut`. `seconds`: how long it is paused still.
    `calls` and `tokens` a minute, where the provider named them."""

    provider: str
    project: str
    model: str
    reason: str | None
    shut: bool
    seconds: float | None
    calls: int | None
    tokens: int | None


class Wish(msgspec.Struct, frozen=True):
    """Up to `most` calls of a project, each taking up so many seconds of its rates (None: no such limit). `late`: what
    calls that started late took of the time since, in the same seconds."""

    project: str
    most: int
    call: float | None
    token: float | None
    late: float = 0.0


class Grant(msgspec.Struct, frozen=True):
    """Calls of a project: the first may start in `first` seconds, and more may be booked in `seconds`."""

    project: str
    calls: int
    first: float
    seconds: float


async def reserve(
    db: Session, provider: str, model: str, most: int, wishes: Sequence[Wish], ahead: float
) -> list[Grant]:
    """Book up to `most` calls in all that may start within the next `ahead` seconds."""
    for attempt in range(2):  # the second time with clocks: new ones, or the server crashed and forgot them
        rows = await db.rows(
            "reserve",
            provider,
            model,
            most,
            [wish.project for wish in wishes],
            [wish.most for wish in wishes],
            [wish.call for wish in wishes],
            [wish.token for wish in wishes],
            ahead,
            [wish.late if attempt == 0 else 0.0 for wish in wishes],
        )
        if len(rows) == len(wishes):
            break
        await db.rows("make_pace", provider, model, [wish.project for wish in wishes])
    return [Grant(*row.values()) for row in rows]


async def correct(db: Session, provider: str, project: str, model: str, calls: float, tokens: float) -> None:
    """Move the clocks of a bucket by so many seconds of calls and tokens; negative ones give back."""
    await db.rows("correct_pace", provider, project, model, calls, tokens)


async def pause(
    db: Session,
    provider: str,
    project: str,
    model: str,
    seconds: float,
    reason: str,
    calls: int | None = None,
    tokens: int | None = None,
) -> None:
    """Nobody calls the bucket for `seconds`, a project (`model` is "") until `lift` at the most; a longer pause stays.
    Keeps the quotas named."""
    await db.rows("pause", provider, project, model, seconds, reason, calls, tokens)


async def lift(db: Session, provider: str, project: str) -> bool:
    """A project may be called again; says whether it was shut."""
    return await db.value("lift", provider, project) is not None


async def known(db: Session, providers: Sequence[str], believed_seconds: float) -> list[Known]:
    """All buckets of these providers that anything was ever said of."""
    return [Known(*row.values()) for row in await db.rows("buckets", list(providers), believed_seconds)]


async def forget(db: Session, seconds: float) -> None:
    """Forget what was said of buckets longer ago than that, unless it holds still."""
    await db.rows("forget_buckets", seconds)
