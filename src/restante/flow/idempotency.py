"""Idempotency-Key (contract §12.24): a POST that is repeated with its key gets the first answer, byte for byte.

The answer is kept by the very transaction that accepts the tasks, so that no crash leaves one without the other. Of
POSTs that arrive together each accepts, then keeps; keeping waits for whoever came first and finds the key taken, and
what was accepted for the loser is rolled back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import msgspec

from restante.core.allowance import UNLIMITED, Allowance
from restante.core.errors import InvalidBody
from restante.flow.accept import Acceptor, Fates, Judged
from restante.store import idempotency
from restante.store.database import Database, Session
from restante.store.idempotency import Kept

Answering = Callable[[Sequence[str], Fates], bytes]


class Key(msgspec.Struct, frozen=True):
    """A client's word that POSTs with this text and this body are one and the same."""

    account_id: int
    text: str
    body_hash: bytes


class _Taken(Exception):
    """Somebody kept an answer to this key meanwhile."""


def key_of(account_id: int, text: str, body: bytes) -> Key:
    """The key of a POST with this body."""
    return Key(account_id, text, hashlib.blake2b(body, digest_size=32).digest())


class Once:
    """Accepts a POST once for each key, within `lifetime`."""

    def __init__(self, db: Database, acceptor: Acceptor, clock: Callable[[], datetime], lifetime: timedelta) -> None:
        self._db = db
        self._acceptor = acceptor
        self._clock = clock
        self._lifetime = lifetime

    async def first_answer(self, key: Key) -> bytes | InvalidBody | None:
        """What the key was answered; InvalidBody when that was another body, None when there is no answer yet."""
        since = self._clock() - self._lifetime
        kept = await self._db.again(lambda: idempotency.find(self._db, key.account_id, key.text, since))
        if kept is None:
            return None
        return kept.answer if kept.body_hash == key.body_hash else InvalidBody()

    async def accept(
        self, key: Key, judged: Sequence[Judged], answer: Answering, allowance: Allowance = UNLIMITED
    ) -> bytes | InvalidBody:
        """Accept the tasks and keep the `answer` made of their ids and fates; or the first answer.

        Raises DatabaseLost. Lost once, it is tried again at once: a key tells whether the first try was committed.
        """
        return await self._db.again(lambda: self._accept(key, judged, answer, allowance))

    async def _accept(
        self, key: Key, judged: Sequence[Judged], answer: Answering, allowance: Allowance
    ) -> bytes | InvalidBody:
        answered = b""

        async def keep(tx: Session, now: datetime, ids: Sequence[str], fates: Fates) -> None:
            nonlocal answered
            answered = answer(ids, fates)
            kept = Kept(key.body_hash, answered)
            if not await idempotency.keep(tx, key.account_id, key.text, kept, now, now - self._lifetime):
                raise _Taken

        while True:
            try:
                await self._acceptor.accept(key.account_id, judged, keep, allowance)
            except _Taken:
                first = await self.first_answer(key)
                if first is None:  # it expired in this very moment
                    continue
                return first
            return answered
