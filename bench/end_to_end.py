"""End to end: accept, run, settle, list, task_get of each; one API and one worker process.

Each account is a client of its own: one connection posts, a few others fetch what tasks_ready lists. An account posts
again when it has few tasks outstanding, so that the system is busy and its queue short.

By hand is the same life in SQL: accept, claim, settle, collect, one after the other over one connection, with no
process but PostgreSQL and this one. It is the bound that a server of one connection could reach.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.client import MODEL, Connection, accepted, get, post, prompt
from bench.installation import Client, Installation, installed
from bench.machine import Clocks, fdatasync_ms
from bench.report import Goal, Round, Row, medians, one_round, ratio, said
from restante.core.answer import Answer, Item, Section
from restante.core.limits import CLAIM_BATCH, TASKS_PER_POST
from restante.core.pricing import STANDARD_FEE, STANDARD_HOLD
from restante.core.task import Function, mint_id
from restante.flow.settle import answered
from restante.store import queue, tasks
from restante.store.database import Session
from restante.store.tasks import Order
from restante.web.wire import answer_result
from restante.wiring import utc_now

GETTERS = 4  # connections that fetch, an account
_OUTSTANDING = 300  # an account posts again below this
_LOOK_SECONDS = 0.02  # between two looks at an empty tasks_ready
_LISTED = re.compile(rb'"id":"([0-9a-f-]{36})","se"')
ROUND_SECONDS = 90.0
LEASE_SECONDS = 120.0


async def measure(parent: Path | None, rounds: int, posts: int) -> list[Row]:
    """The two rows; `posts` POSTs of each account a round, and as many tasks by hand."""
    of_sql = Goal(what="of its SQL", bound=0.4)
    through = Row(
        name="end to end, 1 API + 1 worker process",
        unit="tasks/s",
        rounds=[],
        goals=[Goal(bound=4_000), of_sql],
    )
    by_hand = Row(name="  its SQL by hand, 1 connection", unit="tasks/s", rounds=[])
    async with installed(parent, workers=1) as restante:
        await through_http(restante, 1)
        await _by_hand(restante, 1)
        for number in range(1, rounds + 1):
            by_hand.rounds.append(await _by_hand(restante, posts))
            said(by_hand, number)
            through.rounds.append(await through_http(restante, posts))
            said(through, number)
        through.note = by_hand.note = await restante.audit()
    of_sql.measured = medians(through, by_hand)
    through.ratio = f"{ratio(through, by_hand)} of its SQL"
    return [through, by_hand]


class _Account:
    """One client: posts its share of the tasks and fetches every answer once."""

    def __init__(self, client: Client, posts: int) -> None:
        self._client = client
        self._wanted = posts * TASKS_PER_POST
        self._requests = [post(client, n * TASKS_PER_POST, TASKS_PER_POST) for n in range(posts)]
        self._posted = 0
        self._fetched: set[bytes] = set()

    async def run(self, poster: Connection, getters: Sequence[Connection]) -> None:
        ready = get(self._client, "tasks_ready")
        while len(self._fetched) < self._wanted:
            while self._requests and self._posted - len(self._fetched) < _OUTSTANDING:
                assert accepted(await poster.call(self._requests.pop())) == TASKS_PER_POST
                self._posted += TASKS_PER_POST
            listed = _LISTED.findall(await poster.call(ready))
            if listed:
                await asyncio.gather(*(self._fetch(getters[n], listed[n :: len(getters)]) for n in range(len(getters))))
            else:
                await asyncio.sleep(_LOOK_SECONDS)

    async def _fetch(self, connection: Connection, ids: Sequence[bytes]) -> None:
        for task_id in ids:
            answer = await connection.call(get(self._client, f"task_get/{task_id.decode()}"))
            assert answer.count(b'"status_code":20000') == 2, answer[:1000]
            assert task_id not in self._fetched, "listed although it was fetched"
            self._fetched.add(task_id)


async def through_http(restante: Installation, posts: int) -> Round:
    """One round: each account posts `posts` POSTs and fetches all answers."""
    clients = [_Account(client, posts) for client in restante.clients]
    connections = [[await Connection(restante).open() for _ in range(1 + GETTERS)] for _ in clients]
    disk = fdatasync_ms(restante.directory)
    clocks = Clocks(restante.processes)
    async with asyncio.timeout(ROUND_SECONDS), asyncio.TaskGroup() as group:
        for client, (poster, *getters) in zip(clients, connections, strict=True):
            group.create_task(client.run(poster, getters))
    clocks.stop()
    for connection in (one for mine in connections for one in mine):
        connection.close()
    return _round(len(clients) * posts * TASKS_PER_POST, clocks, disk)


async def _by_hand(restante: Installation, posts: int) -> Round:
    """Its lane belongs to a provider that no worker serves."""
    lane = await queue.ensure_lane(restante.db, "by hand", "", MODEL)
    connection = await restante.connect()
    session = Session(connection)
    token = secrets.randbits(63)
    await queue.register(session, token, "bench", LEASE_SECONDS)
    disk = fdatasync_ms(restante.directory)
    clocks = Clocks(restante.processes)
    async with asyncio.timeout(ROUND_SECONDS):
        for number in range(posts):
            for client in restante.clients:
                await _accept(session, client, lane, number * TASKS_PER_POST)
            for _ in range(0, len(restante.clients) * TASKS_PER_POST, CLAIM_BATCH):
                await _claim_settle_collect(session, token, lane)
    clocks.stop()
    await queue.retire(session, token)
    await connection.close()
    return _round(len(restante.clients) * posts * TASKS_PER_POST, clocks, disk)


async def _accept(session: Session, client: Client, lane: int, first: int) -> None:
    now = utc_now()
    orders = [
        Order(
            mint_id(now, client.account_id, Function.TASK_POST, secrets.randbits(48)),
            lane,
            STANDARD_HOLD,
            f"t{n}",
            msgspec.json.encode({"user_prompt": prompt(n), "model_name": MODEL, "tag": f"t{n}"}),
        )
        for n in range(first, first + TASKS_PER_POST)
    ]
    assert (await tasks.accept(session, client.account_id, now, orders)).number == TASKS_PER_POST


async def _claim_settle_collect(session: Session, token: int, lane: int) -> None:
    claimed = await queue.claim(session, token, lane, CLAIM_BATCH)
    assert len(claimed) == CLAIM_BATCH
    for day in {one.day for one in claimed}:
        group = [one for one in claimed if one.day == day]
        ends = [answered(token, one.id, day, STANDARD_FEE, ANSWER, RESULT) for one in group]
        assert len(await queue.settle(session, token, day, utc_now(), ends)) == len(group)
        assert len(await tasks.collect(session, day, [(one.account_id, one.id) for one in group])) == len(group)


# About the size of what the scripted provider says to such a prompt.
ANSWER = Answer(
    model_name=MODEL,
    input_tokens=16,
    output_tokens=40,
    reasoning_tokens=0,
    items=(Item("message", (Section("Scripted answer to: " + prompt(1) + "\n\n" + "harbour " * 24),)),),
)
RESULT = answer_result(ANSWER, utc_now())


def _round(count: int, clocks: Clocks, disk: float) -> Round:
    return one_round(count / clocks.seconds, count, clocks, disk)
