"""The ledger's invariants are the database's own (design, Data 6); for what slips past them see test_audit.py."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from restante.core.money import parse_usd
from restante.core.task import Model
from restante.flow import accounts
from restante.flow.accept import Acceptor, Judged, Waker
from restante.store import ledger
from restante.store.database import Database
from restante.wiring import utc_now
from tests.support import differences, open_account


@pytest.fixture
async def raw(dsn: str) -> Any:
    """A connection past all our code."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


async def posted(db: Database) -> str:
    """The id of a posted task of a new account."""
    await open_account(db, "shop", "1")
    model = Model(name="gemini-2.5-flash", served="gemini-2.5-flash", provider="scripted")
    acceptor = Acceptor(db, Waker(db), utc_now)
    [task_id], _ = await acceptor.accept((await accounts.find(db, "shop")).id, [Judged(model, None, b"{}")])
    return task_id


@pytest.mark.parametrize(
    ("kind", "balance", "held", "spent", "funded"),
    [
        (1, 5, 0, 0, 6),  # money from nowhere
        (1, 0, 5, 0, 5),  # a top-up goes to the balance
        (2, -5, 5, 1, 1),  # a hold spends nothing
        (2, 5, -5, 0, 0),  # a hold takes
        (3, -5, 5, 0, 0),  # a resolution holds nothing
        (3, 6, -5, -1, 0),  # and unspends nothing
        (4, 0, 0, 0, 0),  # no such kind
    ],
)
async def test_a_transfer_that_does_not_add_up_is_refused(
    db: Database, raw: Any, kind: int, balance: int, held: int, spent: int, funded: int
) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await raw.execute(
            "insert into transfer values (current_date, gen_random_uuid(), $1, 1, $2, $3, $4, $5, now())",
            kind, balance, held, spent, funded,
        )  # fmt: skip


@pytest.mark.breaks_invariants
async def test_a_task_is_resolved_once(db: Database, raw: Any) -> None:
    row = "insert into transfer values (current_date, $1, 3, 1, 5, -5, 0, 0, now())"
    await raw.execute(row, "11220000-0001-0613-0000-000000000001")
    with pytest.raises(asyncpg.UniqueViolationError):
        await raw.execute(row, "11220000-0001-0613-0000-000000000001")


async def test_an_account_that_does_not_add_up_is_refused(db: Database, raw: Any) -> None:
    await open_account(db, "shop", "1")
    with pytest.raises(asyncpg.CheckViolationError):
        await raw.execute("update account set balance = balance + 1")


async def test_money_can_be_put_in_and_taken_back(db: Database) -> None:
    await open_account(db, "shop", "1")
    assert await accounts.top_up(db, "shop", parse_usd("2.5"), utc_now()) == parse_usd("3.5")
    assert await accounts.top_up(db, "shop", parse_usd("-1"), utc_now()) == parse_usd("2.5")
    account = await accounts.find(db, "shop")
    amounts = [transfer.balance for transfer in await ledger.statement(db, account.id, 10)]
    assert amounts == [parse_usd("-1"), parse_usd("2.5"), parse_usd("1")]
    assert not await differences(db)


async def test_totals_are_those_of_all_accounts(db: Database) -> None:
    await posted(db)
    await open_account(db, "another", "2")
    totals = await ledger.totals(db)
    assert (totals.accounts, totals.transfers, totals.difference) == (2, 3, 0)
    assert (totals.funded, totals.held) == (parse_usd("3"), parse_usd("0.0102"))
