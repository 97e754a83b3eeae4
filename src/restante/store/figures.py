"""Figures of the whole installation, for metrics: bounded counts, however much there is."""

from __future__ import annotations

import msgspec

from restante.core.limits import FIGURES_COUNTED
from restante.store.database import Session


class Figures(msgspec.Struct, frozen=True):
    """How much there is now; amounts in nano-dollars, over all accounts. Counts end at FIGURES_COUNTED."""

    parked: int
    unpaid: int
    running: int
    live: int
    workers: int
    webhooks_ready: int
    webhooks_retry: int
    hosts_failing: int
    balance: int
    held: int
    spent: int


async def figures(db: Session) -> Figures:
    """Raises DatabaseLost."""
    row = await db.row("figures", FIGURES_COUNTED)
    assert row is not None
    return Figures(*(int(value) for value in row.values()))


async def ready(db: Session) -> dict[tuple[str, ...], float]:
    """Tasks that are ready, by provider and model; every model that was ever asked for is there."""
    counts: dict[tuple[str, ...], float] = {}
    for row in await db.rows("figures_ready", FIGURES_COUNTED):
        of = row["provider"], row["model"]
        counts[of] = counts.get(of, 0) + row["tasks"]
    return counts


async def audited(db: Session) -> tuple[float, int] | None:
    """How many seconds ago an audit last came to its end, and how many differences it found; None: none did."""
    row = await db.row("figures_audit")
    return None if row is None else (row["seconds"], row["differences"])
