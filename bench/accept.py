"""Accept: POSTs of 100 tasks through HTTP with Basic auth to one API process, against their own SQL; and how long one
takes when they come as fast as the original accepts them.

No worker runs, so that nothing else happens to what was accepted. The SQL is the very statement the API uses, with
the same tasks, sent by asyncpg over one connection, its arguments made before the clock starts. At the offered rate
POSTs leave at their times, whether those before them are answered or not, and waiting for a connection counts.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from bench.client import MODEL, Connection, accepted, post, prompt
from bench.installation import Client, Installation, installed
from bench.machine import Clocks, fdatasync_ms
from bench.report import Goal, Round, Row, medians, one_round, percentile, ratio, said
from restante.core.limits import TASKS_PER_POST
from restante.core.pricing import STANDARD_HOLD
from restante.core.task import Function, mint_id
from restante.store import queue
from restante.store.database import Session
from restante.store.tasks import GEMINI
from restante.wiring import utc_now

CLIENTS = 8
_OFFERED = 3_333  # tasks a second: 2,000 POSTs of 100 a minute, which the original accepts of an account
_WARMING_POSTS = 40


async def measure(parent: Path | None, rounds: int, posts: int) -> list[Row]:
    """The three rows; `posts` POSTs a round each, a fifth of them at the offered rate."""
    of_sql = Goal(what="of its SQL", bound=0.8)
    http = Row(
        name=f"accept: HTTP, {CLIENTS} clients, 1 API process",
        unit="tasks/s",
        rounds=[],
        goals=[Goal(bound=30_000), of_sql],
    )
    sql = Row(name="  its SQL alone, 1 connection", unit="tasks/s", rounds=[])
    paced = Row(
        name=f"  {_OFFERED:,} tasks/s offered: a POST (p99)", unit="ms", rounds=[], goals=[Goal(bound=25, at_most=True)]
    )
    p99: list[float] = []
    p50: list[float] = []
    async with installed(parent, workers=0) as restante:
        await through_http(restante, _WARMING_POSTS)
        await _by_sql(restante, _WARMING_POSTS)
        for number in range(1, rounds + 1):
            sql.rounds.append(await _by_sql(restante, posts))
            said(sql, number)
            one, taken = await through_http(restante, posts)
            http.rounds.append(one)
            p99.append(percentile(taken, 99) * 1e3)
            said(http, number)
            one, taken = await _offered(restante, max(posts // 5, 100))
            paced.rounds.append(one)
            p50.append(percentile(taken, 50) * 1e3)
            said(paced, number)
        http.note = sql.note = paced.note = await restante.audit()
    of_sql.measured = medians(http, sql)
    http.ratio = f"{ratio(http, sql)} of its SQL; p99 {statistics.median(p99):.0f} ms a POST"
    paced.ratio = f"p50 {statistics.median(p50):.1f} ms"
    return [http, sql, paced]


async def through_http(restante: Installation, posts: int) -> tuple[Round, list[float]]:
    """Accept so many POSTs: the round, and the seconds that each took."""
    clients = restante.clients
    requests = iter([post(clients[n % len(clients)], n * TASKS_PER_POST, TASKS_PER_POST) for n in range(posts)])
    connections = [await Connection(restante).open() for _ in range(CLIENTS)]
    taken: list[float] = []
    disk = fdatasync_ms(restante.directory)
    clocks = Clocks(restante.processes)
    await asyncio.gather(*(_post_all(connection, requests, taken) for connection in connections))
    clocks.stop()
    for connection in connections:
        connection.close()
    return _round(posts, clocks, disk), taken


async def _post_all(connection: Connection, requests: Iterator[bytes], taken: list[float]) -> None:
    for request in requests:
        begin = time.perf_counter()
        answer = await connection.call(request)
        taken.append(time.perf_counter() - begin)
        assert accepted(answer) == TASKS_PER_POST, answer[:500]


async def _offered(restante: Installation, posts: int) -> tuple[Round, list[float]]:
    """So many POSTs at the offered rate: the round, whose figure is their p99 in ms, and the seconds that each took."""
    clients = restante.clients
    requests = [post(clients[n % len(clients)], n * TASKS_PER_POST, TASKS_PER_POST) for n in range(posts)]
    idle: asyncio.Queue[Connection] = asyncio.Queue()
    connections = [await Connection(restante).open() for _ in range(CLIENTS)]
    for connection in connections:
        idle.put_nowait(connection)
    taken: list[float] = []
    disk = fdatasync_ms(restante.directory)
    clocks = Clocks(restante.processes)
    begin = time.perf_counter()

    async def one(number: int, request: bytes) -> None:
        due = begin + number * TASKS_PER_POST / _OFFERED
        await asyncio.sleep(due - time.perf_counter())
        connection = await idle.get()
        answer = await connection.call(request)
        taken.append(time.perf_counter() - due)
        assert accepted(answer) == TASKS_PER_POST, answer[:500]
        idle.put_nowait(connection)

    await asyncio.gather(*(one(number, request) for number, request in enumerate(requests)))
    clocks.stop()
    for connection in connections:
        connection.close()
    return one_round(percentile(taken, 99) * 1e3, posts * TASKS_PER_POST, clocks, disk), taken


async def _by_sql(restante: Installation, posts: int) -> Round:
    lane = await queue.ensure_lane(restante.db, "scripted", "", MODEL)
    clients = restante.clients
    prepared = [_arguments(clients[n % len(clients)], lane, n * TASKS_PER_POST) for n in range(posts)]
    connection = await restante.connect()
    session = Session(connection)
    disk = fdatasync_ms(restante.directory)
    clocks = Clocks(restante.processes)
    for arguments in prepared:
        covered = await session.value("accept", *arguments)
        assert covered == TASKS_PER_POST, covered
    clocks.stop()
    await connection.close()
    return _round(posts, clocks, disk)


def _arguments(client: Client, lane: int, first: int) -> tuple[object, ...]:
    """What the API would send for the POST that `client.post` makes."""
    now = utc_now()
    numbers = range(first, first + TASKS_PER_POST)
    return (
        client.account_id,
        now.date(),
        now,
        [mint_id(now, client.account_id, Function.TASK_POST, secrets.randbits(48)) for _ in numbers],
        [lane for _ in numbers],
        [int(STANDARD_HOLD) for _ in numbers],
        [f"t{n}" for n in numbers],
        [msgspec.json.encode({"user_prompt": prompt(n), "model_name": MODEL, "tag": f"t{n}"}) for n in numbers],
        GEMINI,
        Function.TASK_POST,
        0,
        0,
        [None for _ in numbers],
    )


def _round(posts: int, clocks: Clocks, disk: float) -> Round:
    tasks = posts * TASKS_PER_POST
    return one_round(tasks / clocks.seconds, tasks, clocks, disk)
