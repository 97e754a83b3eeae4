"""Several providers in one installation: a model's row decides who is asked, in the queue and live, and nobody else."""

from __future__ import annotations

import asyncio

import pytest

from restante.config import Settings
from restante.core.answer import Answer, Failure
from restante.core.errors import ModelPaused
from restante.core.task import Model, Prompt
from restante.flow.accept import Judged
from restante.flow.lease import Lease
from restante.flow.live import Live
from restante.flow.pause import pause_model
from restante.flow.run import Runner
from restante.providers.provider import Call
from restante.store import queue
from restante.store.database import Database
from restante.store.errors import DatabaseLost
from restante.web.wire import answer_result, postback
from restante.worker import working
from tests.flow.conftest import Shop, until
from tests.support import differences


class Named:
    """A provider that answers with its own name and remembers what it was asked."""

    concurrency = 10

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked: list[tuple[str, str]] = []

    async def models(self) -> tuple[Model, ...]:
        return ()

    async def generate(self, call: Call) -> Answer | Failure:
        self.asked.append((call.model, call.prompt.user_prompt))
        return Answer(model_name=call.model, input_tokens=1, output_tokens=1, items=Answer.message(self.name))

    async def close(self) -> None: ...


def model(provider: str) -> Model:
    """The same name at each of them."""
    return Model(name="m", served="one-model", provider=provider)


async def test_each_task_is_asked_of_its_models_provider_and_of_no_other(shop: Shop, db: Database) -> None:
    judged = [
        Judged(model(name), None, b'{"user_prompt":"for %b","model_name":"m"}' % name.encode())
        for name in ("gemini", "workshop", "absent", "gemini")
    ]
    await shop.acceptor.accept(shop.id, judged)
    gemini, workshop = Named("gemini"), Named("workshop")
    lease = Lease(db, "a worker", 60.0)
    await lease.begin()
    runner = Runner(
        db, lease, [gemini, workshop], shop.settler, answer_result, concurrency=10, clock=shop.clock, envelope=postback
    )
    claiming = asyncio.create_task(runner.run())
    await until(lambda: len(gemini.asked) + len(workshop.asked) >= 3)
    claiming.cancel()
    await runner.drain(5)
    await lease.end()

    assert gemini.asked == [("one-model", "for gemini")] * 2
    assert workshop.asked == [("one-model", "for workshop")]
    assert await queue.unserved(db, ["gemini", "workshop"]) == {"absent": 1}
    assert not await differences(db)


async def test_a_database_that_leaves_while_a_worker_starts_ends_no_worker(
    shop: Shop, db: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It looks for tasks that it does not serve only to say so (the monkey's seed 1 cut it just there)."""

    async def away(*_: object) -> dict[str, int]:
        raise DatabaseLost("cut")

    monkeypatch.setattr(queue, "unserved", away)
    caplog.set_level("INFO")
    ids = await shop.post("hi")
    async with working(db, Settings(provider="scripted")) as claiming:
        await until(lambda: "is not known: cut" in caplog.text)
        async with asyncio.timeout(30):
            while (await shop.collector.task_get(shop.id, ids[0])).code != 20000:
                assert not claiming.done()
                await asyncio.sleep(0.01)


async def test_live_asks_the_models_provider(shop: Shop, db: Database) -> None:
    gemini, workshop = Named("gemini"), Named("workshop")
    lease = Lease(db, "an api", 60.0)
    await lease.begin()
    live = Live(db, lease, [gemini, workshop], shop.settler, shop.clock)
    prompt = Prompt(user_prompt="live", model_name="m")
    for name in ("workshop", "gemini"):
        _, outcome, _ = await live.ask(shop.id, model(name), prompt)
        assert isinstance(outcome, Answer)
        assert outcome.items == Answer.message(name)
    await lease.end()
    assert not await differences(db)


async def test_a_model_is_paused_at_its_own_provider_only(shop: Shop, db: Database) -> None:
    """Live calls of both arrive together, so that one statement holds them."""
    providers = Named("gemini"), Named("workshop")
    lease = Lease(db, "an api", 60.0)
    await lease.begin()
    live = Live(db, lease, providers, shop.settler, shop.clock)
    prompt = Prompt(user_prompt="live", model_name="m")
    await pause_model(db, model("workshop"), paused=True)
    asked = await asyncio.gather(*(live.ask(shop.id, model(name), prompt) for name in ("gemini", "workshop") * 3))
    assert [type(outcome) for _, outcome, _ in asked] == [Answer, ModelPaused] * 3
    assert [len(provider.asked) for provider in providers] == [3, 0]
    await lease.end()
    assert not await differences(db)
