"""HTTP/1.1 over a raw socket, one call at a time: the client must not be what is measured."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Protocol, Self

import msgspec

from bench.installation import Client
from restante.web.wire import FAMILY

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_IDLE_SECONDS = 2.0  # uvicorn closes after 5

MODEL = "gemini-2.5-flash"


class Server(Protocol):
    """Where to connect to: an Installation, or a peer."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...


class Connection(asyncio.Protocol):
    """A kept-alive connection, made anew when it was idle for so long that the server may be about to close it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._used = 0.0
        self._answer: asyncio.Future[bytes] | None = None
        self._received = bytearray()
        self._expected = 0

    async def open(self) -> Self:
        self.close()
        self._transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: self, self._server.host, self._server.port
        )
        self._used = time.monotonic()
        return self

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        if not self._expected:
            end = received.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(received, 0, end)
            assert length is not None, bytes(received[:200])
            self._expected = end + 4 + int(length[1])
        if len(received) >= self._expected and self._answer is not None and not self._answer.done():
            self._answer.set_result(bytes(received))

    def connection_lost(self, _: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the server closed the connection"))

    async def call(self, request: bytes) -> bytes:
        """The whole answer, head and body. Raises AssertionError unless it is a 200."""
        if time.monotonic() - self._used > _IDLE_SECONDS:
            await self.open()
        assert self._transport is not None
        self._received.clear()
        self._expected = 0
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        answer = await self._answer
        self._used = time.monotonic()
        assert answer.startswith(b"HTTP/1.1 200"), answer[:500]
        return answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def prompt(number: int) -> str:
    """A prompt like those of brand trackers, each a little different."""
    return f"Which running shoes for beginners would you recommend under 120 dollars? Name five brands. #{number}"


def task(number: int, **more: str) -> dict[str, str]:
    """A task as it is posted. `more`: further fields."""
    return {"user_prompt": prompt(number), "model_name": MODEL, "tag": f"t{number}"} | more


def post(client: Client, first: int, tasks: int, **more: str) -> bytes:
    """The bytes of a task_post with `tasks` tasks, their prompts numbered from `first`. `more`: further fields."""
    return request("task_post", client, msgspec.json.encode([task(n, **more) for n in range(first, first + tasks)]))


def get(client: Client, path: str) -> bytes:
    """The bytes of a GET."""
    return _head("GET", path, client)


def live(client: Client, number: int, model: str = MODEL) -> bytes:
    """The bytes of a live call."""
    return request("live", client, msgspec.json.encode([{"user_prompt": prompt(number), "model_name": model}]))


def request(path: str, client: Client, body: bytes) -> bytes:
    """The bytes of a POST."""
    return _head("POST", path, client, f"Content-Length: {len(body)}\r\n") + body


def accepted(answer: bytes) -> int:
    """How many tasks of a task_post's answer were accepted."""
    return answer.count(b'"status_code":20100')


def _head(method: str, path: str, client: Client, more: str = "") -> bytes:
    return (
        f"{method} {FAMILY}/{path} HTTP/1.1\r\nHost: bench\r\nAuthorization: {client.authorization}\r\n{more}\r\n"
    ).encode()
