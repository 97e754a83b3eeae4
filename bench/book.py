"""docs/benchmarks.md and its figures: what was measured, kept as JSON beside the plots.

Each measurement replaces its own rows and says when it was taken and on what, so that rows that need an hour and rows
that need a minute can be taken anew by themselves. What people add about them is in docs/benchmarks-notes.md, which
is never written here.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench import peers
from bench.report import Row, cpu, shown, targets, verdict

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "benchmarks.md"
FIGURES = DOCS / "benchmarks" / "figures.json"
_PLOTS = Path(__file__).parent / "programs" / "plots.py"
_NOTES = "benchmarks-notes.md"


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement's rows, when and where they were taken. `cut`: rounds too short to be quoted."""

    name: str
    rows: list[Row]
    at: str
    machine: str
    cut: bool


def write(taken: Sequence[Taken]) -> None:
    """Put measurements into the book, and make the page and the plots of all there are."""
    FIGURES.parent.mkdir(parents=True, exist_ok=True)
    book = {one.name: one for one in _read()} | {one.name: one for one in taken}
    FIGURES.write_bytes(msgspec.json.format(msgspec.json.encode(list(book.values())), indent=1) + b"\n")
    plotted = _plot()
    PAGE.write_text(page(list(book.values()), plotted))


def page(book: Sequence[Taken], plots: Sequence[str]) -> str:
    """The text of docs/benchmarks.md."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `python -m bench --write` from what it measured, as it measured it. What the figures mean, and what"
        f" profiles found: [{_NOTES}]({_NOTES}).",
        "",
        "The scripted provider answers, fsync is on, and the client runs on the cores that it measures. A figure is the"
        " median of the rounds, all of which are listed; what is compared ran in turn, round by round, and its ratio is"
        " the median of the ratios of such rounds. `fdatasync`: the disk's, measured before each round. `others`: cores"
        " that were used by anybody else meanwhile. CPU is in microseconds a task, by process.",
        "",
        f"Peers, in their newest versions that could be installed: {peers.versions()}.",
        "",
    ]
    for one in book:
        lines += [f"## {one.name}", "", f"{one.at}, {one.machine}.", ""]
        if one.cut:
            lines += ["**Short rounds** (`--quick`): not to be quoted.", ""]
        lines += ["| measure | target | measured | met | compared | rounds |", "|---|---|---|---|---|---|"]
        lines += [_line(row) for row in one.rows]
        lines += ["", "| measure | CPU | fdatasync ms | others | note |", "|---|---|---|---|---|"]
        lines += [_circumstances(row) for row in one.rows if row.rounds]
        lines.append("")
        lines += [f"![{one.name}](benchmarks/{one.name}.png)\n"] if one.name in plots else []
    return "\n".join(lines).rstrip() + "\n"


def _line(row: Row) -> str:
    measured = f"{shown(row.median)} {row.unit}" if row.rounds else row.note
    rounds = " ".join(shown(one.figure) for one in row.rounds)
    words = targets(row).replace("<=", "≤").replace(">=", "≥")
    return f"| {_indented(row.name)} | {words} | {measured} | {verdict(row)} | {row.ratio} | {rounds} |"


def _circumstances(row: Row) -> str:
    disk = " ".join(f"{one.fdatasync_ms:.2f}" for one in row.rounds)
    others = " ".join(f"{one.others:.2f}" for one in row.rounds)
    return f"| {_indented(row.name)} | {cpu(row)} | {disk} | {others} | {row.note} |"


def _indented(name: str) -> str:
    return name.replace("  ", "&ensp;", 1)


def _read() -> list[Taken]:
    return msgspec.json.decode(FIGURES.read_bytes(), type=list[Taken]) if FIGURES.exists() else []


def _plot() -> list[str]:
    """The plots that there are now; matplotlib has an environment of its own, and without it the old ones stay."""
    try:
        done = subprocess.run([str(peers.python("plots")), str(_PLOTS), str(FIGURES)], check=False)
        if done.returncode != 0:
            print("    no plots: matplotlib failed", flush=True)
    except peers.Missing as why:
        print(f"    no plots: {why}", flush=True)
    return [found.stem for found in FIGURES.parent.glob("*.png")]
