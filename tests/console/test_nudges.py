"""Nudges: told within a second or two that something changed, nothing else, and not of others."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from restante.flow.reading import Reads, StandbyReads
from restante.store.database import Database
from restante.web.console.nudges import Nudges
from restante.web.console.session import Viewer
from tests.console.visiting import Visitor, visitor
from tests.support import Http, Restante, open_account, task
from tests.web.calls import open_shop

SECONDS = 10.0  # far beyond a look a second


@contextlib.asynccontextmanager
async def watching(browser: Visitor) -> AsyncIterator[aiohttp.StreamReader]:
    """The stream of a page that is open."""
    async with browser._session.get(f"{browser._url}/events") as response:
        assert response.status == 200 and response.content_type == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store"
        assert await response.content.readline() == b"retry: 2000\n"
        yield response.content


async def nudged(stream: aiohttp.StreamReader) -> None:
    async with asyncio.timeout(SECONDS):
        while await stream.readline() != b"event: nudge\n":
            pass
        assert await stream.readline() == b"data: changed\n"


async def test_a_task_nudges_its_account_and_the_operator_alone(restante: Restante) -> None:
    busy, idle = await asyncio.to_thread(lambda: (open_shop(restante), open_shop(restante)))
    visitors = [await visitor(restante.url, one) for one in (busy.credentials, idle.credentials)]
    operator = await visitor(restante.url)
    async with (
        visitors[0], visitors[1], operator,
        watching(visitors[0]) as mine, watching(visitors[1]) as others, watching(operator) as all_of_them,
    ):  # fmt: skip
        await asyncio.sleep(1.5)  # the first look tells nothing new
        async with Http(restante.family, busy.credentials) as http:
            await http.post([task("something")])
        await asyncio.gather(nudged(mine), nudged(all_of_them))
        assert b"nudge" not in await _rest(others)


async def _rest(stream: aiohttp.StreamReader) -> bytes:
    """What has come and comes within two looks."""
    seen = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2.5):
            while line := await stream.readline():
                seen += line
    return seen


async def test_streams_end_when_the_process_stops(tmp_path: Path) -> None:
    """Not after their ten minutes, which a restart would have to wait for."""
    up = Restante(tmp_path, "--provider", "scripted", DRAIN_SECONDS="60")
    try:
        operator = await visitor(up.url)
        async with operator, watching(operator) as stream:
            up.process.signal(signal.SIGTERM)
            async with asyncio.timeout(SECONDS):
                assert b"nudge" not in await stream.read()
            assert await asyncio.to_thread(up.process.wait, 30) == 0
    finally:
        up.process.kill()


def _request(account: int) -> Request:
    viewer = Viewer(account, "somebody", False, "", 0)
    return Request({"type": "http", "method": "GET", "headers": [], "path": "/", "viewer": viewer})


async def test_streams_are_bounded_and_nobody_looks_when_nobody_watches(db: Database) -> None:
    await open_account(db, "somebody")
    nudges = Nudges(StandbyReads(Reads(db), None), asyncio.Event(), most=3, most_of_account=2)
    taken: list[AsyncIterator[bytes]] = []

    async def ask(account: int) -> Response:
        answered = await nudges.events(_request(account))
        if isinstance(answered, StreamingResponse):
            taken.append(answered.body_iterator)  # type: ignore[arg-type]
            assert await anext(taken[-1]) == b"retry: 2000\n\n"
        return answered

    assert [(await ask(account)).status_code for account in (1, 1, 1, 2, 3)] == [200, 200, 503, 200, 503]
    watching = nudges._watching
    assert watching is not None and not watching.done()
    for one in taken:
        await one.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(SECONDS):
        await watching
    assert (await ask(1)).status_code == 200
    await taken[-1].aclose()  # type: ignore[attr-defined]
