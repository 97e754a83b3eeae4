"""The pages and their twins, over real HTTP: what they say is what happened, and text is only ever text."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import pytest

from restante.core.limits import CONSOLE_ROWS
from restante.web.console.gate import HEADERS
from tests.console.served import PATHS
from tests.console.visiting import Visitor, visitor
from tests.support import Http, Restante, task
from tests.web.calls import Shop, fetched, listed, one_task, open_shop

HOSTILE = [
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "**bold** [link](javascript:alert(1)) `code` {{ 7*7 }} {% raw %}",
    "\u202egnp.exe \u2066\u05d0\u05d1\u05d2 مرحبا\u2069",
    "'\"><svg/onload=alert(1)>&amp;&lt;",
    '=HYPERLINK("http://evil.example")\n\nsecond line\t\'; drop table task; --',
]


@pytest.fixture
def shop(restante: Restante) -> Shop:
    return open_shop(restante)


@pytest.fixture
async def http(restante: Restante, shop: Shop) -> AsyncIterator[Http]:
    async with Http(restante.family, shop.credentials) as session:
        yield session


@pytest.fixture
async def browser(restante: Restante, shop: Shop) -> AsyncIterator[Visitor]:
    made = await visitor(restante.url, shop.credentials)
    async with made:
        yield made


async def post(http: Http, *tasks: dict[str, Any]) -> list[str]:
    return [one["id"] for one in (await http.post([*tasks]))["tasks"]]


async def test_the_overview_says_what_happened(http: Http, browser: Visitor, shop: Shop) -> None:
    await post(http, task("one"), task("two"), task("three [[fail=no]]"))
    await listed(http, 3)
    async with asyncio.timeout(30):
        while True:  # the minute's figures are written once a second
            seen = await browser.json("/overview.json")
            if sum(one["done"] + one["failed"] for one in seen["minutes"]) == 3:
                break
            await asyncio.sleep(0.1)
    assert (sum(one["done"] for one in seen["minutes"]), len(seen["minutes"])) == (2, 60)
    money = seen["money"]
    assert money["accounts"] == 1 and money["held"] == 0 and money["today"] == money["spent"] > 0
    assert money["balance"] + money["spent"] == 10_000_000_000
    assert seen["queue"]["oldest"] is None and seen["account"] == shop.credentials[0]
    assert [(one["name"], one["status"]) for one in seen["providers"]] == [("scripted", "ok")]
    page = await browser.page("/")
    assert "2 answered" in page and "1 failed" in page and 'id="live"' in page


async def test_what_waits_and_fails_is_on_the_overview(http: Http, browser: Visitor) -> None:
    hook = {"pingback_url": "https://nobody-has-this.invalid/$id"}
    await post(http, task("hook", **hook), task("later [[fail=overloaded]] [[retry_after=600]]"))
    async with asyncio.timeout(20):
        while True:
            seen = await browser.json("/overview.json")
            if seen["failing_hosts"] and seen["queue"]["retrying"]:
                break
            await asyncio.sleep(0.1)
    [host] = seen["failing_hosts"]
    assert (host["host"], host["waiting"], host["attempts"]) == ("nobody-has-this.invalid:443", 1, 1)
    assert "nobody-has-this.invalid:443" in await browser.page("/")
    assert [one["prompt"][:5] for one in (await browser.json("/tasks.json?state=waiting"))["tasks"]] == ["later"]


async def test_tasks_are_found_by_what_people_know_of_them(http: Http, browser: Visitor) -> None:
    ids = await post(
        http,
        task("plain"),
        task("tagged", tag="a tag"),
        task("fails [[fail=no]]", tag="a tag"),
        task("pro", model_name="gemini-2.5-pro", tag="a tag "),
    )
    live = one_task(await http.post([task("live")], "live"))["id"]
    await listed(http, 4)

    async def found(query: str) -> set[str]:
        return {one["id"] for one in (await browser.json(f"/tasks.json?{query}"))["tasks"]}

    assert await found("") == {*ids, live}
    assert await found("tag=a+tag") == set(ids[1:3])
    assert await found("state=done") == {ids[0], ids[1], ids[3], live} and await found("state=failed") == {ids[2]}
    assert await found("state=queued") == await found("state=running") == set()
    assert await found("model=gemini-2.5-pro") == {ids[3]} and live in await found("model=gemini-2.5-flash")
    assert await found("kind=live") == {live} and await found("kind=posted&state=failed&tag=a+tag") == {ids[2]}
    assert await found("time=15m") == {*ids, live} and await found("tag=nobody") == set()
    there = await browser.get(f"/tasks?q=+{ids[0].upper()}+")
    assert (there.status, there.headers["Location"]) == (303, f"/console/tasks/{ids[0]}")
    assert (await browser.get("/tasks?q=a+tag&state=done")).headers["Location"].endswith("?state=done&tag=a+tag")
    for wrong in ("state=open", "time=2y", "kind=x", "tag=%00", f"tag={'x' * 256}", "before=1", "before=9e9_x"):
        assert (await browser.get(f"/tasks?{wrong}")).status == 400, wrong


async def test_pages_of_tasks_hold_each_once(http: Http, browser: Visitor) -> None:
    """Newest first by their posting, however many share a moment."""
    posted: list[str] = []
    for _ in range(3):
        posted += await post(http, *(task(f"number {number}") for number in range(CONSOLE_ROWS - 10)))
    seen: list[dict[str, Any]] = []
    where: str | None = "/console/tasks"
    while where is not None:
        page = await browser.json(where.removeprefix("/console").replace("/tasks", "/tasks.json", 1))
        assert len(page["tasks"]) <= CONSOLE_ROWS
        seen += page["tasks"]
        where = page["older"]
    assert sorted(one["id"] for one in seen) == sorted(posted)
    assert [one["posted_at"] for one in seen] == sorted((one["posted_at"] for one in seen), reverse=True)


async def test_a_task_tells_everything(http: Http, browser: Visitor, shop: Shop) -> None:
    asked = task("Which trains? [[search]] [[cost=0.001]]", tag="t", system_message="be brief")
    [one] = await post(http, asked)
    await listed(http, 1)
    seen = await browser.json(f"/tasks/{one}.json")
    told = {event["what"]: event for event in seen["timeline"]}
    assert list(told) == [
        "Accepted", "Money held", "Claimed", "Model called", "Answered and settled", "Listed in tasks_ready",
    ]  # fmt: skip
    assert [event["at"] for event in seen["timeline"]] == sorted(event["at"] for event in seen["timeline"])
    assert told["Claimed"]["facts"][0].startswith("by worker ")
    assert any("tokens in" in fact for fact in told["Model called"]["facts"])
    assert told["Answered and settled"]["facts"][0] == "$0.0012 charged"
    assert (seen["state"], seen["request"]["system_message"]) == ("done", "be brief")
    again = await fetched(http, one, until=20000)
    assert seen["envelope"]["tasks"][0]["result"] == again["result"]
    page = await browser.page(f"/tasks/{one}")
    assert page.count("<mark>") == 2 and 'href="#source-1"' in page and 'rel="noopener noreferrer nofollow"' in page
    assert "curl -u" in page and "requests.post(" in page
    collected = (await browser.json(f"/tasks/{one}.json"))["timeline"][-1]
    assert collected["what"] == "Off tasks_ready" and not collected["pending"]


async def test_a_task_tells_what_went_wrong(http: Http, browser: Visitor) -> None:
    hook = {"postback_url": "https://nobody-has-this.invalid/?$id"}
    [failed] = await post(http, task("[[fail_times=1]] [[retry_after=0.01]] x", **hook))
    async with asyncio.timeout(30):
        while True:
            told = (await browser.json(f"/tasks/{failed}.json"))["timeline"]
            if any(event["what"] == "Postback failed" for event in told):
                break
            await asyncio.sleep(0.1)
    assert [event["what"] for event in told][2:] == [
        "Put off", "Claimed", "Model called", "Answered and settled", "Postback failed", "Postback to be sent",
        "Listed in tasks_ready",
    ]  # fmt: skip
    assert told[2]["facts"] == ["1 calls gave no answer"] and told[-2]["pending"]


async def test_a_debtors_answers_are_withheld_as_the_api_withholds_them(restante: Restante) -> None:
    debtor = open_shop(restante, "0.01031")
    async with Http(restante.family, debtor.credentials) as http:
        [one] = await post(http, task("dear [[cost=0.02]]"))
        async with asyncio.timeout(20):
            while (one_task(await http.get(f"task_get/{one}")))["status_code"] != 40200:
                await asyncio.sleep(0.05)
    browser, operator = await visitor(restante.url, debtor.credentials), await visitor(restante.url)
    async with browser, operator:
        seen = await browser.json(f"/tasks/{one}.json")
        assert seen["withheld"] and seen["envelope"]["tasks"][0]["status_code"] == 40200
        assert [one["mood"] for one in seen["timeline"] if one["what"] == "Model called"] == ["good"]
        page = await browser.page(f"/tasks/{one}")
        assert "withheld until" in page and "Scripted answer" not in page
        assert "Scripted answer" in await operator.page(f"/tasks/{one}")


class _Tags(HTMLParser):
    """Every element of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize("text", HOSTILE)
async def test_whatever_it_says_it_is_text(restante: Restante, http: Http, browser: Visitor, text: str) -> None:
    """In prompts, answers, tags, reasons of failures: the page has the elements that it has for plain words, and the
    words are there."""

    def own(said: str) -> dict[str, Any]:
        return {"system_message": said, "message_chain": [{"role": role, "message": said} for role in ("user", "ai")]}

    plain, hostile = await post(http, task("plain words", tag="x", **own("a")), task(text, tag=text[:200], **own(text)))
    await listed(http, 2)
    for path in ("/tasks", f"/tasks/{hostile}"):
        page = await browser.page(path)
        tags = _Tags(page)
        assert not [one for one in tags.elements if one[0] in ("img", "svg", "iframe") and "icon" not in str(one)]
        assert [one for one in tags.elements if one[0] == "script"] == [
            one for one in _Tags(await browser.page(f"/tasks/{plain}")).elements if one[0] == "script"
        ]
        assert not [name for _, attributes in tags.elements for name in attributes if name.startswith("on")]
        assert not [a for _, a in tags.elements if (a.get("href") or "").startswith(("javascript:", "http"))]
        assert re.sub(r"\s", "", text[:60]) in re.sub(r"\s", "", "".join(tags.texts))
    names = [[tag for tag, _ in _Tags(await browser.page(f"/tasks/{one}")).elements] for one in (plain, hostile)]
    assert names[0] == names[1]


async def test_every_answer_says_what_a_browser_may_do(browser: Visitor) -> None:
    for method, path in sorted(PATHS - {("GET", "/events")} | {("GET", "/login"), ("GET", "/nowhere")}):
        path = path.replace("{task_id}", "11220000-0001-0613-0000-000000000000")
        answered = await (browser.get(path) if method == "GET" else browser.post(path, {}))
        assert {name: answered.headers[name] for name in HEADERS} == HEADERS, path
        assert answered.headers["Cache-Control"] == "no-store", path
        policy = answered.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy


async def test_what_is_not_there_is_said(browser: Visitor) -> None:
    for path in (
        "/nowhere",
        "/tasks/x",
        "/tasks/11220000-ffff-0613-0000-000000000000",
        "/tasks/13990000-0001-0613-0000-000000000000",
    ):
        answered = await browser.get(path)
        assert answered.status == 404 and "There is no such page" in answered.body.decode()
        assert (await browser.get(path, Accept="application/json")).json["error"]
    assert (await browser.post("/tasks", {})).status == 403
    assert (await browser.get("/logout")).status == 405
