"""Deeds: what people do by a form of the console happens once, however often the form is sent.

Each form carries a token that is good once. A deed that moves money is remembered by the very transaction that does it,
as the answer to an Idempotency-Key is (flow/idempotency); one that is the same done twice, after it is done. A form
that is sent again gets told what was done the first time, or joins it while it is being done: a deed goes on when its
browser hangs up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

import msgspec

from restante.core.errors import OperatorError, RestanteError
from restante.core.limits import DEED_HOURS, DEED_SECRET_SECONDS
from restante.store import idempotency
from restante.store.database import Database, Session
from restante.store.idempotency import Kept

_OURS: Final = "console: \N{MIDDLE DOT} "  # of the keys; no client's Idempotency-Key has such a letter


class Deed(msgspec.Struct, frozen=True):
    """What was done, in words; `link` is a path of the console where it can be seen. `secret`: shown to whoever did it
    and kept nowhere."""

    said: str
    link: str = ""
    secret: object = None


class Form(msgspec.Struct, frozen=True):
    """A form that was sent: whose session, its token, a digest of its fields."""

    account_id: int
    token: str
    fingerprint: bytes


class FormUsed(RestanteError):
    """The token was used with other fields: the browser went back to an old form."""

    def __init__(self, deed: Deed) -> None:
        self.deed = deed
        super().__init__(deed.said)


class _Taken(Exception):
    """The same form was sent twice at once, and the other one was first."""


Keep = Callable[[Session, Deed], Awaitable[None]]
Work = Callable[[Keep], Awaitable[Deed]]


class Deeds:
    """Of one process. `lifetime`: how long a form is remembered."""

    def __init__(
        self, db: Database, clock: Callable[[], datetime], lifetime: timedelta = timedelta(hours=DEED_HOURS)
    ) -> None:
        self._db = db
        self._clock = clock
        self._lifetime = lifetime
        self._doing: dict[tuple[int, str], tuple[bytes, asyncio.Task[Deed]]] = {}

    @property
    def seconds(self) -> float:
        """How long a form is remembered; an older one may have been sent before, and is not to be taken."""
        return self._lifetime.total_seconds()

    async def find(self, account_id: int, token: str) -> Deed | None:
        """What was done by a form of the account's; None: nothing yet. Raises DatabaseLost."""
        kept = await self._find(account_id, token)
        return None if kept is None else kept[1]

    def doing(self, account_id: int, token: str) -> bool:
        """Whether a form's deed is being done in this process."""
        found = self._doing.get((account_id, token))
        return found is not None and not found[1].done()

    async def once(self, form: Form, work: Work) -> asyncio.Task[Deed]:
        """Do it, unless it is done or being done. `work` calls what it is given, within its transaction, where doing
        it twice would not be the same.

        Raises FormUsed, DatabaseLost; the task raises what the work raises, and then nothing is remembered.
        """
        place = (form.account_id, form.token)
        kept = None if place in self._doing else await self._find(*place)
        running = self._doing.get(place)  # after the look: sent twice at once, and one of them was faster
        if running is not None:
            if running[0] != form.fingerprint:
                raise FormUsed(Deed("it is being done"))
            return running[1]
        if kept is not None:
            if kept[0] != form.fingerprint:
                raise FormUsed(kept[1])
            return asyncio.create_task(_said(kept[1]))
        task = asyncio.create_task(self._do(form, work))
        task.add_done_callback(lambda done: self._ended(place, done))
        self._doing[place] = (form.fingerprint, task)
        return task

    async def close(self, seconds: float) -> None:
        """Let what is being done end, at the end of the process."""
        tasks = [task for _, task in self._doing.values() if not task.done()]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    async def _do(self, form: Form, work: Work) -> Deed:
        kept = False

        async def keep(db: Session, deed: Deed) -> None:
            nonlocal kept
            now = self._clock()
            body = msgspec.json.encode(msgspec.structs.replace(deed, secret=None))
            if not await idempotency.keep(
                db, form.account_id, _OURS + form.token, Kept(form.fingerprint, body), now, now - self._lifetime
            ):
                raise _Taken
            kept = True

        try:
            deed = await work(keep)
            if not kept:
                await keep(self._db, deed)
        except _Taken:
            first = await self.find(form.account_id, form.token)
            return first or Deed("done")
        except OperatorError:  # such as "there is an account already": the one that this form, sent twice, has opened
            first = await self.find(form.account_id, form.token)
            if first is None:
                raise
            return first
        return deed

    async def _find(self, account_id: int, token: str) -> tuple[bytes, Deed] | None:
        since = self._clock() - self._lifetime
        kept = await self._db.again(lambda: idempotency.find(self._db, account_id, _OURS + token, since))
        return None if kept is None else (kept.body_hash, msgspec.json.decode(kept.answer, type=Deed))

    def _ended(self, place: tuple[int, str], task: asyncio.Task[Deed]) -> None:
        if task.cancelled() or task.exception() is not None:
            del self._doing[place]  # nothing is remembered: the same form may try again
        else:
            asyncio.get_running_loop().call_later(DEED_SECRET_SECONDS, self._doing.pop, place, None)


async def _said(deed: Deed) -> Deed:
    return deed
