"""`restante task`: post prompts, see what becomes of them, fetch answers; through the HTTP API of a running server."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restante.cli import task_look, task_post
from restante.cli.common import confirm, print_json, print_json_lines, print_table
from restante.cli.connect import (
    LOCAL,
    SOME_FAILED,
    UNFINISHED,
    Json,
    JsonLines,
    Login,
    Password,
    Url,
    connected,
)

if TYPE_CHECKING:
    from restante.client import Entry, ReadyTask

app = typer.Typer(help="Post prompts and fetch answers through the HTTP API.", no_args_is_help=True)

app.command(
    epilog="Example: restante task post prompts.csv --wait --output answers.csv · restante task post 'name one lake'"
)(task_post.post)


@app.command(epilog="Example: restante task get 11201415-0001-0613-0000-5d0c1be9a7f3")
def get(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of tasks.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until they have finished.")] = False,
    url: Url = LOCAL,
    login: Login = "operator",
    password: Password = None,
    json: Json = False,
) -> None:
    """Fetch answers; that takes the tasks off the ready list. Exit code 3: some failed; 4: some have not finished."""

    async def run() -> list[Entry]:
        async with connected(url, login, password) as client:
            if wait:
                found = {entry.id: entry async for entry in client.answers(ids)}
                return [found[one] for one in dict.fromkeys(ids)]
            return [await client.get(one) for one in ids]

    entries = asyncio.run(run())
    if not json:
        for entry in entries:
            task_post.show_entry(entry)
    elif len(ids) == 1:
        print_json(entries[0])
    else:
        print_json_lines(entries)
    if any(entry.failed for entry in entries):
        raise typer.Exit(SOME_FAILED)
    if any(entry.unfinished for entry in entries):
        raise typer.Exit(UNFINISHED)


@app.command(epilog="Example: restante task ready --json")
def ready(url: Url = LOCAL, login: Login = "operator", password: Password = None, json: JsonLines = False) -> None:
    """Finished tasks that nobody has fetched yet, up to 1,000, oldest first. Looking fetches none of them."""

    async def run() -> list[ReadyTask]:
        async with connected(url, login, password) as client:
            return await client.ready()

    rows = asyncio.run(run())
    if json:
        print_json_lines(rows)
    else:
        print_table(("id", "posted", "tag"), [(row.id, row.date_posted, row.tag) for row in rows])


app.command("list", epilog="Example: restante task list --since 2d --failed --json")(task_look.list_tasks)
app.command(epilog="Example: restante task tail --json | jq -r '[.done, .id, .state] | @tsv'")(task_look.tail)


@app.command(epilog="Example: restante task raw 11201415-0001-0613-0000-5d0c1be9a7f3 --suggestions")
def raw(
    task_id: str,
    suggestions: Annotated[
        bool, typer.Option("--suggestions", help="Only the search suggestions in it, as HTML (docs/legal.md).")
    ] = False,
    url: Url = LOCAL,
    login: Login = "operator",
    password: Password = None,
) -> None:
    """The provider's own reply to a task, byte for byte. Exit code 1 if none is kept."""

    async def run() -> bytes:
        async with connected(url, login, password) as client:
            return await client.raw(task_id, suggestions=suggestions)

    sys.stdout.buffer.write(asyncio.run(run()))
    sys.stdout.flush()


@app.command(epilog="Example: restante task cancel --tag run-17")
def cancel(
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of tasks.")] = None,
    tag: Annotated[str | None, typer.Option(help="All that carry this tag.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that are queued.")] = False,
    account: Annotated[
        str | None, typer.Option(help="Of this account, by its login: for the operator. Alone: all of it.")
    ] = None,
    everyone: Annotated[bool, typer.Option("--everyone", help="Of all accounts: for the operator.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before tasks of all accounts are cancelled.")] = False,
    url: Url = LOCAL,
    login: Login = "operator",
    password: Password = None,
    json: JsonLines = False,
) -> None:
    """Cancel queued tasks, by id, by tag, by account, or all; their money returns. Running and finished ones go on."""
    every = every or (account is not None and not ids and tag is None)
    if bool(ids) + (tag is not None) + every != 1:
        raise typer.BadParameter("name ids, or --tag, or --all")
    if everyone and account is not None:
        raise typer.BadParameter("--account and --everyone contradict each other")
    scope: dict[str, Any] = {"login": account} if account is not None else {"everyone": True} if everyone else {}
    if everyone and not ids:
        confirm("Cancel queued tasks of all accounts?", yes=yes)

    async def run() -> list[str]:
        async with connected(url, login, password) as client:
            return await client.cancel(ids=ids or None, tag=tag, every=every, **scope)

    cancelled = asyncio.run(run())
    if json:
        print_json_lines({"id": one} for one in cancelled)
    else:
        print("\n".join(cancelled) or "nothing was queued")
