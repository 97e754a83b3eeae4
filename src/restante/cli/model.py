"""`restante model`: the embedded demonstration model."""

from __future__ import annotations

import typer

from restante.cli.common import quiet_settings
from restante.providers import model_files

app = typer.Typer(help="The embedded demonstration model.", no_args_is_help=True)


@app.command(epilog="Example: restante model install")
def install() -> None:
    """Fetch the offline model (SmolLM2-135M-Instruct, 93 MB, Apache-2.0) into the data directory, hash-pinned."""
    print(f"the model is {model_files.install(quiet_settings().models_dir, print)}")
