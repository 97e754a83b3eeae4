"""The real thing under test: flows on a real PostgreSQL, in which every call of a model and every webhook waits until
the test says how it ends. Two workers and one API process, which die and come back as often as the test likes.

A process here is what it is made of in production (lease, runner, deliverer, live), without its endless loops: the test
takes each of their steps itself.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from restante.core.allowance import Allowance
from restante.core.answer import Answer, Failure
from restante.core.errors import InvalidBody, Refusal
from restante.core.money import Nano
from restante.core.task import Model, Prompt
from restante.flow.accept import Acceptor, Fates, Judged, Waker
from restante.flow.collect import Collector
from restante.flow.deliver import Deliverer
from restante.flow.idempotency import Once, key_of
from restante.flow.lease import Lease
from restante.flow.live import Live
from restante.flow.ready_mark import Marks
from restante.flow.resend import Resender
from restante.flow.run import Runner
from restante.flow.settle import Settler
from restante.providers.provider import Call
from restante.store.database import Database
from restante.web.judge import Judge
from restante.web.wire import answer_result, postback
from restante.webhooks.address_guard import AllowList
from restante.webhooks.sender import Outcome

MODEL = Model(name="gemini-2.5-flash", served="gemini-2.5-flash", provider="scripted")
LIFETIME = timedelta(hours=24)  # of an Idempotency-Key


class Clock:
    """The processes' time: half past something, so that no step meets the end of an hour; a millisecond later each time
    it is read."""

    def __init__(self, start: datetime) -> None:
        self.now = start.replace(hour=12, minute=30, second=0, microsecond=0)

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


class Quiet(Waker):
    """Nobody listens: the test says when to look."""

    async def nudge(self, lanes: Iterable[int]) -> None:
        pass


@dataclass
class Flight:
    """A call of a model, or a webhook being sent, that waits for the test. `work`: its task's id, or its webhook's task
    and kind. `before`: wasted calls, or recorded attempts, when it was claimed. `run`: what goes on once it ended."""

    work: str | tuple[str, int]
    token: int
    before: int
    run: asyncio.Task[Any]
    ends: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Desk:
    """A provider whose calls wait for the test. `whose(call)`: the token, the calls wasted before, and who runs it."""

    name = "scripted"
    concurrency = 1_000

    def __init__(self, flights: list[Flight], whose: Callable[[Call], tuple[int, int, asyncio.Task[Any]]]) -> None:
        self._flights = flights
        self._whose = whose

    async def models(self) -> tuple[Model, ...]:
        return (MODEL,)

    async def generate(self, call: Call) -> Answer | Failure:
        flight = Flight(call.task_id, *self._whose(call))
        self._flights.append(flight)
        said: Answer | Failure = await flight.ends
        return said

    async def close(self) -> None: ...


class Post:
    """A sender whose webhooks wait for the test."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def send(self, url: str, headers: Mapping[str, str], body: bytes | None) -> Outcome:
        run = asyncio.current_task()
        assert run is not None
        token, leased = self._worker.deliverer._running[run]
        assert headers["webhook-id"].startswith(leased.task_id) and leased.task_id in url
        if body is not None:
            assert leased.task_id.encode() in zlib.decompress(body, 31), "the body of another task"
        flight = Flight((leased.task_id, int(leased.kind)), token, leased.attempts, run)
        self._worker.sending.append(flight)
        outcome: Outcome = await flight.ends
        return outcome


class Worker:
    """A worker process."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.calling: list[Flight] = []
        self.sending: list[Flight] = []
        self.lease = Lease(world.db, name, 3_600.0, self._lost, claims=True)
        self.settler = Settler(world.db, world.clock)
        self.runner = Runner(
            world.db, self.lease, [Desk(self.calling, self._whose)], self.settler, answer_result,
            concurrency=1, clock=world.clock, envelope=postback,
        )  # fmt: skip
        sender: Any = Post(self)
        self.deliverer = Deliverer(
            world.db, self.lease, sender, world.clock, concurrency=10_000, per_host=1_000
        )  # fmt: skip

    def _lost(self, token: int) -> None:
        self.runner.abandon(token)
        self.deliverer.abandon(token)

    def _whose(self, call: Call) -> tuple[int, int, asyncio.Task[Any]]:
        run = asyncio.current_task()
        assert run is not None
        return self.runner._running[run][0], self.world.wasted[call.task_id], run

    async def claim(self, most: int) -> None:
        """A round of claims; until what was claimed is being asked for, or has ended."""
        self.runner._concurrency = len(self.runner._running) + most
        await self.runner._claim_round()
        await self._until(lambda: set(self.runner._running) <= {one.run for one in self.calling})

    async def deliver(self) -> None:
        """A round of webhooks; until they are on their way."""
        await self.deliverer._round()
        await self._until(lambda: set(self.deliverer._running) <= {one.run for one in self.sending})

    async def _until(self, quiet: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not quiet():
                await asyncio.sleep(0.0005)

    async def beat(self) -> None:
        await self.lease._beat_once()
        await asyncio.sleep(0)  # what was abandoned ends
        flights = self.calling + self.sending
        await self._until(lambda: not any(one.run.cancelling() and not one.run.done() for one in flights))

    async def leave(self) -> None:
        """End as SIGTERM does, without patience."""
        await self.runner.drain(0)
        await self.deliverer.drain(0)
        await self.lease.end()


class Api:
    """An API process, of which live tasks need a lease."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.calling: list[Flight] = []
        self.lease = Lease(world.db, "api", 3_600.0)
        settler = Settler(world.db, world.clock)
        self.live = Live(world.db, self.lease, [Desk(self.calling, self._whose)], settler, world.clock)
        self._asking: asyncio.Task[Any] | None = None

    def _whose(self, call: Call) -> tuple[int, int, asyncio.Task[Any]]:
        assert self._asking is not None
        return self.lease.token, 0, self._asking

    async def ask(self, account_id: int, prompt: str, allowance: Allowance) -> Flight | int:
        """Begin a live task; the call that waits, or the code it was refused with."""
        asked = Prompt(user_prompt=prompt, model_name=MODEL.name)
        before = len(self.calling)
        asking = self._asking = asyncio.create_task(self.live.ask(account_id, MODEL, asked, allowance))
        while len(self.calling) == before and not asking.done():
            await asyncio.wait([asking], timeout=0.0005)
        if len(self.calling) > before:
            return self.calling[-1]
        _, refusal, charged = asking.result()
        assert isinstance(refusal, Refusal) and charged == 0
        return refusal.code


class World:
    """Everything, on one database. `wasted`: what the book says of tasks, which claims do not show."""

    def __init__(self, db: Database, start: datetime) -> None:
        self.db = db
        self.clock = Clock(start)
        self.wasted: dict[str, int] = {}
        self.judge = Judge({MODEL.name: MODEL}.get, allow=AllowList("127.0.0.1"))
        self.acceptor = Acceptor(db, Quiet(db), self.clock)
        self.once = Once(db, self.acceptor, self.clock, LIFETIME)
        self.collector = Collector(db, self.clock)
        self.collector._marks = Marks(db, seconds=0.0, step=1)  # at every listing: they must hide nothing
        self.resender = Resender(db, self.clock, postback)

    async def worker(self, name: str) -> Worker:
        made = Worker(self, name)
        await made.lease._register()
        return made

    async def api(self) -> Api:
        made = Api(self)
        await made.lease._register()
        return made

    def judged(self, tasks: Sequence[Mapping[str, object]]) -> list[Judged | None]:
        """The tasks of a POST as its judge sees them; None: refused."""
        verdicts = [self.judge.judge(msgspec.Raw(msgspec.json.encode(one))) for one in tasks]
        assert not any(isinstance(one, InvalidBody) for one in verdicts)
        return [
            Judged(one.model, one.task.tag, one.request) if one.task and one.model else None
            for one in verdicts
            if not isinstance(one, InvalidBody)
        ]

    async def post(
        self, account_id: int, good: Sequence[Judged], allowance: Allowance, key: str | None = None, body: bytes = b""
    ) -> list[tuple[str, int | None]] | InvalidBody:
        """Ids and codes of refusal, as web/api would tell them. With a key: the first answer to it."""

        def answer(ids: Sequence[str], fates: Fates) -> bytes:
            codes = [None if fate is None else fate.code for fate in fates]
            return msgspec.json.encode(list(zip(ids, codes, strict=True)))

        if key is None:
            accepted = await self.acceptor.accept(account_id, good, allowance=allowance) if good else ([], [])
            return msgspec.json.decode(answer(*accepted), type=list[tuple[str, int | None]])
        named = key_of(account_id, key, body)
        said = await self.once.first_answer(named) or await self.once.accept(named, good, answer, allowance)
        return said if isinstance(said, InvalidBody) else msgspec.json.decode(said, type=list[tuple[str, int | None]])


def answer(text: str, cost: int) -> Answer:
    """What a model says, for so many nano-dollars."""
    items = Answer.message(text)
    return Answer(model_name=MODEL.served, input_tokens=1, output_tokens=1, items=items, money_spent=Nano(cost))
