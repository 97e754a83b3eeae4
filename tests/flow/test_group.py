"""Natural grouping: alone when idle, together when busy, each member with its own answer or error."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from restante.flow.group import Group
from restante.store.errors import DatabaseLost


class Commits:
    """Commits that can be held up, and remembers their sizes."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, group: Sequence[int]) -> Sequence[int]:
        self.sizes.append(len(group))
        await self.go_on.wait()
        if any(member < 0 for member in group):
            raise ValueError("a negative member")
        if 13 in group:
            raise DatabaseLost("away")
        return [member * 2 for member in group]


async def test_members_that_pile_up_go_together() -> None:
    commits = Commits()
    commits.go_on.clear()
    group = Group(commits, most=50)
    first = asyncio.create_task(group.submit(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rest = [asyncio.create_task(group.submit(number)) for number in range(100, 180)]
    await asyncio.sleep(0)
    commits.go_on.set()
    assert await first == 2
    assert await asyncio.gather(*rest) == [number * 2 for number in range(100, 180)]
    assert commits.sizes == [1, 50, 30]
    await group.idle()


async def test_a_culprit_fails_alone() -> None:
    group = Group(Commits())
    outcomes = await asyncio.gather(*(group.submit(number) for number in (1, -1, 3)), return_exceptions=True)
    assert [outcomes[0], outcomes[2]] == [2, 6]
    assert isinstance(outcomes[1], ValueError)


async def test_a_lost_database_fails_all_at_once() -> None:
    commits = Commits()
    group = Group(commits)
    outcomes = await asyncio.gather(*(group.submit(number) for number in (1, 13)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DatabaseLost, DatabaseLost]
    assert commits.sizes == [2]


async def test_a_caller_who_leaves_does_not_stop_the_commit() -> None:
    commits = Commits()
    commits.go_on.clear()
    group = Group(commits)
    leaving, staying = asyncio.create_task(group.submit(1)), asyncio.create_task(group.submit(2))
    await asyncio.sleep(0)
    leaving.cancel()
    commits.go_on.set()
    assert await staying == 4
    with pytest.raises(asyncio.CancelledError):
        await leaving
