"""Where redirects lead: one HEAD request each, its Location read, nothing followed (contract §3.6, `direct_url`).

Gemini cites pages by redirects of Google's own host. Only URLs that begin with that host's prefix are asked, through
the guard that webhooks go through; any other http or https URL leads to itself already. What cannot be learnt within
the bounds of core/limits.py is None.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from restante.core.limits import (
    DIRECT_URL_CHARS,
    DIRECT_URL_CONCURRENCY,
    DIRECT_URLS_PER_ANSWER,
    DIRECT_URLS_REMEMBERED,
)
from restante.webhooks.address_guard import AllowList
from restante.webhooks.sender import Sessions

log = logging.getLogger("restante.redirects")

#: What a server says that knows no HEAD.
_NO_HEAD: Final = frozenset({405, 501})


class Redirects:
    """Resolves, remembers and forgets; one per process. `prefix`: how the URLs begin that are to be resolved."""

    def __init__(
        self,
        prefix: str,
        allow: AllowList,
        *,
        proxy: str | None = None,
        ca_bundle: Path | None = None,
    ) -> None:
        self._prefix = prefix
        self._allow = allow
        self._proxy = proxy
        self._ca_bundle = ca_bundle
        self._known: OrderedDict[str, str] = OrderedDict()
        self._slots = asyncio.Semaphore(DIRECT_URL_CONCURRENCY)
        self._sessions: Sessions | None = None

    async def resolve(self, urls: Iterable[str], seconds: float) -> dict[str, str | None]:
        """Where each URL leads, None where that is not known after `seconds`. Raises nothing but CancelledError."""
        found: dict[str, str | None] = {}
        asking: dict[asyncio.Task[str | None], str] = {}
        for url in urls:
            if not url.startswith(self._prefix):
                found[url] = url if _is_page(url) else None
            elif url in self._known:
                self._known.move_to_end(url)
                found[url] = self._known[url]
            else:
                found[url] = None
                if len(asking) < DIRECT_URLS_PER_ANSWER:
                    asking[asyncio.create_task(self._ask(url))] = url
        if asking:
            try:
                done, _ = await asyncio.wait(asking, timeout=max(0.0, seconds))
            finally:
                for task in asking:
                    task.cancel()  # those that are done are not touched by it
            await asyncio.wait(asking)
            found |= {asking[task]: task.result() for task in done}
        return found

    async def close(self) -> None:
        """Give the connections back."""
        sessions, self._sessions = self._sessions, None
        if sessions is not None:
            await sessions.close()

    async def _ask(self, url: str) -> str | None:
        try:
            async with self._slots:
                status, location = await self._request("HEAD", url)
                if location is None and status in _NO_HEAD:
                    _, location = await self._request("GET", url)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            log.info("a citation's redirect could not be asked: %s", type(error).__name__)
            return None
        except Exception:  # a bug of ours must not cost the answer, which is paid for
            log.exception("a citation's redirect could not be asked")
            return None
        if location is None or len(location) > DIRECT_URL_CHARS or not _is_page(location):
            return None
        self._known[url] = location
        while len(self._known) > DIRECT_URLS_REMEMBERED:
            self._known.popitem(last=False)
        return location

    async def _request(self, method: str, url: str) -> tuple[int, str | None]:
        if self._sessions is None:  # at the first citation: most processes never see one
            self._sessions = Sessions(self._allow, proxy=self._proxy, ca_bundle=self._ca_bundle)
        session = self._sessions.of(url)
        async with session.request(
            method, URL(url, encoded=True), allow_redirects=False, proxy=self._proxy
        ) as response:
            # The body, if there is one, stays unread: that closes the connection and costs nothing else.
            moved = 300 <= response.status < 400
            return response.status, response.headers.get("Location") if moved else None


def _is_page(url: str) -> bool:
    """An absolute http or https URL that can be stored and shown."""
    if not url.isprintable():
        return False
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    return False
