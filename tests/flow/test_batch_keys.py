"""Batches and the keys they were made with; what is left of them at Google."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from copy import copy

import pytest
from aiohttp import web

from restante.core.answer import Failure
from restante.providers.api_key import project_of
from restante.providers.gemini_batch import GeminiBatches
from restante.store.batches import Stage
from tests.emulators.batches import forbidden, unknown
from tests.emulators.gemini import Fault
from tests.flow.batching import USAGE, Office, opened
from tests.flow.conftest import Shop


@pytest.fixture
async def office(shop: Shop) -> AsyncIterator[Office]:
    async with opened(shop) as made:
        yield made


async def test_a_project_whose_key_is_gone_makes_no_batch(office: Office) -> None:
    await office.shop.post("hi")
    office.projects = []
    assert await office.batcher().gather() == 0
    office.projects = ["a project"]
    office.google.batches.refusals.append(Fault(429).response())
    batcher = office.batcher()
    assert await batcher.gather() == 1
    office.projects = []
    assert await batcher.step()
    [one] = await office.known()
    assert (one.state, one.outcome) == (Stage.GATHERED, "no project may be called now")
    assert not office.google.batches.made
    office.projects = ["another"]
    await office.looks(batcher)
    [one] = await office.known()
    assert (one.state, one.project) == (Stage.OVER, "another")


@pytest.mark.parametrize("foreign", [forbidden, unknown])
async def test_a_renewed_key_finds_the_batches_of_the_old_one(
    office: Office, caplog: pytest.LogCaptureFixture, foreign: Callable[[], web.Response]
) -> None:
    """The project is the key's digest here, and another to Google only if it is. Paid once."""
    office.keys("old")
    office.google.batches.owners = {"old": "ours", "new": "ours", "other": "theirs"}
    office.google.batches.foreign = foreign
    ids = await office.shop.post(f"running {USAGE}", f"asked for {USAGE}")
    batcher = office.batcher(full=1)
    await batcher.gather()
    office.google.batches.refusals.append(Fault(500).response())
    await batcher.gather()
    states = {one.state for one in await office.known()}
    assert states == {Stage.RUNNING, Stage.ASKED}
    [unsure] = [one for one in await office.known() if one.state == Stage.ASKED]
    [made] = office.google.batches.made
    twin = copy(made)
    twin.name, twin.display_name, twin.results = "batches/unsure", unsure.name, []
    twin.items = [{**made.items[0], "key": next(one for one in ids if one != made.items[0]["key"])}]
    office.google.batches.made.append(twin)

    office.keys("other")
    office.google.keys = frozenset({"other", "new"})
    for _ in range(2):
        await office.due()
        await office.looks(batcher, 2)
    assert {one.state for one in await office.known()} == states, "none of the keys there are can read them"
    office.keys("other", "new")
    await office.due()
    await office.looks(batcher)
    assert [(one.state, one.answered, one.project) for one in await office.known()] == [
        (Stage.OVER, 1, project_of("new"))
    ] * 2
    assert office.google.batches.executed == dict.fromkeys(ids, 1)
    assert all(one.deleted for one in office.google.batches.made)
    assert "does not take the API key" not in caplog.text, "a batch of others says nothing of the key"


async def test_what_no_key_can_read_is_called_directly_when_it_is_late(office: Office) -> None:
    office.keys("old")
    office.google.batches.owners = {"old": "ours"}
    await office.shop.post("hi")
    batcher = office.batcher()
    await batcher.gather()
    office.keys("new")
    await office.due()
    assert await batcher.step()
    assert [one.state for one in await office.known()] == [Stage.RUNNING]
    await office.db._pool.execute("update batch set deadline = now() - interval '1 hour', look_at = now()")
    assert await batcher.step()
    assert [(one.state, one.fell_back) for one in await office.known()] == [(Stage.OVER, 1)]


async def test_a_cancelled_twin_is_not_the_one_that_is_kept(office: Office) -> None:
    """Somebody cancelled the first by hand, or we did and died; Google lists the newest first."""
    [task_id] = await office.shop.post(f"hi {USAGE}")
    batcher = office.batcher()
    await batcher.gather()
    [made] = office.google.batches.made
    twin = copy(made)
    twin.name, twin.state = "batches/twin", "CANCELLED"
    office.google.batches.made.append(twin)
    await office.db._pool.execute("update batch set state = 1, remote = null, look_at = now()")
    await office.looks(batcher)
    [one] = await office.known()
    assert (one.state, one.remote, one.answered) == (Stage.OVER, made.name, 1)
    assert office.google.batches.executed == {task_id: 1}


@pytest.mark.parametrize("inline", [True, False])
async def test_uploaded_calls_are_deleted_whatever_becomes_of_their_batch(
    office: Office, monkeypatch: pytest.MonkeyPatch, inline: bool
) -> None:
    monkeypatch.setattr(GeminiBatches, "inline", lambda self, items: inline)
    office.keys("old")
    await office.shop.post(f"one {USAGE}", f"two {USAGE}")
    office.google.batches.refusals.append(Fault(429).response())
    batcher = office.batcher()
    await batcher.gather()
    first = set(office.google.batches.files)
    assert len(first) == (0 if inline else 1)
    office.keys("new")  # the file is uploaded again, with the key that there is
    office.google.batches.refusals.append(Fault(429).response())
    await office.due()
    assert await batcher.step()
    second = set(office.google.batches.files)
    assert len(second) == len(first) and (inline or first.isdisjoint(second))
    office.google.batches.refusals.append(Fault(400).response())
    await office.due()
    assert await batcher.step(), "Google will never take it"
    assert [(one.state, one.fell_back) for one in await office.known()] == [(Stage.OVER, 2)]
    assert not office.google.batches.files


async def test_calls_uploaded_for_a_batch_that_became_anothers_are_deleted(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GeminiBatches, "inline", lambda self, items: False)
    upload = GeminiBatches.upload

    async def slowly(self: GeminiBatches, project: str, name: str, items: Sequence[bytes]) -> str | Failure:
        found = await upload(self, project, name, items)
        await office.db._pool.execute("update batch set token = null")
        return found

    monkeypatch.setattr(GeminiBatches, "upload", slowly)
    await office.shop.post("hi")
    await office.batcher().gather()
    assert not office.google.batches.made and not office.google.batches.files
    assert [one.state for one in await office.known()] == [Stage.GATHERED]
