"""Receiving restante's webhooks: verifying their signature (Standard Webhooks), and a small receiver of one's own."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

import msgspec

from restante.client.values import Entry
from restante.core.limits import RECEIVER_BODY_BYTES, WEBHOOK_TOLERANCE_SECONDS

if TYPE_CHECKING:
    from aiohttp import web

_PREFIX: Final = "whsec_"


class _Postback(msgspec.Struct):
    tasks: list[Entry]


class Delivery(msgspec.Struct, frozen=True):
    """One webhook as it came. `verified`: its signature is right; None: no secret is known to judge it by. `entry` is a
    postback's task; a pingback has none, its `task_id` is what its URL's `id` says. `body` is uncompressed; `answered`
    is the HTTP status that the receiver gave."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    task_id: str
    verified: bool | None
    entry: Entry | None = None
    answered: int = 200

    @property
    def webhook_id(self) -> str:
        """The same on every attempt and resend: what to remember in order to handle a webhook once."""
        return self.headers.get("webhook-id", "")


def verify(secrets: Sequence[str], headers: Mapping[str, str], body: bytes, *, now: float | None = None) -> bool:
    """Whether a webhook was signed with one of these secrets (`whsec_...`) within the last five minutes.

    `headers` by their names in small letters; `body` after decompression, empty for a pingback; `now` in seconds since
    1970. Raises ValueError for a secret that is none.
    """
    keys = [_key(secret) for secret in secrets]
    try:
        sent_at = int(headers["webhook-timestamp"])
        signed = b"%b.%d.%b" % (headers["webhook-id"].encode(), sent_at, body)
        given = [one[3:].encode() for one in headers["webhook-signature"].split() if one.startswith("v1,")]
    except (KeyError, ValueError):
        return False
    if abs((time.time() if now is None else now) - sent_at) > WEBHOOK_TOLERANCE_SECONDS:
        return False
    right = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)) for key in keys]
    return any(hmac.compare_digest(one, good) for one in given for good in right)


def _key(secret: str) -> bytes:
    try:
        if not secret.startswith(_PREFIX):
            raise ValueError
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (ValueError, binascii.Error):
        raise ValueError(f"a webhook secret is {_PREFIX}... as `restante account webhook-secret` shows it") from None


class Receiver:
    """A server of webhooks in this process; used by `async with`. It answers at once and keeps what came for `next`.

    `url` is where restante reaches it, if that is another address than where it listens. `secrets` are the account's:
    with them `Delivery.verified` tells whether restante sent it. `status` says what a delivery is answered with.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        url: str | None = None,
        secrets: Sequence[str] = (),
        status: Callable[[Delivery], int] = lambda delivery: 200,
    ) -> None:
        self._host, self._port, self._url = host, port, url
        self._secrets, self._status = tuple(secrets), status
        for secret in self._secrets:
            _key(secret)
        self._came: asyncio.Queue[Delivery] = asyncio.Queue()
        self._runner: Any = None

    async def __aenter__(self) -> Self:
        """Listen. Raises OSError when that is not possible."""
        from aiohttp import web

        server = web.Server(self._receive, access_log=None)
        self._runner = web.ServerRunner(server)
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, self._host, self._port)
            await site.start()
        except OSError:
            await self._runner.cleanup()
            raise
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Where restante reaches it."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return (self._url or f"http://{host}:{self._port}").rstrip("/")

    @property
    def postback_url(self) -> str:
        """What to post tasks with, so that their answers come here."""
        return f"{self.url}/postback?id=$id&tag=$tag"

    @property
    def pingback_url(self) -> str:
        """What to post tasks with, so that it is told here that they have finished."""
        return f"{self.url}/pingback?id=$id&tag=$tag"

    async def next(self) -> Delivery:
        """The next webhook, in the order of coming; waits for one."""
        return await self._came.get()

    async def _receive(self, request: web.BaseRequest) -> web.StreamResponse:
        from aiohttp import web

        body = await _body(request)
        if body is None:
            return web.Response(status=413)
        delivery = self.read(request.method, request.path_qs, request.headers, body)
        status = self._status(delivery)
        self._came.put_nowait(msgspec.structs.replace(delivery, answered=status))
        return web.Response(status=status)

    def read(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Delivery:
        """A request as the webhook it is. Public for those who serve it by their own framework."""
        small = {name.lower(): value for name, value in headers.items()}
        verified = verify(self._secrets, small, body) if self._secrets else None
        entry = None
        if body:
            try:
                [entry] = msgspec.json.decode(body, type=_Postback).tasks
            except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
                entry = None
        return Delivery(method, path, small, body, entry.id if entry else _id_in(path), verified, entry)


async def _body(request: web.BaseRequest) -> bytes | None:
    """The body, unpacked; None when it is larger than any answer."""
    body = bytearray()
    async for chunk in request.content.iter_chunked(65_536):
        body += chunk
        if len(body) > RECEIVER_BODY_BYTES:
            return None
    return bytes(body)


def _id_in(path: str) -> str:
    """The `id` of a URL's query, as `$id` was replaced there."""
    from urllib.parse import parse_qs

    return parse_qs(urlsplit(path).query).get("id", [""])[0]
