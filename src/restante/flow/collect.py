"""Collect: answers by id, in natural groups; collecting takes a task off tasks_ready in the same commit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta

import msgspec

from restante.core.errors import (
    OK_CODE,
    OK_MESSAGE,
    ForeignTask,
    OtherFunction,
    PaymentRequired,
    Refusal,
    ResultsExpired,
    TaskHanded,
    TaskInQueue,
    TaskNotFound,
)
from restante.core.limits import READY_LISTED, READY_SECONDS
from restante.core.task import Function, parse_id
from restante.flow.group import Group
from restante.flow.ready_mark import Marks
from restante.store import tasks
from restante.store.database import Database
from restante.store.tasks import Collected, Listed


class Fetched(msgspec.Struct, frozen=True):
    """What task_get says of an id. `request` is the task's JSON where it is the caller's own task."""

    code: int
    message: str
    request: bytes | None = None
    result: bytes | None = None


def _refused(why: Refusal, request: bytes | None = None) -> Fetched:
    return Fetched(why.code, why.message, request)


def _fetched(found: Collected) -> Fetched:
    if found.withheld:
        return _refused(PaymentRequired(), found.request)
    if found.code != OK_CODE:
        return Fetched(found.code, found.message or "", found.request)
    return Fetched(OK_CODE, OK_MESSAGE, found.request, found.result)


class Collector:
    """Fetches answers; one per process."""

    def __init__(self, db: Database, clock: Callable[[], datetime], ready_seconds: float = READY_SECONDS) -> None:
        self._ready_time = timedelta(seconds=ready_seconds)
        self._db = db
        self._clock = clock
        self._marks = Marks(db)
        self._group: Group[tuple[date, int, str], Collected | None] = Group(self._commit)

    async def ready(self, account_id: int) -> list[Listed]:
        """tasks_ready: up to 1,000 finished, uncollected tasks, oldest first."""
        since = self._clock() - self._ready_time

        async def listed() -> list[Listed]:
            await self._marks.advance(account_id)
            return await tasks.ready(self._db, account_id, READY_LISTED, since)

        return await self._db.again(listed)

    async def task_get(self, account_id: int, text: str) -> Fetched:
        """One task by id (contract §2.3, §12.29): who and what an id is for is read from the id itself."""
        task_id = parse_id(text)
        day = None if task_id is None else task_id.posted_on(self._clock().date())
        if task_id is None or day is None:
            return _refused(TaskNotFound())
        if task_id.account_id != account_id:
            return _refused(ForeignTask())
        if task_id.function == Function.LIVE:
            return _refused(TaskNotFound())  # live answers are not stored (contract §12.21)
        if task_id.function != Function.TASK_POST:
            return _refused(OtherFunction())
        found = await self._group.submit((day, account_id, task_id.text))
        if found is None:
            task = await self._db.again(lambda: tasks.find_unanswered(self._db, day, account_id, task_id.text))
            if task is None:
                return _refused(TaskNotFound())
            if task.queued:
                return _refused(TaskHanded() if task.running else TaskInQueue(), task.request)
            # Settled between our two looks: now it is there.
            found = await self._group.submit((day, account_id, task_id.text))
        return _refused(ResultsExpired()) if found is None else _fetched(found)

    async def _commit(self, group: Sequence[tuple[date, int, str]]) -> Sequence[Collected | None]:
        by_day: dict[date, set[tuple[int, str]]] = defaultdict(set)
        for day, account_id, task_id in group:
            by_day[day].add((account_id, task_id))
        found: dict[str, Collected] = {}
        for day, wanted in by_day.items():
            found |= await self._db.again(lambda: self._collected(day, list(wanted)))  # noqa: B023
        return [found.get(task_id) for _, _, task_id in group]

    async def _collected(self, day: date, wanted: Sequence[tuple[int, str]]) -> dict[str, Collected]:
        return await self._db.settled(lambda: tasks.collect(self._db, day, wanted))
