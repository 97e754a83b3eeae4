"""What the calls at work take of a process: how many an account may have, and how much memory bodies may.

A body is held until its call is answered, and a small one may be a large one compressed. Without a bound a few
accounts, or one that is careless, could take all of a process's memory, or all of its connections.
"""

from __future__ import annotations

from collections import Counter

from restante.core.limits import CALL_BODY_BYTES, CALL_BODY_BYTES_ACCOUNT, CALL_BODY_BYTES_FREE, CALLS_OF_ACCOUNT


class Room:
    """Shared by all calls of a process."""

    def __init__(
        self, *, calls: int = CALLS_OF_ACCOUNT, size: int = CALL_BODY_BYTES, share: int = CALL_BODY_BYTES_ACCOUNT
    ) -> None:
        self._most_calls, self._most, self._share = calls, size, share
        self._calls: Counter[int] = Counter()
        self._held: Counter[int] = Counter()
        self._all = 0

    def enter(self, account_id: int) -> Place | None:
        """A call's place, to be left when it is answered; None: the account has as many as it may."""
        if self._calls[account_id] >= self._most_calls:
            return None
        self._calls[account_id] += 1
        return Place(self, account_id)

    def _take(self, account_id: int, size: int) -> bool:
        if self._all + size > self._most or self._held[account_id] + size > self._share:
            return False
        self._all += size
        self._held[account_id] += size
        return True

    def _leave(self, account_id: int, held: int) -> None:
        self._all -= held
        for counter, number in ((self._calls, 1), (self._held, held)):
            counter[account_id] -= number
            if not counter[account_id]:
                del counter[account_id]


class Place:
    """One call's."""

    def __init__(self, room: Room, account_id: int) -> None:
        self._room = room
        self._account_id = account_id
        self._held = 0

    def holds(self, size: int) -> bool:
        """Its body has so many bytes by now; False: there is no room for them. Small bodies always have it."""
        wanted = size - CALL_BODY_BYTES_FREE - self._held
        if wanted <= 0:
            return True
        if not self._room._take(self._account_id, wanted):
            return False
        self._held += wanted
        return True

    def leave(self) -> None:
        self._room._leave(self._account_id, self._held)
        self._held = 0
