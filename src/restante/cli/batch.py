"""`restante batch`: what goes to a provider together, at a lower price."""

from __future__ import annotations

from typing import Annotated

import typer

from restante.cli.common import print_json_lines, print_table, with_database
from restante.core.money import show_usd
from restante.store import batches
from restante.store.batches import Known

app = typer.Typer(help="Batches of tasks, at a lower price (docs/batch.md).", no_args_is_help=True)


@app.command("list", epilog="Example: restante batch list --open")
def show(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, newest first.")] = 50,
    only_open: Annotated[bool, typer.Option("--open", help="Only those that are not over.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON; amounts in nano-dollars.")] = False,
) -> None:
    """Batches: their tasks, how many were answered, failed or left to direct calls, and what they saved."""

    found = with_database(lambda db: batches.listed(db, limit, only_open=only_open))
    if json:
        print_json_lines(found)
        return
    columns = ("made at", "model", "state", "tasks", "answered", "failed", "direct", "saved", "name")
    print_table(columns, [_row(one) for one in found], right=columns[3:8])


def _row(one: Known) -> tuple[str, ...]:
    state = one.state.name.lower() + (f": {one.outcome}" if one.outcome else "")
    counts = (one.tasks, one.answered, one.failed, one.fell_back)
    return (
        f"{one.made_at:%Y-%m-%d %H:%M:%S}", one.model, state, *map(str, counts), show_usd(one.saved), one.name,
    )  # fmt: skip
