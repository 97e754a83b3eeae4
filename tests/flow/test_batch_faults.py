"""A look at a batch that breaks: the batch stands where it stood, and is never made twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from restante import faults
from restante.store.batches import Stage
from tests.flow.batching import Office, opened
from tests.flow.conftest import Shop


@pytest.fixture
async def office(shop: Shop) -> AsyncIterator[Office]:
    async with opened(shop) as made:
        yield made


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.disarm()


async def test_a_bug_after_google_made_the_batch_makes_no_second_one(office: Office) -> None:
    faults.arm("batch.made=fail:1")
    ids = await office.shop.post("one", "two")
    assert await office.batcher().gather() == 1
    for _ in range(3):
        await office.due()
        await office.looks(office.batcher())
    [known] = await office.known()
    assert (known.state, known.answered) == (Stage.OVER, 2)
    assert len(office.google.batches.made) == 1, "it was asked for again"
    assert office.google.batches.executed == dict.fromkeys(ids, 1)
