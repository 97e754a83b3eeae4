"""Receivers and providers that are up to no good: bombs, endless replies, nonsense. Each is one failed attempt."""

from __future__ import annotations

import asyncio
import contextlib
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from restante.core.answer import Failure
from restante.core.limits import DELIVERY_REPLY_BYTES
from restante.webhooks.address_guard import AllowList
from restante.webhooks.sender import Outcome, Sender
from tests.emulators.openai import OpenAIEmulator, reply
from tests.providers.test_openai_compatible import call, provider_of

MIB = 1024 * 1024
HEAD = b"HTTP/1.1 200 OK\r\n"


def bomb(size: int) -> bytes:
    """A gzip of so many MiB of zeros, made of one block over and over."""
    packer = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    first, more = [packer.compress(bytes(16 * MIB)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2)]
    return first + more * (size // 16 - 1)


@asynccontextmanager
async def answering(said: bytes, *, endless: bool = False) -> AsyncIterator[str]:
    """A server that says this to everybody, again and again if it is `endless`; its URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(said)
            while endless:
                writer.write(said[-1_000:])
                await writer.drain()
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def attempt(url: str) -> Outcome:
    sender = Sender(AllowList("127.0.0.1"), seconds=1.0)
    try:
        return await sender.send(url, {}, b"{}")
    finally:
        await sender.close()


BODIES = {
    "a bomb": (HEAD + b"Content-Encoding: gzip\r\n\r\n" + bomb(256), False),
    "a bomb in chunks": (
        HEAD + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n40000\r\n" + bomb(256),
        False,
    ),
    "an endless body": (HEAD + b"\r\n" + b"x" * 1_000, True),
    "a length of its own": (HEAD + b"Content-Length: 99999999999999\r\n\r\n" + b"x" * 4_000, True),
}


@pytest.mark.parametrize(("said", "endless"), BODIES.values(), ids=BODIES)
async def test_of_a_reply_no_more_is_read_than_is_kept(said: bytes, endless: bool) -> None:
    """And nothing of it is unpacked."""
    async with answering(said, endless=endless) as url:
        tracemalloc.start()
        outcome = await attempt(url)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (outcome.status, outcome.error) == (200, None)
    assert outcome.reply is not None and len(outcome.reply) == DELIVERY_REPLY_BYTES
    assert peak < 8 * MIB


NONSENSE = {
    "endless headers": (HEAD + b"X: y\r\n" * 300, True),
    "an endless header": (HEAD + b"X: " + b"y" * 20_000, True),
    "endless statuses": (b"HTTP/1.1 100 Continue\r\n\r\n" * 100, True),
    "no HTTP": (b"hello\r\n\r\n", False),
    "nothing": (b"", False),
    "two lengths": (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", False),
    "a length and chunks": (HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False),
    "U+0000": (b"HTTP/1.1 200 O\0K\r\n\0: \0\r\n\r\n", False),
}


@pytest.mark.parametrize(("said", "endless"), NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_is_a_failed_attempt_in_words(said: bytes, endless: bool) -> None:
    # aiohttp makes an object of some 2 KiB of each interim answer in a packet, before it looks at the first.
    most = 128 * MIB if said.startswith(b"HTTP/1.1 100") else 8 * MIB
    async with answering(said, endless=endless) as url:
        tracemalloc.start()
        outcome = await attempt(url)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert outcome.error is not None and "\0" not in outcome.error and len(outcome.error) <= 500
    assert peak < most


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
async def test_a_providers_bomb_is_a_reply_too_long(encoding: str) -> None:
    """A quarter of a megabyte that would be 256: no more of it is unpacked than a reply may have."""
    async with OpenAIEmulator() as emulator, provider_of(emulator) as provider:
        headers: Any = {"Content-Encoding": encoding}
        emulator.script.append(reply(bomb(256), **headers))
        tracemalloc.start()
        outcome = await provider.generate(call())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert isinstance(outcome, Failure)
    assert peak < 40 * MIB, "8 MiB are read, and held twice while they are joined"
