"""Accepting against money: contract §12.7, and the lock that makes it exact."""

from __future__ import annotations

import asyncio
from types import NoneType

import pytest

from restante.core.errors import InsufficientFunds
from restante.core.money import parse_usd
from restante.core.pricing import STANDARD_HOLD
from restante.core.task import Model
from restante.flow import accounts
from restante.flow.accept import Acceptor, Judged, Waker
from restante.store.database import Database
from restante.wiring import utc_now
from tests.support import differences, open_account

MODEL = Model(name="gemini-2.5-flash", served="gemini-2.5-flash")
ONE = Judged(MODEL, "a tag", b'{"user_prompt":"hi","model_name":"gemini-2.5-flash"}')


def acceptor(db: Database) -> Acceptor:
    return Acceptor(db, "scripted", Waker(db), utc_now)


async def account(db: Database, usd: str, credit_limit: str | None = "0") -> int:
    await open_account(db, "shop", usd, credit_limit)
    return (await accounts.find(db, "shop")).id


@pytest.mark.contract("12.7 credit limit")
async def test_tasks_are_judged_in_order_until_the_balance_ends(db: Database) -> None:
    number = await account(db, "0.05")
    ids, fates = await acceptor(db).accept(number, [ONE] * 5)
    assert (len(set(ids)), [type(fate) for fate in fates]) == (5, [NoneType] * 4 + [InsufficientFunds])
    after = await accounts.find(db, "shop")
    assert (after.balance, after.held) == (parse_usd("0.0092"), 4 * STANDARD_HOLD)
    assert not await differences(db)


async def test_nothing_is_stored_when_nothing_is_covered(db: Database) -> None:
    number = await account(db, "0.0101")
    assert (await acceptor(db).accept(number, [ONE]))[1].count(None) == 0
    assert (await accounts.find(db, "shop")).held == 0
    assert not await differences(db)


@pytest.mark.contract("12.7 credit limit")
async def test_the_credit_limit_may_be_used_up_to_the_last_nano_dollar(db: Database) -> None:
    number = await account(db, "0", "0.0102")
    assert (await acceptor(db).accept(number, [ONE, ONE]))[1].count(None) == 1
    assert (await accounts.find(db, "shop")).balance == -STANDARD_HOLD


@pytest.mark.contract("12.7 metered")
async def test_a_metered_account_has_no_limit(db: Database) -> None:
    number = await account(db, "0", None)
    assert (await acceptor(db).accept(number, [ONE] * 100))[1].count(None) == 100
    assert not await differences(db)


@pytest.mark.contract("12.7 credit limit")
async def test_eight_connections_at_once_never_overspend(db: Database) -> None:
    """$1.00 pays for exactly 98 tasks at $0.0102, however they race; a plain read instead of the lock fails here."""
    number = await account(db, "1.00")
    racing = [acceptor(db) for _ in range(8)]
    results = await asyncio.gather(*(one.accept(number, [ONE] * 3) for one in racing for _ in range(8)))
    assert sum(fates.count(None) for _, fates in results) == 98
    after = await accounts.find(db, "shop")
    assert (after.balance, after.held) == (parse_usd("1") - 98 * STANDARD_HOLD, 98 * STANDARD_HOLD)
    assert not await differences(db)
