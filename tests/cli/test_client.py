"""restante.client: nothing bought twice, nothing asked faster than allowed, nothing waited for in vain."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from restante.client import (
    Client,
    ClientError,
    NotRestante,
    PaymentRequired,
    RateExceeded,
    Receiver,
    Task,
    TaskFailed,
    Unreachable,
    WrongPassword,
    verify,
)
from restante.client.calls import FAMILY
from restante.core.limits import CLIENT_LOOKS
from restante.webhooks.signature import show_secret, sign
from tests.cli.conftest import Shop
from tests.support import Http

ROOT = Path(__file__).parents[2]
MODEL = "gemini-2.5-flash"


def tasks(count: int, text: str = "lake {}", **fields: Any) -> list[Task]:
    return [Task(user_prompt=text.format(number), model_name=MODEL, **fields) for number in range(count)]


def client_of(shop: Shop, **options: Any) -> Client:
    return Client(shop.served.url, shop.login, shop.password, **options)


async def test_many_are_posted_and_each_is_answered_once(shop: Shop) -> None:
    posted_tasks = [*tasks(230), *tasks(1, "[[fail=boom]]"), Task(user_prompt="", model_name=MODEL)]
    async with client_of(shop) as client:
        posted = await client.post(posted_tasks, key="a run")
        assert [entry.posted for entry in posted] == [True] * 231 + [False]
        assert await client.post(posted_tasks, key="a run") == posted  # the same key buys nothing
        answered = {entry.id: entry async for entry in client.answers(posted)}
    assert len(answered) == 232
    for number, entry in enumerate(posted[:230]):
        found = answered[entry.id]
        assert found.answered and found.text.startswith(f"Scripted answer to: lake {number}\n"), found
        assert found.check() is found and found.charged == 200_000
    failed, refused = answered[posted[230].id], answered[posted[231].id]
    assert failed.failed and "(boom)" in failed.status_message and failed.charged == 0
    with pytest.raises(TaskFailed, match="user_prompt") as caught:
        refused.check()
    assert caught.value.entry is refused
    assert shop.charges() == (230, 230 * 200_000)


async def test_entries_say_all_that_the_api_said(shop: Shop) -> None:
    """Typed, and still the API's own JSON when they are written."""
    prompts = ["[[search]] [[reasoning]] [[cost=0.0123]] x", "[[fail=boom]]", "plain"]
    async with client_of(shop) as client, Http(shop.served.family, (shop.login, shop.password)) as http:
        async for entry in client.ask([Task(user_prompt=one, model_name=MODEL, tag="t") for one in prompts]):
            again = (await http.get(f"task_get/{entry.id}"))["tasks"][0]
            kept = msgspec.to_builtins(entry)
            assert {**again, "time": ""} == {**kept, "time": ""}
            assert list(kept) == list(again) and entry.tag == "t"
            if "search" in entry.data["user_prompt"]:  # type: ignore[index]
                assert [one.direct_url for one in entry.annotations] == [
                    "https://example.org/scripted", "https://example.com/scripted",
                ]  # fmt: skip
                assert entry.charged == 12_500_000 and "reasoning" not in entry.text
        live = await client.live(Task(user_prompt="[[cost=0.001]] now", model_name=MODEL))
        assert live.charged == 1_600_000 and live.answered
        assert MODEL in {one.model_name for one in await client.models()}
        now = datetime.now(UTC)
        listed = [one async for one in client.listed(now - timedelta(hours=1), now, requests=True)]
        texts = [str((one.metadata or {}).get("user_prompt")) for one in listed]
        assert sorted(texts[:3]) == sorted(prompts) and texts[3:] == ["None"]  # nothing of a live task is stored
        assert listed[-1].url.endswith("/live") and not listed[-1].unfinished
        [late] = await client.post(Task(user_prompt="[[fail=overloaded]]", model_name=MODEL, tag="late"))
        async with asyncio.timeout(30):
            while not (gone := await client.cancel(tag="late")):
                await asyncio.sleep(0.02)  # it runs just now, and waits soon
        assert gone == [late.id]
        assert [one.id async for one in client.answers([late.id.upper()])] == [late.id.upper()]


class Cut:
    """A way to the server on which the first answers to POSTs get lost, after the server has done what it was asked."""

    def __init__(self, port: int, lost: int) -> None:
        self.port, self.lost, self.cut = port, lost, 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        posting = False

        async def forth() -> None:
            nonlocal posting
            while data := await reader.read(65_536):
                posting = posting or data.startswith(b"POST")
                back.write(data)
            back.close()

        sending = asyncio.create_task(forth())
        with contextlib.suppress(ConnectionError):
            while data := await there.read(65_536):
                if posting and self.cut < self.lost:
                    self.cut += 1
                    break
                writer.write(data)
        sending.cancel()
        writer.close()
        back.close()


async def test_a_post_whose_answer_is_lost_buys_nothing_twice(shop: Shop) -> None:
    cut = Cut(int(shop.served.url.rpartition(":")[2]), lost=3)
    server = await asyncio.start_server(cut.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, Client(url, shop.login, shop.password) as client:
        answered = [entry async for entry in client.ask(tasks(150))]
    assert cut.cut == 3
    assert len({entry.id for entry in answered}) == 150 and all(entry.answered for entry in answered)
    assert await asyncio.to_thread(shop.charges) == (150, 150 * 200_000)
    async with server, Client(url, shop.login, shop.password, patience=0) as client:
        with pytest.raises(Unreachable):
            await client.models()


@contextlib.asynccontextmanager
async def scripted(*answers: tuple[int, dict[str, str], bytes]) -> AsyncIterator[tuple[str, list[web.Request]]]:
    """A server that gives these answers one after the other, the last one for ever; its URL and what was asked."""
    asked: list[web.Request] = []

    async def handle(request: web.BaseRequest) -> web.Response:
        asked.append(request)  # type: ignore[arg-type]
        status, headers, body = answers[min(len(asked), len(answers)) - 1]
        return web.Response(status=status, headers=headers, body=body)

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


def envelope(code: int, tasks: str = "null") -> bytes:
    return f'{{"status_code":{code},"status_message":"said","tasks":{tasks}}}'.encode()


EMPTY = envelope(20000, '[{"status_code":20000,"status_message":"Ok.","result":[]}]')


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client would have paused: it does not."""
    slept: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await real(0)

    monkeypatch.setattr("restante.client.transport.asyncio.sleep", sleep)
    return slept


async def test_a_rate_is_waited_for_until_the_servers_minute_ends(pauses: list[float]) -> None:
    at = {"Date": "Sun, 22 Nov 2026 13:00:20 GMT", "X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0"}
    more = at | {"X-RateLimit-Remaining": "19"}
    said = ((200, at, envelope(40202)), (200, more, EMPTY), (200, at, EMPTY))
    async with scripted(*said) as (url, asked), Client(url, "a", "b") as client:
        assert await client.ready() == []
        assert len(asked) == 2 and any(40 <= pause <= 42 for pause in pauses)
        pauses.clear()
        await client.ready()
        assert not pauses and client.limit("tasks_ready") == 20
        with pytest.raises(RateExceeded):  # it knows by the headers, without asking
            await client.ready(wait=False)
        assert len(asked) == 3 and not pauses
        await client.ready()
        assert [40 < pause < 41 for pause in pauses] == [True]
        pauses.clear()
        await client.models()  # has a rate of its own
        assert not pauses
    async with scripted((200, at, envelope(40202))) as (url, asked), Client(url, "a", "b", patience=0) as client:
        with pytest.raises(RateExceeded):
            await client.ready()
        assert len(asked) == 1


async def test_what_was_posted_before_an_error_is_in_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    async with client_of(shop) as client:
        batch = client.post_batch

        async def first_only(some: Any, *, key: str) -> Any:
            if key.endswith("-1"):
                raise Unreachable("gone")
            return await batch(some, key=key)

        with monkeypatch.context() as patched, pytest.raises(Unreachable) as caught:
            patched.setattr(client, "post_batch", first_only)
            await client.post(tasks(150))
        posted, key = caught.value.posted, caught.value.key
        assert len(posted) == 100 and all(entry.posted for entry in posted)
        again = await client.post(tasks(150), key=key)
        assert again[:100] == posted and len(again) == 150


async def test_what_may_be_tried_again_is_and_nothing_else(pauses: list[float]) -> None:
    no_headers: dict[str, str] = {}
    broken, fine = (503, no_headers, envelope(50000)), (200, no_headers, EMPTY)
    async with scripted(broken, broken, broken, fine) as (url, asked), Client(url, "a", "b") as client:
        await client.models()
        assert len(asked) == 4 and pauses == sorted(pauses)
    async with scripted(broken, fine) as (url, asked), Client(url, "a", "b") as client:
        with pytest.raises(ClientError, match="50000"):
            await client.live(tasks(1)[0])  # might be paid for twice
        assert len(asked) == 1
    async with scripted(broken) as (url, asked), Client(url, "a", "b", patience=3) as client:
        with pytest.raises(ClientError, match="50000"):
            await client.post_batch(tasks(1), key="k")
        assert len(asked) > 1 and {one.headers["Idempotency-Key"] for one in asked} == {"k"}
    with pytest.raises(Unreachable, match="cannot be reached"):
        async with Client("http://127.0.0.1:1", "a", "b", patience=0.5) as client:
            await client.models()


async def test_errors_say_what_is_wrong(shop: Shop) -> None:
    async with Client(shop.served.url, shop.login, "wrong") as client:
        with pytest.raises(WrongPassword):
            await client.ready()
    for body in (b"<html>", b"[]", b'{"status_code":"x"}', envelope(20000, "[]"), envelope(20000, "[[]]"), b"\xff"):
        async with scripted((200, {}, body)) as (url, _), Client(url, "a", "b") as client:
            with pytest.raises(NotRestante):
                await client.get("x")
    for url in ("nothing", "ftp://example.org", "http://"):
        async with Client(url, "a", "b", patience=0) as client:
            with pytest.raises((NotRestante, Unreachable)):
                await client.ready()
    withheld = envelope(20000, msgspec.json.encode([_entry("x", 40200)]).decode())
    async with scripted((200, {}, withheld)) as (url, _), Client(url, "a", "b") as client:
        with pytest.raises(PaymentRequired):
            await anext(client.answers(["x"]))
    async with client_of(shop) as client:
        with pytest.raises(ClientError, match="40502"):
            await client.post_batch([], key="k")


def _entry(task_id: str, code: int) -> dict[str, Any]:
    return {
        "id": task_id, "status_code": code, "status_message": "said", "time": "0 sec.", "cost": 0, "result_count": 0,
        "path": ["v3"], "data": None, "result": None,
    }  # fmt: skip


async def test_what_tasks_ready_never_lists_is_found_all_the_same(shop: Shop) -> None:
    """Another program has collected them, or their postback was delivered."""
    async with client_of(shop) as mine, client_of(shop) as other:
        posted = await mine.post(tasks(3 * CLIENT_LOOKS))
        async for _ in other.answers(posted):
            pass
        assert await mine.ready() == []
        assert len([entry async for entry in mine.answers(posted)]) == len(posted)


async def test_webhooks_tell(shop: Shop) -> None:
    secrets = (await asyncio.to_thread(shop.served.run, "account", "webhook-secret", shop.login)).stdout.split()
    async with client_of(shop) as client, Receiver(secrets=secrets) as receiver, Receiver() as bare:
        posted = await client.post(tasks(3, postback_url=receiver.postback_url, tag="a&b"))
        found = [entry async for entry in client.answers(posted, receiver=receiver)]
        assert {entry.id for entry in found} == {entry.id for entry in posted} and all(one.answered for one in found)
        [posted_bare] = await client.post(tasks(1, "[[latency=0.3]]", pingback_url=bare.pingback_url))
        told = asyncio.create_task(bare.next())
        [ping] = [entry async for entry in client.answers([posted_bare])]
        delivery = await asyncio.wait_for(told, 30)
        assert (delivery.method, delivery.task_id, delivery.verified) == ("GET", ping.id, None)
        assert delivery.path == f"/pingback?id={ping.id}&tag="
    assert await asyncio.to_thread(shop.charges) == (4, 800_000)


async def test_a_forged_postback_is_no_answer(shop: Shop) -> None:
    """It is a nudge at the most: the answer is fetched."""
    secret = show_secret(b"s" * 32)
    async with client_of(shop) as client, Receiver(secrets=[secret]) as receiver:
        posted = await client.post(tasks(1))
        [real] = [entry async for entry in client.answers(posted)]
        forged = msgspec.json.encode({"tasks": [{**_entry(real.id, 20000), "result": []}]})
        for headers in ({}, sign([b"x" * 32], "m", int(time.time()), forged)):
            assert receiver.read("POST", "/", headers, forged).verified is False
        right = receiver.read("POST", "/", sign([b"s" * 32], "m", int(time.time()), forged), forged)
        assert right.verified is True and right.task_id == real.id and right.webhook_id == "m"


def test_signatures_are_standard_webhooks() -> None:
    """By somebody else's signing; wrong in each part, old, or without a secret they are not right."""
    secret, other = show_secret(b"k" * 32), show_secret(b"o" * 32)
    now = datetime.now(UTC)
    body = '{"a":"ü"}'
    headers = {
        "webhook-id": "m1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": "v1a,x " + Webhook(secret).sign("m1", now, body),
    }
    assert verify([secret], headers, body.encode()) and verify([other, secret], headers, body.encode())
    assert not verify([other], headers, body.encode())
    assert not verify([secret], headers, b"{}") and not verify([], headers, body.encode())
    for name in headers:
        assert not verify([secret], headers | {name: headers[name] + "1"}, body.encode()), name
        assert not verify([secret], {k: v for k, v in headers.items() if k != name}, body.encode())
    for name in ("webhook-id", "webhook-signature"):  # bytes that are no UTF-8, as aiohttp has them
        assert not verify([secret], headers | {name: "v1,\udc80"}, body.encode())
    assert verify([secret], headers, body.encode(), now=now.timestamp() + 290)
    assert not verify([secret], headers, body.encode(), now=now.timestamp() + 302)
    with pytest.raises(ValueError, match="whsec_"):
        verify(["nonsense"], headers, b"")


def test_importing_it_imports_no_server() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import sys, restante.client; print(*sorted(sys.modules))"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert not {one.partition(".")[0] for one in said} & {"aiohttp", "asyncpg", "rich", "starlette", "typer", "uvicorn"}
    ours = {one for one in said if one.startswith("restante.")}
    assert all(one.startswith(("restante.client", "restante.core")) for one in ours), ours


def test_the_documented_example_runs(shop: Shop) -> None:
    """docs/client.md: each program of it, as it stands there."""
    page = (ROOT / "docs/client.md").read_text()
    programs = re.findall(r"```python\n(.*?)```", page, re.S)
    assert len(programs) >= 2
    for program in programs:
        done = subprocess.run(
            [sys.executable, "-c", program], env=shop.env | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0 and "Scripted answer" in done.stdout, (program, done.stdout, done.stderr)
    assert FAMILY.split("/")[-1] == "llm_responses"
