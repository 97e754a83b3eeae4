"""What the console shows of accounts and of the lanes that their tasks wait in."""

from __future__ import annotations

from datetime import date, datetime

import msgspec

from restante.store.accounts import Account
from restante.store.database import Session


class AccountShown(msgspec.Struct, frozen=True):
    """An account, and what its tasks of today cost so far, in nano-dollars: charges, and the holds of open ones.

    `paused_by`: whose word it is. `limits`: its own, by name (core/allowance.py). `old_password_until`: the one before
    is still good until then.
    """

    account: Account
    spent_today: int
    paused_by: str | None = None
    limits: dict[str, int] = {}
    old_password_until: datetime | None = None

    @property
    def below_limit(self) -> bool:
        """It owes more than it may: its answers and webhooks wait until it has topped up."""
        limit = self.account.credit_limit
        return limit is not None and self.account.balance < -limit


class LaneShown(msgspec.Struct, frozen=True):
    """A provider's model that tasks were posted to: how many are ready to run, and since when the oldest of those that
    come next waits."""

    provider: str
    model: str
    paused: bool
    ready: int
    oldest: datetime | None


async def page(
    db: Session, after: int, contains: str | None, today: date, most: int, *, paused: bool, owing: bool
) -> list[AccountShown]:
    """Accounts by number, beyond a number; `contains`: in their login. Only paused, only owing ones?"""
    rows = await db.rows("books_accounts", after, contains, paused, owing, today, most)
    return [AccountShown(Account(*list(row.values())[:9]), row["spent_today"]) for row in rows]


async def one(db: Session, account_id: int, today: date) -> AccountShown | None:
    """One account by its number."""
    row = await db.row("books_account", account_id, today)
    if row is None:
        return None
    limits = msgspec.json.decode(row["limits"], type=dict[str, int])
    account = Account(*list(row.values())[:9])
    return AccountShown(account, row["spent_today"], row["paused_by"], limits, row["old_password_until"])


async def lanes(db: Session, most: int) -> list[LaneShown]:
    """All lanes by provider and model; ready tasks are counted up to `most`."""
    return [LaneShown(*row.values()) for row in await db.rows("books_lanes", most)]
