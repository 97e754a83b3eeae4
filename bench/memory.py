"""Memory (PSS) of restante's own processes, idle and under the load of end to end; PostgreSQL and the model beside.

What processes share is counted by their shares, so that the figures add up.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from bench import end_to_end
from bench.client import Connection, live
from bench.installation import Installation, installed
from bench.machine import Clocks, children, fdatasync_ms, pss_mib
from bench.report import Goal, Row, missing, one_round, said

_IDLE_SECONDS = 3.0
_LOOK_SECONDS = 0.25
_MODEL_SECONDS = 120.0
_PYTHON = ("API", "worker")


async def measure(parent: Path | None, rounds: int, posts: int) -> list[Row]:
    """Four rows, or five; the load is `posts` POSTs of each account a round. A round's figure is its largest."""
    idle = Row(name="memory: API + worker, idle", unit="MiB", rounds=[], goals=[Goal(bound=150, at_most=True)])
    loaded = Row(name="  under load", unit="MiB", rounds=[], goals=[Goal(bound=400, at_most=True)])
    server_idle = Row(name="  PostgreSQL, idle", unit="MiB", rounds=[])
    server = Row(name="  PostgreSQL, under load", unit="MiB", rounds=[])
    async with installed(parent, workers=1) as restante:
        for number in range(1, rounds + 1):
            await _sampled(restante, lambda: asyncio.sleep(_IDLE_SECONDS), idle, server_idle)
            said(idle, number)
            await _sampled(restante, lambda: end_to_end.through_http(restante, posts), loaded, server)
            said(loaded, number)
        idle.ratio = "the first, before any load: " + f"{idle.rounds[0].figure:.0f} MiB"
        loaded.note = await restante.audit()
    return [idle, loaded, server_idle, server, await _model(parent)]


async def _sampled(
    restante: Installation, load: Callable[[], Coroutine[Any, Any, object]], ours: Row, postgres: Row
) -> None:
    disk = fdatasync_ms(restante.directory)
    clocks = Clocks(restante.processes)
    working = asyncio.create_task(load())
    python: list[float] = []
    server: list[float] = []
    while not working.done():
        python.append(sum(pss_mib(restante.processes[name]) for name in _PYTHON))
        server.append(pss_mib(restante.processes["PostgreSQL"], family=True))
        await asyncio.wait([working], timeout=_LOOK_SECONDS)
    await working
    clocks.stop()
    clocks.cpu = {}  # CPU a task says nothing here
    ours.rounds.append(one_round(max(python), len(python), clocks, disk))
    postgres.rounds.append(one_round(max(server), len(server), clocks, disk))


async def _model(parent: Path | None) -> Row:
    """The embedded demonstration model's own process, after one answer."""
    name = "  the embedded model's process"
    try:
        async with installed(parent, workers=0, provider="embedded", opened=1) as restante:
            disk = fdatasync_ms(restante.directory)
            clocks = Clocks(restante.processes)
            connection = await Connection(restante).open()
            async with asyncio.timeout(_MODEL_SECONDS):
                answer = await connection.call(live(restante.clients[0], 1))
            if answer.count(b'"status_code":20000') != 2:
                return missing(name, "it did not answer")
            clocks.stop()
            clocks.cpu = {}
            connection.close()
            found = [pss_mib(child) for child in children(restante.processes["API"]) if _is_model(child)]
    except SystemExit as why:
        return missing(name, str(why))
    if not found:
        return missing(name, "it has no process of its own")
    return Row(name=name, unit="MiB", rounds=[one_round(sum(found), 1, clocks, disk)])


def _is_model(pid: int) -> bool:
    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return any(b"model" in part for part in command) and pid != os.getpid()
