"""The command line: `restante COMMAND`. Nouns with verbs; every command's --help has an example; lists have --json.

Exit codes: 0 done; 1 it failed, and why stands on standard error; 2 the command line itself, or a file of prompts, was
wrong and nothing was done; 3 some tasks failed; 4 some have not finished; 130 interrupted. `restante doctor`
has codes of its own.
"""

from __future__ import annotations

import sys

import typer

from restante import __version__
from restante.cli import account, backup, batch, bench, demo, doctor, export, ledger, model, quote, serve, task, webhook
from restante.cli.text import visible
from restante.core.errors import OperatorError
from restante.store.database import DatabaseLost

app = typer.Typer(
    name="restante",
    help="A self-hosted, DataForSEO-compatible LLM Responses server. Not affiliated with DataForSEO.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
serve.add_to(app)
demo.add_to(app)
backup.add_to(app)
doctor.add_to(app)
quote.add_to(app)
export.add_to(app)
bench.add_to(app)
app.add_typer(account.app, name="account")
app.add_typer(task.app, name="task")
app.add_typer(ledger.app, name="ledger")
app.add_typer(batch.app, name="batch")
app.add_typer(model.app, name="model")
app.add_typer(webhook.app, name="webhook")


@app.callback(invoke_without_command=True)
def version(show: bool = typer.Option(False, "--version", help="Print the version and stop.")) -> None:
    if show:
        typer.echo(f"restante {__version__}")
        raise typer.Exit


def main() -> None:
    """The entry point: what an operator must mend is said in words, without a traceback."""
    try:
        app()
    except OperatorError as error:
        print(f"restante: {visible(error.problem, lines=True)}", file=sys.stderr)
        if error.remedy:
            print(f"  {visible(error.remedy, lines=True)}", file=sys.stderr)
        sys.exit(error.exit_code)
    except DatabaseLost as error:
        print(f"restante: the database went away: {visible(str(error), lines=True)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
