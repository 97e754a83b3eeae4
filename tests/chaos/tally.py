"""What the monkey did, what was in flight then, and what became of it: the table of docs/reliability.md."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

BEGIN, END = "<!-- the monkey's table begins -->\n", "<!-- the monkey's table ends -->\n"
KINDS = {
    "worker killed": "`kill -9` of a worker",
    "API killed": "`kill -9` of an API node, requests in flight",
    "up killed": "`kill -9` of `restante up`",
    "worker frozen": "worker frozen (SIGSTOP) past its lease, then continued",
    "worker cut off": "worker without the database for longer than its lease, calling on",
    "PostgreSQL killed": "PostgreSQL: `kill -9` of its main process",
    "PostgreSQL stopped": "PostgreSQL: immediate shutdown",
    "connections ended": "database connections ended by the server, amid their statements",
    "power cut": "everything at once, PostgreSQL too",
    "receiver broken": "webhook receiver answers 500, hangs, or closes the connection",
    "client hung up": "client hangs up in the middle of a POST",
    "clock wrong": "process whose clock is 90 s wrong, or shows tomorrow's date",
}
KILLS = ("worker killed", "API killed", "up killed")
CRASHES = ("PostgreSQL killed", "PostgreSQL stopped", "power cut")


class Fault:
    """One of them. `left`: what was in flight then and is not settled yet."""

    def __init__(self, kind: str, in_flight: Iterable[str], *, leased: bool = False) -> None:
        self.kind = kind
        self.at = time.monotonic()
        self.in_flight = frozenset(in_flight)
        self.leased = leased  # to whom was struck
        self.left = set(self.in_flight)
        self.recovered: float | None = None if self.in_flight else 0.0

    def gone(self, queued: set[str]) -> None:
        """Some of it is settled: it is not queued any more."""
        if self.recovered is None:
            self.left &= queued
            if not self.left:
                self.recovered = time.monotonic() - self.at


class Tally:
    """Of one run."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.may_repeat: Counter[str] = Counter()  # calls beyond the first that a task may have cost: {id: how many}
        self.leased = 0  # the sum of that: tasks leased to whom was killed, frozen or cut off at that moment

    def add(self, kind: str, in_flight: Iterable[str], *, leased: bool = False, repeats: bool = False) -> Fault:
        """A fault happened. `repeats`: its tasks may be asked of the provider again."""
        fault = Fault(kind, in_flight, leased=leased)
        self.faults.append(fault)
        if repeats:
            self.may_repeat.update(fault.in_flight)
            self.leased += len(fault.in_flight)
        return fault

    def count(self, *kinds: str) -> int:
        return sum(fault.kind in kinds for fault in self.faults)

    @property
    def with_work(self) -> float:
        """The share of kills that met leased work."""
        kills = [fault for fault in self.faults if fault.kind in KILLS]
        return sum(fault.leased for fault in kills) / max(1, len(kills))

    def open(self) -> set[str]:
        """Everything that some fault waits for."""
        return {task for fault in self.faults if fault.recovered is None for task in fault.left}

    def look(self, queued: set[str]) -> None:
        for fault in self.faults:
            fault.gone(queued)

    def table(self, lost: set[str], twice: set[str]) -> str:
        """A row of Markdown for each kind of fault. `lost` and `twice`: tasks that were, of the whole run."""
        head = "| fault | times injected | tasks in flight | lost | paid twice | recovery, median | worst |\n"
        rows = [head, "|---|--:|--:|--:|--:|--:|--:|\n"]
        for kind, words in KINDS.items():
            of = [fault for fault in self.faults if fault.kind == kind]
            if not of:
                continue
            flight = {task for fault in of for task in fault.in_flight}
            times = [fault.recovered for fault in of if fault.recovered is not None and fault.in_flight]
            took = (f"{statistics.median(times):.1f} s", f"{max(times):.1f} s") if times else ("–", "–")
            rows.append(
                f"| {words} | {len(of):,} | {sum(len(fault.in_flight) for fault in of):,} | {len(flight & lost)}"
                f" | {len(flight & twice)} | {took[0]} | {took[1]} |\n"
            )
        return "".join(rows)


def callers(log: Path) -> Iterator[tuple[int, str]]:
    """Calls that the scripted provider had: by which process, for which task."""
    for line in log.read_bytes().splitlines() if log.exists() else []:
        made = msgspec.json.decode(line)
        yield made["pid"], made["task_id"]


def calls(log: Path) -> Counter[str]:
    """How many it had for each task."""
    return Counter(task_id for _, task_id in callers(log))


def write(page: Path, text: str) -> None:
    """Put a run's text between the marks of the page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, found, after = rest.partition(END)
    assert found, f"{page} has no marks"
    page.write_text(before + BEGIN + text + END + after)
