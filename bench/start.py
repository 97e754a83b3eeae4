"""Start: from the moment a POST of one task is sent to the provider's call, on an idle restante.

The scripted provider writes a line at each call, into a pipe of ours: the line's arrival is the call's time, so the
figure includes HTTP, the commit, the wake-up of the worker and the claim.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import time
from pathlib import Path

from bench.client import Connection, accepted, post
from bench.installation import Installation, installed
from bench.machine import Clocks, fdatasync_ms
from bench.report import Goal, Round, Row, said

_PAUSE_SECONDS = (0.03, 0.09)  # between POSTs: idle, and never in step with anything
_CALL_SECONDS = 10.0


async def measure(parent: Path | None, rounds: int, posts: int) -> list[Row]:
    """The row; `posts` single POSTs a round. The percentiles of the ratio column are those of all rounds together."""
    late = Goal(what="p99", bound=15, at_most=True)
    row = Row(
        name="POST sent -> provider called, idle (p50)",
        unit="ms",
        rounds=[],
        goals=[Goal(bound=5, at_most=True), late],
    )
    everything: list[float] = []
    async with installed(parent, workers=1, fifo=True) as restante:
        await _posted(restante, 20)
        for number in range(1, rounds + 1):
            one, taken = await _posted(restante, posts)
            row.rounds.append(one)
            everything += taken
            said(row, number)
        row.note = await restante.audit()
    everything.sort()
    p50, p99 = (everything[len(everything) * percent // 100] for percent in (50, 99))
    late.measured = p99
    row.ratio = f"all {len(everything)}: p50 {p50:.1f}, p99 {p99:.1f} ms"
    return [row]


async def _posted(restante: Installation, posts: int) -> tuple[Round, list[float]]:
    calls: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
    pipe = os.open(restante.directory / "calls", os.O_RDONLY | os.O_NONBLOCK)
    loop = asyncio.get_running_loop()
    loop.add_reader(pipe, lambda: calls.put_nowait((time.perf_counter(), os.read(pipe, 65_536))))
    connection = await Connection(restante).open()
    disk = fdatasync_ms(restante.directory)
    clocks = Clocks(restante.processes)
    taken = []
    try:
        for number in range(posts):
            await asyncio.sleep(random.uniform(*_PAUSE_SECONDS))
            client = restante.clients[number % len(restante.clients)]
            request = post(client, number, 1)
            sent = time.perf_counter()
            async with asyncio.timeout(_CALL_SECONDS):
                answer = await connection.call(request)
                called, line = await calls.get()
            assert accepted(answer) == 1, answer[:500]
            assert line.count(b"\n") == 1 and line.split(b'"')[3] in answer, line
            taken.append((called - sent) * 1e3)
    finally:
        loop.remove_reader(pipe)
        os.close(pipe)
        connection.close()
    clocks.stop()
    figure = statistics.median(taken)
    return Round(figure=figure, tasks=posts, cpu=clocks.cpu, fdatasync_ms=disk, others=clocks.others), taken
