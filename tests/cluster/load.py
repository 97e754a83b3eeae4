"""Clients that post without pause and repeat with their Idempotency-Key whatever was not answered."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import NamedTuple

import aiohttp
import msgspec

from restante.web.wire import FAMILY

CLIENTS = 4
TASKS_PER_POST = 10
PAUSE_SECONDS = 0.1  # of a client between POSTs: 4 clients post about 400 tasks a second
CALL_SECONDS = 20.0
RETRY_SECONDS = 0.2


class Answered(NamedTuple):
    """A task that was answered with 20100, and when (monotonic)."""

    id: str
    at: float
    told: bool  # a pingback was ordered


class Load:
    """Posts until told to stop; `accepted` grows."""

    def __init__(self, urls: Sequence[str], credentials: tuple[str, str], pingback: str) -> None:
        self._urls = urls
        self._proof = {"Authorization": aiohttp.encode_basic_auth(*credentials)}
        self._pingback = pingback
        self._stop = asyncio.Event()
        self._numbers = itertools.count()
        self.accepted: list[Answered] = []
        self.repeated = 0

    def stop(self) -> None:
        self._stop.set()

    async def run(self) -> None:
        """Post from several clients until stopped; every POST begun is answered in the end."""
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS, sock_connect=2)
        session = aiohttp.ClientSession(headers=self._proof, timeout=timeout)
        async with session, asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(self._client(session))

    async def _client(self, session: aiohttp.ClientSession) -> None:
        while not self._stop.is_set():
            number = next(self._numbers)
            told = number % 10 == 0
            tasks = [
                {"user_prompt": f"lake {number}-{one}", "model_name": "gemini-2.5-flash"}
                | ({"pingback_url": f"{self._pingback}?id=$id"} if told else {})
                for one in range(TASKS_PER_POST)
            ]
            ids = await self._post(session, number, msgspec.json.encode(tasks))
            now = time.monotonic()
            self.accepted += [Answered(one, now, told) for one in ids]
            await asyncio.sleep(PAUSE_SECONDS)  # a client's own pace

    async def _post(self, session: aiohttp.ClientSession, number: int, body: bytes) -> list[str]:
        """Until it is answered: at the other API node if one fails, always with the same key."""
        for tries in itertools.count():
            url = self._urls[(number + tries) % len(self._urls)]
            try:
                key = {"Idempotency-Key": f"post {number}"}
                async with session.post(f"{url}{FAMILY}/task_post", data=body, headers=key) as response:
                    answer = msgspec.json.decode(await response.read())
                entries = answer["tasks"] or []
                if response.status == 200 and {one["status_code"] for one in entries} == {20100}:
                    return [one["id"] for one in entries]
                assert response.status == 500 and answer["status_code"] == 50000, answer
            except (aiohttp.ClientError, TimeoutError):
                pass
            self.repeated += 1
            await asyncio.sleep(RETRY_SECONDS)
        raise AssertionError("unreachable")

    async def accepted_after(self, moment: float) -> float:
        """Wait for the first POST that is answered after a moment; seconds since then."""
        while not self.accepted or self.accepted[-1].at < moment:
            await asyncio.sleep(0.01)
        return next(one.at for one in self.accepted if one.at >= moment) - moment


async def collect(url: str, credentials: tuple[str, str], ids: Sequence[str], seconds: float) -> dict[str, int]:
    """Fetch until every task is finished: {id: its code}."""
    found: dict[str, int] = {}
    headers = {"Authorization": aiohttp.encode_basic_auth(*credentials)}
    async with aiohttp.ClientSession(headers=headers) as session, asyncio.timeout(seconds):

        async def fetch(task_id: str) -> None:
            async with session.get(f"{url}{FAMILY}/task_get/{task_id}") as response:
                [entry] = msgspec.json.decode(await response.read())["tasks"]
            if entry["status_code"] not in (40601, 40602):
                found[task_id] = entry["status_code"]

        while left := [one for one in ids if one not in found]:
            for start in range(0, len(left), 200):
                await asyncio.gather(*map(fetch, left[start : start + 200]))
            await asyncio.sleep(0.2)  # polls as a client does
    return found
