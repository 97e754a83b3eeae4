"""What commands share: settings from the environment and options, the database, printing.

What the database needs is imported where it is used: commands that speak to a running server do without."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from restante.cli.text import json_text, visible
from restante.core.errors import OperatorError

if TYPE_CHECKING:
    from restante.config import Settings
    from restante.store.database import Database

T = TypeVar("T")

# No markup: what clients sent is shown as it is.
out = Console(soft_wrap=True, highlight=False, markup=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def settings(**options: Any) -> Settings:
    """The environment's settings, overridden by the options given; logging is set up by them."""
    from restante.config import load
    from restante.wiring import configure_logging

    loaded = load(os.environ, **options)
    configure_logging(loaded.log_level, loaded.log_format)
    return loaded


def with_database(work: Callable[[Database], Awaitable[T]]) -> T:
    """Run `work` on the migrated database of this installation, joining or starting the embedded server."""
    from restante.wiring import database

    async def run() -> T:
        async with database(quiet_settings()) as db:
            return await work(db)

    return asyncio.run(run())


def quiet_settings(**options: Any) -> Settings:
    """Settings of a command that prints its own results: only warnings are logged unless more was asked for."""
    from restante.config import load
    from restante.wiring import configure_logging

    loaded = load(os.environ, **options)
    configure_logging("warning" if loaded.log_level == "info" else loaded.log_level)
    return loaded


def confirm(question: str, *, yes: bool) -> None:
    """Ask on a terminal before what cannot be undone; without one `--yes` has to be given. Raises OperatorError."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise OperatorError("Nothing was done: there is no terminal to ask on.", "Add --yes to do it without asking.")
    typer.confirm(question, abort=True)


def print_json(value: object) -> None:
    """One value as JSON to standard output: indented for a terminal, one line for a pipe."""
    sys.stdout.write(json_text(value, indent=2 if sys.stdout.isatty() else -1) + "\n")


def print_json_lines(values: Iterable[object]) -> None:
    """A list as JSON to standard output, one value a line (NDJSON)."""
    for value in values:
        sys.stdout.write(json_text(value) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    """A table on a terminal; tab-separated lines in a pipe."""
    if not out.is_terminal:
        for row in rows:
            print("\t".join(visible(str(cell)) for cell in row))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left")
    for row in rows:
        table.add_row(*(visible(str(cell)) for cell in row))
    out.print(table)
