"""Resend: the webhooks of finished tasks go out once more, as configured at posting (contract §3.10, §12.28).

A postback's body is not kept once it was delivered: it is written anew from the stored request and answer by the
renderer that wrote the first one, and hence says the same.
"""

from __future__ import annotations

import asyncio
import gzip
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import date, datetime

import msgspec

from restante.core.errors import (
    CREATED_CODE,
    CREATED_MESSAGE,
    OK_MESSAGE,
    ForeignTask,
    InvalidField,
    OtherFunction,
    Refusal,
    ResultsExpired,
    TaskHanded,
    TaskInQueue,
    TaskNotFound,
)
from restante.core.limits import CONSOLE_RESEND_TASKS, RESEND_IDS
from restante.core.task import Function, parse_id
from restante.flow.collect import Fetched
from restante.flow.deliver import Envelope, Wanted
from restante.store import books_deliveries, deliveries, tasks
from restante.store.database import Database
from restante.store.deliveries import Webhooks
from restante.store.tasks import Resendable

#: The refusal of a task without webhooks, in the form of the original's own free texts (contract §2.4).
NO_WEBHOOKS = "this task has neither pingback_url nor postback_url"


class Resent(msgspec.Struct, frozen=True):
    """Tasks whose failed webhooks go out again, those whose could not (their texts are gone), and whether there may be
    more than were looked at."""

    sent: int
    left: int
    more: bool


class Resender:
    """Resends webhooks; `envelope` writes the body of a postback."""

    def __init__(self, db: Database, clock: Callable[[], datetime], envelope: Envelope) -> None:
        self._db = db
        self._clock = clock
        self._envelope = envelope

    async def resend(self, account_id: int, ids: Sequence[str]) -> list[Fetched]:
        """What became of each id, in their order; those that are sent have the code 20100. An id named twice is sent
        once. All go out together or, should the database be lost, none."""
        today = self._clock().date()
        refusals: dict[str, Refusal] = {}
        by_day: dict[date, list[str]] = defaultdict(list)
        for text in dict.fromkeys(ids):
            where = _where(text, account_id, today)
            if isinstance(where, Refusal):
                refusals[text] = where
            else:
                by_day[where].append(text)
        found: dict[str, Resendable] = {}
        for day, named in by_day.items():
            rows = await self._db.again(lambda: tasks.resendable(self._db, day, account_id, named))  # noqa: B023
            found |= {row.id: row for row in rows}
        said = {text: _said(refusals.get(text), found.get(text.lower())) for text in ids}
        wanted = {found[text.lower()].id: found[text.lower()] for text in ids if said[text].code == CREATED_CODE}
        if wanted:
            webhooks = await asyncio.to_thread(lambda: [self._webhooks(one) for one in wanted.values()])
            sent = await self._db.settled(lambda: deliveries.resend(self._db, account_id, webhooks))
            for text in ids:  # forgotten since, as their answers will be
                if said[text].code == CREATED_CODE and text.lower() not in sent:
                    said[text] = _said(ResultsExpired(), found[text.lower()])
        return [said[text] for text in ids]

    async def resend_failed(
        self, account_id: int | None, since: datetime, host: str | None = None, most: int = CONSOLE_RESEND_TASKS
    ) -> Resent:
        """Send again what failed of the webhooks owed since then (of all accounts: None), to this host or any: those
        given up, and those that wait for their next attempt."""
        found = await self._db.again(lambda: books_deliveries.failed(self._db, account_id, since, host, most))
        by_account: dict[int, list[str]] = defaultdict(list)
        for account, task_id in found:
            by_account[account].append(task_id)
        sent = 0
        for account, ids in by_account.items():
            for start in range(0, len(ids), RESEND_IDS):
                said = await self.resend(account, ids[start : start + RESEND_IDS])
                sent += sum(one.code == CREATED_CODE for one in said)
        return Resent(sent, len(found) - sent, len(found) == most)

    async def payload(self, account_id: int, task_id: str) -> bytes | None:
        """The body that a task's postback says now, as JSON; None: its texts are gone, or it is not finished."""
        day = _where(task_id, account_id, self._clock().date())
        if isinstance(day, Refusal):
            return None
        rows = await self._db.again(lambda: tasks.resendable(self._db, day, account_id, [task_id]))
        if not rows or (task := rows[0]).code is None or task.request is None or task.queued:
            return None
        return self._envelope(Fetched(task.code, task.message or OK_MESSAGE, task.request, task.result), task.id)

    def _webhooks(self, task: Resendable) -> Webhooks:
        assert task.code is not None
        assert task.request is not None
        if _wanted(task.request).postback_url is None:
            return Webhooks(task.id, None)
        said = Fetched(task.code, task.message or OK_MESSAGE, task.request, task.result)
        return Webhooks(task.id, gzip.compress(self._envelope(said, task.id), 1, mtime=0))


def _wanted(request: bytes) -> Wanted:
    return msgspec.json.decode(request, type=Wanted)


def _where(text: str, account_id: int, today: date) -> date | Refusal:
    """The day that an id names, or why it cannot be resent, as far as the id itself tells (contract §12.29)."""
    task_id = parse_id(text)
    if task_id is None:
        return InvalidField("id")
    if task_id.account_id != account_id:
        return ForeignTask()
    if task_id.function != Function.TASK_POST:
        return OtherFunction()
    return task_id.posted_on(today) or TaskNotFound()


def _said(refusal: Refusal | None, task: Resendable | None) -> Fetched:
    if refusal is None:
        refusal = TaskNotFound() if task is None else _fault(task)
    request = None if task is None else task.request
    if refusal is None:
        return Fetched(CREATED_CODE, CREATED_MESSAGE, request)
    return Fetched(refusal.code, refusal.message, request)


def _fault(task: Resendable) -> Refusal | None:
    """Why a task of the account's own is not resent."""
    if task.queued:
        return TaskHanded() if task.running else TaskInQueue()
    if task.code is None or task.request is None:
        return ResultsExpired()
    wanted = _wanted(task.request)
    return InvalidField(NO_WEBHOOKS) if wanted.pingback_url is None and wanted.postback_url is None else None
