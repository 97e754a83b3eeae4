"""Sends one webhook: one attempt of at most ten seconds, to an address that the guard has seen (contract §12.18-20).

Nothing here raises for what a receiver does: its faults are what the attempt is recorded with.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from restante import __version__
from restante.core.errors import OperatorError
from restante.core.limits import DELIVERY_ERROR_CHARS, DELIVERY_REPLY_BYTES, DELIVERY_SECONDS, RESOLVER_THREADS
from restante.webhooks.address_guard import AllowList, socket_factory

USER_AGENT: Final = f"restante/{__version__}"
_POSTBACK_HEADERS: Final = {"Content-Type": "application/json", "Content-Encoding": "gzip"}


class Outcome(msgspec.Struct, frozen=True):
    """What one attempt met. `status` None: no answer; `error` None: a success, which is 200 to 300 as documented;
    `hung`: its time ran out; `unsent`: nothing was sent, for a reason of ours."""

    milliseconds: int
    status: int | None = None
    reply: bytes | None = None
    error: str | None = None
    hung: bool = False
    unsent: Literal["not_tried", "broken"] | None = None

    @property
    def word(self) -> str:
        """What became of it, in one of a few words (metrics)."""
        if self.error is None:
            return "delivered"
        if self.unsent or self.hung:
            return self.unsent or "timeout"
        if self.status is None:
            return "unreachable"
        return f"http_{self.status // 100}xx" if 300 < self.status < 600 else "http_other"


class Sessions:
    """Guarded connections to other people's servers. `proxy`: everything goes through it, and it judges addresses
    instead of the guard."""

    def __init__(
        self,
        allow: AllowList,
        *,
        proxy: str | None = None,
        ca_bundle: Path | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        """In a running event loop. Raises OperatorError for a CA bundle that cannot be read."""
        self._allow = allow
        self._proxy = proxy
        certified = trust(ca_bundle)
        self._resolver = resolver or _Resolver()
        # Connections are kept and shared; those made for a host that the operator named must not serve as others'.
        self._strict = self._session(certified, host_named=False)
        self._named = self._session(certified, host_named=True)

    async def close(self) -> None:
        await self._strict.close()
        await self._named.close()
        await self._resolver.close()

    def of(self, url: str) -> aiohttp.ClientSession:
        """The session that a URL's host may be called with."""
        return self._named if self._allow.names(urlsplit(url).hostname or "") else self._strict

    def _session(self, certified: ssl.SSLContext, *, host_named: bool) -> aiohttp.ClientSession:
        guard = None if self._proxy else socket_factory(self._allow, host_named=host_named)
        connector = aiohttp.TCPConnector(limit=0, ssl=certified, socket_factory=guard, resolver=self._resolver)
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None),  # ours is around all of it
            headers={"User-Agent": USER_AGENT},
            skip_auto_headers=("Accept-Encoding",),
        )


class Sender:
    """The one way out. `proxy`: everything goes through it, and it judges addresses instead of the guard."""

    def __init__(
        self,
        allow: AllowList,
        *,
        proxy: str | None = None,
        ca_bundle: Path | None = None,
        seconds: float = DELIVERY_SECONDS,
        resolver: AbstractResolver | None = None,
    ) -> None:
        """In a running event loop. Raises OperatorError for a CA bundle that cannot be read."""
        self._proxy = proxy
        self._seconds = seconds
        self._sessions = Sessions(allow, proxy=proxy, ca_bundle=ca_bundle, resolver=resolver)

    async def close(self) -> None:
        await self._sessions.close()

    async def send(self, url: str, headers: Mapping[str, str], body: bytes | None) -> Outcome:
        """POST the gzip'd body, or GET without one. Reads no more of the reply than is kept."""
        began = time.monotonic()
        status: int | None = None
        reply: bytes | None = None
        error: str | None = None
        hung = False
        try:
            async with (
                asyncio.timeout(self._seconds),
                self._sessions.of(url).request(
                    "GET" if body is None else "POST",
                    URL(url, encoded=True),
                    data=body,
                    headers={**(_POSTBACK_HEADERS if body is not None else {}), **headers},
                    allow_redirects=False,
                    proxy=self._proxy,
                ) as response,
            ):
                status = response.status
                reply = await _beginning(response)
                if not 200 <= status <= 300:
                    error = f"HTTP {status}"
        except TimeoutError:
            hung = True
            error = f"no complete answer within {self._seconds:g} s"
        except aiohttp.ClientProxyConnectionError:  # its address is nothing to whoever posted the webhook
            error = "the proxy cannot be reached"
        except aiohttp.ClientConnectorError as problem:
            error = f"cannot connect: {problem.strerror or problem}"
        except aiohttp.ClientHttpProxyError as problem:
            error = f"the proxy answered HTTP {problem.status}"
        except (aiohttp.ClientConnectionError, OSError) as problem:
            error = f"{type(problem).__name__}: {problem}"
        except (aiohttp.ClientError, ValueError) as problem:
            # The class alone: the other messages of aiohttp hold URLs, or lines that the receiver sent.
            error = type(problem).__name__
        return Outcome(round((time.monotonic() - began) * 1_000), status, reply, error and _storable(error), hung)


class _Resolver(AbstractResolver):
    """The system's resolver on threads of its own. What it answers is believed by nobody: the guard looks later."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(RESOLVER_THREADS, thread_name_prefix="webhook-names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port, family)
        return [
            ResolveResult(
                hostname=host, host=address[0], port=address[1], family=kind, proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]  # fmt: skip

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[Any]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family)


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """The first bytes of a reply; leaving the response unread closes its connection."""
    kept = b""
    while len(kept) < DELIVERY_REPLY_BYTES:
        chunk = await response.content.read(DELIVERY_REPLY_BYTES - len(kept))
        if not chunk:
            break
        kept += chunk
    return kept


def _storable(text: str) -> str:
    """Words that may quote what a receiver said: what PostgreSQL's text cannot hold must not keep them from it."""
    return text[:DELIVERY_ERROR_CHARS].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def trust(ca_bundle: Path | None) -> ssl.SSLContext:
    """The system's certificate authorities, and the operator's own. Raises OperatorError when they cannot be read."""
    context = ssl.create_default_context()
    if ca_bundle is not None:
        try:
            context.load_verify_locations(ca_bundle)
        except OSError as error:  # ssl.SSLError is one
            raise OperatorError(
                f"RESTANTE_CA_BUNDLE cannot be used: {ca_bundle}: {error}.", "It is a file of PEM certificates."
            ) from None
    return context
