"""Turns at walks: one of an account, a few of a process, in the order of coming."""

from __future__ import annotations

import asyncio

from restante.flow.walks import Walks
from tests.flow.conftest import until


async def test_one_of_an_account_and_a_few_of_a_process() -> None:
    walks = Walks(2)
    going: list[tuple[int, int]] = []
    ends: dict[tuple[int, int], asyncio.Event] = {}

    async def walk(account: int, number: int) -> None:
        async with walks.turn(account):
            going.append((account, number))
            await ends.setdefault((account, number), asyncio.Event()).wait()
            going.remove((account, number))

    async def end(account: int, number: int) -> None:
        ends[account, number].set()
        await until(lambda: (account, number) not in going)

    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(walk(*one)) for one in ((1, 1), (1, 2), (1, 3), (2, 1), (3, 1), (4, 1))]
        await until(lambda: len(going) == 2)
        assert going == [(1, 1), (2, 1)], "the account that asks for three does not hold up the next"
        asked[1].cancel()  # its client hung up
        await end(2, 1)
        await until(lambda: len(going) == 2)
        assert going == [(1, 1), (3, 1)]
        await end(1, 1)
        await until(lambda: len(going) == 2)
        assert going == [(3, 1), (4, 1)], "who came first"
        await end(3, 1)
        await until(lambda: len(going) == 2)
        assert going == [(4, 1), (1, 3)]
        for one in going.copy():
            await end(*one)
    assert not walks._own, "nobody is remembered for ever"
