"""Accept and claim beside a backup, against without: `restante backup` must not be felt by those who post.

One client posts 100 tasks through HTTP, then they are claimed by the worker's own statement, again and again. Backups
follow upon each other, each of the whole database and checked, as long as a round beside them lasts.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from bench import loading
from bench.client import MODEL, Connection, accepted, post
from bench.installation import Installation, installed
from bench.machine import Clocks, fdatasync_ms
from bench.report import Goal, Round, Row, medians, one_round, percentile, ratio, said
from restante.core.limits import TASKS_PER_POST
from restante.store import base_backup, queue
from restante.store.database import Session
from restante.wiring import utc_now

PAST = 400_000  # tasks: some 500 MB to copy
_TOKEN = 4_711
_BOUND = 1.5
_PAUSE = 0.02  # between POSTs: what is measured is waiting, not what the machine can do


async def measure(parent: Path | None, rounds: int, posts: int) -> list[Row]:
    """Four rows; `posts` POSTs of 100 and as many claims a round."""
    rows = [
        Row(name=f"{what}{place}", unit="ms", rounds=[])
        for what in ("a POST of 100, 1 client (p50)", "claiming its 100 tasks: SQL (p50)")
        for place in ("", ", beside a backup")
    ]
    made: list[float] = []
    slow: dict[str, list[float]] = {row.name: [] for row in rows}
    async with installed(parent, workers=0) as restante:
        await _grow(restante)
        await queue.register(restante.db, _TOKEN, "bench", 86_400)
        await _round(restante, posts)  # warms
        for number in range(1, rounds + 1):
            for beside in (False, True):
                async with _backups(restante, made) if beside else contextlib.nullcontext():
                    measured = await _round(restante, posts)
                for row, (one, p95) in zip((rows[beside], rows[2 + beside]), measured, strict=True):
                    row.rounds.append(one)
                    slow[row.name].append(p95)
                    said(row, number)
        rows[0].note = await restante.audit()
    for alone, beside_one in ((rows[0], rows[1]), (rows[2], rows[3])):
        worst = [percentile(slow[row.name], 50) for row in (alone, beside_one)]
        beside_one.ratio = f"{ratio(beside_one, alone)} of that alone; p95 {worst[1]:.1f} against {worst[0]:.1f} ms"
        beside_one.goals = [Goal(what="of that alone", bound=_BOUND, at_most=True, measured=medians(beside_one, alone))]
    rows[1].note = f"{len(made)} backups, {percentile(made, 50):.1f} s each"
    return rows


async def _grow(restante: Installation) -> None:
    connection = await restante.connect()
    ids = [client.account_id for client in restante.clients]
    await loading.finished(connection, ids, utc_now().date(), PAST, seconds=60.0)
    await loading.settled_down(connection)
    await connection.close()


async def _round(restante: Installation, posts: int) -> Sequence[tuple[Round, float]]:
    lane = await queue.ensure_lane(restante.db, "scripted", "", MODEL)
    connection, http = await restante.connect(), await Connection(restante).open()
    session = Session(connection)
    disk = fdatasync_ms(restante.directory)
    clocks = Clocks(restante.processes)
    accepting, claiming = [], []
    for number in range(posts):
        client = restante.clients[number % len(restante.clients)]
        request = post(client, number * TASKS_PER_POST, TASKS_PER_POST)
        begin = time.perf_counter()
        answer = await http.call(request)
        between = time.perf_counter()
        assert accepted(answer) == TASKS_PER_POST, answer[:500]
        claimed = await queue.claim(session, _TOKEN, lane, TASKS_PER_POST)
        claiming.append((time.perf_counter() - between) * 1e3)
        accepting.append((between - begin) * 1e3)
        assert len(claimed) == TASKS_PER_POST
        await asyncio.sleep(_PAUSE)
    clocks.stop()
    http.close()
    await connection.close()
    return [
        (one_round(percentile(taken, 50), posts * TASKS_PER_POST, clocks, disk), percentile(taken, 95))
        for taken in (accepting, claiming)
    ]


@contextlib.asynccontextmanager
async def _backups(restante: Installation, made: list[float]) -> AsyncIterator[None]:
    """One after the other, for the block."""
    found = await base_backup.facts(restante.db)
    programs = base_backup.find_programs(found.postgres, embedded=True)
    begun = asyncio.Event()

    async def again_and_again() -> None:
        while True:
            began, target = time.monotonic(), restante.directory / f"backup-{time.monotonic_ns()}"
            await base_backup.back_up(
                restante.dsn, target, found, programs, embedded=True, progress=lambda done, whole: begun.set()
            )
            made.append(time.monotonic() - began)
            await asyncio.to_thread(shutil.rmtree, target)

    async with asyncio.TaskGroup() as group:  # a backup that fails ends the measurement
        task = group.create_task(again_and_again())
        await begun.wait()
        yield
        task.cancel()
