"""One call to the server: tried again while that is safe and patience lasts, never faster than its rates allow.

What is safe: a GET; a POST with an Idempotency-Key; anything that was refused for its rate or never left this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from restante.client.errors import ClientError, NotRestante, RateExceeded, Refused, Unreachable, refused
from restante.core import errors
from restante.core.limits import CLIENT_CALL_SECONDS, CLIENT_MINUTE_SPARE_SECONDS, CLIENT_RETRY_SECONDS

if TYPE_CHECKING:
    import aiohttp

_MINUTE = 60.0


class Call(msgspec.Struct, frozen=True):
    """What to ask. `again`: carried out twice it does what it does once. `rate`: whose rate it counts for."""

    method: str
    path: str
    body: bytes | None = None
    key: str | None = None
    rate: str = ""
    again: bool = True
    waits: bool = True
    seconds: float = CLIENT_CALL_SECONDS


class Reply(msgspec.Struct, frozen=True):
    """What came: the HTTP status and the body."""

    status: int
    body: bytes


class _Broken(Exception):
    """The connection; `unsent`: nothing of the call had left."""

    def __init__(self, why: str, *, unsent: bool) -> None:
        super().__init__(why)
        self.unsent = unsent


class _Window:
    """What the server last said of one endpoint's rate, and when its minute ends by our monotonic clock."""

    def __init__(self) -> None:
        self.limit: int | None = None
        self.remaining: int | None = None
        self.ends = 0.0


class _Head(msgspec.Struct):
    """Of an envelope, what decides whether to try again."""

    status_code: int | None = None
    status_message: str | None = None


class Transport:
    """Connections to one server as one account; to be opened and closed. `patience`: seconds for which a call is tried
    again, beyond the waiting for a rate's next minute; 0: once."""

    def __init__(self, url: str, login: str, password: str, patience: float) -> None:
        self.url = url.rstrip("/")
        self.patience = patience
        self._proof = (login, password)
        self._windows: dict[str, _Window] = {}
        self._opened: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Connect when something is asked, no sooner."""
        import aiohttp  # takes longer than all else that a program imports with us

        self._opened = aiohttp.ClientSession(
            headers={"Authorization": aiohttp.encode_basic_auth(*self._proof, encoding="utf-8")},
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def close(self) -> None:
        """Give the connections back."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    def limit(self, rate: str) -> int | None:
        """Calls a minute of an endpoint, as the server last said; None: without limit, or not asked yet."""
        window = self._windows.get(rate)
        return None if window is None else window.limit

    async def ask(self, call: Call) -> Reply:
        """The server's answer. Raises ClientError: Unreachable, or Refused for a 401, a rate or an internal error that
        outlasted patience."""
        until, tries = time.monotonic() + self.patience, 0
        while True:
            try:
                await self._turn(call)
                return await self._once(call)
            except _Broken as broken:
                trouble: ClientError = Unreachable(f"{self.url} cannot be reached: {broken}")
                safe = call.again or broken.unsent
                pause = _pause(tries)
            except RateExceeded as exceeded:
                trouble, safe = exceeded, call.waits
                pause = self._next_minute(call.rate)
                until += pause if self.patience else 0.0  # a rate is waited for, it is no outage
            except Refused as refusal:
                trouble, safe = refusal, call.again and refusal.code == errors.InternalError.code
                pause = _pause(tries)
            if not safe or time.monotonic() + pause > until:
                raise trouble
            tries += 1
            await asyncio.sleep(pause)

    async def _turn(self, call: Call) -> None:
        """Wait for the next minute where the server said that this one's calls are used up."""
        window = self._windows.get(call.rate)
        if window is None or window.remaining != 0 or time.monotonic() >= window.ends:
            return
        if not (call.waits and self.patience):
            code = errors.RateExceeded(f"{window.limit} >= {window.limit}")
            raise RateExceeded(code.code, code.message)
        await asyncio.sleep(window.ends - time.monotonic())

    async def _once(self, call: Call) -> Reply:
        status, headers, body = await self._exchange(call)
        self._learn(call.rate, headers)
        head = _head(body)
        code = head.status_code
        if status == HTTPStatus.UNAUTHORIZED:
            code = errors.Unauthorized.code
        elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            code = errors.InternalError.code
        if code in _RAISED:
            raise refused(code, head.status_message or f"HTTP {status}")
        return Reply(status, body)

    async def _exchange(self, call: Call) -> tuple[int, Mapping[str, str], bytes]:
        assert self._opened is not None, "enter the client first: async with Client(...) as client"
        import aiohttp

        headers = {} if call.key is None else {"Idempotency-Key": call.key}
        if call.body is not None:
            headers["Content-Type"] = "application/json"
        try:
            async with (
                asyncio.timeout(call.seconds),
                self._opened.request(call.method, self.url + call.path, data=call.body, headers=headers) as response,
            ):
                return response.status, response.headers, await response.read()
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise NotRestante(f"{self.url!r} is no address of a server: {type(error).__name__}") from None
        except aiohttp.ClientConnectorError as error:
            raise _Broken(str(error), unsent=True) from None
        except TimeoutError:
            raise _Broken(f"no answer within {call.seconds:g} s", unsent=False) from None
        except (aiohttp.ClientError, OSError) as error:
            raise _Broken(str(error) or type(error).__name__, unsent=False) from None

    def _learn(self, rate: str, headers: Mapping[str, str]) -> None:
        """Keep what X-RateLimit-* say. The minute is the server's: its Date header tells where in it we are."""
        window = self._windows.setdefault(rate, _Window())
        window.limit, window.remaining = (
            _number(headers, "X-RateLimit-Limit"),
            _number(headers, "X-RateLimit-Remaining"),
        )
        second = time.time() % _MINUTE
        with contextlib.suppress(KeyError, ValueError):
            second = float(parsedate_to_datetime(headers["Date"]).second)
        window.ends = time.monotonic() + _MINUTE - second + CLIENT_MINUTE_SPARE_SECONDS

    def _next_minute(self, rate: str) -> float:
        window = self._windows.get(rate)
        ends = 0.0 if window is None else window.ends - time.monotonic()
        return max(ends, CLIENT_MINUTE_SPARE_SECONDS) * random.uniform(1.0, 1.02)  # noqa: S311


_RAISED = (
    errors.Unauthorized.code,
    errors.RateExceeded.code,
    errors.InternalError.code,
)


def _pause(tries: int) -> float:
    return CLIENT_RETRY_SECONDS[min(tries, len(CLIENT_RETRY_SECONDS) - 1)] * random.uniform(0.8, 1.2)  # noqa: S311


def _number(headers: Mapping[str, str], name: str) -> int | None:
    text = headers.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() else None


def _head(body: bytes) -> _Head:
    try:
        return msgspec.json.decode(body, type=_Head)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Head()


def read(url: str, reply: Reply, kind: Any) -> Any:
    """A body as the value it should be. Raises NotRestante."""
    try:
        return msgspec.json.decode(reply.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotRestante(f"{url} does not answer as restante does (HTTP {reply.status}: {error})") from None
