"""What accounts spend a day, and the caps on it (contract §5.1, §6, §12.7, §12.8, §12.30)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from restante.core.errors import ProviderFailed
from restante.core.money import parse_usd
from restante.core.pricing import STANDARD_FEE, STANDARD_HOLD
from restante.flow.end import cancel
from restante.flow.settle import failed
from restante.store.database import Database
from restante.web.wire import postback
from tests.flow.conftest import Shop
from tests.flow.test_live import MODEL, live, prompt
from tests.flow.test_settle import success
from tests.support import differences


async def today(db: Database) -> tuple[Any, ...]:
    """The shop's day and what its tasks of that day cost: posted, live."""
    [row] = await db._on.fetch("select today, today_posted, today_live from account where login = 'shop'")
    return tuple(row)


async def test_the_day_counts_charges_of_settled_tasks_and_holds_of_open_ones(shop: Shop, db: Database) -> None:
    done, failing, cancelled, _ = await shop.post("a", "b", "c", "d")
    day = shop.clock().date()
    assert await today(db) == (day, 4 * STANDARD_HOLD, 0)
    token = await shop.lease()
    await shop.claim(token, 2)
    await shop.settler.settle(success(token, done, "0.5"))
    await shop.settler.settle(failed(token, failing, shop.clock().date(), ProviderFailed("overloaded")))
    await cancel(db, shop.clock(), postback, account_id=shop.id, ids=[cancelled])
    assert await today(db) == (day, parse_usd("0.5") + STANDARD_FEE + STANDARD_HOLD, 0)
    await (await live(shop)).ask(shop.id, MODEL, prompt("hi [[cost=0.02]]"))
    assert await today(db) == (day, parse_usd("0.5") + STANDARD_FEE + STANDARD_HOLD, parse_usd("0.0206"))
    assert not await differences(db)


@pytest.mark.parametrize("by", ["task_post", "live"])
async def test_a_new_day_begins_at_nothing_and_old_tasks_leave_it_alone(shop: Shop, db: Database, by: str) -> None:
    [yesterdays] = await shop.post("a")
    await (await live(shop)).ask(shop.id, MODEL, prompt("hi"))
    token = await shop.lease()
    await shop.claim(token, 1)
    shop.clock.offset = timedelta(days=1)
    if by == "live":
        await (await live(shop)).ask(shop.id, MODEL, prompt("hi [[cost=0.02]]"))
    else:
        await shop.post("b")
    expected = (0, parse_usd("0.0206")) if by == "live" else (STANDARD_HOLD, 0)
    assert await today(db) == (shop.clock().date(), *expected)
    await shop.settler.settle(success(token, yesterdays, "0.5"))
    assert await today(db) == (shop.clock().date(), *expected)
    shop.clock.offset = timedelta()
    await shop.post("of a node whose clock is late")
    assert await today(db) == (shop.clock().date() + timedelta(days=1), *expected)
    assert not await differences(db)
