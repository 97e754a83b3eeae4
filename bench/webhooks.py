"""Webhooks: from a settlement to the first byte of its postback, idle; and how many a worker brings a second.

For the second the worker stands still while tasks are accepted and settled by hand, with postbacks to fifty hosts.
Then it goes on, and has nothing to do but claim, sign, send and record them.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.client import MODEL, Connection, accepted, post, task
from bench.end_to_end import ANSWER, LEASE_SECONDS, RESULT
from bench.hooks import Receiver, allowed, receiver
from bench.installation import Client, Installation, installed
from bench.machine import Clocks, fdatasync_ms
from bench.report import Goal, Round, Row, one_round, percentile, said
from restante.core.limits import CLAIM_BATCH, TASKS_PER_POST
from restante.core.pricing import STANDARD_FEE, STANDARD_HOLD
from restante.core.task import Function, mint_id
from restante.flow.deliver import with_webhooks
from restante.flow.settle import answered
from restante.store import queue, tasks
from restante.store.database import Session
from restante.store.tasks import Order
from restante.web.wire import postback
from restante.wiring import utc_now

HOSTS = 50
_PAUSE_SECONDS = (0.03, 0.09)  # between POSTs: idle, and never in step with anything
_ROUND_SECONDS = 120.0
_LOOK_SECONDS = 0.01
_LONG_LEASE = {"RESTANTE_LEASE_SECONDS": "600"}  # the worker stands still for seconds, and keeps its lease


async def first_byte(parent: Path | None, rounds: int, posts: int) -> list[Row]:
    """The row of latency; `posts` single tasks a round. `settled_at` is the worker's clock just before the commit."""
    row = Row(
        name="settle -> first byte of its postback, idle (p95)",
        unit="ms",
        rounds=[],
        goals=[Goal(bound=100, at_most=True)],
    )
    everything: list[float] = []
    with receiver(1) as hooks:
        async with installed(parent, workers=1, more=allowed(1)) as restante:
            await _one_by_one(restante, hooks, 10)
            for number in range(1, rounds + 1):
                one, taken = await _one_by_one(restante, hooks, posts)
                row.rounds.append(one)
                everything += taken
                said(row, number)
            await hooks.verify(restante)
            row.note = await restante.audit()
    row.ratio = (
        f"all {len(everything)}: p50 {statistics.median(everything):.1f}, p95 {percentile(everything, 95):.1f} ms"
    )
    return [row]


async def _one_by_one(restante: Installation, hooks: Receiver, posts: int) -> tuple[Round, list[float]]:
    await hooks.reset()
    connection = await Connection(restante).open()
    disk = fdatasync_ms(restante.directory)
    clocks = Clocks(restante.processes | {"receiver": hooks.pid})
    async with asyncio.timeout(_ROUND_SECONDS):
        for number in range(posts):
            await asyncio.sleep(random.uniform(*_PAUSE_SECONDS))
            client = restante.clients[number % len(restante.clients)]
            assert accepted(await connection.call(post(client, number, 1, postback_url=hooks.url(0)))) == 1
        await hooks.received(posts)
    clocks.stop()
    connection.close()
    arrivals = {name.removesuffix("-postback"): at for name, at in (await hooks.arrivals()).items()}
    sql = await restante.connect()
    settled = await sql.fetch("select id, settled_at from task where id = any ($1::uuid[])", list(arrivals))
    await sql.close()
    assert len(settled) == posts, len(settled)
    taken = [(arrivals[str(one["id"])] - one["settled_at"].timestamp()) * 1e3 for one in settled]
    return one_round(percentile(taken, 95), posts, clocks, disk), taken


async def throughput(parent: Path | None, rounds: int, posts: int) -> list[Row]:
    """The row of webhooks a second; `posts` times 100 a round."""
    row = Row(
        name=f"webhooks to {HOSTS} hosts, 1 worker process",
        unit="a second",
        rounds=[],
        goals=[Goal(bound=2_000)],
    )
    with receiver(HOSTS) as hooks:
        async with installed(parent, workers=1, more=allowed(HOSTS) | _LONG_LEASE) as restante:
            await _warmed(restante, hooks)
            await _piled_up(restante, hooks, 5)
            for number in range(1, rounds + 1):
                row.rounds.append(await _piled_up(restante, hooks, posts))
                said(row, number)
            await hooks.verify(restante)
            row.note = await restante.audit()
    return [row]


async def _warmed(restante: Installation, hooks: Receiver) -> None:
    """One task through everything, so that the worker is up and serving when it is made to stand still."""
    connection = await Connection(restante).open()
    async with asyncio.timeout(_ROUND_SECONDS):
        await connection.call(post(restante.clients[0], 0, 1, postback_url=hooks.url(0)))
        await hooks.received(1)
        await _recorded(restante)
    connection.close()


async def _recorded(restante: Installation) -> None:
    """Once every delivery has ended well."""
    sql = await restante.connect()
    while await sql.fetchval("select count(*) from delivery where state <> 3"):
        await asyncio.sleep(_LOOK_SECONDS)
    await sql.close()


async def _piled_up(restante: Installation, hooks: Receiver, posts: int) -> Round:
    count = posts * TASKS_PER_POST
    sql = await restante.connect()
    before = await sql.fetchval("select count(*) from attempt where status = 200")
    await hooks.reset()
    with restante.frozen("worker"):
        await _owed(Session(sql), restante.clients, hooks, posts)
        disk = fdatasync_ms(restante.directory)
        clocks = Clocks(restante.processes | {"receiver": hooks.pid})
        began = time.time()
    async with asyncio.timeout(_ROUND_SECONDS):
        state = await hooks.received(count)
        await _recorded(restante)
    ended = time.time()
    clocks.stop()
    recorded = await sql.fetchval("select count(*) from attempt where status = 200") - before
    await sql.close()
    assert recorded == state.requests == count, (recorded, state)
    return one_round(count / (ended - began), count, clocks, disk)


async def _owed(session: Session, clients: Sequence[Client], hooks: Receiver, posts: int) -> None:
    """Tasks accepted and settled by hand, their postbacks owed. Their lane belongs to a provider nobody serves."""
    lane = await queue.ensure_lane(session, "by hand", "", MODEL)
    token = secrets.randbits(63)
    await queue.register(session, token, "bench", LEASE_SECONDS)
    for number in range(posts):
        client = clients[number % len(clients)]
        await _accept(session, client, lane, hooks, number * TASKS_PER_POST)
    while claimed := await queue.claim(session, token, lane, CLAIM_BATCH):
        for day in {one.day for one in claimed}:
            ends = [
                with_webhooks(answered(token, one.id, day, STANDARD_FEE, ANSWER, RESULT), one.request, postback)
                for one in claimed
                if one.day == day
            ]
            assert len(await queue.settle(session, token, day, utc_now(), ends)) == len(ends)
    await queue.retire(session, token)


async def _accept(session: Session, client: Client, lane: int, hooks: Receiver, first: int) -> None:
    now = utc_now()
    orders = []
    for n in range(first, first + TASKS_PER_POST):
        asked = msgspec.json.encode(task(n, postback_url=hooks.url(n)))
        task_id = mint_id(now, client.account_id, Function.TASK_POST, secrets.randbits(48))
        orders.append(Order(task_id, lane, STANDARD_HOLD, f"t{n}", asked))
    assert (await tasks.accept(session, client.account_id, now, orders)).number == TASKS_PER_POST
