"""An installation with something to see on every page: for the walk and for the pictures in the documentation."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from restante.web.wire import FAMILY
from tests.console.person import Person, person
from tests.support import Http, task
from tests.web.calls import listed, one_task
from tests.webhooks.receiver import receiving

BRANDS: Final = ("Alpenbahn", "NordCRM", "Bäckerei Huber")
QUESTIONS: Final = (
    "Which CRM would you recommend to a bakery with 20 people?",
    "What is the best night train from Zürich to Berlin?",
    "Name three accounting tools for freelancers and their prices.",
    "Is NordCRM or its rivals better for a team of five?",
)
HOSTILE: Final = "<script>alert('x')</script> **bold** مرحبا \u202egnp.exe"


async def rehearse(family: str, credentials: tuple[str, str]) -> dict[str, str]:
    """Post and wait; ids of tasks by what they are: searched, failed, retried, live, hostile, waiting."""
    ids: dict[str, str] = {}
    async with Http(family, credentials) as http:
        tasks = [
            task(f"{question} [[search]] [[cost=0.0{number}4]]", tag=brand, web_search=True)
            for number, question in enumerate(QUESTIONS, 1)
            for brand in BRANDS
        ]
        kinds = {
            "searched": task(f"{QUESTIONS[1]} [[search]] [[cost=0.035]] [[words=60]] [[tokens_in=412]]", tag=BRANDS[0]),
            "failed": task(f"{QUESTIONS[2]} [[blocked=SAFETY]]", tag=BRANDS[1]),
            "retried": task(
                f"{QUESTIONS[3]} [[fail_times=1]] [[retry_after=0.01]]", pingback_url="https://crm.invalid/$id"
            ),
            "hostile": task(HOSTILE, tag=HOSTILE[:30]),
            "waiting": task(f"{QUESTIONS[0]} [[fail=overloaded]] [[retry_after=3000]]", tag=BRANDS[2]),
        }
        posted = (await http.post([*tasks, *kinds.values()]))["tasks"]
        ids |= {name: entry["id"] for name, entry in zip(kinds, posted[len(tasks) :], strict=True)}
        ids["live"] = one_task(await http.post([task(QUESTIONS[0])], "live"))["id"]
        await listed(http, len(tasks) + 4)
    return ids | {"webhook": await _webhook(family.partition("/v3")[0], credentials)}


async def _webhook(url: str, credentials: tuple[str, str]) -> str:
    """The number of one that failed."""
    async with person(url, credentials) as owner, asyncio.timeout(30):
        while not (found := (await owner.json("/deliveries?state=retrying"))["webhooks"]):
            await asyncio.sleep(0.05)
    return str(found[0]["id"])


async def keep_books(url: str, operator: tuple[str, str]) -> dict[str, str]:
    """Accounts with money and limits, webhooks that are taken and refused, an audit; the numbers of one of each.
    The server must let webhooks go to 127.0.0.1."""
    async with receiving() as receiver, person(url, operator) as somebody:
        shops = []
        for login, usd in (
            ("tracker@example.org", "250"),
            ("agency <b>Huber</b> شركة", "40"),
            ("pilot@example.org", "5"),
        ):
            form = (await somebody.read("/accounts")).form("/console/accounts")
            opened = await somebody.confirmed(form, login=login, balance=usd)
            shops.append((login, opened.secret))
        hooks = {"postback_url": f"{receiver.url}/answers?id=$id", "pingback_url": "https://crm.invalid/$id"}
        async with Http(url + FAMILY, shops[0]) as http:
            posted = [
                task(f"{question} [[cost=0.0031]]", tag=brand, **hooks) for question in QUESTIONS for brand in BRANDS
            ]
            taken = [entry["id"] for entry in (await http.post(posted))["tasks"]]
            await http.answers(taken)
            async with asyncio.timeout(30):
                while len(receiver.hits) < len(taken):
                    await asyncio.sleep(0.05)
            receiver.status, receiver.reply = 503, b'{"error": "maintenance <b>until noon</b>"}'
            refused = (await http.post([task(QUESTIONS[1], **hooks)]))["tasks"][0]["id"]
            await http.answers([refused])
        [account] = (await somebody.json("/accounts?login=tracker"))["accounts"]
        here = f"/accounts/{account['id']}"
        form = (await somebody.read(here)).form(f"/console{here}/limits")
        await somebody.send(form, spend_per_day="20", duplicates_per_day="3")
        await somebody.send((await somebody.read("/ledger")).form("/console/ledger/audit"))
        async with asyncio.timeout(60):
            while not _seen(await somebody.json("/ledger"), rows := await _tried(somebody, refused)):
                await asyncio.sleep(0.1)
    return {"account": str(account["id"]), "refused": str(rows[0]["id"]), "login": shops[0][0]}


async def _tried(somebody: Person, task_id: str) -> list[Any]:
    rows = (await somebody.json("/deliveries?state=retrying"))["webhooks"]
    return [row for row in rows if row["task_id"] == task_id and row["kind"] == "postback" and row["last_status"]]


def _seen(ledger: Any, rows: list[Any]) -> bool:
    return bool(rows) and ledger["audits"][0]["ended_at"] is not None
