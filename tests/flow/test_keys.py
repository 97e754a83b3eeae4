"""Keys of servers without quotas, and what is left of keys that are gone (contract §12.26)."""

from __future__ import annotations

import asyncio

import pytest

from restante.core.answer import Answer, Failure
from restante.core.errors import ProviderFailed
from restante.core.limits import KEY_SHUT_SECONDS
from restante.core.task import Model
from restante.flow.pacing import Pacer
from restante.store import pacing
from restante.store.database import Database
from tests.flow.conftest import Shop, until
from tests.flow.test_live import live, prompt
from tests.flow.test_pacing import MODEL, REJECTED, Keyed
from tests.flow.test_run import finished, working
from tests.support import differences


class Served(Keyed):
    """As a server of the models map: with a key, without quotas."""

    quota = None  # type: ignore[assignment]


async def test_a_server_whose_key_is_rejected_is_out_and_goes_on_by_itself(shop: Shop, db: Database) -> None:
    """Contract §12.26. 401, or 403 when nothing but the key can be meant."""
    provider = Served("bad")
    ids = await shop.post(*["hi"] * 20)
    refused = Failure(reason="refused", transient=True, costly=True, doubts_key=True)
    provider.outcomes["bad"] = [refused] * 20
    pacer = Pacer(db, [provider])
    async with working(shop, provider, pacer=pacer) as runner:
        provider.bad = {"bad"}
        provider.generate = provider.told  # type: ignore[method-assign]
        await until(lambda: pacer.keys.fault("scripted") is not None and runner.in_flight == 0)
        assert provider.probes == ["bad"], "one unpaid question for all calls that were refused"
        assert pacer.wait_seconds("scripted", MODEL) > 0
        rows = await db._on.fetch("select distinct state, tries, wasted from queue")
        assert [tuple(row) for row in rows] == [(0, 0, 0)], "no task has lost its turn or a try"
        asked = len(provider.calls)
        assert await runner._claim_round() == 0 and len(provider.calls) == asked
        provider.bad, provider.names = set(), ("good",)
        await pacer.keys.look()
        runner.wake()
        assert [(await finished(shop, task_id))[0] for task_id in ids] == [20000] * 20
    assert not await differences(db)


async def test_live_calls_of_a_server_wait_for_no_window_and_are_told_of_its_key(shop: Shop, db: Database) -> None:
    provider = Served("one")
    provider.concurrency = 1
    asking = await live(shop, provider)
    model = Model(name=MODEL, served=MODEL, provider="scripted")
    said = await asyncio.gather(*(asking.ask(shop.id, model, prompt(f"{number}")) for number in range(9)))
    assert all(isinstance(outcome, Answer) for _, outcome, _ in said)
    provider.bad = {"one"}
    for calls in (10, 10):
        _, outcome, charged = await asking.ask(shop.id, model, prompt("hi"))
        assert isinstance(outcome, ProviderFailed) and "(API key rejected)" in outcome.message and charged == 0
        assert len(provider.calls) == calls, "the second is told without a call"
    assert not await differences(db)


@pytest.mark.parametrize(
    ("failure", "kept"),
    [
        (Failure(reason="no credit", transient=True, waits=True), (0, 0)),
        (Failure(reason="refused", transient=True, costly=True, doubts_key=True), (1, 1)),
        (REJECTED, (1, 0)),
    ],
)
async def test_what_a_server_with_a_good_key_refuses_is_that_tasks_own(
    shop: Shop, db: Database, failure: Failure, kept: tuple[int, int]
) -> None:
    provider = Served("one")
    provider.outcomes["one"] = [failure]
    await shop.post("hi")
    async with working(shop, provider) as runner:
        await until(lambda: bool(provider.calls) and runner.in_flight == 0)
        assert runner._pacer.keys.fault("scripted") is None
    row = await db._on.fetchrow("select state, tries, wasted from queue")
    assert tuple(row) == (1, *kept)


async def test_a_shut_key_that_was_taken_away_is_forgotten(db: Database) -> None:
    """One that somebody has is not, however long it is rejected."""
    provider, rest = Keyed("kept", "gone"), Keyed("kept")
    provider.bad = rest.bad = {"kept", "gone"}
    await Pacer(db, [provider], key_wait_seconds=0.0).begin()
    await db._on.execute("update bucket set paused_until = paused_until - make_interval(secs => $1)", KEY_SHUT_SECONDS)
    pacer = Pacer(db, [rest], key_wait_seconds=0.0)
    await pacer.begin()
    await pacer._refresh()
    assert pacer.keys.fault("scripted") is not None
    await db._on.execute("update bucket set paused_until = paused_until - make_interval(secs => 60)")
    await pacing.forget(db, 30.0)
    assert [row["project"] for row in await db._on.fetch("select project from bucket")] == ["kept"]
    await pacing.pause(db, "scripted", "gone", "", 1.0, "API key rejected")
    await db._on.execute("update bucket set paused_until = 'infinity' where project = 'gone'")
    [gone] = [row for row in await pacing.known(db, ["scripted"], 60.0) if row.project == "gone"]
    assert gone.shut
    await pacing.forget(db, 30.0)
    assert [row["project"] for row in await db._on.fetch("select project from bucket")] == ["kept"]
