"""A visitor of the console over HTTP: cookies, forms and their tokens, as a browser without scripts has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import unescape
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from tests.support import OPERATOR
from tests.web.calls import Answered

_TOKEN = re.compile(r'name="csrf" value="([^"]*)"')


class Visitor:
    """One browser. `path` is below /console."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self._url = f"{url}/console"
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True), headers=headers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self._session.close()

    @property
    def cookies(self) -> dict[str, str]:
        """By name, whatever their path."""
        return {cookie.key: cookie.value for cookie in self._session.cookie_jar}

    def take(self, cookie: str) -> None:
        """Have this session's cookie, as a thief would."""
        self._session.cookie_jar.update_cookies({"restante_session": cookie}, URL(self._url + "/"))

    async def get(self, path: str, **headers: str) -> Answered:
        return await self._call("GET", path, None, headers)

    async def json(self, path: str) -> Any:
        answered = await self.get(path)
        assert answered.status == 200, answered
        return answered.json

    async def page(self, path: str) -> str:
        """A page's HTML; it must be there."""
        answered = await self.get(path)
        assert answered.status == 200, answered
        return answered.body.decode()

    async def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Answered:
        return await self._call("POST", path, fields, headers)

    async def send(self, page: str, path: str, **fields: str) -> Answered:
        """Fill in a form of a page, its token with it."""
        token = _TOKEN.search(await self.page(page))
        assert token is not None, f"no form on {page}"
        return await self.post(path, fields | {"csrf": unescape(token[1])})

    async def log_in(self, login: str, password: str, where: str = "") -> Answered:
        return await self.send("/login", "/login", login=login, password=password, next=where)

    async def _call(
        self, method: str, path: str, fields: Mapping[str, str] | None, headers: Mapping[str, str]
    ) -> Answered:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        url = URL(self._url + path, encoded="%" in path)
        async with self._session.request(method, url, data=fields, headers=sent, allow_redirects=False) as response:
            return Answered(response.status, response.headers, await response.read())


async def visitor(url: str, credentials: tuple[str, str] = OPERATOR) -> Visitor:
    """Somebody who has logged in; to be closed."""
    made = Visitor(url)
    answered = await made.log_in(*credentials)
    assert answered.status == 303, answered
    return made
