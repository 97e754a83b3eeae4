"""`restante task list` and `tail`: what was posted and what became of it. Looking fetches nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from restante.cli.common import print_json_lines, print_table
from restante.cli.connect import LOCAL, JsonLines, Login, Password, Url, connected
from restante.cli.moments import moment
from restante.cli.text import visible
from restante.core import errors
from restante.core.limits import CLIENT_PATIENCE_SECONDS, LISTED_ROWS_MAX, TAIL_LOOK_SECONDS, TAIL_SECONDS

if TYPE_CHECKING:
    from restante.client import Client, ListedTask

_WORDS: Final = {
    errors.TaskInQueue.code: "queued",
    errors.TaskHanded.code: "running",
    errors.OK_CODE: "answered",
}
_SHOWN: Final = 60  # characters of a prompt in a line

Since = Annotated[
    str, typer.Option(help="Posted since: 30m, 2h, 7d ago, or a date such as 2026-11-20T14:15 (UTC); six months.")
]


def _now() -> datetime:
    return datetime.now(UTC)


def list_tasks(
    since: Since = "1d",
    until: Annotated[str | None, typer.Option(help="Posted until; by default now.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only with this tag.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that failed.")] = False,
    unfinished: Annotated[bool, typer.Option("--open", help="Only those that have not finished.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 100,
    url: Url = LOCAL,
    login: Login = "operator",
    password: Password = None,
    json: JsonLines = False,
) -> None:
    """Tasks by when they were posted, newest first: what became of them and what they cost."""
    now = _now()
    begin, end = moment(since, now), now if until is None else moment(until, now)
    texts = (now - begin).days < _METADATA_DAYS

    async def run() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        async with connected(url, login, password, patience=CLIENT_PATIENCE_SECONDS) as client:
            async for task in client.listed(begin, end, newest_first=True, requests=texts):
                row = seen(task)
                if (
                    (tag is None or row["tag"] == tag)
                    and (not failed or (row["status_code"] >= errors.ERROR_CODES_FROM and not task.unfinished))
                    and (not unfinished or task.unfinished)
                ):
                    rows.append(row)
                if len(rows) == limit:
                    break
        return rows

    found = asyncio.run(run())
    if json:
        print_json_lines(found)
        return
    columns = ("posted", "id", "state", "cost", "tag", "prompt")
    print_table(columns, [(row["posted"], *_cells(row)) for row in found], right=("cost",))


_METADATA_DAYS: Final = 30  # id_list tells what was posted for one month


def seen(task: ListedTask) -> dict[str, Any]:
    """A listed task as commands show it."""
    sent: Mapping[str, Any] = task.metadata if isinstance(task.metadata, dict) else {}
    code = int(task.status)
    return {
        "id": task.id,
        "posted": task.datetime_posted,
        "done": task.datetime_done,
        "live": task.url.endswith("/live"),
        "status_code": code,
        "state": _WORDS.get(code, f"failed {code}"),
        "cost": task.cost,
        "model_name": sent.get("model_name"),
        "tag": sent.get("tag") or "",
        "user_prompt": sent.get("user_prompt"),
    }


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    prompt = row["user_prompt"] or ""
    shown = prompt if len(prompt) <= _SHOWN else prompt[: _SHOWN - 1] + "…"
    return (row["id"], row["state"], f"${row['cost']:.9f}".rstrip("0").rstrip("."), row["tag"], shown)


def tail(
    since: Annotated[
        str, typer.Option(help="Follow tasks posted since; of very many the newest 1,000.")
    ] = f"{TAIL_SECONDS / 3600:.0f}h",
    every: Annotated[bool, typer.Option("--all", help="Begin with what has finished already.")] = False,
    count: Annotated[int, typer.Option(min=0, help="End after so many; 0: go on until Ctrl-C.")] = 0,
    url: Url = LOCAL,
    login: Login = "operator",
    password: Password = None,
    json: JsonLines = False,
) -> None:
    """Follow what happens: a line for each task as it is answered or fails. Fetches nothing, so that others still can.

    Looks every few seconds, as often as `id_list` may be asked (10 times a minute)."""
    window = _now() - moment(since, _now())

    async def run() -> None:
        async with connected(url, login, password, patience=CLIENT_PATIENCE_SECONDS) as client:
            told = 0
            async for row in _followed(client, window, every=every):
                if json:
                    print_json_lines([row])
                else:
                    print("  ".join(visible(one) for one in (row["done"] or row["posted"], *_cells(row))))
                sys.stdout.flush()
                told += 1
                if told == count:
                    return

    asyncio.run(run())


async def _followed(client: Client, window: timedelta, *, every: bool) -> AsyncIterator[dict[str, Any]]:
    """Tasks as they are found finished, those of one look in the order of their ends."""
    known: set[str] = set()
    first = not every
    while True:
        now, ended, listed = _now(), [], set()
        async for task in client.listed(now - window, now, newest_first=True, requests=True):
            listed.add(task.id)
            if not task.unfinished and task.id not in known and not first:
                ended.append(seen(task))
            if not task.unfinished:
                known.add(task.id)
            if len(listed) == LISTED_ROWS_MAX:
                break
        known &= listed  # what is older than the window is never looked at again
        first = False
        for row in sorted(ended, key=lambda one: str(one["done"])):
            yield row
        limit = client.limit("id_list")
        await asyncio.sleep(max(60.0 / limit * 1.05, 0.5) if limit else TAIL_LOOK_SECONDS / 6)
