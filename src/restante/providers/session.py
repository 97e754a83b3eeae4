"""The one way out to language models: how a provider's HTTP session is made, and how its replies are read.

Webhooks have a way of their own (restante.webhooks): they go to other people's addresses, these to the operator's.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from restante.core.errors import OperatorError
from restante.core.limits import PROVIDER_CONNECT_SECONDS as CONNECT_SECONDS
from restante.core.limits import RETRY_AFTER_MAX


class Egress:
    """How calls leave: through an HTTP proxy (CONNECT for https) or directly, and whose certificates are believed.

    Raises OperatorError for a proxy that is no http URL. Neither the error nor the repr shows the URL: it may hold
    credentials.
    """

    def __init__(self, proxy: str | None = None, trust: ssl.SSLContext | None = None) -> None:
        """`trust` None: the system's certificate authorities."""
        self.proxy = None if proxy is None else _proxy(proxy)
        self.trust = trust

    def direct(self) -> Egress:
        """The same, past the proxy."""
        return Egress(None, self.trust)

    def for_url(self, url: str) -> Egress:
        """The same, past the proxy if the URL is this machine's own: a proxy's loopback is another machine's."""
        return self.direct() if _is_loopback(urlsplit(url).hostname or "") else self

    def __repr__(self) -> str:
        return f"Egress({'through a proxy' if self.proxy else 'direct'})"


DIRECT: Final = Egress()


def open_session(egress: Egress, *, reuse: bool = True) -> aiohttp.ClientSession:
    """A session for one provider, in a running event loop: any number of connections, no cookies, no time-outs but
    that of connecting (each call has its own). `reuse` False: a connection each."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(  # aiohttp's own limit is 100; flow/run bounds the calls
            limit=0, ssl=True if egress.trust is None else egress.trust, force_close=not reuse
        ),
        timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        proxy=egress.proxy,
        trust_env=False,
    )


async def read_bounded(content: aiohttp.StreamReader, most: int) -> bytes | None:
    """The whole body, or None when it is longer than `most` bytes."""
    chunks: list[bytes] = []
    length = 0
    async for chunk in content.iter_any():
        length += len(chunk)
        if length > most:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def retry_after_seconds(header: str, now: datetime) -> float | None:
    """Retry-After is seconds or an HTTP date (RFC 9110 §10.2.3), at most a day; None when it is neither or past."""
    text = header.strip()
    if re.fullmatch(r"[0-9]{1,12}", text):
        seconds = float(text)
    else:
        try:
            named = parsedate_to_datetime(text)
            seconds = ((named if named.tzinfo else named.replace(tzinfo=UTC)) - now).total_seconds()
        except (ValueError, OverflowError):  # a zone of forty digits
            return None
    return min(seconds, RETRY_AFTER_MAX) if seconds > 0 else None


def _proxy(text: str) -> URL:
    wrong = OperatorError(
        "The egress proxy is no HTTP proxy's URL.", "It is such as http://proxy.example:3128, with http:// before it."
    )
    try:
        parts = urlsplit(text)
        known = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0 and parts.path in ("", "/")
        url = URL(text)
    except ValueError:
        raise wrong from None
    if not known or parts.query or parts.fragment:
        raise wrong
    return url


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
