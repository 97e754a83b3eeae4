"""Settle: the answer stored, the hold resolved, the task listed and its queue row gone, in one transaction.

Whatever is killed, either all of it happened or none. A token whose lease has ended changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime

from restante.core.answer import Answer
from restante.core.errors import OK_CODE, Refusal
from restante.core.money import Nano
from restante.core.pricing import charge
from restante.core.task import State
from restante.flow import observed
from restante.flow.group import Groups, stored
from restante.store import queue
from restante.store.database import Database
from restante.store.queue import Settlement

log = logging.getLogger("restante.settle")

Ended = Callable[[Iterable[tuple[str, State]]], None]  # is told which tasks ended just now, and how


def answered(token: int, task_id: str, day: date, fee: Nano, answer: Answer, result: bytes | None) -> Settlement:
    """The settlement of an answered task. `result` is the answer as its clients will read it; None when nobody
    will fetch it (live)."""
    return Settlement(
        token,
        task_id,
        day,
        State.DONE,
        OK_CODE,
        charge(fee, answer.money_spent),
        result=result,
        raw=None if result is None else answer.raw,
        price_date=answer.price_date,
    )


def failed(token: int, task_id: str, day: date, why: Refusal) -> Settlement:
    """The settlement of a failed task: it costs nothing, fee and hold return (contract §12.8)."""
    return Settlement(token, task_id, day, State.FAILED, why.code, 0, message=why.message)


class Settler:
    """Settles in natural group commits; one per process."""

    def __init__(
        self,
        db: Database,
        clock: Callable[[], datetime],
        on_settled: Ended = lambda ended: None,
    ) -> None:
        self._db = db
        self._clock = clock
        self._on_settled = on_settled
        # A group is of one token and one posting day, as its statement is. There are few: days turn, leases seldom end.
        self._groups: Groups[tuple[int, date], Settlement, bool] = Groups(self._commit)

    async def settle(self, settlement: Settlement) -> bool:
        """True once committed; False when the token no longer holds the task, and nothing changed.

        Waits for a database that is away: the answer is kept here until it is stored or the process ends.
        """
        return await self._groups.submit((settlement.token, settlement.day), settlement)

    async def idle(self, seconds: float) -> None:
        """Wait until everything submitted is committed, or until the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._groups.idle()

    async def _commit(self, key: tuple[int, date], members: Sequence[Settlement]) -> Sequence[bool]:
        token, day = key
        began = observed.now()

        async def write(again: bool) -> set[str]:
            settled = await self._db.settled(lambda: queue.settle(self._db, token, day, self._clock(), members), day)
            if again:
                settled |= await self._settled_before(day, [one for one in members if one.id not in settled])
            return settled

        # Repeating is safe: had the lost statement been committed, its queue rows are gone and nothing is settled
        # twice.
        settled = await stored(
            self._db,
            write,
            lambda error: log.warning("%d answers are kept until the database is back: %s", len(members), error),
        )
        self._on_settled((one.id, one.state) for one in members if one.id in settled)
        observed.settled(members, settled, began)
        return [one.id in settled for one in members]

    async def _settled_before(self, day: date, members: Sequence[Settlement]) -> set[str]:
        """Which of these ended as we said: their commit went through although its reply was lost."""
        ends = await queue.ends(self._db, day, [one.id for one in members]) if members else {}
        return {one.id for one in members if ends.get(one.id) == (one.code, one.charged)}
