"""Accounts and money from the operator's side: open, top up, change the password, audit."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from typing import TypeVar

import msgspec

from restante.core.credentials import GENERATED_BYTES, PEPPER_BYTES, digest, login_fault, password_fault
from restante.core.errors import OperatorError
from restante.core.limits import ACCOUNTS_MAX
from restante.core.money import Nano
from restante.store import accounts, deliveries, ledger, queue
from restante.store import audit as stored_audit
from restante.store.accounts import Account
from restante.store.database import Database, Session
from restante.store.errors import Conflict, OutOfRange
from restante.webhooks.signature import SECRET_BYTES, show_secret


class Opened(msgspec.Struct, frozen=True):
    """A new account, with the password as only this moment knows it."""

    account_id: int
    login: str
    password: str


T = TypeVar("T")
Also = Callable[[Session, T], Awaitable[None]]  # what joins a transaction, given what it came to


async def _nothing(_: Session, __: object) -> None:
    pass


def new_password() -> str:
    """192 random bits, to be shown once."""
    return secrets.token_urlsafe(GENERATED_BYTES)


async def pepper(db: Session) -> bytes:
    """The installation's key of password digests."""
    return await accounts.pepper(db, secrets.token_bytes(PEPPER_BYTES))


async def open_account(
    db: Database,
    login: str,
    password: str | None,
    *,
    balance: Nano,
    credit_limit: Nano | None,
    now: datetime,
    also: Also[Opened] = _nothing,
) -> Opened:
    """Open an account with money in it. `credit_limit`: how far below zero it may go; None: metered. `also` joins the
    transaction, as its last.

    Raises OperatorError for a login that exists or cannot be used, a weak password, or when all numbers are taken.
    """
    await db.in_time()
    fault = login_fault(login) or (None if password is None else password_fault(password))
    if fault is not None:
        raise OperatorError(f"{login!r} was not added: {fault}.")
    password = password or new_password()
    secret = digest(password, await pepper(db))
    try:
        async with db.transaction() as tx:
            number = await accounts.add(tx, login, secret, credit_limit)
            if number is None:
                raise OperatorError(f"All {ACCOUNTS_MAX:,} account numbers are taken.")
            if balance:
                await ledger.top_up(tx, login, now, _transfer_id(), balance)
            opened = Opened(number, login, password)
            await also(tx, opened)
    except Conflict:
        raise OperatorError(f"There is an account {login!r} already.") from None
    return opened


async def operator(db: Session) -> str | None:
    """The login of the operator's account, once the first start has made it."""
    return await accounts.operator(db)


async def open_operator(db: Database, login: str, password: str, *, balance: Nano, now: datetime) -> bool:
    """Make the operator's account, metered; False when another process made it first.

    Raises OperatorError like `open_account`.
    """
    fault = login_fault(login) or password_fault(password)
    if fault is not None:
        raise OperatorError(f"The operator's account {login!r} was not made: {fault}.")
    secret = digest(password, await pepper(db))
    try:
        async with db.transaction() as tx:
            if not await accounts.claim_operator(tx, login):
                return False
            await accounts.add(tx, login, secret, None)
            if balance:
                await ledger.top_up(tx, login, now, _transfer_id(), balance)
    except Conflict:
        raise OperatorError(
            f"The operator's account cannot be made: there is an account {login!r} already.",
            "Name another RESTANTE_LOGIN.",
        ) from None
    return True


async def change_password(
    db: Database,
    login: str,
    password: str | None = None,
    *,
    overlap_hours: float = 0,
    also: Also[str] = _nothing,
) -> str:
    """Replace an account's password by this one or a generated one, which is returned. The one before ends within
    seconds, or is good for `overlap_hours` more; any older one ends. `also` joins the transaction, as its last.

    Raises OperatorError for an unknown login or a weak password.
    """
    fault = None if password is None else password_fault(password)
    if fault is not None:
        raise OperatorError(f"The password of {login!r} was not changed: {fault}.")
    password = password or new_password()
    secret = digest(password, await pepper(db))
    async with db.transaction() as tx:
        if not await accounts.set_digest(tx, login, secret, overlap_hours):
            raise OperatorError(f"There is no account {login!r}.", "`restante account list` shows them.")
        await also(tx, password)
    return password


async def change_limits(db: Database, login: str, changes: Mapping[str, int | None]) -> dict[str, int]:
    """Change an account's own limits by name (core/allowance.py); None: the installation's again. Returns its own.

    API processes follow within CREDENTIALS_SECONDS. Raises OperatorError for an unknown login.
    """
    own = await accounts.set_limits(db, login, changes)
    if own is None:
        raise OperatorError(f"There is no account {login!r}.", "`restante account list` shows them.")
    return own


async def top_up(db: Database, login: str, amount: Nano, now: datetime, *, also: Also[int] = _nothing) -> int:
    """Put money into an account, or take it back (negative); returns the new balance in nano-dollars.

    Tasks that waited for it are woken in the same transaction (contract §12.7). `also` joins it, as its last, and is
    given the balance. Raises OperatorError for an unknown login.
    """

    async def pay() -> tuple[int | None, int]:
        async with db.transaction() as tx:
            balance = await ledger.top_up(tx, login, now, _transfer_id(), amount)
            woken = await ledger.wake_paid(tx, login)
            if balance is not None:
                await also(tx, balance)
            return balance, woken

    try:
        balance, woken = await db.settled(pay, now.date())
    except OutOfRange:
        raise OperatorError(f"{login!r} would own more than the ledger can count.") from None
    if balance is None:
        raise OperatorError(f"There is no account {login!r}.", "`restante account list` shows them.")
    if woken:
        await queue.notify(db)
    return balance


async def find(db: Database, login: str) -> Account:
    """An account by login. Raises OperatorError when there is none."""
    account = await accounts.read(db, login)
    if account is None:
        raise OperatorError(f"There is no account {login!r}.", "`restante account list` shows them.")
    return account


async def audit(db: Session, *, full: bool = True) -> AsyncIterator[str]:
    """Recompute what the ledger and the life of every task must be (docs/invariants.md); yields each
    difference, in words that begin with the number of the promise it breaks.

    Statement by statement over bounded parts, each with its own short snapshot, so that a running system is not slowed
    (design, Data 10); what one statement sees was written by whole transactions. Not `full`: without the days whose
    answers are over, which nothing comes to any more; the sums of their transfers are looked at in any case.
    """
    for difference in await stored_audit.unprotected(db) + await stored_audit.balances(db):
        yield difference
    for day in await stored_audit.days(db, over=full):
        async for difference in stored_audit.day(db, day):
            yield difference
    for walk in (stored_audit.queue, stored_audit.listings, stored_audit.deliveries):
        async for difference in walk(db):
            yield difference


def _transfer_id() -> str:
    return f"{secrets.randbits(128):032x}"


async def webhook_secrets(db: Database, login: str, *, rotate: bool = False, also: Also[None] = _nothing) -> list[str]:
    """An account's live signing secrets as receivers' libraries take them, newest first; the first is made now if
    there was none. `also` joins the transaction of a rotation, as its last. Raises OperatorError for an unknown
    login."""
    account = (await find(db, login)).id
    live = await deliveries.secrets(db, {account: secrets.token_bytes(SECRET_BYTES)})
    if rotate:
        await _rotate(db, account, also)
        live = await deliveries.secrets(db, {account: b""})
    return [show_secret(secret) for secret in live[account]]


async def _rotate(db: Database, account: int, also: Also[None]) -> None:
    """A new signing secret; the one before stays live beside it."""
    for last in (False, True):
        try:
            async with db.transaction() as tx:
                await deliveries.rotate(tx, account, secrets.token_bytes(SECRET_BYTES))
                await also(tx, None)
            return
        except Conflict:  # rotated by another process at this moment
            if last:
                raise
