"""A receiver of webhooks in a process of its own: many hosts of 127.0.0.0/8 on one port, as cheap as Python can.

`python -m bench.receiver HOSTS` prints its two ports. On the second one it says what came: /state, /arrivals,
/samples; and forgets it: /reset.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import Any

import msgspec
import uvloop

_ID = re.compile(rb"\r\nwebhook-id: *([^\r]+)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_SAMPLED = 500  # one webhook of so many is kept whole


class State(msgspec.Struct):
    """What came since the last reset. Times are time.time(); `first` and `last` are 0.0 before anything came."""

    webhooks: int = 0
    requests: int = 0
    first: float = 0.0
    last: float = 0.0


class Book:
    """What came, in full."""

    def __init__(self) -> None:
        self.state = State()
        self.arrivals: dict[str, float] = {}  # by webhook-id: its first byte
        self.samples: list[bytes] = []

    def note(self, request: bytes, head: int, began: float) -> None:
        """A whole request; `head`: where its body begins."""
        state = self.state
        state.requests += 1
        state.first = state.first or began
        state.last = time.time()
        found = _ID.search(request, 0, head)
        assert found is not None, request[:head]
        self.arrivals.setdefault(found[1].decode(), began)
        state.webhooks = len(self.arrivals)
        if state.requests % _SAMPLED == 1:
            self.samples.append(request)


class _Hooks(asyncio.Protocol):
    def __init__(self, book: Book) -> None:
        self._book = book
        self._received = bytearray()
        self._began = 0.0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received
        if not received:
            self._began = time.time()
        received += data
        end = received.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        length = _LENGTH.search(received, 0, end)
        if len(received) >= end + (int(length[1]) if length else 0):
            self._book.note(bytes(received), end, self._began)
            received.clear()
            self._transport.write(_OK)


async def _answer(book: Book, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    asked = (await reader.readline()).split(b" ")[0].strip()
    match asked:
        case b"/state":
            writer.write(msgspec.json.encode(book.state))
        case b"/arrivals":
            writer.write(msgspec.json.encode(book.arrivals))
        case b"/samples":
            writer.write(msgspec.json.encode(book.samples))
        case b"/reset":
            book.__init__()  # type: ignore[misc]
    writer.close()


async def _serve(hosts: int) -> None:
    book = Book()
    loop = asyncio.get_running_loop()
    first = await loop.create_server(lambda: _Hooks(book), "127.0.0.1", 0, backlog=1_024)
    port = first.sockets[0].getsockname()[1]
    for number in range(2, hosts + 1):
        await loop.create_server(lambda: _Hooks(book), f"127.0.0.{number}", port, backlog=1_024)
    control = await asyncio.start_server(lambda reader, writer: _answer(book, reader, writer), "127.0.0.1", 0)
    print(port, control.sockets[0].getsockname()[1], flush=True)
    await control.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
