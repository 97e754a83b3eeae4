"""A client's server on loopback, in the test's own process: it keeps what comes in and answers as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from aiohttp import web
from standardwebhooks import Webhook


class Hit(msgspec.Struct):
    """One request, as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def verified(self, secret: str) -> Any:
        """The envelope (None of a pingback), after the signature proved right by somebody else's code."""
        plain = gzip.decompress(self.body) if self.body else b""
        Webhook(secret).verify(plain, {k.lower(): v for k, v in self.headers.items()}, json_parse=False)
        return msgspec.json.decode(plain) if plain else None


class Receiver:
    """`answer` says what a hit is answered with; it may wait."""

    def __init__(self) -> None:
        self.hits: list[Hit] = []
        self.status = 200
        self.hang = False
        self.location = ""
        self.reply = b"thanks"
        self.port = 0
        self.most_at_once = 0
        self._at_once = 0
        self.released = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, request: web.Request) -> web.Response:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            self.hits.append(Hit(request.method, request.raw_path, dict(request.headers), await request.content.read()))
            if self.hang:
                await self.released.wait()
            headers = {"Location": self.location} if self.location else {}
            return web.Response(status=self.status, body=self.reply, headers=headers)
        finally:
            self._at_once -= 1


@contextlib.asynccontextmanager
async def receiving(change: Callable[[Receiver], None] = lambda _: None) -> AsyncIterator[Receiver]:
    """A receiver that listens for the block."""
    receiver = Receiver()
    change(receiver)
    server = web.Server(receiver.answer, auto_decompress=False)  # type: ignore[arg-type]
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        receiver.released.set()
        await runner.cleanup()
