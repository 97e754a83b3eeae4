"""Accounts: who may call, what they own and owe. Amounts are nano-dollars."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Literal

import msgspec

from restante.store.database import Session


class Credentials(msgspec.Struct, frozen=True):
    """What authentication needs: digests of the passwords that are good now, never a password; without any, nobody's
    (`account_id` 0). `limits`: the account's own, by name (core/allowance.py), as JSON."""

    account_id: int
    login: str
    digests: tuple[bytes, bytes]  # of the password, of the one before; empty: there is none
    limits: str

    def own_limits(self) -> dict[str, int]:
        """What the account may call, where it has limits of its own."""
        return _limits(self.limits)


By = Literal["operator", "owner"]  # whose word it is


class Account(msgspec.Struct, frozen=True):
    """`balance` may be spent and has lost what is `held` already; `credit_limit` None: metered."""

    id: int
    login: str
    balance: int
    held: int
    spent: int
    funded: int
    credit_limit: int | None
    created_at: datetime
    paused: bool = False


async def pepper(db: Session, fresh: bytes) -> bytes:
    """The key of all password digests of this installation, made of `fresh` on the first call ever."""
    for _ in range(2):  # two processes made it at once: the loser's statement saw nothing, its next one does
        found: bytes | None = await db.value("pepper", fresh)
        if found is not None:
            return found
    raise AssertionError("the installation's row vanished")


async def credentials(db: Session, logins: Collection[str]) -> dict[str, Credentials]:
    """The accounts behind logins, or nobody's: one way for both, so that no time tells them apart."""
    rows = await db.rows("find_accounts", list(logins))
    return {
        row["login"]: Credentials(row["id"], row["login"], (row["secret"], row["old_secret"]), row["limits"])
        for row in rows
    }


async def read(db: Session, login: str) -> Account | None:
    """One account by its login."""
    row = await db.row("read_account", login)
    return None if row is None else Account(*row.values())


async def every(db: Session) -> list[Account]:
    """All accounts, by number."""
    return [Account(*row.values()) for row in await db.rows("list_accounts")]


async def add(tx: Session, login: str, digest: bytes, credit_limit: int | None) -> int | None:
    """A new account with the lowest free number, which is returned; None when all 65,535 are taken.

    In a transaction of its own, which others who add accounts wait for. Raises Conflict when the login exists.
    """
    await tx.rows("lock_accounts")
    number: int | None = await tx.value("add_account", login, digest, credit_limit)
    return number


async def operator(db: Session) -> str | None:
    """The login of the operator's account; None before the first start."""
    login: str | None = await db.value("operator")
    return login


async def claim_operator(tx: Session, login: str) -> bool:
    """Name the operator's login, once for ever; in the transaction that opens the account."""
    return await tx.value("claim_operator", login) is not None


async def set_digest(db: Session, login: str, digest: bytes, overlap_hours: float) -> bool:
    """Change an account's password; the one before is good for `overlap_hours` more. False: no such account."""
    return await db.value("set_secret", login, digest, overlap_hours) is not None


async def set_paused(tx: Session, login: str, *, paused: bool, by: By) -> bool | None:
    """Pause or resume an account. False: only the operator, who paused it, may resume it. None: there is none."""
    stopped = await tx.value("set_paused", login, paused, by)
    return None if stopped is None else not stopped


async def set_limits(db: Session, login: str, changes: Mapping[str, int | None]) -> dict[str, int] | None:
    """Change an account's own limits (None: the installation's again) and return all it has; None: no such account."""
    text: str | None = await db.value("set_limits", login, msgspec.json.encode(changes).decode())
    return None if text is None else _limits(text)


async def own_deadlines(db: Session) -> dict[int, list[int]]:
    """Deadlines that accounts have of their own, in hours, with the accounts (contract §12.25)."""
    return {row["hours"]: row["ids"] for row in await db.rows("own_deadlines")}


def _limits(text: str) -> dict[str, int]:
    return msgspec.json.decode(text, type=dict[str, int])
