"""Calling restante as its clients do, and the shape every answer must have (contract §1.1, §5.4)."""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import aiohttp
import msgspec
from yarl import URL

from restante.core.task import Function
from restante.flow import accounts
from restante.store.database import Database
from tests.support import Http, Restante, open_account

FAMILY_PATH = ["v3", "ai_optimization", "gemini", "llm_responses"]
FAMILY_DATA = {"api": "ai_optimization", "function": "llm_responses", "se": "gemini"}

ENVELOPE_KEYS = ["version", "status_code", "status_message", "time", "cost", "tasks_count", "tasks_error", "tasks"]
TASK_KEYS = ["id", "status_code", "status_message", "time", "cost", "result_count", "path", "data", "result"]
ID = re.compile(r"(?P<stamp>[0-9]{8})-(?P<account>[0-9a-f]{4})-(?P<function>[0-9]{4})-0000-[0-9a-f]{12}")
TIME = re.compile(r"([0-9]+\.[0-9]{4}) sec\.")

TASK_HANDED, TASK_IN_QUEUE = 40601, 40602


class Shop(NamedTuple):
    """An account of a test's own."""

    credentials: tuple[str, str]
    number: int


_numbers = itertools.count(1)


def open_shop(restante: Restante, usd: str = "10", credit_limit: str | None = "0") -> Shop:
    """Open an account; prepaid unless `credit_limit` is None."""
    login = f"shop-{next(_numbers)}@example.org"

    async def work(db: Database) -> Shop:
        credentials = await open_account(db, login, usd, credit_limit)
        return Shop(credentials, (await accounts.find(db, login)).id)

    return restante.look(work)


class Answered(NamedTuple):
    """An HTTP answer as it came."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


def basic(*credentials: str) -> str:
    """An Authorization header of a login and a password."""
    return "Basic " + base64.b64encode(":".join(credentials).encode()).decode()


async def call(
    method: str,
    url: str | URL,
    credentials: tuple[str, str] | None = None,
    data: Any = None,
    headers: Mapping[str, str] | None = None,
) -> Answered:
    """One HTTP call; redirects are not followed."""
    if isinstance(data, bytes):
        data = io.BytesIO(data)  # aiohttp warns of large bodies in one piece
    sent = dict(headers or {}) | ({"Authorization": basic(*credentials)} if credentials else {})
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, data=data, headers=sent, allow_redirects=False) as response,
    ):
        return Answered(response.status, response.headers, await response.read())


def one_task(answer: Any) -> Any:
    """The single task of an answer."""
    [entry] = answer["tasks"]
    return entry


async def listed(http: Http, count: int, seconds: float = 20.0) -> list[Any]:
    """tasks_ready's rows, asked for until there are at least so many."""
    async with asyncio.timeout(seconds):
        while True:
            rows: list[Any] = one_task(await http.get("tasks_ready"))["result"]
            if len(rows) >= count:
                return rows
            await asyncio.sleep(0.02)  # polls as a client does


async def fetched(http: Http, task_id: str, *, until: int, seconds: float = 20.0) -> Any:
    """task_get's entry, asked for until its code is this one."""
    async with asyncio.timeout(seconds):
        while True:
            entry = one_task(await http.get(f"task_get/{task_id}"))
            if entry["status_code"] == until:
                return entry
            await asyncio.sleep(0.02)  # polls as a client does


def check_envelope(answer: Any, *path: str) -> list[Any]:
    """§1.1: an answered call has this shape, whatever became of its tasks, which are returned."""
    assert list(answer) == ENVELOPE_KEYS
    assert re.fullmatch(r"0\.1\.[0-9]{8}", answer["version"])
    assert (answer["status_code"], answer["status_message"]) == (20000, "Ok.")
    tasks: list[Any] = answer["tasks"]
    assert answer["tasks_count"] == len(tasks)
    assert answer["tasks_error"] == sum(entry["status_code"] >= 40000 for entry in tasks)  # §12.4
    assert answer["cost"] == float(f"{sum(entry['cost'] for entry in tasks):.9f}")
    whole = TIME.fullmatch(answer["time"])
    assert whole
    for entry in tasks:
        assert list(entry) == TASK_KEYS
        assert entry["path"] == [*FAMILY_PATH, *path]
        own = TIME.fullmatch(entry["time"])
        assert own
        assert float(own[1]) <= float(whole[1])
        assert entry["result_count"] == len(entry["result"] or [])
    return tasks


def check_id(text: str, shop: Shop, function: Function) -> None:
    """§5.4: an id tells when (UTC), whose and what for."""
    match = ID.fullmatch(text)
    assert match, text
    now = datetime.now(UTC)
    assert match["stamp"] in {f"{now - timedelta(minutes=back):%m%d%H%M}" for back in (0, 1)}
    assert int(match["account"], 16) == shop.number
    assert int(match["function"]) == function
