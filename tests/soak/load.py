"""The load of the soak, a process of its own: `python -m tests.soak.load`, told by a JSON line on stdin.

Tasks are offered at a steady rate whatever becomes of them, in POSTs of 100; each account polls its tasks_ready and
fetches what it lists. A line of JSON a second says how many were accepted and fetched. Ends when all are fetched.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import uvloop
from bench.client import Connection, accepted, get, post
from bench.installation import Client

from restante.core.limits import TASKS_PER_POST

GETTERS = 2  # connections that fetch, an account
_LOOK_SECONDS = 0.25  # between two looks of an account: fewer, longer lists than in a benchmark
_LISTED = re.compile(rb'"id":"([0-9a-f-]{36})","se"')


class Order(msgspec.Struct, frozen=True):
    """What to do: `rate` tasks a second, all accounts together, for so many seconds."""

    host: str
    port: int
    clients: Sequence[Client]
    rate: float
    seconds: float


class Counts(msgspec.Struct):
    """What was done so far."""

    accepted: int = 0
    fetched: int = 0
    offering: bool = True


async def _offer(server: Any, order: Order, number: int, counts: Counts) -> None:
    """One account's POSTs, each at its moment."""
    connection = await Connection(server).open()
    every = TASKS_PER_POST * len(order.clients) / order.rate
    begin = time.monotonic() + every * number / len(order.clients)
    posts = int(order.seconds / every)
    for one in range(posts):
        await asyncio.sleep(max(0.0, begin + one * every - time.monotonic()))
        request = post(order.clients[number], one * TASKS_PER_POST, TASKS_PER_POST)
        assert accepted(await connection.call(request)) == TASKS_PER_POST
        counts.accepted += TASKS_PER_POST
    connection.close()


async def _fetch(server: Any, client: Client, counts: Counts) -> None:
    """One account's answers."""
    lister, *getters = [await Connection(server).open() for _ in range(1 + GETTERS)]
    while counts.offering or counts.fetched < counts.accepted:
        listed = _LISTED.findall(await lister.call(get(client, "tasks_ready")))
        if not listed:
            await asyncio.sleep(_LOOK_SECONDS)
            continue
        await asyncio.gather(
            *(_get_each(getter, client, listed[number::GETTERS], counts) for number, getter in enumerate(getters))
        )


async def _get_each(connection: Connection, client: Client, ids: Sequence[bytes], counts: Counts) -> None:
    for task_id in ids:
        answer = await connection.call(get(client, f"task_get/{task_id.decode()}"))
        assert answer.count(b'"status_code":20000') == 2, answer[:500]
        counts.fetched += 1


async def _say(counts: Counts) -> None:
    while True:
        print(msgspec.json.encode(counts).decode(), flush=True)
        await asyncio.sleep(1)


async def _main() -> None:
    order = msgspec.json.decode(sys.stdin.readline(), type=Order)
    counts = Counts()
    saying = asyncio.create_task(_say(counts))
    async with asyncio.TaskGroup() as group:
        offers = [group.create_task(_offer(order, order, number, counts)) for number in range(len(order.clients))]
        for client in order.clients:
            group.create_task(_fetch(order, client, counts))
        await asyncio.wait(offers)
        counts.offering = False
    saying.cancel()
    print(msgspec.json.encode(counts).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(_main())
