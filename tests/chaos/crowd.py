"""The clients that the monkey torments: they post without pause, remember every 20100, and fetch every answer.

A POST that was not answered is repeated with its Idempotency-Key, at whichever API node, until it is. Nobody repeats a
live call. Each task costs what no other does, so that no two charges can be taken for each other.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import aiohttp
import msgspec

from restante.core.errors import ProviderFailed
from restante.core.pricing import LIVE_FEE, STANDARD_FEE
from restante.web.wire import FAMILY

POSTERS = 3
LIVERS = 2
FETCHERS = 2
CALL_SECONDS = 6.0  # longer than any node takes that lives
RETRY_SECONDS = 0.1
# Seconds a call takes. A worker is struck every few seconds: a task that took longer would seldom live to its end.
LATENCIES = (0.3, 0.6, 1.2, 2.0)
_LOST = (aiohttp.ClientError, TimeoutError, OSError)


class Wanted(NamedTuple):
    """A task as its client knows it: what it costs, what it asked, and whether it ordered a webhook."""

    number: int
    cost: int  # nano-dollars
    told: str  # "", pingback or postback


class Crowd:
    """`accepted` are all tasks that were answered with 20100, `live` the live ones that were answered at all: their
    charges; None for a failure."""

    def __init__(
        self, urls: Callable[[], Sequence[str]], credentials: tuple[str, str], hooks: str, outstanding: int, seed: int
    ) -> None:
        self._urls = urls
        self._proof = {"Authorization": aiohttp.encode_basic_auth(*credentials)}
        self._hooks = hooks
        self._outstanding = outstanding
        self._chance = random.Random(f"crowd {seed}")
        self._numbers = itertools.count(1)
        self._keys = itertools.count(1)
        self._stop = asyncio.Event()
        self._unfetched: deque[str] = deque()
        self._open: dict[int, tuple[str, int]] = {}  # POSTs that wait for their answer: where, and how many tasks
        self.accepted: dict[str, Wanted] = {}
        self.live: dict[str, int | None] = {}
        self.fetched: set[str] = set()
        self.given_up: set[str] = set()  # of them: what ended with 50301
        self.wrong: list[str] = []
        self.repeated = 0
        self.cuts: list[tuple[int, float]] = []  # connections cut by their client: tasks in the POST, seconds to 20100
        self.live_lost = 0
        self.queued = 0  # as the monkey sees it

    def stop(self) -> None:
        """Post no more; what was begun is brought to its end."""
        self._stop.set()

    def open(self, url: str = "") -> set[str]:
        """Tasks of POSTs that have no answer at this moment, from this node or from any, by names of ours."""
        return {
            f"task {one} of POST {number}"
            for number, (at, tasks) in self._open.items()
            for one in range(tasks)
            if url in ("", at)
        }

    async def run(self) -> None:
        """Until stopped."""
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS, sock_connect=2)
        connector = aiohttp.TCPConnector(limit=0)
        session = aiohttp.ClientSession(headers=self._proof, timeout=timeout, connector=connector)
        async with session, asyncio.TaskGroup() as clients:
            for _ in range(POSTERS):
                clients.create_task(self._poster(session))
            for _ in range(LIVERS):
                clients.create_task(self._liver(session))
            for _ in range(FETCHERS):
                clients.create_task(self._fetcher(session))

    # --- posting ----------------------------------------------------------------------------------------

    def _task(self) -> tuple[dict[str, Any], Wanted]:
        number = next(self._numbers)
        latency = self._chance.choice(LATENCIES)
        told = self._chance.choice(("", "", "", "", "", "", "pingback", "postback"))
        prompt = f"question {number} [[cost={number / 1e9:.9f}]] [[latency={latency}]]"
        fields = {f"{told}_url": f"{self._hooks}/$id"} if told else {}
        posted = {"user_prompt": prompt, "model_name": "gemini-2.5-flash"} | fields
        return posted, Wanted(number, number + int(STANDARD_FEE), told)

    async def _poster(self, session: aiohttp.ClientSession) -> None:
        while not self._stop.is_set():
            if self.queued > self._outstanding:
                await asyncio.sleep(0.05)  # a client's own pace
                continue
            made = [self._task() for _ in range(self._chance.randint(1, 20))]
            number = next(self._keys)
            ids = await self._post(session, number, msgspec.json.encode([task for task, _ in made]), len(made))
            self._open.pop(number, None)
            if len(ids) != len(made):
                self.wrong.append(f"POST {number} of {len(made)} tasks got {len(ids)} ids")
            for task_id, (_, wanted) in zip(ids, made, strict=False):
                self.accepted[task_id] = wanted
                self._unfetched.append(task_id)
            self.queued += len(ids)

    async def _post(self, session: aiohttp.ClientSession, number: int, body: bytes, tasks: int) -> list[str]:
        cut_at = 0.0
        while True:
            try:
                asking = asyncio.create_task(self._ask(session, number, body, tasks))
                if not cut_at and self._chance.random() < 0.1:
                    cut_at = await self._cut(asking)
                ids = await asking
                if ids:
                    if cut_at:
                        self.cuts.append((tasks, time.monotonic() - cut_at))
                    return ids
            except asyncio.CancelledError:
                current = asyncio.current_task()
                if current is not None and current.cancelling():
                    raise  # it is we who are to end
            except _LOST:
                pass
            self.repeated += 1
            await asyncio.sleep(RETRY_SECONDS)

    async def _cut(self, asking: asyncio.Task[list[str]]) -> float:
        """Hang up in the middle of the call; when that was, or 0 if it was too late."""
        await asyncio.wait([asking], timeout=self._chance.uniform(0, 0.02))
        return time.monotonic() if asking.cancel() else 0.0

    async def _ask(self, session: aiohttp.ClientSession, number: int, body: bytes, tasks: int) -> list[str]:
        """Ids; none when the node could not tell."""
        headers = {"Idempotency-Key": f"post {number}"}
        url = self._url()
        self._open[number] = (url, tasks)
        async with session.post(f"{url}{FAMILY}/task_post", data=body, headers=headers) as response:
            answer = msgspec.json.decode(await response.read())
        if response.status == 500 and answer["status_code"] == 50000:
            return []
        entries = answer["tasks"] or []
        if response.status != 200 or {one["status_code"] for one in entries} != {20100}:
            self.wrong.append(f"POST {number}: {response.status} {str(answer)[:500]}")
            return []
        return [one["id"] for one in entries]

    def _url(self) -> str:
        urls = self._urls()
        if not urls:
            raise OSError("no API node")
        return self._chance.choice(urls)

    # --- live -------------------------------------------------------------------------------------------

    async def _liver(self, session: aiohttp.ClientSession) -> None:
        while not self._stop.is_set():
            number = next(self._numbers)
            task = {
                "user_prompt": f"live {number} [[cost={number / 1e9:.9f}]] [[latency=0.8]]",
                "model_name": "gemini-2.5-flash",
            }
            body = msgspec.json.encode([task])
            try:
                async with session.post(f"{self._url()}{FAMILY}/live", data=body) as response:
                    answer = msgspec.json.decode(await response.read())
            except _LOST:
                self.live_lost += 1
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for one in answer.get("tasks") or []:
                code = one["status_code"]
                self.live[one["id"]] = number + int(LIVE_FEE) if code == 20000 else None
                if code not in (20000, 50000):
                    self.wrong.append(f"live {one['id']}: {code} {one['status_message']}")
            await asyncio.sleep(0.1)  # a client's own pace

    # --- fetching ---------------------------------------------------------------------------------------

    async def _fetcher(self, session: aiohttp.ClientSession) -> None:
        while True:
            if not self._unfetched:
                if self._stop.is_set() and not self._open:
                    return
                await asyncio.sleep(0.1)
                continue
            task_id = self._unfetched.popleft()
            if not await self.fetch(session, task_id):
                self._unfetched.append(task_id)
                await asyncio.sleep(0.005 if len(self._unfetched) > 200 else 0.05)

    async def fetch(self, session: aiohttp.ClientSession, task_id: str) -> bool:
        """Fetch one answer and judge it; False: it is not there yet, or nobody answered."""
        try:
            async with session.get(f"{self._url()}{FAMILY}/task_get/{task_id}") as response:
                answer = msgspec.json.decode(await response.read())
        except _LOST:
            return False
        if response.status == 500 and answer["status_code"] == 50000:
            return False
        [entry] = answer["tasks"]
        if entry["status_code"] in (40601, 40602):
            return False
        wanted = self.accepted[task_id]
        if entry["status_code"] == ProviderFailed.code:
            self.given_up.add(task_id)  # whether it had to be is judged at the end
        elif entry["status_code"] != 20000:
            self.wrong.append(f"{task_id}: {entry['status_code']} {entry['status_message']}")
        elif f"question {wanted.number}\n" not in entry["result"][0]["items"][0]["sections"][0]["text"]:
            self.wrong.append(f"{task_id}: another's answer")
        self.fetched.add(task_id)
        return True

    async def fetch_again(self, ids: Sequence[str]) -> None:
        """A final task can be fetched until its retention ends."""
        timeout = aiohttp.ClientTimeout(total=CALL_SECONDS)
        async with aiohttp.ClientSession(headers=self._proof, timeout=timeout) as session:
            for task_id in ids:
                with contextlib.suppress(KeyError):
                    if not await self.fetch(session, task_id):
                        self.wrong.append(f"{task_id}: fetched once, and not again")
