"""A shop with ten dollars and the verbs around it, on the test's own database."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta

import pytest

from restante.core.task import Model, TaskId, parse_id
from restante.flow import accounts
from restante.flow.accept import Acceptor, Judged, Waker
from restante.flow.collect import Collector
from restante.flow.lease import Lease
from restante.flow.pacing import Pacer
from restante.flow.run import Runner
from restante.flow.settle import Settler
from restante.providers.provider import Provider
from restante.providers.registry import scripted_models
from restante.providers.scripted import ScriptedProvider
from restante.store import queue
from restante.store.accounts import Account
from restante.store.database import Database
from restante.store.queue import Claimed
from restante.web.wire import answer_result, postback
from restante.wiring import utc_now
from tests.support import open_account


class Clock:
    """The tests' time: today's, and further when told."""

    def __init__(self) -> None:
        self.offset = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.offset


class Shop:
    """One account and everything that serves it. `lease` is a registered worker's."""

    def __init__(self, db: Database, account_id: int) -> None:
        self.db = db
        self.id = account_id
        self.clock = Clock()
        self.acceptor = Acceptor(db, Waker(db), self.clock)
        self.collector = Collector(db, self.clock)
        self.settler = Settler(db, self.clock)
        self.provider = "scripted"  # of the model that is posted for

    async def post(self, *prompts: str, tag: str | None = None, model: str = "gemini-2.5-flash") -> list[str]:
        """Accept a task for each prompt; the ids."""
        of_it = Model(name=model, served=model, provider=self.provider)
        judged = [
            Judged(of_it, tag, b'{"user_prompt":"%b","model_name":"%b"}' % (prompt.encode(), model.encode()))
            for prompt in prompts
        ]
        ids, fates = await self.acceptor.accept(self.id, judged)
        assert fates == [None] * len(prompts)
        return ids

    async def lease(self, seconds: float = 60.0, name: str = "a worker") -> int:
        """A registered worker whose heart does not beat; its token."""
        token = secrets.randbits(63)
        await queue.register(self.db, token, name, seconds)
        return token

    async def claim(self, token: int, most: int = 100) -> list[Claimed]:
        """Claim from the lane that the shop's tasks are in."""
        lane = await queue.ensure_lane(self.db, "scripted", "", "gemini-2.5-flash")
        return await self.db.settled(lambda: queue.claim(self.db, token, lane, most))

    async def account(self) -> Account:
        """The account as it is now."""
        return await accounts.find(self.db, "shop")

    def runner(
        self, lease: Lease, provider: Provider | None = None, concurrency: int = 100, pacer: Pacer | None = None
    ) -> Runner:
        """A worker's runner over the scripted provider, or another one."""
        provider = provider or ScriptedProvider(scripted_models())
        return Runner(
            self.db, lease, [provider], self.settler, answer_result, concurrency=concurrency, clock=self.clock,
            envelope=postback, pacer=pacer,
        )  # fmt: skip


@pytest.fixture
async def shop(db: Database) -> AsyncIterator[Shop]:
    await open_account(db, "shop", "10")
    yield Shop(db, (await accounts.find(db, "shop")).id)


def parsed(task_id: str) -> TaskId:
    """The parts of an id that is one."""
    found = parse_id(task_id)
    assert found is not None
    return found


async def until(ready: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something in this process to become true."""
    async with asyncio.timeout(seconds):
        while not ready():
            await asyncio.sleep(0.005)
