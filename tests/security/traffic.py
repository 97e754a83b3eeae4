"""Clients that note every request which was refused, cut off or answered wrongly, as no library does: libraries repeat.

Each is a plain HTTP/1.1 client that keeps its connection, looks whether the server has closed it before it writes, and
goes elsewhere when an answer says `Connection: close`. Anything else that ends a connection is a fault of the server's.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, NamedTuple

import aiohttp
import msgspec

from restante.web.wire import FAMILY
from restante.wiring import utc_now
from tests.support import OPERATOR, task


class Answer(NamedTuple):
    """What came back."""

    status: int
    closes: bool
    body: bytes


class Traffic:
    """Requests without end to any of `ports` in turn, as through a proxy that knows them all: one that refuses to
    connect is passed over, since nothing was sent to it. `faults` is what went wrong, `ids` what was accepted."""

    def __init__(self, ports: Sequence[int], seed: int = 1) -> None:
        self.ports = [*ports]  # may be changed while it goes on
        self._random = random.Random(seed)
        self._proof = aiohttp.encode_basic_auth(*OPERATOR, encoding="utf-8")
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self.began = utc_now()
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.answered = 0

    def start(self, *, keeping: int, fresh: int, slow: int) -> None:
        """`keeping` clients keep their connections, `fresh` ones make one a request, `slow` ones send bodies late."""
        ways = [self._keep] * keeping + [self._afresh] * fresh + [self._slowly] * slow
        self._tasks = [asyncio.create_task(self._noted(way)) for way in ways]

    async def stop(self) -> None:
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def further(self, requests: int, seconds: float = 60.0) -> None:
        """Wait until so many more were answered."""
        wanted = self.answered + requests
        async with asyncio.timeout(seconds):
            while self.answered < wanted and not self.faults:
                await asyncio.sleep(0.02)

    async def live(self, seconds: float) -> None:
        """A live task that takes so long."""
        body = msgspec.json.encode([task(f"one lake [[latency={seconds}]]")])
        with self._noting("live"):
            async with self.connected() as (reader, writer):
                self.judge(await self.ask(reader, writer, "live", body), 20000)

    async def _noted(self, way: Callable[[], Any]) -> None:
        while not self._stopping:
            with self._noting(way.__name__):
                await way()

    @contextlib.contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever it is, a client's request was lost by it
            self.faults.append(f"{what}: {error!r}")

    async def _keep(self) -> None:
        """One connection's life."""
        async with self.connected() as (reader, writer):
            while not self._stopping:
                if reader.at_eof():
                    return  # closed while idle, and seen before anything was sent
                answer = await self.ask(reader, writer, "task_post", one())
                self.judge(answer, 20100)
                if answer.closes:
                    return
                await asyncio.sleep(self._random.choice((0.0, 0.0, 0.01, 0.3)))

    async def _afresh(self) -> None:
        async with self.connected() as (reader, writer):
            self.judge(await self.ask(reader, writer, "task_post", one(), "Connection: close\r\n"), 20100)

    async def _slowly(self) -> None:
        """Connected, then a pause; the head, a pause, the body in two halves."""
        async with self.connected() as (reader, writer):
            await asyncio.sleep(self._random.random() / 4)
            self.judge(await self.ask(reader, writer, "task_post", one(), pause=0.1), 20100)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection to one of the ports."""
        ports = self._random.sample(self.ports, len(self.ports))
        for number, port in enumerate(ports, 1):
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except ConnectionRefusedError:
                if number == len(ports):
                    raise
        try:
            yield reader, writer
        finally:
            writer.close()

    async def ask(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        path: str,
        body: bytes,
        header: str = "",
        pause: float = 0.0,
    ) -> Answer:
        """One request; with `pause` (seconds) in three pieces."""
        head = (
            f"POST {FAMILY}/{path} HTTP/1.1\r\nHost: restante\r\nAuthorization: {self._proof}\r\n{header}"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        if pause:
            for part in (head, body[:10]):
                writer.write(part)
                await asyncio.sleep(pause)
            writer.write(body[10:])
        else:
            writer.write(head + body)
        said = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(said.partition("content-length: ")[2].partition("\r\n")[0])
        return Answer(int(said.split(" ")[1]), "connection: close" in said, await reader.readexactly(length))

    def judge(self, answer: Answer, code: int) -> None:
        """Note the task; fails for another answer than one of this code."""
        envelope = msgspec.json.decode(answer.body)
        assert answer.status == 200 and envelope["tasks"], answer
        [entry] = envelope["tasks"]
        assert entry["status_code"] == code, answer
        self.ids.append(entry["id"])
        self.answered += 1


def one() -> bytes:
    """A body with one task."""
    return msgspec.json.encode([task()])
