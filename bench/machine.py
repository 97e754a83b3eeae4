"""The machine under the figures: what it is, what its disk takes to be sure, who used its cores meanwhile."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_SYNCS = 25
_BLOCK = bytes(8192)


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def described(postgres: str) -> str:
    """One line: processor, memory, versions."""
    names = (
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    python = ".".join(map(str, sys.version_info[:3]))
    return (
        f"{cores()} cores ({next(names, platform.machine())}), {memory:.0f} GiB,"
        f" Linux {platform.release()}, Python {python}, PostgreSQL {postgres}"
    )


def fdatasync_ms(directory: Path) -> float:
    """Median milliseconds of writing 8 KiB and making it durable on the disk of `directory`."""
    path = directory / "fdatasync"
    taken = []
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.write(file, _BLOCK * 16)
        os.fdatasync(file)
        for number in range(_SYNCS):
            begin = time.perf_counter()
            os.pwrite(file, _BLOCK, number % 16 * len(_BLOCK))
            os.fdatasync(file)
            taken.append((time.perf_counter() - begin) * 1e3)
    finally:
        os.close(file)
        path.unlink()
    return statistics.median(taken)


def children(pid: int) -> list[int]:
    """The living children of a process, whichever of its threads began them."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for thread in threads for child in (thread / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def cpu_seconds(pid: int, *, family: bool = False) -> float:
    """CPU a process has used; with `family` that of its children too, living or gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # gone: from now on its parent counts it
    used = sum(map(int, fields[11:15] if family else fields[11:13])) / _TICKS
    return used + sum(map(cpu_seconds, children(pid))) if family else used


def pss_mib(pid: int, *, family: bool = False) -> float:
    """Memory of a process in MiB, what it shares with others counted by its share; with `family` its children too."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        found = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024
    except (FileNotFoundError, ProcessLookupError, StopIteration):
        return 0.0  # gone meanwhile
    return found + sum(pss_mib(child, family=True) for child in children(pid)) if family else found


def _busy_seconds() -> float:
    user, nice, system, _idle, _wait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS


class Clocks:
    """Starts when made; `stop` says how long it took and who worked. `processes`: {name: pid}, PostgreSQL's is the
    postmaster, and it and the peers in `families` are counted with their children; this process is the `client`."""

    def __init__(self, processes: Mapping[str, int], families: Collection[str] = ()) -> None:
        self._processes = dict(processes) | {"client": os.getpid()}
        self._families = {"PostgreSQL", *families}
        self._busy = _busy_seconds()
        self._used = self._read()
        self._began = time.perf_counter()
        self.seconds = 0.0
        self.cpu: dict[str, float] = {}  # seconds, by process
        self.others = 0.0  # cores used by everybody else on this machine, the kernel's own threads among them

    def stop(self) -> None:
        self.seconds = time.perf_counter() - self._began
        self.cpu = {name: used - self._used[name] for name, used in self._read().items()}
        busy = _busy_seconds() - self._busy
        self.others = max(0.0, busy - sum(self.cpu.values())) / self.seconds

    def _read(self) -> dict[str, float]:
        return {name: cpu_seconds(pid, family=name in self._families) for name, pid in self._processes.items()}
