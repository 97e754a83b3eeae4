"""Figures of rounds, and the table they end in."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

from bench.machine import Clocks


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement: its figure, and the circumstances beside it. `cpu`: seconds by process."""

    figure: float
    tasks: int
    cpu: dict[str, float]
    fdatasync_ms: float
    others: float


class Goal(msgspec.Struct, kw_only=True):
    """A target of a row: its own median if `what` is empty, else another figure of it, which its measure fills in."""

    bound: float
    what: str = ""
    at_most: bool = False
    measured: float | None = None

    def met(self, median: float) -> bool:
        """Whether it is reached; `median`: the row's."""
        found = median if self.measured is None else self.measured
        return found <= self.bound if self.at_most else found >= self.bound


class Row(msgspec.Struct, kw_only=True):
    """A line of the table, over all its rounds; without rounds it was not measured, and `note` says why. `ratio` is
    said in words, with what it is a ratio to."""

    name: str
    unit: str
    rounds: list[Round]
    ratio: str = ""
    note: str = ""
    goals: list[Goal] = []

    @property
    def median(self) -> float:
        return statistics.median(one.figure for one in self.rounds)


def medians(row: Row, to: Row) -> float:
    """The median of the ratios of rounds that ran beside each other."""
    pairs = zip(row.rounds, to.rounds, strict=True)
    return statistics.median(one.figure / other.figure for one, other in pairs)


def ratio(row: Row, to: Row) -> str:
    """The median of the ratios of rounds that ran beside each other."""
    return f"{medians(row, to):.2f}"


def percentile(figures: Sequence[float], percent: int) -> float:
    """The figure that so many percent of all are not above."""
    ordered = sorted(figures)
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]


def one_round(figure: float, tasks: int, clocks: Clocks, disk: float) -> Round:
    """A round from its stopped clocks; `disk`: the fdatasync before it, in milliseconds."""
    return Round(figure=figure, tasks=tasks, cpu=clocks.cpu, fdatasync_ms=disk, others=clocks.others)


def missing(name: str, why: str) -> Row:
    """A row that was not measured."""
    print(f"    {name.strip()}: not measured: {why}", flush=True)
    return Row(name=name, unit="", rounds=[], note="not measured: " + why.splitlines()[0][:160])


def said(row: Row, number: int) -> None:
    """One round, as it ends."""
    one = row.rounds[-1]
    print(
        f"  {number} {row.name:<44} {shown(one.figure):>8} {row.unit:<8}"
        f" fdatasync {one.fdatasync_ms:.2f} ms, others {one.others:.2f} cores",
        flush=True,
    )


def print_table(rows: Sequence[Row]) -> None:
    """The summary: targets, medians with all rounds, ratios, CPU, circumstances."""
    titles = ("", "target", "median", "met", "rounds", "ratio", "CPU us a task", "fdatasync ms", "others", "note")
    cells = [titles, *map(_cells, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def targets(row: Row) -> str:
    """A row's targets in words; empty if it has none."""
    return "; ".join(
        f"{goal.what + ' ' if goal.what else ''}{'<=' if goal.at_most else '>='} {shown(goal.bound)}"
        + (f" (is {shown(goal.measured)})" if goal.measured is not None else "")
        for goal in row.goals
    )


def verdict(row: Row) -> str:
    """Whether its targets are met: yes, no, or which of several is not."""
    if not row.goals or not row.rounds:
        return ""
    missed = [goal.what or "the figure" for goal in row.goals if not goal.met(row.median)]
    return "yes" if not missed else "no" if len(row.goals) == 1 else "no: " + ", ".join(missed)


def cpu(row: Row) -> str:
    """CPU by process, in microseconds a task, over all rounds."""
    tasks = sum(one.tasks for one in row.rounds)
    names = list(row.rounds[0].cpu) if row.rounds else []
    return " ".join(f"{name} {sum(one.cpu[name] for one in row.rounds) / tasks * 1e6:.0f}" for name in names)


def shown(figure: float) -> str:
    """A figure with as many digits as it deserves."""
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}" if figure < 1 else f"{figure:.2f}"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        targets(row),
        f"{shown(row.median)} {row.unit}" if row.rounds else "-",
        verdict(row),
        " ".join(shown(one.figure) for one in row.rounds),
        row.ratio,
        cpu(row),
        " ".join(f"{one.fdatasync_ms:.2f}" for one in row.rounds),
        " ".join(f"{one.others:.2f}" for one in row.rounds),
        row.note,
    )
