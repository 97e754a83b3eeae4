"""Natural grouping: when idle, commit at once; when busy, everything that piled up meanwhile commits together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from restante.core.limits import GROUP_MAX
from restante.store.database import DatabaseLost

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
            self._running = asyncio.create_task(self._run())
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
