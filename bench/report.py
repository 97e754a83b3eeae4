"""Figures of rounds, and the table they end in."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement: its figure, and the circumstances beside it. `cpu`: seconds by process."""

    figure: float
    tasks: int
    cpu: dict[str, float]
    fdatasync_ms: float
    others: float


class Row(msgspec.Struct, kw_only=True):
    """A line of the table, over all its rounds. `ratio` is said in words, with what it is a ratio to."""

    name: str
    unit: str
    rounds: list[Round]
    ratio: str = ""
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(one.figure for one in self.rounds)


def ratio(row: Row, to: Row) -> str:
    """The median of the ratios of rounds that ran beside each other."""
    pairs = zip(row.rounds, to.rounds, strict=True)
    return f"{statistics.median(one.figure / other.figure for one, other in pairs):.2f}"


def said(row: Row, number: int) -> None:
    """One round, as it ends."""
    one = row.rounds[-1]
    print(
        f"  {number} {row.name:<44} {_shown(one.figure):>8} {row.unit:<8}"
        f" fdatasync {one.fdatasync_ms:.2f} ms, others {one.others:.2f} cores",
        flush=True,
    )


def print_table(rows: Sequence[Row]) -> None:
    """The summary: medians with all rounds, ratios, CPU, circumstances."""
    cells = [("", "median", "rounds", "ratio", "CPU us a task", "fdatasync ms", "others", "audit"), *map(_cells, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cells(row: Row) -> tuple[str, ...]:
    tasks = sum(one.tasks for one in row.rounds)
    names = list(row.rounds[0].cpu)
    cpu = " ".join(f"{name} {sum(one.cpu[name] for one in row.rounds) / tasks * 1e6:.0f}" for name in names)
    return (
        row.name,
        f"{_shown(row.median)} {row.unit}",
        " ".join(_shown(one.figure) for one in row.rounds),
        row.ratio,
        cpu,
        " ".join(f"{one.fdatasync_ms:.2f}" for one in row.rounds),
        " ".join(f"{one.others:.2f}" for one in row.rounds),
        row.note,
    )


def _shown(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.2f}"
