"""The table of raw replies: made for every day there is, healed where it is missing, read by its owner only; and the
word of warning about models that are gone."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import date, timedelta
from importlib.resources import files

import msgspec
import pytest

from restante.core.answer import Answer, Failure
from restante.core.money import Nano
from restante.core.pricing import STANDARD_FEE
from restante.core.task import Model
from restante.flow import accounts
from restante.flow.settle import answered
from restante.providers.provider import Call
from restante.store import tasks
from restante.store.database import Database
from restante.web.wire import answer_result
from restante.wiring import utc_now
from restante.worker import _warn_of_gone_models
from tests.flow.conftest import Shop
from tests.support import differences, open_account

RAW = b'{"candidates":[],   "more":"' + b"x" * 5_000 + b'"}'
PRICED = date(2026, 10, 14)

SAID = Answer(
    model_name="m", input_tokens=1, output_tokens=1, items=Answer.message("Ja."), money_spent=Nano(5), raw=RAW,
    price_date=PRICED,
)  # fmt: skip


@pytest.fixture
async def shop(db: Database) -> AsyncIterator[Shop]:
    await open_account(db, "shop", "10")
    yield Shop(db, (await accounts.find(db, "shop")).id)


async def settle(shop: Shop, said: Answer) -> tuple[str, date]:
    [task_id] = await shop.post("q")
    token = await shop.lease()
    [claimed] = await shop.claim(token)
    result = answer_result(said, utc_now())
    assert await shop.settler.settle(answered(token, task_id, claimed.day, STANDARD_FEE, said, result))
    return task_id, claimed.day


async def test_it_is_kept_with_the_answer(shop: Shop) -> None:
    task_id, day = await settle(shop, SAID)
    found = await tasks.raw(shop.db, day, shop.id, task_id)
    assert found == tasks.Raw(RAW, PRICED)
    assert await tasks.raw(shop.db, day, shop.id + 1, task_id) is None
    size = await shop.db._pool.fetchval("select length(body) from answer_raw")
    assert size < len(RAW) / 10
    assert await differences(shop.db) == []


async def test_small_ones_and_none(shop: Shop) -> None:
    task_id, day = await settle(shop, msgspec.structs.replace(SAID, raw=b'{"a": 1}', price_date=None))
    assert await tasks.raw(shop.db, day, shop.id, task_id) == tasks.Raw(b'{"a": 1}', None)
    task_id, day = await settle(shop, msgspec.structs.replace(SAID, raw=None))
    assert await tasks.raw(shop.db, day, shop.id, task_id) is None
    assert await differences(shop.db) == []


async def test_an_older_installation_gets_it_for_all_its_days(db: Database, shop: Shop) -> None:
    """Tasks of days gone by are settled yet: their day needs the table too."""
    before = await db._pool.fetch("select relname from pg_class where relname ~ '^answer_raw_[0-9]+$' order by 1")
    old = utc_now().date() - timedelta(days=4)
    await db.prepare_days(old)
    await db._pool.execute("drop table answer_raw")
    # Run by hand: of the migrations behind it this test knows nothing.
    await db._pool.execute(files("restante.store").joinpath("migrations", "0008_raw.sql").read_text())
    days = await db._pool.fetch("select right(relname, 8) as day from pg_class where relname ~ '^answer_[0-9]+$'")
    kept = await db._pool.fetch("select right(relname, 8) as day from pg_class where relname ~ '^answer_raw_[0-9]+$'")
    assert {row["day"] for row in kept} == {row["day"] for row in days} >= {f"{old:%Y%m%d}"}
    assert len(kept) > len(before)
    task_id, day = await settle(shop, SAID)
    assert await tasks.raw(db, day, shop.id, task_id) == tasks.Raw(RAW, PRICED)


async def test_a_missing_day_is_made_when_it_is_needed(db: Database, shop: Shop) -> None:
    """An older process, still running beside this one, makes days without it."""
    await db._pool.execute(f"drop table answer_raw_{utc_now():%Y%m%d}")
    task_id, day = await settle(shop, SAID)
    assert await tasks.raw(db, day, shop.id, task_id) == tasks.Raw(RAW, PRICED)
    assert await differences(db) == []


class Provider:
    """Serves two models, and not the shop's."""

    name = "scripted"
    concurrency = 1

    async def models(self) -> tuple[Model, ...]:
        return Model(name="a", served="a", provider="scripted"), Model(name="b", served="b-001", provider="scripted")

    async def generate(self, call: Call) -> Answer | Failure:
        raise AssertionError

    async def close(self) -> None: ...


async def test_models_that_are_gone(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="restante.worker"):
        await _warn_of_gone_models(shop.db, [Provider()])
        assert not caplog.records
        await shop.post("q", "r")
        await _warn_of_gone_models(shop.db, [Provider()])
    [said] = [record.getMessage() for record in caplog.records]
    assert said.startswith("2 tasks wait for model 'gemini-2.5-flash', which scripted no longer serves: ")
