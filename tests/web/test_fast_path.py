"""Calls past the framework, byte by byte: connections that stay, that end, that carry several calls at once; and that
they are answered as the framework would."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.client
import json
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from http.client import HTTPResponse
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock
from urllib.parse import urlsplit

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive

from restante.core.allowance import UNLIMITED
from restante.flow.disk import DiskFull
from restante.flow.rates import Verdict
from restante.store.errors import DatabaseLost
from restante.web.application import create_app
from restante.web.auth import Caller, Door
from restante.web.fast_path import FastPath, HttpProtocol
from restante.web.operation import Operation
from restante.web.rate_limit import RateLimits
from restante.web.respond import json_text
from restante.web.room import Room
from restante.web.wire import FAMILY
from tests.support import Http, Restante, task
from tests.web.calls import Shop, basic, open_shop

PATH = "/v3/ai_optimization/gemini/llm_responses/task_get/"


@pytest.fixture(scope="module")
def shop(restante: Restante) -> Shop:
    return open_shop(restante)


@pytest.fixture(scope="module")
def ids(restante: Restante, shop: Shop) -> list[str]:
    async def post() -> list[str]:
        async with Http(restante.family, shop.credentials) as calls:
            answer = await calls.post([task("a short one"), task("a long one [[words=400]]")])
            posted = [entry["id"] for entry in answer["tasks"]]
            await calls.answers(posted)
        return posted

    return asyncio.run(post())


def head(shop: Shop, task_id: str, *more: str, method: str = "GET", version: str = "1.1") -> bytes:
    proof = basic(*shop.credentials)
    lines = [f"{method} {PATH}{task_id} HTTP/{version}", "Host: restante", f"Authorization: {proof}", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def connection(restante: Restante) -> socket.socket:
    url = urlsplit(restante.url)
    assert url.hostname and url.port
    return socket.create_connection((url.hostname, url.port), timeout=20)


def read(at: socket.socket, method: str = "GET") -> tuple[HTTPResponse, bytes]:
    answer = HTTPResponse(at, method=method)
    answer.begin()
    return answer, answer.read()


def fetched(body: bytes) -> tuple[str, int]:
    [entry] = json.loads(body)["tasks"]
    return entry["id"], entry["status_code"]


def test_calls_in_one_packet_are_answered_in_order(restante: Restante, shop: Shop, ids: list[str]) -> None:
    unknown = ids[0][:-1] + ("0" if ids[0][-1] != "0" else "1")
    asked = [ids[0], unknown, ids[1], ids[0]]
    with closing(connection(restante)) as at:
        at.sendall(b"".join(head(shop, one) for one in asked))
        answers = []
        with at.makefile("rb") as stream:
            for _ in asked:
                assert stream.readline() == b"HTTP/1.1 200 OK\r\n"
                headers = http.client.parse_headers(stream)
                answers.append(fetched(stream.read(int(headers["content-length"]))))
    assert answers == [(ids[0], 20000), (unknown, 40401), (ids[1], 20000), (ids[0], 20000)]


@pytest.mark.parametrize(("version", "more"), [("1.0", ()), ("1.1", ("Connection: close",))])
def test_a_connection_that_shall_end_ends(
    restante: Restante, shop: Shop, ids: list[str], version: str, more: tuple[str, ...]
) -> None:
    with closing(connection(restante)) as at:
        at.sendall(head(shop, ids[0], *more, version=version))
        answer, body = read(at)
        assert fetched(body) == (ids[0], 20000)
        assert answer.getheader("connection") == "close"
        assert at.recv(1) == b""


def test_it_stays_open_beside_calls_that_go_the_long_way(restante: Restante, shop: Shop, ids: list[str]) -> None:
    with closing(connection(restante)) as at:
        at.sendall(head(shop, ids[0]))
        answer, short = read(at)
        assert answer.getheader("connection") is None and answer.getheader("date")
        at.sendall(head(shop, ids[0] + ".xml"))
        assert read(at)[0].getheader("content-type", "").startswith("application/xml")
        at.sendall(head(shop, ids[0], method="HEAD"))
        assert read(at, "HEAD")[0].status in (200, 405)
        at.sendall(head(shop, ids[0]))
        again = read(at)[1]
    assert fetched(short) == fetched(again) == (ids[0], 20000)


def test_compressed_where_it_is_worth_it_and_asked_for(restante: Restante, shop: Shop, ids: list[str]) -> None:
    with closing(connection(restante)) as at:
        at.sendall(head(shop, ids[1], "Accept-Encoding: gzip"))
        answer, body = read(at)
        assert (answer.getheader("content-encoding"), answer.getheader("vary")) == ("gzip", "Accept-Encoding")
        assert fetched(gzip.decompress(body)) == (ids[1], 20000)
        at.sendall(head(shop, ids[1]))
        answer, body = read(at)
        assert answer.getheader("content-encoding") is None and fetched(body) == (ids[1], 20000)


def test_a_call_with_a_body_and_one_that_nobody_waits_for(restante: Restante, shop: Shop, ids: list[str]) -> None:
    with closing(connection(restante)) as at:
        at.sendall(head(shop, ids[0], "Content-Length: 5") + b"hello")
        assert fetched(read(at)[1]) == (ids[0], 20000)
        at.sendall(head(shop, ids[1]))
        assert fetched(read(at)[1]) == (ids[1], 20000)
    gone = connection(restante)
    gone.sendall(head(shop, ids[0]))
    gone.close()
    with closing(connection(restante)) as at:
        at.sendall(head(shop, ids[0]))
        assert fetched(read(at)[1]) == (ids[0], 20000)


def test_a_wrong_password_is_refused_whatever_was_right_before(restante: Restante, shop: Shop, ids: list[str]) -> None:
    login, password = shop.credentials
    with closing(connection(restante)) as at:
        for secret, status in [(password, 200), (password + "x", 401), (password, 200), ("", 401)]:
            at.sendall(head(shop._replace(credentials=(login, secret)), ids[0]))
            assert read(at)[0].status == status


def test_of_two_proofs_the_first_counts_as_on_every_path(restante: Restante, shop: Shop, ids: list[str]) -> None:
    nobody_first = head(shop, ids[0]).replace(b"Authorization:", b"Authorization:\r\nAuthorization:")
    with closing(connection(restante)) as at:
        at.sendall(nobody_first)
        assert read(at)[0].status == 401


async def test_a_call_that_breaks_leaves_no_client_waiting() -> None:
    protocol = HttpProtocol.__new__(HttpProtocol)
    protocol.transport = Mock()
    cycle: Any = SimpleNamespace(scope={}, receive=None, send_500_response=AsyncMock())
    with pytest.raises(asyncio.CancelledError):
        await protocol._go(cycle, AsyncMock(side_effect=asyncio.CancelledError))
    cycle.send_500_response.assert_awaited_once()
    protocol.transport.close.assert_called_once()


def _live(endpoint: Callable[[Request], Awaitable[Response]]) -> Operation:
    path = f"{FAMILY}/live"
    return Operation(
        group="", name="live", method="POST", path=path, summary="", description="", endpoint=endpoint, rate="live"
    )


async def test_what_breaks_around_an_endpoint_is_answered_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The door, and compressing what was done already."""
    room, endpoint = Room(calls=1), AsyncMock(return_value=json_text(b"x" * 300_000))
    passwords = Mock(check=AsyncMock(return_value=Caller(1, "somebody", UNLIMITED)))
    operation = _live(endpoint)
    fast = FastPath(Mock(), Door(passwords, room), RateLimits(Mock(), Mock()), Mock(), [operation])
    way = fast.way("POST", operation.path)
    assert way is not None
    scope = {"type": "http", "method": "POST", "path": operation.path, "headers": [(b"accept-encoding", b"gzip")]}
    monkeypatch.setattr(asyncio, "to_thread", AsyncMock(side_effect=RuntimeError("can't start new thread")))
    told = await way(scope, AsyncMock())
    assert (told.status, told.body, dict(told.headers).get(b"content-encoding")) == (200, b"x" * 300_000, None)
    assert told.place is not None
    told.place.leave()
    passwords.check.side_effect = ValueError("nobody thought of it")
    broken = await way(scope, AsyncMock())
    assert (broken.status, broken.place) == (500, None)
    assert room.enter(1) is not None


async def _long(app: ASGIApp, scope: dict[str, Any], body: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    with contextlib.suppress(RuntimeError):  # raised again behind its 500, for the server's log
        await app(dict(scope), _receiver(body), send)
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(one.get("body", b"") for one in sent[1:])


def _receiver(body: bytes) -> Receive:
    return AsyncMock(return_value={"type": "http.request", "body": body, "more_body": False})


async def _answers(request: Request) -> Response:
    size = int(await request.body())
    return json_text(b"x" * size)


def _raises(error: Exception) -> Callable[[Request], Awaitable[Response]]:
    async def broken(_: Request) -> Response:  # a function: Starlette would take a mock for an application
        raise error

    return broken


@pytest.mark.parametrize("encoding", ["gzip, br", "identity"])
@pytest.mark.parametrize(
    ("endpoint", "size", "allowed", "right"),
    [
        (_answers, 10, None, True),
        (_answers, 5_000, None, True),
        (_answers, 300_000, None, True),
        (_answers, 10, True, True),
        (_answers, 10, False, True),
        (_answers, 10, None, False),
        (_raises(DatabaseLost("gone")), 0, None, True),
        (_raises(DatabaseLost("gone")), 0, True, True),
        (_raises(DiskFull()), 0, None, True),
        (_raises(DiskFull()), 0, True, True),
        (_raises(RuntimeError("nobody thought of it")), 0, True, True),
        (_raises(RuntimeError("nobody thought of it")), 0, None, True),
    ],
)
async def test_both_ways_answer_the_same(
    endpoint: Callable[[Request], Awaitable[Response]], size: int, allowed: bool | None, right: bool, encoding: str
) -> None:
    operation = _live(endpoint)
    caller = Caller(1, "somebody", msgspec.structs.replace(UNLIMITED, live=0 if allowed is None else 7))
    door = Door(Mock(check=AsyncMock(return_value=caller if right else None)), Room())
    now = datetime(2026, 11, 22, tzinfo=UTC)
    took = Verdict(bool(allowed), 7, 3)
    rates = RateLimits(Mock(take=AsyncMock(return_value=took)), lambda: now)
    fast = FastPath(
        create_app([operation], rates, UNLIMITED, door, lambda: now), door, rates, Mock(), [operation]
    )  # fmt: skip
    headers = [(b"accept-encoding", encoding.encode()), (b"authorization", b"Basic x")]
    scope = {
        "type": "http", "method": "POST", "path": operation.path, "headers": headers, "query_string": b"",
        "http_version": "1.1", "scheme": "http", "server": ("h", 1), "client": None, "root_path": "",
    }  # fmt: skip
    way = fast.way("POST", operation.path)
    assert way is not None and fast.way("GET", operation.path) is None
    short = await way(scope, _receiver(b"%d" % size))
    status, said, body = await _long(fast, scope, b"%d" % size)
    told = dict(short.headers)
    assert said.pop(b"content-length") == b"%d" % len(body)
    assert (short.status, told) == (status, said)
    assert _without_id(short.body, told) == _without_id(body, said)


def _without_id(body: bytes, headers: Mapping[bytes, bytes]) -> bytes:
    """Two refusals differ in their ids, and in how long they took."""
    plain = gzip.decompress(body) if headers.get(b"content-encoding") == b"gzip" else body
    return re.sub(rb'"(id|time)":"[^"]*"', b"", plain)
