"""The command line: `restante COMMAND`. Nouns with verbs; every command's --help has an example; what prints data has
--json (docs/cli.md).

Exit codes: 0 done; 1 it failed, and why stands on standard error; 2 the command line itself, or a file of prompts, was
wrong and nothing was done; 3 some tasks failed; 4 some have not finished; 130 interrupted. `restante doctor`
has codes of its own.

Only the module of the command that was typed is imported: all of them together take longer than most commands do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Final

import typer

from restante import __version__
from restante.cli.text import visible
from restante.core.errors import OperatorError, RestanteError

#: Modules by the words that lead to them, in the order of --help.
_HOMES: Final = {
    "up": "serve", "api": "serve", "worker": "serve", "demo": "demo", "backup": "backup", "restore": "backup",
    "doctor": "doctor", "quote": "quote", "export": "export", "bench": "bench", "account": "account", "task": "task",
    "ledger": "ledger", "batch": "batch", "model": "model", "webhook": "webhook",
}  # fmt: skip
_NOUNS: Final = frozenset({"account", "task", "ledger", "batch", "model", "webhook"})


def command_line(homes: Iterable[str] = _HOMES.values()) -> typer.Typer:
    """The commands of these modules; by default all."""
    app = typer.Typer(
        name="restante",
        help="A self-hosted, DataForSEO-compatible LLM Responses server. Not affiliated with DataForSEO.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        callback=_version,
        invoke_without_command=True,
    )
    for home in dict.fromkeys(homes):
        module = import_module(f"restante.cli.{home}")
        if home in _NOUNS:
            app.add_typer(module.app, name=home)
        else:
            module.add_to(app)
    return app


def _version(show: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    if show:
        typer.echo(f"restante {__version__}")
        raise typer.Exit


def main() -> None:
    """The entry point: what an operator must mend is said in words, without a traceback."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    completes = "_RESTANTE_COMPLETE" in os.environ  # the shell asks for what may be typed: all of it
    home = None if completes else _HOMES.get(word)
    try:
        (command_line() if home is None else command_line([home]))()
    except OperatorError as error:
        print(f"restante: {visible(error.problem, lines=True)}", file=sys.stderr)
        if error.remedy:
            print(f"  {visible(error.remedy, lines=True)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except RestanteError as error:
        store = sys.modules.get("restante.store.errors")
        if store is None or not isinstance(error, store.DatabaseLost):
            raise
        print(f"restante: the database went away: {visible(str(error), lines=True)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
