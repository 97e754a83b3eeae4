"""Connections over real sockets: slow clients, floods, pipelines, smuggled calls; each is bounded and harms nobody."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, cast

import pytest
from starlette.requests import ClientDisconnect, Request

from restante.app import _Server, listen
from restante.config import Settings
from restante.core.limits import HTTP_HEADER_BYTES, HTTP_HEADERS, HTTP_PIPELINED
from restante.web.connections import Connections
from restante.web.fast_path import FastPath
from restante.web.server import http_server
from restante.wiring import background

MIB = 1024 * 1024
Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


class Application:
    """Echoes path, headers and body as JSON. `/held` waits for `go`, `/large` answers 64 MiB."""

    def __init__(self) -> None:
        self.closing = False
        self.go = asyncio.Event()
        self.held = 0
        self.paths: list[str] = []
        self.left = asyncio.Event()  # a client went away before its body was here

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        body = b""
        if scope["path"] == "/large":
            body = bytes(64 * MIB)
        else:
            try:
                body = await Request(scope, receive).body()
            except ClientDisconnect:
                self.left.set()
                return
            if scope["path"] == "/held":
                self.held += 1
                await self.go.wait()
            headers = [(name.decode(), value.decode()) for name, value in scope["headers"]]
            body = json.dumps([scope["path"], headers, body.decode()]).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


class Served(NamedTuple):
    port: int
    application: Application

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[Reader, Writer]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def said(self, *packets: bytes) -> bytes:
        """All that is answered to these packets until the connection ends."""
        async with self.connected() as (reader, writer):
            with contextlib.suppress(ConnectionError):
                for packet in packets:
                    writer.write(packet)
                    await writer.drain()
                    await asyncio.sleep(0)  # a packet of its own
            return await rest(reader)

    async def is_well(self) -> None:
        """Another client is answered."""
        assert (await self.said(call("/well", "Connection: close"))).startswith(b"HTTP/1.1 200 ")


async def rest(reader: Reader) -> bytes:
    """What still comes until the other side ends the connection, which a reset is too."""
    read = b""
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(MIB):
                read += chunk
    return read


@asynccontextmanager
async def serving(**bounds: Any) -> AsyncIterator[Served]:
    connections = Connections(**{"look_seconds": 0.05} | bounds)
    application = Application()
    with listen(Settings(port=0)) as socket:
        config = http_server(application, connections, drain_seconds=1)
        server = _Server(config, cast(FastPath, application), asyncio.Event(), shared=False)
        with background(connections.keep()):
            task = asyncio.create_task(server.serve(sockets=[socket]))
            await server.answers.wait()
            try:
                yield Served(socket.getsockname()[1], application)
            finally:
                application.go.set()
                server.should_exit = True
                await task


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as one:
        yield one


def call(path: str, *headers: str, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    return "\r\n".join([f"{method} {path} {version}", "Host: restante", *headers, "", ""]).encode()


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", answers)]


async def drip(writer: Writer, text: bytes) -> None:
    """The same bytes again and again, a client that is slow for ever."""
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(text)
            await writer.drain()
            await asyncio.sleep(0.02)


# --- slow ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dripping", [b"A", b"\r\n"], ids=["a header that never ends", "empty lines"])
async def test_slow_headers_have_an_end(dripping: bytes) -> None:
    async with serving(header_seconds=0.3) as served, served.connected() as (reader, writer):
        if dripping == b"A":
            writer.write(b"GET / HTTP/1.1\r\nHost: restante\r\nX: ")
        with background(drip(writer, dripping)):
            await served.is_well()
            assert statuses(await rest(reader)) == [408]
        assert served.application.paths == ["/well"]


async def test_a_connection_that_says_nothing_ends() -> None:
    async with serving(header_seconds=0.3) as served, served.connected() as (reader, _):
        assert await rest(reader) == b""


async def test_slow_headers_after_an_answer_have_an_end_too() -> None:
    """uvicorn forgets its own timer at the first byte."""
    async with serving(header_seconds=0.3) as served, served.connected() as (reader, writer):
        writer.write(call("/first"))
        await reader.readuntil(b"]")
        with background(drip(writer, b"\r\n")):
            assert statuses(await rest(reader)) == [408]


@pytest.mark.parametrize(
    ("bounds", "dripping"),
    [({"silent_seconds": 0.3}, b""), ({"silent_seconds": 5.0, "request_seconds": 0.4}, b"x")],
    ids=["silent", "dripping"],
)
async def test_slow_bodies_have_an_end(bounds: dict[str, float], dripping: bytes) -> None:
    async with serving(header_seconds=0.2, **bounds) as served, served.connected() as (reader, writer):
        writer.write(call("/", "Content-Length: 100000", method="POST") + b"some of it")
        with background(drip(writer, dripping)) if dripping else contextlib.nullcontext():
            await served.is_well()
            assert statuses(await rest(reader)) == [408]
        await asyncio.wait_for(served.application.left.wait(), 20)  # the endpoint is told, and holds nothing on


async def test_a_call_at_work_takes_as_long_as_it_takes() -> None:
    """None of these times is for the server's own."""
    bounds = {"header_seconds": 0.2, "request_seconds": 0.2, "silent_seconds": 0.2, "unread_seconds": 0.2}
    async with serving(**bounds) as served, served.connected() as (reader, writer):
        writer.write(call("/held"))
        async with served.connected() as (idle, _):
            assert await rest(idle) == b""  # so the times have passed
        served.application.go.set()
        assert (await reader.readuntil(b"]")).startswith(b"HTTP/1.1 200 ")


async def test_who_does_not_read_its_answer_is_cut_off() -> None:
    async with serving(unread_seconds=0.3) as served, served.connected() as (reader, writer):
        writer.write(call("/large"))
        await reader.readexactly(100)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(1.5)  # the only way to be a slow reader
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await rest(reader)) < 64 * MIB


# --- too much ----------------------------------------------------------------------------------------------


CHUNKED = call("/", "Transfer-Encoding: chunked", method="POST")
FLOODS = {
    "a header": (b"GET / HTTP/1.1\r\nX: " + b"x" * 600_000, 431),
    "a URL": (b"GET /" + b"x" * 600_000, 431),
    "empty lines": (b"\r\n" * 300_000, 431),
    "headers": (b"GET / HTTP/1.1\r\n" + b"".join(b"A%d: 1\r\n" % n for n in range(HTTP_HEADERS + 1)) + b"\r\n", 431),
    "headers without an end": (b"GET / HTTP/1.1\r\n" + b"A: 1\r\n" * 100_000, 431),
    "a trailer": (CHUNKED + b"0\r\nX: " + b"x" * 600_000, 400),
    "trailers": (CHUNKED + b"0\r\n" + b"X: 1\r\n" * 200_000, 400),
    "a chunk's extension": (CHUNKED + b"1;" + b"x" * 600_000, 400),
}


async def test_a_flood_of_headers_is_cut_off(served: Served) -> None:
    for name, (flood, status) in FLOODS.items():
        served.application.paths.clear()
        packets = [flood[at : at + 50_000] for at in range(0, len(flood), 50_000)]
        assert statuses(await served.said(*packets)) == [status], name
        await served.is_well()
        if flood.startswith(b"GET"):
            assert served.application.paths == ["/well"], name


async def test_large_headers_that_browsers_send_are_none(served: Served) -> None:
    sent = "x" * (HTTP_HEADER_BYTES // 4)
    answer = await served.said(call("/", f"Cookie: {sent}", "Connection: close"))
    assert statuses(answer) == [200] and sent.encode() in answer


async def test_calls_sent_ahead_are_answered_up_to_a_number(served: Served) -> None:
    """More would cost memory before anybody asked who sends them; those that came first lose nothing."""
    answers = await served.said(b"".join(call(f"/{number}") for number in range(HTTP_PIPELINED * 3)))
    assert statuses(answers) == [200] * (HTTP_PIPELINED + 1)
    assert served.application.paths == [f"/{number}" for number in range(HTTP_PIPELINED + 1)]


# --- too many ----------------------------------------------------------------------------------------------


async def test_beyond_the_most_who_waits_makes_room_and_who_works_does_not() -> None:
    async with serving(most=3) as served, contextlib.AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(served.connected()) for _ in range(3)]
        working = []
        for _ in range(3):
            reader, writer = await stack.enter_async_context(served.connected())
            writer.write(call("/held"))
            working.append(reader)
        while served.application.held < 3:
            await asyncio.sleep(0.01)
        assert [await rest(reader) for reader, _ in idle] == [b"", b"", b""]
        answer = await served.said(call("/"))
        assert statuses(answer) == [503]
        said = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert (said["status_code"], said["tasks"]) == (50000, None)
        served.application.go.set()
        for reader in working:
            assert (await reader.readuntil(b"]")).startswith(b"HTTP/1.1 200 ")
        await served.is_well()


async def test_who_does_not_take_its_answer_makes_room_too() -> None:
    """Otherwise as many of them as a process has connections keep everybody out, without a password."""
    async with serving(most=3) as served, contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            reader, writer = await stack.enter_async_context(served.connected())
            writer.write(call("/large") * 2)  # the second one waits until the first was taken: it is at work
            await reader.readexactly(100)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
        while len(served.application.paths) < 6:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)  # a few looks
        await served.is_well()


# --- odd ---------------------------------------------------------------------------------------------------


async def test_trailers_are_no_headers(served: Served) -> None:
    """What stands before restante looked at the headers, and at nothing else."""
    sent = call("/", "Transfer-Encoding: chunked", "Connection: close", method="POST")
    answer = await served.said(sent + b"2\r\nhi\r\n0\r\nAuthorization: Basic x\r\n\r\n")
    _, headers, body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert body == "hi" and "authorization" not in dict(headers)


@pytest.mark.parametrize("split", [0, 1], ids=["in one packet", "in two"])
async def test_an_upgrade_that_nobody_offers_is_a_plain_call(served: Served, split: int) -> None:
    """Java's client asks for h2c with its first call. Its body is its body, and never the next call."""
    inner = call("/smuggled")
    upgrade = ["Connection: Upgrade, HTTP2-Settings, close", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ"]
    head = call("/", *upgrade, f"Content-Length: {len(inner)}", "X-One: 1", method="POST")
    answer = await served.said(*([head, inner] if split else [head + inner]))
    assert statuses(answer) == [200]
    path, headers, body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert (path, body.encode(), dict(headers)["x-one"]) == ("/", inner, "1")
    assert not {"upgrade", "http2-settings"} & dict(headers).keys()
    assert served.application.paths == ["/"]


async def test_nonsense_behind_a_call_does_not_cost_its_answer(served: Served) -> None:
    answer = await served.said(call("/one", "Content-Length: 2", method="POST") + b"hi" + b"nonsense\r\n\r\n")
    assert statuses(answer) == [200] and b"connection: close" in answer


H = b"Host: restante\r\n"
POST = b"POST /outer HTTP/1.1\r\n" + H
INNER = call("/inner")
SHAPES = {
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\n" + INNER,
    "one length, twice": POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n" + INNER,
    "a list of lengths": POST + b"Content-Length: 0, 0\r\n\r\n" + INNER,
    "a signed length": POST + b"Content-Length: +0\r\n\r\n" + INNER,
    "a negative length": POST + b"Content-Length: -1\r\n\r\n" + INNER,
    "a length beyond 64 bits": POST + b"Content-Length: 18446744073709551616\r\n\r\n" + INNER,
    "a length and chunks": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + INNER,
    "chunks and a length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + INNER,
    "chunks, not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + INNER,
    "nearly chunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + INNER,
    "identity and a length": POST + b"Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n" + INNER,
    "a blank before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + INNER,
    "a folded header": POST + b"X: y\r\n Content-Length: 9\r\n\r\n" + INNER,
    "a bare line feed": POST + b"X: y\nContent-Length: 9\r\n\r\n" + INNER,
    "a bare carriage return": POST + b"X: y\rContent-Length: 9\r\n\r\n" + INNER,
    "U+0000 in a header": POST + b"X: a\0b\r\n\r\n" + INNER,
    "a header without a name": POST + b": x\r\n\r\n" + INNER,
    "a chunk of 0x0": POST + b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" + INNER,
    "a chunk of -1": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" + INNER,
    "a chunk beyond 64 bits": POST + b"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n" + INNER,
    "chunks ended by line feeds": POST + b"Transfer-Encoding: chunked\r\n\r\n0\n\n" + INNER,
    "a chunk longer than it says": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n" + INNER,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a tunnel": b"CONNECT restante:80 HTTP/1.1\r\n" + H + b"\r\n" + INNER,
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(40),
    "no HTTP": b"hello\r\n\r\n",
}


async def test_what_could_be_read_in_two_ways_is_not_read(served: Served) -> None:
    """One 400 and the end: what a proxy before us took for a body is never a call."""
    for shape, sent in SHAPES.items():
        assert statuses(await served.said(sent)) == [400], shape
    assert not served.application.paths.count("/inner")


async def test_other_versions(served: Served) -> None:
    for version in ("HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/3"):
        assert statuses(await served.said(call("/", version=version))) in ([505], [400]), version
    assert statuses(await served.said(b"GET /\r\n\r\n")) == [505]
    assert served.application.paths == []
