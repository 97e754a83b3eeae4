"""Natural grouping: when idle, commit at once; when busy, everything that piled up meanwhile commits together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from restante.core.limits import GROUP_MAX, SETTLE_RETRY_SECONDS
from restante.observing.current import nobody
from restante.store.database import Database
from restante.store.errors import DatabaseLost

K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R")


class Group(Generic[T, R]):
    """Collects members for `commit`, which answers each in order.

    If a group fails its members go singly, so that the culprit fails alone; a lost connection fails them all. One
    commit is in flight at a time. Cancelling a submitter does not stop the commit its member is in.
    """

    def __init__(self, commit: Callable[[Sequence[T]], Awaitable[Sequence[R]]], most: int = GROUP_MAX) -> None:
        self._commit = commit
        self._most = most
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._running: asyncio.Task[None] | None = None

    @property
    def empty(self) -> bool:
        """Nothing waits and nothing is being committed."""
        return self._running is None and not self._waiting

    async def submit(self, member: T) -> R:
        """The commit's answer to this member, or its exception."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((member, answer))
        if self._running is None:
            self._running = asyncio.create_task(self._run(), context=nobody())
        return await answer

    async def idle(self) -> None:
        """Wait until everything submitted so far is committed."""
        while self._running is not None:
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        try:
            while self._waiting:
                members = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                await self._together(members)
        finally:
            self._running = None

    async def _together(self, members: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            answers = await self._commit([member for member, _ in members])
        except Exception as error:  # each member hears of it; nothing is swallowed
            if len(members) > 1 and not isinstance(error, DatabaseLost):
                for one in members:
                    await self._together([one])
                return
            for _, answer in members:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), value in zip(members, answers, strict=True):
            if not answer.done():
                answer.set_result(value)


class Groups(Generic[K, T, R]):
    """Groups by key, made when first needed and forgotten, once empty, when another is made: keys such as leases come
    and go."""

    def __init__(self, commit: Callable[[K, Sequence[T]], Awaitable[Sequence[R]]]) -> None:
        self._commit = commit
        self._groups: dict[K, Group[T, R]] = {}

    async def submit(self, key: K, member: T) -> R:
        """The commit's answer to this member of the key's group, or its exception."""
        group = self._groups.get(key)
        if group is None:
            self._groups = {other: group for other, group in self._groups.items() if not group.empty}
            group = self._groups[key] = Group(lambda members: self._commit(key, members))
        return await group.submit(member)

    async def idle(self) -> None:
        """Wait until everything submitted so far is committed."""
        for group in list(self._groups.values()):
            await group.idle()


async def stored(db: Database, write: Callable[[bool], Awaitable[R]], waiting: Callable[[Exception], None]) -> R:
    """What `write` returns, tried until the database is there. It is told whether it is tried again: then the lost one
    may have been committed. `waiting` hears of each loss."""
    tries = 0
    while True:
        try:
            return await write(tries > 0)
        except DatabaseLost as error:
            pause = SETTLE_RETRY_SECONDS[min(tries, len(SETTLE_RETRY_SECONDS) - 1)]
            tries += 1
            waiting(error)
            await db.revive()
            await asyncio.sleep(pause)
