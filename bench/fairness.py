"""Fairness: how long a single task of one account waits for its provider while another account has a hundred thousand
queued. Five hundred calls at once, 50 ms each; then the same beside fifty thousand parked tasks, and beside a lane
whose server refuses every call with 429.

As in bench.start a probe's call is seen in the scripted provider's log, which is a pipe of ours.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec

from bench import echo
from bench.background import background
from bench.client import Connection, accepted, post, request, task
from bench.installation import Client, Installation, installed
from bench.machine import Clocks, fdatasync_ms
from bench.report import Goal, Round, Row, one_round, percentile, said
from restante.core.limits import TASKS_PER_POST

QUEUED = 100_000  # of the busy account, whenever a probe is posted
PARKED = 50_000
THROTTLED = 5_000
LATENCY_SECONDS = 0.05
SLOTS = 500
_PAUSE_SECONDS = (0.02, 0.06)  # between probes
_RESERVE = 0.6  # posted beyond QUEUED, a probe: what is answered meanwhile
_POSTERS = 8
_FLOW_SECONDS = 0.5
_PROBE_SECONDS = 30.0
_ROUND_SECONDS = 150.0


async def measure(parent: Path | None, rounds: int, probes: int) -> list[Row]:
    """The three rows; `probes` probes a round."""
    return await measure_with(parent, rounds, probes, QUEUED, PARKED, THROTTLED)


async def measure_with(
    parent: Path | None, rounds: int, probes: int, queued: int, parked: int, throttled: int
) -> list[Row]:
    """The three rows with so many tasks in the way."""
    rows = [
        Row(name=name, unit="ms", rounds=[], goals=[Goal(bound=150, at_most=True)])
        for name in (
            f"a probe's start beside {queued:,} queued tasks (p95)",
            f"  and {parked:,} parked ones",
            f"  and a throttled lane of {throttled:,}",
        )
    ]
    with background("bench.echo") as (_, (port,)):
        async with _installed(parent, port) as restante:
            busy, waiting, prober = restante.clients
            # Somebody reads all the time: a worker whose pipe is full stands still in the middle of a call.
            with _calls(restante) as calls:
                for nth, row in enumerate(rows):
                    if nth == 1:
                        await _park(restante, waiting, parked)
                    if nth == 2:
                        with restante.frozen("worker"):
                            await _post_many(restante, waiting, throttled, echo.THROTTLED)
                    for number in range(1, rounds + 1):
                        row.rounds.append(await _probed(restante, calls, busy, prober, probes, queued))
                        said(row, number)
            rows[0].note = await restante.audit()
    return rows


@asynccontextmanager
async def _installed(parent: Path | None, port: int) -> AsyncIterator[Installation]:
    more = {
        "RESTANTE_SCRIPTED_LATENCY": str(LATENCY_SECONDS),
        "RESTANTE_CONCURRENCY": str(SLOTS),
        "RESTANTE_LEASE_SECONDS": "600",  # the worker stands still while tasks are piled up
    }
    async with installed(
        parent, workers=1, fifo=True, opened=3, more=more, models=echo.models_map(port, echo.THROTTLED, 8)
    ) as restante:
        yield restante


async def _probed(
    restante: Installation, calls: _Calls, busy: Client, prober: Client, probes: int, queued: int
) -> Round:
    with restante.frozen("worker"):
        there = await _queued(restante, busy)
        await _post_many(restante, busy, max(0, queued + int(queued * _RESERVE) - there))
    connection = await Connection(restante).open()
    disk = fdatasync_ms(restante.directory)
    calls.forget()
    async with asyncio.timeout(_ROUND_SECONDS):
        await calls.flow()
        clocks = Clocks(restante.processes)
        posted: list[tuple[float, bytes]] = []
        for number in range(probes):
            await asyncio.sleep(random.uniform(*_PAUSE_SECONDS))
            began = time.perf_counter()
            answer = await connection.call(post(prober, number, 1))
            assert accepted(answer) == 1, answer[:500]
            posted.append((began, _id(answer)))
        clocks.stop()
        left = await _queued(restante, busy)
        taken = [(await calls.of(task_id) - began) * 1e3 for began, task_id in posted]
    connection.close()
    if left < queued:
        print(f"    (only {left:,} were queued in the end)", flush=True)
    return one_round(percentile(taken, 95), probes, clocks, disk)


class _Calls:
    """The provider's calls as they come."""

    def __init__(self) -> None:
        self._chunks: list[tuple[float, bytes]] = []  # whole lines, and when they came
        self._rest = b""
        self.came = asyncio.Event()

    def read(self, pipe: int) -> None:
        lines, newline, rest = os.read(pipe, 1 << 20).rpartition(b"\n")
        if newline:
            self._chunks.append((time.perf_counter(), self._rest + lines))
            self._rest = b""
        self._rest += rest
        self.came.set()

    def forget(self) -> None:
        """What came so far."""
        self._chunks.clear()

    async def flow(self) -> None:
        """Until the worker, which stood still, has been at work for a moment."""
        while not self._chunks:
            self.came.clear()
            await self.came.wait()
        await asyncio.sleep(_FLOW_SECONDS)

    async def of(self, task_id: bytes) -> float:
        """When the task's call came."""
        async with asyncio.timeout(_PROBE_SECONDS):
            looked = 0
            while True:
                for at, chunk in self._chunks[looked:]:
                    if task_id in chunk:
                        return at
                looked = max(0, len(self._chunks) - 1)
                self.came.clear()
                await self.came.wait()


@contextmanager
def _calls(restante: Installation) -> Iterator[_Calls]:
    calls = _Calls()
    pipe = os.open(restante.directory / "calls", os.O_RDONLY | os.O_NONBLOCK)
    loop = asyncio.get_running_loop()
    loop.add_reader(pipe, calls.read, pipe)
    try:
        yield calls
    finally:
        loop.remove_reader(pipe)
        os.close(pipe)


def _id(answer: bytes) -> bytes:
    """The id of the only task of a task_post's answer."""
    return answer.split(b'"tasks":[{"id":"', 1)[1][:36]


async def _queued(restante: Installation, client: Client) -> int:
    sql = await restante.connect()
    found: int = await sql.fetchval("select count(*) from queue where account_id = $1 and state = 0", client.account_id)
    await sql.close()
    return found


async def _post_many(restante: Installation, client: Client, tasks: int, model: str | None = None) -> None:
    """So many tasks, rounded up to whole POSTs."""
    requests = iter(range(0, tasks, TASKS_PER_POST))
    named = {} if model is None else {"model_name": model}

    async def post_all() -> None:
        connection = await Connection(restante).open()
        for first in requests:
            body = msgspec.json.encode([task(n, **named) for n in range(first, first + TASKS_PER_POST)])
            assert accepted(await connection.call(request("task_post", client, body))) == TASKS_PER_POST
        connection.close()

    await asyncio.gather(*(post_all() for _ in range(_POSTERS)))


async def _park(restante: Installation, client: Client, tasks: int) -> None:
    """Tasks that wait for a moment that does not come before the end, as after failures of their provider."""
    with restante.frozen("worker"):
        await _post_many(restante, client, tasks)
        sql = await restante.connect()
        await sql.execute(
            "update queue set state = 1, run_at = now() + interval '6 hours' where account_id = $1", client.account_id
        )
        await sql.close()
