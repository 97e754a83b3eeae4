"""A form is carried out once: remembered with what it moves, forgotten when it fails, joined while it is being done."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

from restante.core.errors import OperatorError
from restante.core.money import Nano
from restante.flow import accounts
from restante.flow.deeds import Deed, Deeds, Form, FormUsed, Keep
from restante.store.database import Database, Session
from restante.wiring import utc_now
from tests.support import open_account

FORM = Form(1, "a token", b"fields")


async def shop(db: Database) -> tuple[Deeds, Deeds]:
    """An account, and the deeds of two processes."""
    await open_account(db, "shop", "0")
    return Deeds(db, utc_now), Deeds(db, utc_now)


def paying(db: Database, *, then: Exception | None = None):  # type: ignore[no-untyped-def]
    async def work(keep: Keep) -> Deed:
        async def also(tx: Session, balance: int) -> None:
            await keep(tx, Deed(f"paid: {balance}"))
            if then is not None:
                raise then

        await accounts.top_up(db, "shop", Nano(5), utc_now(), also=also)
        return Deed("paid")

    return work


async def balance(db: Database) -> int:
    return (await accounts.find(db, "shop")).balance


async def test_two_processes_pay_once(db: Database) -> None:
    one, other = await shop(db)
    tasks = await asyncio.gather(*(deeds.once(FORM, paying(db)) for deeds in (one, other) * 4))
    said = {(await task).said for task in tasks}
    assert await balance(db) == 5
    assert said <= {"paid", "paid: 5"}
    assert (await one.find(1, FORM.token)) == Deed("paid: 5") == await other.find(1, FORM.token)
    assert await one.find(2, FORM.token) is None, "another account's"
    with pytest.raises(FormUsed):
        await other.once(Form(1, FORM.token, b"other fields"), paying(db))
    assert (await (await other.once(Form(2, FORM.token, b""), paying(db)))).said == "paid"
    assert await balance(db) == 10


async def test_two_processes_make_one_signing_secret(db: Database) -> None:
    """A second one would end the secret that receivers verify with."""
    one, other = await shop(db)
    [first] = await accounts.webhook_secrets(db, "shop")

    async def work(keep: Keep) -> Deed:
        async def also(tx: Session, _: None) -> None:
            await keep(tx, Deed("new"))

        return Deed("new", secret=await accounts.webhook_secrets(db, "shop", rotate=True, also=also))

    tasks = await asyncio.gather(*(deeds.once(FORM, work) for deeds in (one, other) * 4))
    assert {(await task).said for task in tasks} == {"new"}
    assert (await accounts.webhook_secrets(db, "shop"))[1:] == [first]


async def test_two_processes_open_one_account(db: Database) -> None:
    """Nobody is told that nothing was done: the account is there."""
    one, other = await shop(db)

    async def work(keep: Keep) -> Deed:
        async def also(tx: Session, opened: accounts.Opened) -> None:
            await keep(tx, Deed(f"{opened.login} is open"))

        await accounts.open_account(db, "new", None, balance=Nano(0), credit_limit=Nano(0), now=utc_now(), also=also)
        return Deed("new is open")

    tasks = await asyncio.gather(*(deeds.once(FORM, work) for deeds in (one, other) * 4))
    assert {(await task).said for task in tasks} == {"new is open"}
    with pytest.raises(OperatorError, match="already"):
        await (await one.once(Form(1, "another form", b""), work))


async def test_what_fails_is_not_remembered(db: Database) -> None:
    deeds, _ = await shop(db)
    for broke in (OperatorError("no"), RuntimeError("the process")):
        with pytest.raises(type(broke)):
            await (await deeds.once(FORM, paying(db, then=broke)))
        assert await balance(db) == 0 and await deeds.find(1, FORM.token) is None
    assert (await (await deeds.once(FORM, paying(db)))).said == "paid"
    assert await balance(db) == 5


async def test_a_deed_goes_on_and_is_joined(db: Database) -> None:
    deeds, _ = await shop(db)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(keep: Keep) -> Deed:
        begun.set()
        await go_on.wait()
        return Deed("done", secret="a password")

    first = await deeds.once(FORM, slow)
    await begun.wait()
    assert deeds.doing(1, FORM.token) and not deeds.doing(2, FORM.token)
    assert await deeds.once(FORM, slow) is first, "a double click"
    closing = asyncio.create_task(deeds.close(10))
    go_on.set()
    await closing
    assert first.result().secret == "a password" and not deeds.doing(1, FORM.token)
    assert await deeds.find(1, FORM.token) == Deed("done"), "no secret is kept"
    assert b"password" not in (await db._pool.fetchval("select answer from idempotency"))


async def test_a_form_is_forgotten_in_time(db: Database) -> None:
    await open_account(db, "shop", "0")
    now = utc_now()

    def later() -> datetime:
        return now

    deeds = Deeds(db, later, timedelta(hours=1))
    assert (await (await deeds.once(FORM, paying(db)))).said == "paid"
    now += timedelta(hours=2)
    assert await deeds.find(1, FORM.token) is None
