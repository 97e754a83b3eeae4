"""Twenty minutes at what the original accepts, 3,333 tasks a second, end to end (issue 5, proof 4).

SOAK_SECONDS and SOAK_RATE make it another length and rate. None of it is a speed: what is offered must be done, memory
must not grow, nor dead rows faster than vacuum takes them, and nothing must wait longer and longer.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bench.installation import Installation, installed
from bench.machine import children

from tests.soak.load import Counts, Order

SECONDS = float(os.environ.get("SOAK_SECONDS", "1200"))
RATE = float(os.environ.get("SOAK_RATE", "3333"))
_SETTLING = min(300.0, SECONDS / 4)  # until memory and tables have the size that this rate needs
_EVERY = max(5.0, SECONDS / 60)  # between samples
_LONG = SECONDS >= 900  # only then sizes have come to where they stay
_MEMORY_SHARE = 0.05  # that it may grow by after settling
# Autovacuum looks once a minute, and what dies while it works is left to the next time. A task leaves two dead rows in
# the queue, when it is leased and when it is settled.
_DEAD_ROWS = 2 * RATE * 120
_WATCHED = ("queue", "ready", "account", "turn", "lane", "ready_mark")

_TABLES = """
select relname, n_live_tup, n_dead_tup, pg_total_relation_size(relid) / 1048576.0 as mib
from pg_stat_user_tables where relname = any ($1)
"""


class Sample(msgspec.Struct, frozen=True):
    """One look. Sizes in MiB, `age` in seconds: of the oldest task that is not settled."""

    at: float
    accepted: int
    fetched: int
    age: float
    queued: int
    memory: dict[str, float]
    dead: dict[str, int]
    size: dict[str, float]


def pss(pid: int) -> float:
    """MiB of a process, what it shares counted by its share."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1]) / 1024


async def _look(restante: Installation, connection: Any, at: float, counts: Counts) -> Sample:
    tables = await connection.fetch(_TABLES, list(_WATCHED))
    age, queued = await connection.fetchrow(
        "select coalesce(extract(epoch from now() - min(posted_at)), 0)::float8, count(*) from queue"
    )
    api = restante.processes["API"]
    memory = {name: pss(pid) for name, pid in restante.processes.items() if name != "PostgreSQL"}
    assert restante.processes["worker"] in children(api), "the worker was started anew"
    return Sample(
        at,
        counts.accepted,
        counts.fetched,
        age,
        queued,
        memory,
        {row["relname"]: row["n_dead_tup"] for row in tables},
        {row["relname"]: float(row["mib"]) for row in tables},
    )


def _line(one: Sample) -> str:
    memory = "  ".join(f"{name} {mib:5.0f}" for name, mib in one.memory.items())
    tables = "  ".join(f"{name} {one.dead[name]:6,} {one.size[name]:5.1f}" for name in _WATCHED)
    return (
        f"{one.at:5.0f} s  {one.accepted:9,} accepted  {one.fetched:9,} fetched  oldest {one.age:5.2f} s"
        f"  queued {one.queued:6,}  MiB: {memory}  dead rows, MiB: {tables}"
    )


async def _soaked(directory: Path) -> list[Sample]:
    samples: list[Sample] = []
    async with installed(directory, workers=1) as restante:
        load = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.soak.load", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        assert load.stdin and load.stdout
        order = Order(restante.host, restante.port, restante.clients, RATE, SECONDS)
        load.stdin.write(msgspec.json.encode(order) + b"\n")
        connection = await restante.connect()
        counts, began, due = Counts(), time.monotonic(), _EVERY
        try:
            while line := await load.stdout.readline():
                counts = msgspec.json.decode(line, type=Counts)
                at = time.monotonic() - began
                if counts.offering and at >= due:
                    due += _EVERY
                    samples.append(await _look(restante, connection, at, counts))
                    print(_line(samples[-1]), flush=True)
            assert await load.wait() == 0
        finally:
            if load.returncode is None:
                load.kill()
                await load.wait()
            await connection.close()
        per_post = 100 * len(restante.clients)
        assert counts.accepted == counts.fetched == int(SECONDS / (per_post / RATE)) * per_post
        print(await restante.audit())
    return samples


def _flat(what: str, values: Sequence[float], share: float, most: Callable[[Sequence[float]], float] = max) -> None:
    """The second half is no higher than the first, but for a share of it."""
    half = len(values) // 2
    before, after = most(values[:half]), most(values[half:])
    assert after <= before * (1 + share), f"{what} grew: {values}"


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 300)
async def test_nothing_grows_while_it_serves(tmp_path: Path) -> None:
    samples = [one for one in await _soaked(tmp_path) if one.at >= _SETTLING]
    last = samples[-1]
    assert last.accepted >= 0.98 * RATE * last.at, "it could not accept what was offered"
    assert last.accepted - last.fetched <= 10 * RATE, "it could not do what it accepted"
    _flat("the age of the queue", [max(1.0, one.age) for one in samples], 0.5, statistics.median)
    for table in _WATCHED:
        assert max(one.dead[table] for one in samples) <= _DEAD_ROWS, table
        if _LONG:
            _flat(f"the size of {table}", [max(1.0, one.size[table]) for one in samples], 0.2)
            _flat(f"dead rows of {table}", [max(1_000, one.dead[table]) for one in samples], 0.2)
    if _LONG:
        for name, first in samples[0].memory.items():
            assert all(abs(one.memory[name] - first) <= _MEMORY_SHARE * first for one in samples), name
