"""Duplicates: how many identical tasks an account may post in a clock hour and on a UTC day (contract §12.30).

Identical is what asks a model for the same, whatever its tag, its webhooks or its spelling. Judged before funds and
counted when accepted, in one transaction under the accounts' locks, so that it is exact over any number of processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

import msgspec

from restante.core.allowance import Allowance
from restante.core.errors import DuplicatesPerDay, DuplicatesPerHour, Refusal
from restante.store import spending
from restante.store.database import Session


class Wanted(msgspec.Struct, frozen=True):
    """A task on its way in, as its account's limits of duplicates see it."""

    account_id: int
    digest: bytes
    allowance: Allowance


def counted(allowance: Allowance) -> bool:
    """Whether an account has a limit of duplicates."""
    return bool(allowance.duplicates_per_hour or allowance.duplicates_per_day)


async def judge(tx: Session, now: datetime, tasks: Sequence[Wanted | None]) -> list[Refusal | None]:
    """Locks the accounts, then says of each task why it is refused; None: it may go on. A task is counted against those
    before it, even where these find no funds later on. None among `tasks` has no limit."""
    keys = {(one.account_id, one.digest) for one in tasks if one is not None}
    if not keys:
        return [None] * len(tasks)
    await spending.lock_payers(tx, sorted({account for account, _ in keys}))
    before = await spending.posted(tx, list(keys), now)
    here: Counter[spending.Fingerprint] = Counter()
    fates: list[Refusal | None] = []
    for one in tasks:
        if one is None:
            fates.append(None)
            continue
        key = (one.account_id, one.digest)
        hour, day = (count + here[key] for count in before[key])
        fate = _fate(one.allowance, hour, day)
        here[key] += fate is None
        fates.append(fate)
    return fates


async def count(tx: Session, now: datetime, accepted: Sequence[Wanted | None]) -> None:
    """Count tasks that were accepted; in the transaction that judged them."""
    counts = Counter((one.account_id, one.digest) for one in accepted if one is not None)
    if counts:
        await spending.add(tx, counts, now)


def _fate(allowance: Allowance, hour: int, day: int) -> Refusal | None:
    if 0 < allowance.duplicates_per_hour <= hour:
        return DuplicatesPerHour(f"{hour} >= {allowance.duplicates_per_hour}")
    if 0 < allowance.duplicates_per_day <= day:
        return DuplicatesPerDay(f"{day} >= {allowance.duplicates_per_day}")
    return None
