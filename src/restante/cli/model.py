"""`restante model`: the models that may be named, pausing them, and the embedded demonstration model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer

from restante.cli.common import print_json, print_json_lines, print_table, quiet_settings
from restante.core.errors import OperatorError
from restante.core.task import Model
from restante.flow.pause import pause_model
from restante.providers import model_files
from restante.providers.registry import Catalogue
from restante.store import queue
from restante.store.database import Database
from restante.wiring import build_models, database

T = TypeVar("T")

app = typer.Typer(help="Models: which there are, pausing them; the embedded one.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Provider = Annotated[
    str | None, typer.Option(metavar="gemini|embedded|scripted", help="Whose models, where no setting says it.")
]


@app.command(epilog="Example: restante model install")
def install() -> None:
    """Fetch the offline model (SmolLM2-135M-Instruct, 93 MB, Apache-2.0) into the data directory, hash-pinned."""
    print(f"the model is {model_files.install(quiet_settings().models_dir, print)}")


@app.command(name="list", epilog="Example: restante model list --json")
def list_models(provider: Provider = None, json: Json = False) -> None:
    """The names that may be posted, which model answers to each, and which of them are paused."""

    async def work(db: Database, catalogue: Catalogue) -> list[tuple[Model, bool]]:
        names = {model.provider for model in catalogue.listed()}
        paused = {name: await queue.paused_models(db, name) for name in names}
        return [(model, model.served in paused[model.provider]) for model in catalogue.listed()]

    found = asyncio.run(_with_catalogue(provider, work))
    if json:
        print_json_lines({"name": model.name, "served": model.served, "paused": paused} for model, paused in found)
    else:
        print_table(("name", "served by", ""), [(one.name, one.served, "paused" * paused) for one, paused in found])


@app.command(epilog="Example: restante model pause gemini-2.5-pro")
def pause(name: str, provider: Provider = None, json: Json = False) -> None:
    """Pause a model: its queued tasks wait, live ones are refused. Running ones end."""
    _set_paused(name, provider, paused=True, json=json)


@app.command(epilog="Example: restante model resume gemini-2.5-pro")
def resume(name: str, provider: Provider = None, json: Json = False) -> None:
    """Resume a paused model: its tasks go on at once."""
    _set_paused(name, provider, paused=False, json=json)


def _set_paused(name: str, provider: str | None, *, paused: bool, json: bool) -> None:
    async def work(db: Database, catalogue: Catalogue) -> tuple[Model, list[str]]:
        model = catalogue.find(name)
        if model is None:
            raise OperatorError(f"There is no model {name!r}.", "`restante model list` shows them.")
        await pause_model(db, model, paused=paused)
        return model, [one.name for one in catalogue.siblings(model)]

    model, names = asyncio.run(_with_catalogue(provider, work))
    if json:
        print_json({"model": model.name, "served": model.served, "paused": paused})
        return
    print(f"{model.served} is {'paused' if paused else 'not paused'}; it answers to {', '.join(names)}")


async def _with_catalogue(provider: str | None, work: Callable[[Database, Catalogue], Awaitable[T]]) -> T:
    settings = quiet_settings(provider=provider)
    serving = build_models(settings)
    try:
        catalogue = serving.catalogue()
        await catalogue.begin()
        async with database(settings) as db:
            return await work(db, catalogue)
    finally:
        await serving.close()
