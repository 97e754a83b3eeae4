"""What calls at work may take of a process: connections of one account, memory of bodies (web/room.py)."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import resource
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec
import pytest
from starlette.requests import Request

from restante.core.allowance import UNLIMITED
from restante.core.errors import OK_CODE, OK_MESSAGE, InternalError, InvalidBody, Refusal
from restante.core.limits import CALL_BODY_BYTES_FREE, GZIP_MEMBERS
from restante.flow.collect import Fetched
from restante.web import body
from restante.web.auth import BasicAuth, Caller, Door
from restante.web.fast_path import FastPath, HttpProtocol
from restante.web.room import Room
from restante.web.wire import FAMILY
from tests.support import Http, Restante, task
from tests.web.calls import Shop

MIB = 1024 * 1024
IDLE = 2_500


def test_an_account_has_so_many_calls_at_work_and_others_have_theirs() -> None:
    room = Room(calls=2)
    first, second = room.enter(1), room.enter(1)
    assert first is not None and second is not None
    assert room.enter(1) is None
    assert room.enter(2) is not None
    first.leave()
    assert room.enter(1) is not None


def test_bodies_have_room_by_account_and_in_all() -> None:
    room = Room(size=100 * MIB, share=60 * MIB)
    places = [room.enter(account_id) for account_id in (1, 1, 2, 3)]
    one, again, other, third = [place for place in places if place is not None]
    assert one.holds(40 * MIB)
    assert not again.holds(40 * MIB), "its account has had its share"
    assert other.holds(50 * MIB)
    assert not third.holds(40 * MIB), "all of it is taken"
    assert third.holds(CALL_BODY_BYTES_FREE), "what is small has room however full it is"
    assert one.holds(40 * MIB), "what is held is not counted twice"
    one.leave()
    assert third.holds(40 * MIB)
    for place in (again, other, third):
        place.leave()
    assert (room._all, dict(room._calls), dict(room._held)) == (0, {}, {})


async def received(sent: bytes, room: Room, *, encoding: str = "identity") -> bytes | Refusal:
    """What body.read makes of a body while its call has a place."""
    chunks = [sent[at : at + 65_536] for at in range(0, len(sent), 65_536)]

    async def receive() -> dict[str, Any]:
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    place = room.enter(1)
    scope = {"type": "http", "headers": [(b"content-encoding", encoding.encode())], "place": place}
    return await body.read(Request(scope, receive), 16 * MIB)


async def test_a_body_without_room_is_refused_and_read_to_its_end() -> None:
    room = Room(size=20 * MIB, share=20 * MIB)
    assert isinstance(await received(b"x" * 12 * MIB, room), bytes)
    assert isinstance(await received(b"x" * 12 * MIB, room), InternalError)


async def test_a_compressed_body_takes_the_room_of_what_is_in_it() -> None:
    """Sixteen kilobytes of a bomb are sixteen megabytes of memory."""
    room = Room(size=20 * MIB, share=20 * MIB)
    bomb = gzip.compress(b"x" * 12 * MIB, 1, mtime=0)
    assert isinstance(await received(bomb, room, encoding="gzip"), bytes)
    assert isinstance(await received(bomb, room, encoding="gzip"), InternalError)


async def test_a_body_of_thousands_of_empty_gzip_members_is_none() -> None:
    """Each costs a copy of what is behind it: 64 MiB of them kept a core busy for half a minute."""
    empty = gzip.compress(b"", mtime=0)
    good = gzip.compress(b"[1]", mtime=0)
    assert await received(empty * (GZIP_MEMBERS - 1) + good, Room(), encoding="gzip") == b"[1]"
    assert isinstance(await received(empty * 50_000, Room(), encoding="gzip"), InvalidBody)


async def test_who_has_too_many_calls_at_work_is_told_503() -> None:
    """And the place is given back whatever becomes of a call."""

    class Everybody:
        async def check(self, header: str) -> Caller:
            return Caller(1, "somebody", UNLIMITED)

    go, sent = asyncio.Event(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        raise RuntimeError("broken")

    async def send(message: Any) -> None:
        sent.append(message)

    receive: Any = None
    auth = BasicAuth(app, Door(Everybody(), Room(calls=1)))  # type: ignore[arg-type]
    scope = {"type": "http", "path": "/v3/x", "method": "GET", "headers": []}
    first = asyncio.create_task(auth(dict(scope), receive, send))
    await asyncio.sleep(0)
    await auth(dict(scope), receive, send)
    assert sent[0]["status"] == 503
    assert msgspec.json.decode(sent[1]["body"])["status_code"] == 50000
    go.set()
    with pytest.raises(RuntimeError):
        await first
    with pytest.raises(RuntimeError):
        await auth(dict(scope), receive, send)


async def test_a_call_past_the_framework_has_its_place_until_it_is_written() -> None:
    account = Caller(1, "somebody", UNLIMITED)
    found = Fetched(OK_CODE, OK_MESSAGE, b"{}", b"[]")
    passwords, collector = Mock(check=AsyncMock(return_value=account)), Mock(task_get=AsyncMock(return_value=found))
    rates = Mock(judge=AsyncMock(return_value=None))
    room = Room(calls=1)
    fast = FastPath(Mock(), Door(passwords, room), rates, collector, ())
    path = f"{FAMILY}/task_get/{uuid4()}"
    way = fast.way("GET", path)
    assert way is not None
    scope = {"method": "GET", "path": path, "headers": []}
    reply = await way(scope, AsyncMock())
    assert (reply.status, (await way(scope, AsyncMock())).status) == (200, 503)
    go = asyncio.Event()
    protocol = HttpProtocol.__new__(HttpProtocol)
    protocol.flow = Mock(write_paused=True, drain=go.wait)
    cycle: Any = SimpleNamespace(scope=scope, receive=None, disconnected=True)
    writing = asyncio.create_task(protocol._go(cycle, AsyncMock(return_value=reply)))
    await asyncio.sleep(0)
    assert room.enter(1) is None, "its client does not read"
    go.set()
    await writing
    collector.task_get.side_effect = RuntimeError("broken")
    broken = await way(scope, AsyncMock())
    assert broken.status == 500 and broken.place is not None
    broken.place.leave()
    rates.judge.side_effect = asyncio.CancelledError
    with pytest.raises(asyncio.CancelledError):
        await way(scope, AsyncMock())
    assert room.enter(1) is not None


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * IDLE
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip("this machine allows too few files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
async def test_thousands_of_idle_connections_keep_nobody_waiting(restante: Restante, shop: Shop) -> None:
    """Silent ones, and ones with half a header."""
    url = urlsplit(restante.url)
    async with contextlib.AsyncExitStack() as stack, Http(restante.family, shop.credentials) as http:
        for number in range(IDLE):
            _, writer = await asyncio.open_connection(url.hostname, url.port)
            stack.callback(writer.close)
            if number % 10 == 0:
                writer.write(b"POST /v3/ai_optimization/gemini/llm_responses/task_post HTTP/1.1\r\nHost: rest")
        posted = await http.post([task(tag=str(number)) for number in range(10)])
        await http.answers([entry["id"] for entry in posted["tasks"]])
