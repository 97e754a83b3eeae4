"""`restante bench`: what this machine takes and answers, measured with a restante of its own and no model."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from restante.cli.common import print_json, print_table, quiet_settings
from restante.cli.text import say
from restante.config import Settings
from restante.core.limits import TASKS_PER_POST
from restante.core.money import NANO_PER_USD, Nano

_LOGIN: Final = "bench@localhost"
_BALANCE: Final = Nano(1_000 * NANO_PER_USD)
_POSTS_AT_ONCE: Final = 4


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(epilog="Example: restante bench --tasks 5000")(bench)


def bench(
    tasks: Annotated[int, typer.Option(min=100, max=100_000, help="How many are posted, answered, fetched.")] = 2_000,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure this machine for half a minute: tasks accepted, answered and fetched a second, through the HTTP API.

    A restante of its own in a temporary directory, with the scripted provider: nothing of yours is touched, nothing is
    charged. The full benchmarks, beside other programs, are `make bench-all` in a clone (docs/benchmarks.md).
    """
    with tempfile.TemporaryDirectory(prefix="restante-bench-") as directory:
        found = asyncio.run(_bench(_own(Path(directory)), tasks))
    if json:
        print_json(found)
        return
    rows = [(name.replace("_", " "), f"{value:,}") for name, value in found.items()]
    print_table(("", "figure"), rows, right=("figure",))


def _own(directory: Path) -> Settings:
    return msgspec.structs.replace(
        quiet_settings(),
        data_dir=directory,
        database_url=None,
        host="127.0.0.1",
        port=0,
        workers=1,
        offline=False,
        provider="scripted",
        scripted_latency=0.0,
        models=None,
        limits="relaxed",
        log_level="warning",
    )


async def _bench(own: Settings, tasks: int) -> dict[str, Any]:
    from restante.client import Client, Task
    from restante.flow import accounts
    from restante.up import running
    from restante.wiring import utc_now

    say("starting a restante of its own ...")
    async with running(own) as restante:
        opened = await accounts.open_account(
            restante.db, _LOGIN, None, balance=_BALANCE, credit_limit=Nano(0), now=utc_now()
        )
        async with Client(restante.url, _LOGIN, opened.password) as client:
            task = Task(user_prompt="name one Alpine lake [[words=100]]", model_name="gemini-2.5-flash")
            await anext(client.ask(task))  # the worker serves
            say(f"posting {tasks:,} tasks ...")
            began = time.perf_counter()
            sizes = [min(TASKS_PER_POST, tasks - start) for start in range(0, tasks, TASKS_PER_POST)]
            turns = asyncio.Semaphore(_POSTS_AT_ONCE)

            async def post(number: int, size: int) -> list[str]:
                async with turns:
                    return [one.check().id for one in await client.post_batch([task] * size, key=f"bench-{number}")]

            posted = await asyncio.gather(*(post(*one) for one in enumerate(sizes)))
            ids = [task_id for batch in posted for task_id in batch]
            accepted = time.perf_counter() - began
            async for entry in client.answers(ids):
                entry.check()
            done = time.perf_counter() - began
            began = time.perf_counter()
            lone = 20
            for _ in range(lone):
                await client.live(task)
            live = (time.perf_counter() - began) / lone
    return {
        "tasks": tasks,
        "accepted_a_second": round(tasks / accepted),
        "answered_and_fetched_a_second": round(tasks / done),
        "milliseconds_of_a_live_task": round(live * 1_000, 1),
    }
