"""Rates, keys and relaxed limits over HTTP, two API processes on one database (contract §1.3, §12.6, §12.21-27)."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from restante.core.task import Function
from restante.store.database import Database
from restante.web.wire import FAMILY
from tests.support import Http, Process, Restante, differences, running, task
from tests.web.calls import FAMILY_DATA, FAMILY_PATH, Answered, Shop, basic, call, check_id, one_task, open_shop

RATE_EXCEEDED = (40202, "The rates limit per minute has been exceeded: 20 >= 20.")
MANY_TRIES = 5


class Pair:
    """`restante up` without workers and `restante api` beside it, on the same data directory."""

    def __init__(self, up: Restante, directory: Path) -> None:
        self.up = up
        self._directory = directory
        self._started = 0
        self.start()

    def start(self) -> None:
        self._started += 1
        name = f"api-{self._started}"
        self.second = Process(["api", "--provider", "scripted"], self.up.env, self._directory, name)
        self.families = (self.up.family, self.second.wait_for(r"answers at (http://\S+?),", log=True)[1] + FAMILY)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    directory = tmp_path_factory.mktemp("pair")
    arguments = ("--provider", "scripted", "--workers", "0")
    with running(directory, *arguments, RATE_TASKS_READY="20", SCRIPTED_LATENCY="2") as up:
        made = Pair(up, directory)
        try:
            yield made
            assert made.second.stop() == 0
        finally:
            made.second.kill()


def told(answer: Answered) -> tuple[str | None, str | None]:
    return answer.headers.get("X-RateLimit-Limit"), answer.headers.get("X-RateLimit-Remaining")


async def minute(pair: Pair) -> Any:
    """The database's minute."""
    now = await asyncio.to_thread(pair.up.look, lambda db: _now(db))
    return now.replace(second=0, microsecond=0)


async def _now(db: Database) -> Any:
    return await db._pool.fetchval("select now()")


@pytest.mark.contract(
    "1.3 headers", "1.3 no Retry-After, no 429", "2.2 40202", "2.3 rate exceeded", "5.1 tasks_ready", "12.6 rate limit"
)
async def test_twenty_one_calls_over_two_processes(pair: Pair) -> None:
    """Proof 5: 20 answers and one 40202, with headers that count down over both processes. Calls that the end of a
    minute fell into are made again, by another account; tests/flow/test_rates.py sets the window's clock."""
    for _ in range(MANY_TRIES):
        shop = await asyncio.to_thread(open_shop, pair.up)
        began = await minute(pair)
        answers = [await call("GET", pair.families[n % 2] + "/tasks_ready", shop.credentials) for n in range(21)]
        if await minute(pair) == began:
            break
    assert [told(one) for one in answers] == [("20", str(left)) for left in [*range(19, -1, -1), 0]]
    assert [one.json["status_code"] for one in answers[:20]] == [20000] * 20
    refused = answers[20]
    assert refused.status == 200
    envelope, entry = refused.json, one_task(refused.json)
    assert (envelope["status_code"], envelope["status_message"]) == RATE_EXCEEDED
    assert (entry["status_code"], entry["status_message"]) == RATE_EXCEEDED
    assert (envelope["tasks_count"], envelope["tasks_error"], envelope["cost"], entry["cost"]) == (1, 1, 0, 0)
    assert (entry["path"], entry["data"], entry["result"]) == ([*FAMILY_PATH, "tasks_ready"], FAMILY_DATA, None)
    check_id(entry["id"], shop, Function.TASKS_READY)


@pytest.mark.contract(
    "1.3 headers", "1.3 no headers on a 401", "5.1 task_post", "5.1 live", "5.1 task_get, models", "12.6 rate limit"
)
async def test_which_answers_carry_the_headers(pair: Pair) -> None:
    """§1.3: every authenticated answer of a limited endpoint, good or bad; never a 401, never where no limit is."""
    shop = await asyncio.to_thread(open_shop, pair.up)
    family = pair.families[0]
    wrong = (shop.credentials[0], "a wrong password")
    assert told(await call("POST", family + "/task_post", shop.credentials, b"no json"))[0] == "2000"
    assert told(await call("POST", family + "/live", shop.credentials, b"[]")) == ("2000", "1999")
    for path in ("task_post", "live", "tasks_ready"):
        answer = await call("POST", f"{family}/{path}", wrong, b"[]")
        assert (answer.status, told(answer)) == (401, (None, None))
    for path in ("models", "task_get/11220000-0001-0613-0000-000000000001", "nowhere"):
        assert told(await call("GET", f"{family}/{path}", shop.credentials)) == (None, None)
    assert told(await call("POST", family + "/tasks_ready", shop.credentials)) == (None, None)  # no such endpoint


@pytest.mark.contract("5.1 task_post", "12.6 settable", "12.27 order")
async def test_the_rate_is_judged_before_the_body(pair: Pair) -> None:
    """§12.27; and an account's own limit, set by the command, counts within seconds."""
    shop = await asyncio.to_thread(open_shop, pair.up)
    done = await asyncio.to_thread(pair.up.run, "account", "limit", shop.credentials[0], "--task-post", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert '"own":{"task_post":1}' in done.stdout
    url = pair.families[1] + "/task_post"
    codes = [(await call("POST", url, shop.credentials, b"no json" * 1_000_000)).json["status_code"] for _ in "123"]
    assert 40202 in codes
    assert codes[0] == 20000
    table = await asyncio.to_thread(pair.up.run, "account", "limit", shop.credentials[0], "--task-post", "default")
    assert "task_post\t2000\tthe installation's" in table.stdout
    bad = await asyncio.to_thread(pair.up.run, "account", "limit", shop.credentials[0], "--live", "many")
    assert bad.returncode == 2


@pytest.mark.contract("2.2 40209", "2.3 > 30 parallel", "3.4 30 at once", "5.1 live", "12.21 at once")
async def test_the_thirty_first_live_call_over_two_processes(pair: Pair) -> None:
    """§12.21: 30 at once for an account, wherever they are asked; 40209 costs nothing."""
    shop = await asyncio.to_thread(open_shop, pair.up)
    body = b'[{"user_prompt":"hi","model_name":"gemini-2.5-flash"}]'
    answers = await asyncio.gather(
        *(call("POST", pair.families[n % 2] + "/live", shop.credentials, body) for n in range(40))
    )
    entries = [one_task(answer.json) for answer in answers]
    refused = [entry for entry in entries if entry["status_code"] == 40209]
    assert len(refused) == 10, [entry["status_code"] for entry in entries]
    assert {entry["cost"] for entry in refused} == {0}
    assert {entry["status_code"] for entry in entries} == {20000, 40209}
    assert not await asyncio.to_thread(pair.up.look, differences)


@pytest.fixture
async def posted(pair: Pair) -> AsyncIterator[tuple[Shop, bytes]]:
    shop = await asyncio.to_thread(open_shop, pair.up)
    yield shop, b'[{"user_prompt":"hi","model_name":"gemini-2.5-flash"},{"user_prompt":"hi"}]'


async def _keyed(url: str, shop: Shop, body: bytes, key: str) -> Answered:
    return await call("POST", url, shop.credentials, body, {"Idempotency-Key": key})


async def _queued(db: Database, shop: Shop) -> int:
    found: int = await db._pool.fetchval("select count(*) from queue where account_id = $1", shop.number)
    return found


@pytest.mark.contract("12.24 Idempotency-Key", "12.24 another body")
async def test_twenty_duplicates_over_two_processes(pair: Pair, posted: tuple[Shop, bytes]) -> None:
    """§12.24: one acceptance, one answer, byte for byte."""
    shop, body = posted
    urls = [family + "/task_post" for family in pair.families]
    answers = await asyncio.gather(*(_keyed(urls[n % 2], shop, body, "order 1") for n in range(20)))
    assert len({one.body for one in answers}) == 1
    assert [entry["status_code"] for entry in answers[0].json["tasks"]] == [20100, 40501]
    assert (await _keyed(urls[0], shop, body, "order 1")).body == answers[0].body
    other = one_task((await _keyed(urls[0], shop, body + b" ", "order 1")).json)
    assert (other["status_code"], other["status_message"]) == (40503, "POST Data Is Invalid.")
    assert (await _keyed(urls[0], shop, body, "order 2")).body != answers[0].body
    assert await asyncio.to_thread(pair.up.look, lambda db: _queued(db, shop)) == 2
    assert not await asyncio.to_thread(pair.up.look, differences)


async def test_keys_that_cannot_be_used_and_calls_that_are_not_remembered(
    pair: Pair, posted: tuple[Shop, bytes]
) -> None:
    shop, body = posted
    url = pair.families[0] + "/task_post"
    for key in ("", "k" * 256, "a\tb", "console: ·"):
        assert one_task((await _keyed(url, shop, body, key)).json)["status_code"] == 40503, key
    for refused, code in ((b"no json", 40503), (b"", 40502)):
        assert one_task((await _keyed(url, shop, refused, "k" * 255)).json)["status_code"] == code
    assert (await _keyed(url, shop, body, "k" * 255)).json["tasks"][0]["status_code"] == 20100


async def test_a_killed_process_and_a_repeated_post(pair: Pair, posted: tuple[Shop, bytes]) -> None:
    """kill -9 of the API around its commit: whoever repeats the POST elsewhere has each task once."""
    shop, body = posted
    for number in range(4):
        keys = [f"order {number}-{n}" for n in range(30)]
        url = pair.families[1] + "/task_post"
        sent = [asyncio.create_task(_keyed(url, shop, body, key)) for key in keys]
        await asyncio.wait(sent, return_when=asyncio.FIRST_COMPLETED)
        pair.second.signal(signal.SIGKILL)
        first = await asyncio.gather(*sent, return_exceptions=True)
        again = [await _keyed(pair.families[0] + "/task_post", shop, body, key) for key in keys]
        for before, after in zip(first, again, strict=True):
            assert isinstance(before, BaseException) or before.body == after.body
            assert after.json["tasks"][0]["status_code"] == 20100
        pair.second.wait()
        pair.start()
    assert await asyncio.to_thread(pair.up.look, lambda db: _queued(db, shop)) == 4 * 30
    assert not await asyncio.to_thread(pair.up.look, differences)


@pytest.mark.contract("12.25 relaxed")
async def test_relaxed_limits(tmp_path: Path) -> None:
    """§12.25: no rate windows, any number of live tasks, long prompts, a thousand tasks a POST."""
    arguments = ("--provider", "scripted", "--workers", "0")
    with running(tmp_path, *arguments, LIMITS="relaxed", RATE_TASKS_READY="1", SCRIPTED_LATENCY="0.3") as up:
        shop = await asyncio.to_thread(open_shop, up, "0", None)
        header = {"Authorization": basic(*shop.credentials)}
        async with Http(up.family, shop.credentials) as http:
            for _ in range(25):
                answer = await http.get("tasks_ready")
                assert answer["status_code"] == 20000
            chain = [{"role": "user", "message": "m" * 100_000}]
            long = task("é" * 100_000, system_message="s" * 100_000, message_chain=chain)
            assert one_task(await http.post([long]))["status_code"] == 20100
            wrong = ("user_prompt", "system_message", "message_chain", "message_chain")
            longer = [
                task("x" * 100_001),
                task(system_message="s" * 100_001),
                task(message_chain=[chain[0] | {"message": "m"}] * 11),
            ]
            longer.append(task(message_chain=[chain[0] | {"message": "m" * 100_001}]))
            codes = [entry["status_message"] for entry in (await http.post(longer))["tasks"]]
            assert codes == [f"Invalid Field: '{name}'." for name in wrong]
            many = (await http.post([task()] * 1_001))["tasks"]
            assert {entry["status_code"] for entry in many[:1_000]} == {20100}
            assert many[1_000]["status_message"] == "You can set no more than 1000 tasks at a time."
            lives = await asyncio.gather(*(http.post([task()], "live") for _ in range(35)))
            assert {one_task(one)["status_code"] for one in lives} == {20000}
        assert told(await call("GET", up.family + "/tasks_ready", None, None, header)) == (None, None)
