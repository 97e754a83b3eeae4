"""A flood: what a victim waits for while one account calls as fast as it can, against the same load from ten accounts.

Two floods, of POSTs of one task and of a hundred, each over so many connections at once. The victim is an account of
its own that posts a task, asks for it, asks live and lists; each of its calls is a p95. The rounds of the two loads
alternate, so that a disk that has become slow meanwhile does not count for one of them.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from bench.client import Connection, accepted, get, live, post
from bench.installation import Client, Installation, installed
from bench.machine import Clocks, fdatasync_ms
from bench.report import Goal, Row, medians, one_round, percentile, said

ACCOUNTS = 10
CONNECTIONS = 32
_WARM_SECONDS = 1.0
_PAUSE_SECONDS = (0.0, 0.02)  # between the victim's calls
_BOUND = 2.0
_ROUND_SECONDS = 200.0
_CALLS = ("task_post", "task_get", "live", "tasks_ready")


async def measure(parent: Path | None, rounds: int, probes: int) -> list[Row]:
    """A row for each of the victim's calls under each flood; `probes` of each call a round."""
    rows: list[Row] = []
    async with installed(parent, workers=1, opened=ACCOUNTS + 1, more={"RESTANTE_RATE_LIVE": "100000000"}) as restante:
        *many, victim = restante.clients
        for size in (1, 100):
            spread = [_row(f"{name} beside POSTs of {size} from {ACCOUNTS} accounts") for name in _CALLS]
            single = [_row("  from one account") for _ in _CALLS]
            for number in range(1, rounds + 1):
                for load, taken in ((many, spread), (many[:1], single)):
                    await _round(restante, load, victim, size, probes, taken, number)
            for one, ten in zip(single, spread, strict=True):
                times = medians(one, ten)
                one.ratio = f"{times:.2f} of ten accounts'"
                one.goals.append(Goal(what="ratio", bound=_BOUND, at_most=True, measured=times))
                rows += [ten, one]
        rows[0].note = await restante.audit()
    return rows


def _row(name: str) -> Row:
    return Row(name=name, unit="ms p95", rounds=[])


async def _round(
    restante: Installation, load: Sequence[Client], victim: Client, size: int, probes: int, rows: list[Row], number: int
) -> None:
    connection = await Connection(restante).open()
    disk = fdatasync_ms(restante.directory)
    taken: list[list[float]] = [[] for _ in rows]
    async with asyncio.timeout(_ROUND_SECONDS), _flood(restante, load, size) as posted:
        clocks = Clocks(restante.processes)
        before, began = posted[0], time.monotonic()
        for probe in range(probes):
            answer = await _timed(connection, post(victim, probe, 1), taken[0])
            assert accepted(answer) == 1, answer[:500]
            task_id = answer.split(b'"tasks":[{"id":"', 1)[1][:36].decode()
            for place, call in enumerate((get(victim, f"task_get/{task_id}"), live(victim, probe)), 1):
                await _timed(connection, call, taken[place])
            await _timed(connection, get(victim, "tasks_ready"), taken[3])
            await asyncio.sleep(random.uniform(*_PAUSE_SECONDS))
        rate = (posted[0] - before) / (time.monotonic() - began)
        clocks.stop()
    connection.close()
    for row, times in zip(rows, taken, strict=True):
        row.rounds.append(one_round(percentile(times, 95), probes, clocks, disk))
        row.note = f"the flood: {rate:,.0f} tasks/s"
        said(row, number)


async def _timed(connection: Connection, call: bytes, taken: list[float]) -> bytes:
    began = time.perf_counter()
    answer = await connection.call(call)
    taken.append((time.perf_counter() - began) * 1e3)
    return answer


@asynccontextmanager
async def _flood(restante: Installation, load: Sequence[Client], size: int) -> AsyncIterator[list[int]]:
    """Calls without a pause over all connections, theirs in turn; yields how many tasks were posted."""
    posted = [0]
    callers = itertools.cycle(load)
    ended = False

    async def call_on(client: Client) -> None:
        connection = await Connection(restante).open()
        body = post(client, 0, size)
        while not ended:
            posted[0] += accepted(await connection.call(body))
        connection.close()

    calling = [asyncio.create_task(call_on(next(callers))) for _ in range(CONNECTIONS)]
    await asyncio.sleep(_WARM_SECONDS)
    try:
        yield posted
    finally:
        ended = True
        await asyncio.gather(*calling)
