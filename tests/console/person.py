"""A person at the console, without JavaScript: logs in, reads pages, fills in the forms that are on them."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any, NamedTuple

import aiohttp
import msgspec


class Form(NamedTuple):
    """A form of a page: where it goes, and what its fields hold as the page came."""

    action: str
    method: str
    fields: dict[str, str]
    buttons: list[tuple[str, str]]


class Page(NamedTuple):
    """What came, after redirects: its address, status and text."""

    url: str
    status: int
    text: str
    headers: Any

    @property
    def words(self) -> str:
        """What a reader sees of it, entities resolved."""
        body = re.sub(r"<(script|style)\b.*?</\1>", " ", self.text, flags=re.S)
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())

    @property
    def said(self) -> str:
        """What the page says was done."""
        found = re.search(r'<p class="said[^"]*" role="status">(.*?)</p>', self.text, re.S)
        assert found, self.words
        return html.unescape(found[1])

    @property
    def secret(self) -> str:
        """The password or the secrets that it shows."""
        found = re.search(r'<pre id="secret"[^>]*>(.*?)</pre>', self.text, re.S)
        assert found and self.status == 200, self.words
        return html.unescape(found[1])

    def forms(self) -> list[Form]:
        reader = _Forms()
        reader.feed(self.text)
        return reader.found

    def form(self, action: str, **having: str) -> Form:
        """The form that goes there, with these fields."""
        found = [
            one
            for one in self.forms()
            if one.action == action and one.method == "post" and having.items() <= one.fields.items()
        ]
        assert found, (action, [one.action for one in self.forms()], self.words[:500])
        return found[0]


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Form] = []
        self._select = self._area = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        at = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.found.append(Form(at.get("action", ""), at.get("method", "get"), {}, []))
        elif self.found and tag == "input" and "name" in at:
            if at.get("type") != "checkbox" or "checked" in at:
                self.found[-1].fields[at["name"]] = at.get("value", "")
        elif tag == "select":
            self._select = at.get("name", "")
        elif self.found and tag == "textarea":
            self._area = at["name"]
            self.found[-1].fields[at["name"]] = ""
        elif self.found and tag == "option" and self._select:
            if "selected" in at or self._select not in self.found[-1].fields:
                self.found[-1].fields[self._select] = at.get("value", "")
        elif self.found and tag == "button":
            self.found[-1].buttons.append((at.get("name", ""), at.get("value", "")))

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = ""
        elif tag == "textarea":
            self._area = ""

    def handle_data(self, data: str) -> None:
        if self._area:
            self.found[-1].fields[self._area] += data


class Person:
    """Somebody with a browser that keeps cookies."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def read(self, path: str) -> Page:
        """A page under /console."""
        async with self._session.get(f"{self.url}/console{path}") as answer:
            return Page(answer.url.path_qs, answer.status, await answer.text(), answer.headers)

    async def json(self, path: str) -> Any:
        """A page's twin."""
        async with self._session.get(f"{self.url}/console{path}", headers={"Accept": "application/json"}) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.content_type == "application/json"
            return msgspec.json.decode(await answer.read())

    async def send(self, form: Form, **fields: str) -> Page:
        """A form, with these fields filled in."""
        async with self._session.post(f"{self.url}{form.action}", data=form.fields | fields) as answer:
            return Page(answer.url.path_qs, answer.status, await answer.text(), answer.headers)

    async def confirmed(self, form: Form, **fields: str) -> Page:
        """The same, answering yes to the question whether it is meant."""
        asked = await self.send(form, **fields)
        assert asked.status == 200, asked.words
        return await self.send(asked.form(form.action, sure="yes"))

    async def log_in(self, credentials: tuple[str, str]) -> Page:
        form = (await self.read("/login")).form("/console/login")
        return await self.send(form, login=credentials[0], password=credentials[1])


@asynccontextmanager
async def person(url: str, credentials: tuple[str, str] | None = None) -> AsyncIterator[Person]:
    """A person, logged in with these."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        somebody = Person(url, session)
        if credentials is not None:
            page = await somebody.log_in(credentials)
            assert page.url == "/console/", page.words
        yield somebody
