"""Each case of an answer through HTTP, worker, emulated Gemini and task_get; and what is kept beside it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import msgspec
import pytest

from restante.store.database import Database
from restante.web.wire import OURS
from tests.emulators.gemini import GeminiEmulator
from tests.emulators.grounding import REDIRECTS, SUGGESTIONS
from tests.support import OPERATOR, Http, Restante, differences, task

FEE = 200_000


async def ask(service: Restante, prompt: str, **fields: Any) -> Any:
    """One task, posted, worked on and fetched."""
    async with Http(service.family) as http:
        [entry] = (await http.post([task(prompt, **fields)]))["tasks"]
        assert entry["status_code"] == 20100, entry
        found = await http.answers([entry["id"]])
        return found[entry["id"]]


async def result(service: Restante, prompt: str, **fields: Any) -> Any:
    entry = await ask(service, prompt, **fields)
    assert entry["status_code"] == 20000, entry
    [answer] = entry["result"]
    return answer


def body(google: GeminiEmulator, mark: str) -> Any:
    """The request of ours whose question holds the mark."""
    [found] = [
        sent.body for sent in google.requests if sent.body and mark in sent.body["contents"][-1]["parts"][0]["text"]
    ]
    return found


async def test_a_grounded_answer_with_reasoning(service: Restante, google: GeminiEmulator) -> None:
    prompt = (
        "m-grounded [[thoughts=First this.|Then that.]] [[parts=Zürich liegt |am See. 🚆 Bern nicht.]]"
        " [[search=zürich see||bern|bern]] [[chunks=zh.ch|gone.org|bern.ch]] [[cites=Zürich>0,1;🚆 Bern>2]]"
        " [[usage=120,800,300]] [[tools=70]]"
    )
    found = await result(service, prompt, web_search=True, use_reasoning=True)
    redirect = google.url + REDIRECTS
    assert found == {
        "model_name": "gemini-2.5-flash",
        "input_tokens": 120,
        "output_tokens": 1100,
        "reasoning_tokens": 300,
        "web_search": True,
        "money_spent": 0.037786,
        "datetime": found["datetime"],
        "items": [
            {
                "type": "reasoning",
                "sections": [
                    {"type": "summary_text", "text": "First this."},
                    {"type": "summary_text", "text": "Then that."},
                ],
            },
            {
                "type": "message",
                "sections": [
                    {
                        "type": "text",
                        "text": "Zürich liegt am See. 🚆 Bern nicht.",
                        "annotations": [
                            {
                                "title": "zh.ch",
                                "url": f"{redirect}zh.ch/0",
                                "direct_url": "https://www.zh.ch/page-0",
                                "start_index": 0,
                                "end_index": 6,
                                "text": "Zürich",
                            },
                            {
                                "title": "gone.org",
                                "url": f"{redirect}gone.org/1",
                                "direct_url": None,
                                "start_index": 0,
                                "end_index": 6,
                                "text": "Zürich",
                            },
                            {
                                "title": "bern.ch",
                                "url": f"{redirect}bern.ch/2",
                                "direct_url": "https://www.bern.ch/page-2",
                                "start_index": 21,
                                "end_index": 27,
                                "text": "🚆 Bern",
                            },
                        ],
                    }
                ],
            },
        ],
        "fan_out_queries": ["zürich see", "bern"],
    }
    sent = body(google, "m-grounded")
    assert sent["tools"] == [{"googleSearch": {}}]
    assert sent["generationConfig"]["thinkingConfig"] == {"includeThoughts": True, "thinkingBudget": 1024}


async def test_searched_and_found_no_page(service: Restante) -> None:
    found = await result(service, "q [[search=a|b]] [[chunks=]]", web_search=True, model_name="gemini-3.7-flash")
    assert found["items"][-1]["sections"][0]["annotations"] == []
    assert (found["web_search"], found["fan_out_queries"]) == (True, ["a", "b"])
    assert found["money_spent"] > 0.028  # two queries of 3.7


async def test_allowed_to_search_and_did_not(service: Restante) -> None:
    found = await result(service, "q [[grounding={}]] [[usage=10,10,0]]", web_search=True)
    assert found["items"][-1]["sections"][0]["annotations"] == []
    assert (found["web_search"], found["fan_out_queries"], found["money_spent"]) == (False, None, 0.000028)


async def test_not_allowed_to_search(service: Restante, google: GeminiEmulator) -> None:
    found = await result(service, "m-plain")
    assert found["items"] == [
        {"type": "message", "sections": [{"type": "text", "text": "Echo: m-plain", "annotations": None}]}
    ]
    assert (found["web_search"], found["fan_out_queries"], found["reasoning_tokens"]) == (False, None, 0)
    sent = body(google, "m-plain")
    assert "tools" not in sent
    assert sent["generationConfig"]["thinkingConfig"] == {"thinkingBudget": 0}


async def test_supports_that_point_nowhere(service: Restante) -> None:
    prompt = "q [[parts=Zürich]] [[spans=0:900>0;5:2>0;0:3:7>0;0:2>9;0:2>0]] [[quotes=1:4>0>Genf]]"
    found = await result(service, prompt, web_search=True)
    [section] = found["items"][-1]["sections"]
    [note] = section["annotations"]  # the last of the spans, which ends inside the ü
    assert (note["start_index"], note["end_index"], note["text"]) == (0, 2, "Zü")


async def test_a_pro_model_reasons_unasked(service: Restante, google: GeminiEmulator) -> None:
    found = await result(service, "m-pro", model_name="gemini-3.1-pro-preview")
    assert [item["type"] for item in found["items"]] == ["reasoning", "message"]
    assert body(google, "m-pro")["generationConfig"]["thinkingConfig"] == {
        "includeThoughts": True, "thinkingLevel": "MEDIUM",
    }  # fmt: skip


async def test_the_thinking_used_up_the_budget(service: Restante) -> None:
    prompt = "q [[text=]] [[thoughts=hm]] [[finish=MAX_TOKENS]] [[usage=10,0,1024]]"
    found = await result(service, prompt, model_name="gemini-2.5-pro", max_output_tokens=1024)
    assert found["items"] == [{"type": "reasoning", "sections": [{"type": "summary_text", "text": "hm"}]}]
    assert (found["output_tokens"], found["reasoning_tokens"]) == (1024, 1024)
    nothing = await result(service, "q [[text=]] [[finish=MAX_TOKENS]] [[usage=10,0,9]]")
    assert nothing["items"] == []


@pytest.mark.parametrize(
    ("directives", "reason"),
    [
        ("[[blocked=SAFETY]]", "blocked: SAFETY"),
        ("[[blocked=PROHIBITED_CONTENT]]", "blocked: PROHIBITED_CONTENT"),
        ("[[text=]] [[finish=SAFETY]]", "blocked: SAFETY"),
        ("[[text=]] [[thoughts=hm]] [[finish=RECITATION]]", "blocked: RECITATION"),
        ("[[status=400]]", "invalid argument"),
    ],
)
async def test_what_no_retry_mends(service: Restante, directives: str, reason: str) -> None:
    entry = await ask(service, f"q {directives}", web_search=True)
    assert (entry["status_code"], entry["result"], entry["cost"]) == (50301, None, 0)
    assert entry["status_message"] == f"3rd Party API Service Unavailable ({reason})."


@pytest.mark.parametrize(
    "directives", ["[[text=]]", "[[raw=<html>]]", "[[raw={}]]", "[[long=4096]] [[cut]]", "[[drop]]", "[[status=503]]"]
)
async def test_what_a_retry_may_mend_goes_back_to_the_queue(service: Restante, directives: str) -> None:
    async with Http(service.family) as http:
        [entry] = (await http.post([task(f"q {directives}", tag="mendable")]))["tasks"]
        async with asyncio.timeout(30):
            while not await asyncio.to_thread(service.look, lambda db: _tries(db, entry["id"])):
                await asyncio.sleep(0.02)  # what another process commits sends no event
        [still] = (await http.get(f"task_get/{entry['id']}"))["tasks"]
        assert still["status_code"] in (40601, 40602)
    async with Http(service.url + OURS) as own:
        await own.send("POST", "tasks/cancel", msgspec.json.encode({"tag": "mendable"}))


async def _tries(db: Database, task_id: str) -> int:
    tries: int = await db._pool.fetchval("select tries from queue where id = $1", task_id)
    return tries


async def test_text_counts_whatever_ended_it(service: Restante) -> None:
    found = await result(service, "q [[text=Half a]] [[finish=SAFETY]]")
    assert found["items"][0]["sections"][0]["text"] == "Half a"


async def test_sources_that_cannot_be_read_do_not_cost_the_answer(service: Restante) -> None:
    found = await result(service, 'q [[text=Ja.]] [[grounding={"groundingChunks": 7}]]', web_search=True)
    assert found["items"][0]["sections"] == [{"type": "text", "text": "Ja.", "annotations": []}]


async def test_live_is_grounded_too(service: Restante) -> None:
    async with Http(service.family) as http:
        prompt = "q [[parts=Zürich]] [[chunks=zh.ch]] [[usage=120,800,300]]"
        [entry] = (await http.post([task(prompt, web_search=True)], "live"))["tasks"]
    [found] = entry["result"]
    [note] = found["items"][0]["sections"][0]["annotations"]
    assert (note["text"], note["direct_url"]) == ("Zürich", "https://www.zh.ch/page-0")
    assert entry["cost"] == 0.038386  # 0.0006 + 0.037786
    status, _, _ = await fetch(f"{service.url}{OURS}/tasks/{entry['id']}/raw")
    assert status == 404  # nothing of a live task is kept


async def test_a_hanging_redirect_delays_the_answer_by_the_bound(service: Restante) -> None:
    began = time.monotonic()
    found = await result(service, "q [[parts=Ja.]] [[chunks=hang.org]]", web_search=True)
    assert 2.0 <= time.monotonic() - began < 20
    assert found["items"][0]["sections"][0]["annotations"][0]["direct_url"] is None


async def test_the_models_say_what_they_can(service: Restante) -> None:
    async with Http(service.family) as http:
        [entry] = (await http.get("models"))["tasks"]
        rows = {row["model_name"]: row for row in entry["result"]}
        assert next(iter(rows)) == "gemini-flash-latest"
        assert rows["gemini-2.5-flash"] == {
            "model_name": "gemini-2.5-flash", "reasoning": True, "web_search_supported": True,
            "task_post_supported": True,
        }  # fmt: skip
        assert not rows["gemini-1.5-pro"]["web_search_supported"]
        refused = await http.post([
            task("q", model_name="gemini-1.5-pro", web_search=True), task("q", model_name="gemini-0.9-retired"),
        ])  # fmt: skip
    assert [entry["status_message"] for entry in refused["tasks"]] == [
        "Invalid Field: 'web_search'.", "Invalid Field: 'model_name'.",
    ]  # fmt: skip


# --- the raw reply --------------------------------------------------------------------------------------


def _login(login: tuple[str, str] = OPERATOR) -> dict[str, str]:
    return {"Authorization": aiohttp.encode_basic_auth(*login)}


async def fetch(url: str, login: tuple[str, str] = OPERATOR) -> tuple[int, Any, bytes]:
    async with aiohttp.ClientSession(headers=_login(login)) as session, session.get(url) as response:
        return response.status, response.headers, await response.read()


async def test_the_reply_is_kept_byte_for_byte(service: Restante) -> None:
    entry = await ask(service, "q [[text=Ja. 🚆]] [[search=alpine]]", web_search=True)
    url = f"{service.url}{OURS}/tasks/{entry['id']}"
    status, headers, body = await fetch(f"{url}/raw")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert headers["X-Price-Date"] >= "2026-10-14"
    reply = msgspec.json.decode(body)
    assert reply["candidates"][0]["groundingMetadata"]["searchEntryPoint"]["renderedContent"] == SUGGESTIONS
    assert reply["responseId"] == "kX1yZ-Pq0Abc1-d2e3F4g"  # what our answer has no place for
    by_command = await asyncio.to_thread(service.run, "task", "raw", entry["id"], "--url", service.url)
    assert by_command.returncode == 0, by_command.stderr
    assert by_command.stdout.encode() == body
    html = await asyncio.to_thread(service.run, "task", "raw", entry["id"], "--suggestions", "--url", service.url)
    assert html.stdout == SUGGESTIONS
    status, headers, body = await fetch(f"{url}/suggestions")
    assert (status, body.decode(), headers["Content-Security-Policy"]) == (200, SUGGESTIONS, "sandbox")


async def test_there_is_not_always_one(service: Restante) -> None:
    plain = await ask(service, "q")
    status, _, body = await fetch(f"{service.url}{OURS}/tasks/{plain['id']}/suggestions")
    assert (status, msgspec.json.decode(body)) == (404, {"error": "the answer has no search suggestions"})
    failed = await ask(service, "q [[blocked=SAFETY]]")
    for wrong in (failed["id"], "x", "11201415-0001-0613-0000-5d0c1be9a7f3", failed["id"].replace("-0001-", "-0002-")):
        status, _, _ = await fetch(f"{service.url}{OURS}/tasks/{wrong}/raw")
        assert status == 404, wrong
    other = await asyncio.to_thread(service.account, "another", "1")
    status, _, _ = await fetch(f"{service.url}{OURS}/tasks/{plain['id']}/raw", other)
    assert status == 404
    command = await asyncio.to_thread(service.run, "task", "raw", failed["id"], "--url", service.url)
    assert command.returncode == 1 and "no reply of a provider is kept" in command.stderr


async def test_it_is_withheld_as_the_answer_is(service: Restante) -> None:
    debtor = await asyncio.to_thread(service.account, "debtor", "0.0102")
    async with Http(service.family, debtor) as http:
        [entry] = (await http.post([task("q [[search=a]]", web_search=True)]))["tasks"]
        found = (await http.answers([entry["id"]]))[entry["id"]]
    assert found["status_code"] == 40200  # $0.035 of a search: the balance is below zero
    status, _, body = await fetch(f"{service.url}{OURS}/tasks/{entry['id']}/raw", debtor)
    assert (status, b"withheld" in body) == (402, True)


async def test_the_money_adds_up(service: Restante) -> None:
    """After all of the above."""
    audit = await asyncio.to_thread(service.run, "ledger", "audit")
    assert audit.returncode == 0, audit.stdout
    assert await asyncio.to_thread(service.look, differences) == []
