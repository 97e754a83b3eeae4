"""`restante export`: the tasks of a time with their answers, as a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn

from restante.cli.common import err
from restante.cli.connect import LOCAL, Login, Password, Url, connected
from restante.cli.moments import moment
from restante.cli.task_post import OutputFormat
from restante.cli.text import say
from restante.core import errors
from restante.core.limits import CLIENT_AT_ONCE, CLIENT_PATIENCE_SECONDS

if TYPE_CHECKING:
    from restante.client import Client, Entry, ListedTask


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(epilog="Example: restante export --since 7d --output answers.parquet")(export)


def export(
    since: Annotated[str, typer.Option(help="Posted since: 30m, 2h, 7d ago, or a date (UTC).")] = "1d",
    until: Annotated[str | None, typer.Option(help="Posted until; by default now.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    failed: Annotated[bool, typer.Option(help="Those that failed, too.")] = True,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file: .jsonl, .csv or .parquet; by default JSON lines here."),
    ] = None,
    output_format: Annotated[OutputFormat | None, typer.Option("--format", help="Whatever the file's name.")] = None,
    url: Url = LOCAL,
    login: Login = "operator",
    password: Password = None,
) -> None:
    """Fetch all that was posted in a time and has finished, with its answers, oldest first.

    Fetching takes tasks off the ready list, as `task get` does. Answers are kept for 30 days; `live` tasks have none.
    CSV is for spreadsheets: what they would take for a formula gets an apostrophe. JSON lines and Parquet have texts as
    they are.
    """
    from restante.cli.output import Output

    now = datetime.now(UTC)
    begin, end = moment(since, now), now if until is None else moment(until, now)
    answers = Output(output, output_format.value if output_format else None)

    async def run() -> int:
        written = 0
        async with connected(url, login, password, patience=CLIENT_PATIENCE_SECONDS) as client:
            with answers, _counting() as count:
                async for entry, charged in _entries(client, begin, end):
                    if (tag is None or entry.tag == tag) and (failed or entry.answered):
                        answers.write(entry, charged=charged)
                        written += 1
                        count(written)
        return written

    written = asyncio.run(run())
    if output is not None:
        say(f"{written:,} tasks in {output}")


async def _entries(client: Client, begin: datetime, end: datetime) -> AsyncIterator[tuple[Entry, float]]:
    """Finished tasks and what each cost in US dollars, in the order of their posting, a few fetched at once."""
    asked: list[ListedTask] = []
    async for task in client.listed(begin, end):
        if not task.unfinished and not task.url.endswith("/live"):
            asked.append(task)
        if len(asked) == CLIENT_AT_ONCE:
            for found in await _fetched(client, asked):
                yield found
            asked = []
    for found in await _fetched(client, asked):
        yield found


async def _fetched(client: Client, tasks: list[ListedTask]) -> list[tuple[Entry, float]]:
    from restante.client import PaymentRequired

    found = await asyncio.gather(*(client.get(task.id) for task in tasks))
    for entry in found:
        if entry.status_code == errors.PaymentRequired.code:
            raise PaymentRequired(entry.status_code, entry.status_message)
    return [(entry, task.cost) for entry, task in zip(found, tasks, strict=True)]


@contextmanager
def _counting() -> Iterator[Any]:
    """How many so far, on a terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.completed:,} tasks"))
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        bar = progress.add_task("")
        yield lambda done: progress.update(bar, completed=done)
