"""An installation with something to see on every page: for the walk and for the pictures in the documentation."""

from __future__ import annotations

from typing import Final

from tests.support import Http, task
from tests.web.calls import listed, one_task

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
    return ids
