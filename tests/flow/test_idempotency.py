"""Idempotency-Key: one acceptance for each key, and its answer for all (contract §12.24)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from datetime import timedelta

import asyncpg
import pytest

from restante.core.errors import InvalidBody
from restante.core.task import Model
from restante.flow.accept import Fates, Judged
from restante.flow.idempotency import Key, Once, key_of
from restante.store import idempotency
from restante.store.database import Database
from restante.store.errors import DatabaseLost
from tests.flow.conftest import Shop
from tests.support import differences

TASK = Judged(
    Model(name="gemini-2.5-flash", served="gemini-2.5-flash", provider="scripted"), None, b'{"user_prompt":"hi"}'
)
DAY = timedelta(hours=24)


def once(shop: Shop, db: Database | None = None) -> Once:
    return Once(db or shop.db, shop.acceptor, shop.clock, DAY)


def telling(ids: Sequence[str], fates: Fates) -> bytes:
    """An answer as an API would make it; long enough to be compressed."""
    return b"[%d %b%b]" % (fates.count(None), " ".join(ids).encode(), b" " * 2_000)


def key(shop: Shop, text: str = "order 1", body: bytes = b"a body") -> Key:
    return key_of(shop.id, text, body)


async def counted(dsn: str, what: str) -> int:
    connection = await asyncpg.connect(dsn)
    number: int = await connection.fetchval(f"select count(*) from {what}")
    await connection.close()
    return number


async def test_twenty_duplicates_at_once_are_accepted_once(dsn: str, db: Database, shop: Shop) -> None:
    processes = [once(shop), once(shop)]
    answers = await asyncio.gather(*(processes[n % 2].accept(key(shop), [TASK, TASK], telling) for n in range(20)))
    assert len(set(answers)) == 1
    assert isinstance(answers[0], bytes)
    assert answers[0].startswith(b"[2 ")
    assert await processes[0].first_answer(key(shop)) == answers[0]
    assert await counted(dsn, "queue") == 2
    assert await counted(dsn, "idempotency") == 1
    assert (await shop.account()).held == 2 * 10_200_000
    assert not await differences(db)


@pytest.mark.contract("12.24 another body")
async def test_another_body_is_refused_and_another_account_is_another_key(db: Database, shop: Shop) -> None:
    assert isinstance(await once(shop).accept(key(shop), [TASK], telling), bytes)
    assert isinstance(await once(shop).first_answer(key(shop, body=b"other")), InvalidBody)
    assert isinstance(await once(shop).accept(key(shop, body=b"other"), [TASK], telling), InvalidBody)
    assert await once(shop).first_answer(key(shop, "order 2")) is None
    assert await once(shop).first_answer(key_of(shop.id + 1, "order 1", b"a body")) is None
    assert (await shop.account()).held == 10_200_000


async def test_what_an_answer_refuses_is_remembered_too(db: Database, shop: Shop) -> None:
    """Each of its tasks was refused, the call was not."""
    assert await once(shop).accept(key(shop), [], telling) == telling([], [])
    assert await once(shop).accept(key(shop), [TASK], telling) == telling([], [])
    assert (await shop.account()).held == 0


@pytest.mark.contract("12.24 Idempotency-Key")
async def test_a_key_ends_after_a_day(dsn: str, db: Database, shop: Shop) -> None:
    first = await once(shop).accept(key(shop), [TASK], telling)
    shop.clock.offset = DAY - timedelta(seconds=5)
    assert await once(shop).accept(key(shop), [TASK], telling) == first
    shop.clock.offset = DAY + timedelta(seconds=5)
    assert await once(shop).first_answer(key(shop)) is None
    second = await once(shop).accept(key(shop), [TASK], telling)
    assert second != first
    assert await once(shop).accept(key(shop), [TASK], telling) == second
    await idempotency.forget(db, shop.clock() - DAY)
    assert await counted(dsn, "idempotency") == 1
    await idempotency.forget(db, shop.clock() + timedelta(seconds=1))
    assert await counted(dsn, "idempotency") == 0
    assert not await differences(db)


@pytest.mark.parametrize("committed", [True, False])
async def test_a_lost_commit_is_tried_again_without_a_second_acceptance(
    dsn: str, db: Database, shop: Shop, committed: bool
) -> None:
    """The server goes away around the commit; the key tells whether it happened."""
    transaction = db.transaction
    losing = _Losing(transaction, committed=committed)
    db.transaction = losing  # type: ignore[method-assign, assignment]
    answer = await once(shop).accept(key(shop), [TASK], telling)
    db.transaction = transaction  # type: ignore[method-assign]
    assert losing.lost
    assert await once(shop).first_answer(key(shop)) == answer
    assert await counted(dsn, "queue") == 1
    assert (await shop.account()).held == 10_200_000
    assert not await differences(db)


class _Losing:
    """The first transaction is reported lost, committed or not."""

    def __init__(self, transaction: Callable[[], object], *, committed: bool) -> None:
        self._transaction = transaction
        self._committed = committed
        self.lost = False

    def __call__(self) -> object:
        return self._transaction() if self.lost else self

    async def __aenter__(self) -> object:
        self.lost = True
        self._real = self._transaction()
        return await self._real.__aenter__()  # type: ignore[attr-defined]

    async def __aexit__(self, *_: object) -> None:
        lost = DatabaseLost("in the middle of it")
        if self._committed:
            await self._real.__aexit__(None, None, None)  # type: ignore[attr-defined]
        else:
            with contextlib.suppress(DatabaseLost):
                await self._real.__aexit__(DatabaseLost, lost, None)  # type: ignore[attr-defined]
        raise lost
