"""End to end without task_get: tasks_ready shows each (listed only), or its postback brings it.

Whose tasks are listed and never fetched sees its oldest thousand for ever, so such an account posts a thousand tasks,
looks until all of them are listed, and makes room for a fresh one. It looks when it may expect the rest: a look every
moment, at hundreds of tasks that it knows already, would be most of the work.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

from bench.client import Connection, accepted, get, post
from bench.hooks import Receiver, allowed, receiver
from bench.installation import ACCOUNTS, Client, Installation, installed
from bench.machine import Clocks, fdatasync_ms
from bench.report import Goal, Round, Row, one_round, said
from restante.core.limits import READY_LISTED, TASKS_PER_POST

_AT_ONCE = 2 * ACCOUNTS  # accounts that wait for their thousand: while some look, others are served
_OUTSTANDING = 10_000  # webhooks that may be owed before posting goes on
_LOOK_SECONDS = (0.1, 1.5)  # between two looks
_ID = re.compile(rb'"id":"([0-9a-f-]{36})","se"')
_ROUND_SECONDS = 120.0


async def measure(parent: Path | None, rounds: int, turns: int) -> list[Row]:
    """The two rows; `turns` times twenty thousand tasks a round."""
    listed = Row(name="  listed only", unit="tasks/s", rounds=[], goals=[Goal(bound=10_000)])
    posted = Row(name="  with postbacks instead", unit="tasks/s", rounds=[], goals=[Goal(bound=5_000)])
    with receiver(1) as hooks:
        async with installed(parent, workers=1, more=allowed(1)) as restante:
            await _listed(restante, 1, READY_LISTED // 10)
            await _posted_back(restante, hooks, 1)
            for number in range(1, rounds + 1):
                listed.rounds.append(await _listed(restante, turns, READY_LISTED))
                said(listed, number)
                posted.rounds.append(await _posted_back(restante, hooks, turns * READY_LISTED // TASKS_PER_POST))
                said(posted, number)
            await hooks.verify(restante)
            listed.note = posted.note = await restante.audit()
    return [listed, posted]


async def _listed(restante: Installation, turns: int, tasks: int) -> Round:
    clients = iter(await restante.more_clients(turns * ACCOUNTS))
    connections = [await Connection(restante).open() for _ in range(_AT_ONCE)]
    disk = fdatasync_ms(restante.directory)
    clocks = Clocks(restante.processes)
    async with asyncio.timeout(_ROUND_SECONDS), asyncio.TaskGroup() as group:
        for connection in connections:
            group.create_task(_one_after_the_other(connection, clients, tasks))
    clocks.stop()
    for connection in connections:
        connection.close()
    count = turns * ACCOUNTS * tasks
    return one_round(count / clocks.seconds, count, clocks, disk)


async def _one_after_the_other(connection: Connection, clients: Iterator[Client], tasks: int) -> None:
    for client in clients:
        began = time.monotonic()
        for first in range(0, tasks, TASKS_PER_POST):
            assert accepted(await connection.call(post(client, first, TASKS_PER_POST))) == TASKS_PER_POST
        ready = get(client, "tasks_ready")
        while (listed := len(_ID.findall(await connection.call(ready)))) < tasks:
            rest = (time.monotonic() - began) * (tasks - listed) / max(listed, 1)
            await asyncio.sleep(min(max(rest, _LOOK_SECONDS[0]), _LOOK_SECONDS[1]))


async def _posted_back(restante: Installation, hooks: Receiver, posts: int) -> Round:
    """Each account posts `posts` POSTs, as long as not too much of all is under way."""
    count = posts * ACCOUNTS * TASKS_PER_POST
    await hooks.reset()
    connections = [await Connection(restante).open() for _ in range(ACCOUNTS)]
    disk = fdatasync_ms(restante.directory)
    clocks = Clocks(restante.processes | {"receiver": hooks.pid})
    posted = came = 0
    requests = iter([(n, client) for n in range(posts) for client in restante.clients[:ACCOUNTS]])

    async def fill(connection: Connection) -> None:
        nonlocal posted
        while posted - came < _OUTSTANDING and (next_one := next(requests, None)):
            number, client = next_one
            posted += TASKS_PER_POST
            body = post(client, number * TASKS_PER_POST, TASKS_PER_POST, postback_url=hooks.url(0))
            assert accepted(await connection.call(body)) == TASKS_PER_POST

    async with asyncio.timeout(_ROUND_SECONDS):
        while came < count:
            await asyncio.gather(*map(fill, connections))
            await asyncio.sleep(_LOOK_SECONDS[0])
            came = (await hooks.state()).webhooks
    clocks.stop()
    for connection in connections:
        connection.close()
    return one_round(count / clocks.seconds, count, clocks, disk)
