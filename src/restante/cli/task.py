"""`restante task`: post prompts, see what is ready, fetch answers; through the HTTP API of a running server."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from restante.cli.client import Client
from restante.cli.common import confirm, err, print_json, print_table, quiet_settings
from restante.core.errors import CREATED_CODE, ERROR_CODES_FROM, OperatorError, TaskHanded, TaskInQueue
from restante.core.limits import TASKS_PER_POST
from restante.operator_account import password_file

app = typer.Typer(help="Post prompts and fetch answers through the HTTP API.", no_args_is_help=True)

_UNFINISHED: Final = (TaskHanded.code, TaskInQueue.code)
_LOOK_SECONDS: Final = 0.5  # between looks at unfinished tasks; task_get has no rate limit

Url = Annotated[str, typer.Option(envvar="RESTANTE_URL", help="Where restante is.")]
Login = Annotated[str, typer.Option(envvar="RESTANTE_LOGIN", help="The account's login.")]
Password = Annotated[
    str | None,
    typer.Option(envvar="RESTANTE_PASSWORD", help="Its password; by default the operator's generated one, if kept."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the API's own JSON.")]
LOCAL: Final = "http://127.0.0.1:8000"


@app.command(epilog="Example: restante task post 'name one Alpine lake' --model gemini-2.5-flash --wait")
def post(
    prompts: Annotated[list[str], typer.Argument(help="One prompt or several, each a task of its own.")],
    model: Annotated[str, typer.Option(help="The model's name.")] = "gemini-2.5-flash",
    system_message: Annotated[str | None, typer.Option(help="How the model shall behave.")] = None,
    max_output_tokens: Annotated[int | None, typer.Option(help="1 to 4096.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 to 2.")] = None,
    top_p: Annotated[float | None, typer.Option(help="0 to 1.")] = None,
    web_search: Annotated[bool, typer.Option("--web-search", help="Let the model search the web.")] = False,
    tag: Annotated[str | None, typer.Option(help="A word of yours that comes back with each task.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the answers and print them.")] = False,
    url: Url = LOCAL,
    login: Login = "operator",
    password: Password = None,
    json: Json = False,
) -> None:
    """Post prompts as tasks; with --wait show a progress bar and print the answers. Exit 1 if any task failed."""
    optional = {
        "system_message": system_message,
        "max_output_tokens": max_output_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "web_search": web_search or None,
        "tag": tag,
    }
    common: dict[str, Any] = {"model_name": model}
    common |= {name: value for name, value in optional.items() if value is not None}
    tasks = [{"user_prompt": _text(prompt)} | common for prompt in prompts]
    entries = asyncio.run(_post(_client(url, login, password), tasks, wait=wait))
    if json:
        print_json(entries)
    else:
        for entry in entries:
            _show(entry)
    if any(entry["status_code"] >= ERROR_CODES_FROM for entry in entries):
        raise typer.Exit(1)


@app.command(epilog="Example: restante task ready --json")
def ready(url: Url = LOCAL, login: Login = "operator", password: Password = None, json: Json = False) -> None:
    """Finished tasks that nobody has fetched yet."""

    async def run() -> list[dict[str, Any]]:
        async with _client(url, login, password) as client:
            return await client.ready()

    rows = asyncio.run(run())
    if json:
        print_json(rows)
    else:
        print_table(("id", "posted", "tag"), [(row["id"], row["date_posted"], row["tag"]) for row in rows])


@app.command(epilog="Example: restante task get 11201415-0001-0613-0000-5d0c1be9a7f3")
def get(
    task_id: str, url: Url = LOCAL, login: Login = "operator", password: Password = None, json: Json = False
) -> None:
    """One task's answer; fetching it takes the task off the ready list. Exit 1 if it failed or is not done."""

    async def run() -> dict[str, Any]:
        async with _client(url, login, password) as client:
            return await client.get(task_id)

    entry = asyncio.run(run())
    if json:
        print_json(entry)
    else:
        _show(entry)
    if entry["status_code"] >= ERROR_CODES_FROM:
        raise typer.Exit(1)


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
    """The provider's own reply to a task, byte for byte. Exit 1 if none is kept."""

    async def run() -> bytes:
        async with _client(url, login, password) as client:
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
    json: Json = False,
) -> None:
    """Cancel queued tasks, by id, by tag, by account, or all; their money returns. Running and finished ones go on."""
    every = every or (account is not None and not ids and tag is None)
    which = [{"ids": ids}] * bool(ids) + [{"tag": tag}] * (tag is not None) + [{"all": True}] * every
    if len(which) != 1:
        raise typer.BadParameter("name ids, or --tag, or --all")
    if everyone and account is not None:
        raise typer.BadParameter("--account and --everyone contradict each other")
    scope: dict[str, Any] = {"login": account} if account is not None else {"everyone": True} if everyone else {}
    if everyone and not ids:
        confirm("Cancel queued tasks of all accounts?", yes=yes)

    async def run() -> list[str]:
        async with _client(url, login, password) as client:
            return await client.cancel(which[0] | scope)

    cancelled = asyncio.run(run())
    if json:
        print_json(cancelled)
    else:
        print("\n".join(cancelled) or "nothing was queued")


def _text(argument: str) -> str:
    """An argument that is text: bytes that are no UTF-8 reach Python as lone surrogates, which no JSON can carry."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("a prompt is UTF-8 text") from None
    return argument


@asynccontextmanager
async def _client(url: str, login: str, password: str | None) -> AsyncIterator[Client]:
    if password is None:
        kept = password_file(quiet_settings())
        try:
            password = kept.read_text().strip()
        except OSError:
            raise OperatorError(
                "No password is given.", f"Set RESTANTE_PASSWORD or --password ({kept} does not hold one)."
            ) from None
    async with Client(url, login, password) as client:
        yield client


async def _post(
    opening: AbstractAsyncContextManager[Client], tasks: list[dict[str, Any]], *, wait: bool
) -> list[dict[str, Any]]:
    async with opening as client:
        entries: list[dict[str, Any]] = []
        for start in range(0, len(tasks), TASKS_PER_POST):
            entries += await client.post(tasks[start : start + TASKS_PER_POST])
        if wait:
            await _wait(client, entries)
        return entries


async def _wait(client: Client, entries: list[dict[str, Any]]) -> None:
    """Replace accepted entries by their answers as these come, under a progress bar. Interrupted, it says what to ask
    for: nothing that was paid for is out of reach."""
    places = {entry["id"]: place for place, entry in enumerate(entries)}
    waiting = [entry["id"] for entry in entries if entry["status_code"] == CREATED_CODE]
    columns = (TextColumn("waiting for answers"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=err, transient=True, disable=not sys.stderr.isatty()) as progress:
            bar = progress.add_task("", total=len(waiting))
            while waiting:
                for task_id in list(waiting):
                    entry = await client.get(task_id)
                    if entry["status_code"] not in _UNFINISHED:
                        entries[places[task_id]] = entry
                        waiting.remove(task_id)
                        progress.advance(bar)
                if waiting:
                    await asyncio.sleep(_LOOK_SECONDS)
    except asyncio.CancelledError:
        print("interrupted; these are posted and paid for, restante task get fetches them:", file=sys.stderr)
        for task_id in places:
            print(f"  {task_id}", file=sys.stderr)
        raise


def _show(entry: dict[str, Any]) -> None:
    """An entry for people: its id and state, and the answer's text where there is one."""
    print(f"{entry['id']}  {entry['status_code']} {entry['status_message']}")
    for result in entry["result"] or []:
        usage = f"{result['input_tokens']} tokens in, {result['output_tokens']} out, ${result['money_spent']} spent"
        print(f"  {result['model_name']}, {usage}")
        for item in result["items"] or []:
            for section in item["sections"] or []:
                print(textwrap.indent(section["text"], "  | "))
