"""Where citations lead: one HEAD request each, bounded in every way, through the guard."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest

from restante.core.answer import Answer
from restante.core.limits import BATCH_DIRECT_URL_SECONDS, DIRECT_URL_SECONDS, DIRECT_URLS_PER_ANSWER
from restante.core.task import Prompt
from restante.providers.gemini import GeminiProvider
from restante.providers.gemini_batch import GeminiBatches
from restante.providers.provider import Call
from restante.webhooks import redirects as module
from restante.webhooks.address_guard import AllowList
from restante.webhooks.redirects import Redirects
from tests.emulators.gemini import GeminiEmulator
from tests.emulators.grounding import REDIRECTS

MODEL = "gemini-2.5-flash"


@pytest.fixture
async def google() -> AsyncIterator[GeminiEmulator]:
    async with GeminiEmulator() as emulator:
        yield emulator


@pytest.fixture
async def redirects(google: GeminiEmulator) -> AsyncIterator[Redirects]:
    made = Redirects(f"{google.url}{REDIRECTS}", AllowList("127.0.0.1"))
    yield made
    await made.close()


def url(google: GeminiEmulator, title: str, number: int = 0) -> str:
    return f"{google.url}{REDIRECTS}{title}/{number}"


async def test_one_head_each_and_never_again(google: GeminiEmulator, redirects: Redirects) -> None:
    zurich, bern = url(google, "zh.ch"), url(google, "bern.ch", 1)
    expected = {zurich: "https://www.zh.ch/page-0", bern: "https://www.bern.ch/page-1"}
    assert await redirects.resolve([zurich, bern], 5) == expected
    assert await redirects.resolve([bern, zurich], 5) == expected
    assert sorted(google.asked_redirects) == [f"HEAD {REDIRECTS}bern.ch/1", f"HEAD {REDIRECTS}zh.ch/0"]


async def test_a_server_without_head(google: GeminiEmulator, redirects: Redirects) -> None:
    google.no_head = True
    assert await redirects.resolve([url(google, "zh.ch")], 5) == {url(google, "zh.ch"): "https://www.zh.ch/page-0"}
    assert list(google.asked_redirects) == [f"HEAD {REDIRECTS}zh.ch/0", f"GET {REDIRECTS}zh.ch/0"]


@pytest.mark.parametrize("title", ["gone.org", "relative.org", "script.org"])
async def test_what_leads_nowhere_is_null_and_asked_again(
    google: GeminiEmulator, redirects: Redirects, title: str
) -> None:
    for _ in range(2):
        assert await redirects.resolve([url(google, title)], 5) == {url(google, title): None}
    assert len(google.asked_redirects) == 2


async def test_other_urls_are_not_asked(google: GeminiEmulator, redirects: Redirects) -> None:
    """Not even those of the same host, or one that looks like it."""
    others = ["https://zh.ch/x", f"{google.url}/elsewhere", f"{google.url}.example{REDIRECTS}zh.ch/0"]
    wrong = ["gs://bucket/x", "javascript:alert(1)", "https://", "https://a\nb/", "zh.ch"]
    found = await redirects.resolve([*others, *wrong], 5)
    assert found == {one: one for one in others} | dict.fromkeys(wrong)
    assert not google.asked_redirects


async def test_a_host_that_hangs_costs_the_bound_and_no_more(google: GeminiEmulator) -> None:
    redirects = Redirects(f"{google.url}{REDIRECTS}", AllowList("127.0.0.1"))
    urls = [url(google, "hang.org"), url(google, "zh.ch")]
    began = time.monotonic()
    assert await redirects.resolve(urls, 1.0) == {urls[0]: None, urls[1]: "https://www.zh.ch/page-0"}
    assert 1.0 <= time.monotonic() - began < 20
    began = time.monotonic()
    assert await redirects.resolve(urls[:1], 0.05) == {urls[0]: None}
    assert await redirects.resolve(urls[:1], -3) == {urls[0]: None}
    assert time.monotonic() - began < 20
    await redirects.close()


async def test_an_answer_is_delayed_by_two_seconds_and_one_of_a_batch_by_ten(google: GeminiEmulator) -> None:
    """Less where less is left of the call; nobody waits for the other."""
    allowed: list[float] = []

    async def resolve(urls: Sequence[str], seconds: float) -> dict[str, str | None]:
        allowed.append(seconds)
        return {}

    provider = GeminiProvider(lambda: "good-key", google.url, resolve=resolve)
    prompt = Prompt(user_prompt="q [[search=Zurich]]", model_name=MODEL, web_search=True)
    call = Call(task_id="1", model=MODEL, prompt=prompt, seconds=120.0)
    answer = await provider.generate(call)
    assert isinstance(answer, Answer) and answer.raw is not None
    await provider.generate(msgspec.structs.replace(call, seconds=1.5))
    said, _ = await GeminiBatches(provider).answer(call, answer.raw)
    assert isinstance(said, Answer)
    first, second, batched = allowed
    assert (first, batched) == (DIRECT_URL_SECONDS, BATCH_DIRECT_URL_SECONDS) and 0 < second <= 0.5
    await provider.close()


async def test_no_citations_no_waiting(google: GeminiEmulator, redirects: Redirects) -> None:
    assert await redirects.resolve([], 5) == {}
    assert redirects._sessions is None  # nothing was even opened


async def test_the_guard_is_asked(google: GeminiEmulator) -> None:
    redirects = Redirects(f"{google.url}{REDIRECTS}", AllowList())
    assert await redirects.resolve([url(google, "zh.ch")], 5) == {url(google, "zh.ch"): None}
    assert not google.asked_redirects
    await redirects.close()


async def test_an_answer_has_so_many_and_no_more(google: GeminiEmulator, redirects: Redirects) -> None:
    urls = [url(google, "zh.ch", number) for number in range(DIRECT_URLS_PER_ANSWER + 3)]
    found = await redirects.resolve(urls, 10)
    assert list(found) == urls
    assert len(google.asked_redirects) == DIRECT_URLS_PER_ANSWER
    assert [found[one] for one in urls[-3:]] == [None] * 3


async def test_the_least_used_is_forgotten(
    google: GeminiEmulator, redirects: Redirects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DIRECT_URLS_REMEMBERED", 2)
    first, second, third = (url(google, "zh.ch", number) for number in range(3))
    for one in (first, second, first, third, first, second):
        await redirects.resolve([one], 5)
    assert [asked.rpartition("/")[2] for asked in google.asked_redirects] == ["0", "1", "2", "1"]


async def test_many_answers_share_the_slots(
    google: GeminiEmulator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Those that wait for a slot wait within their time, and give it back when it is over."""
    monkeypatch.setattr(module, "DIRECT_URL_CONCURRENCY", 1)
    redirects = Redirects(f"{google.url}{REDIRECTS}", AllowList("127.0.0.1"))
    with caplog.at_level(logging.ERROR):
        hanging = asyncio.create_task(redirects.resolve([url(google, "hang.org")], 2))
        while not google.asked_redirects:  # the slot is taken
            await asyncio.sleep(0.005)
        assert await redirects.resolve([url(google, "zh.ch")], 0.05) == {url(google, "zh.ch"): None}
        await hanging
        assert await redirects.resolve([url(google, "zh.ch")], 5) == {url(google, "zh.ch"): "https://www.zh.ch/page-0"}
    assert not caplog.records
    await redirects.close()


async def test_a_cancelled_answer_leaves_nothing(google: GeminiEmulator, redirects: Redirects) -> None:
    asking = asyncio.create_task(redirects.resolve([url(google, "hang.org")], 5))
    while not google.asked_redirects:
        await asyncio.sleep(0.005)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks() - {asyncio.current_task()}) <= 2  # the emulator's own
