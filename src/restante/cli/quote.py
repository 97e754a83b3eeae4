"""`restante quote`: what a file of prompts would cost, before it is posted. Asks no server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import typer

from restante.cli.common import print_json, print_table, quiet_settings
from restante.cli.task_post import Format, Model, fields
from restante.core.limits import OUTPUT_TOKENS_DEFAULT
from restante.core.money import show_usd
from restante.core.pricing import STANDARD_FEE, STANDARD_HOLD


class ModelCost(msgspec.Struct, frozen=True):
    """One model's part; nano-dollars. `tokens`: of answers as long as they may be; `searches`: one for each task that
    may search. `known`: there is a price for it."""

    model_name: str
    tasks: int
    tokens: int
    searches: int
    known: bool


class Quote(msgspec.Struct, frozen=True):
    """What so many tasks cost; nano-dollars. `held` is what the balance must have when they are posted; `at_most` what
    is charged when every answer is as long as it may be and every search is one."""

    tasks: int
    held: int
    fees: int
    at_most: int
    models: Sequence[ModelCost]
    prices_of: str | None


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(epilog="Example: restante quote prompts.csv --web-search")(quote)


def quote(
    file: Annotated[str, typer.Argument(help="A file of prompts, as `restante task post` takes it; - for input.")],
    model: Model = "gemini-2.5-flash",
    max_output_tokens: Annotated[int | None, typer.Option(help="1 to 4096.")] = None,
    web_search: Annotated[bool, typer.Option("--web-search", help="Let the model search the web.")] = False,
    input_format: Format = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON; amounts in nano-dollars.")] = False,
) -> None:
    """What a file of prompts costs at the most, without posting it. Exit code 2: the file is wrong.

    Prices are this machine's: RESTANTE_PRICES, else the list that comes with restante. Reasoning and searches may go
    beyond what a task asks for (the API's own rule); a task that fails costs nothing.
    """
    from restante.cli import prompts as reading

    relaxed = quiet_settings().limits == "relaxed"
    common = fields(model_name=model, max_output_tokens=max_output_tokens, web_search=web_search or None)
    kind: Any = input_format and input_format.value
    prompts = reading.read(file, kind, common, reading.bounds(relaxed=relaxed))
    show(quoted([prompt.task for prompt in prompts]), json=json)


def quoted(tasks: Sequence[Mapping[str, Any]]) -> Quote:
    """What these tasks would cost."""
    import logging

    from restante.providers.gemini_price import Price, price, tables_checked
    from restante.providers.price_list import load

    settings = quiet_settings()
    logging.getLogger("restante.gemini").setLevel(logging.CRITICAL)  # it would say that a model has no price: we do
    own = load(settings.prices)

    def cost(name: str, into: int, out: int, queries: Sequence[str] = ()) -> Price:
        return price(name, name, input_tokens=into, cached_tokens=0, output_tokens=out, queries=queries, own=own)

    models = []
    for name in dict.fromkeys(str(task["model_name"]) for task in tasks):
        of_model = [task for task in tasks if task["model_name"] == name]
        # A token is at least a byte of the text.
        into = [len(msgspec.json.encode([task.get(one) for one in _INPUT])) for task in of_model]
        out = sum(task.get("max_output_tokens", OUTPUT_TOKENS_DEFAULT) for task in of_model)
        searching = sum(bool(task.get("web_search")) for task in of_model)
        some = cost(name, 1_000_000, 1)
        models.append(
            ModelCost(
                model_name=name,
                tasks=len(of_model),
                tokens=sum(cost(name, one, 0).nano for one in into) + cost(name, 0, out).nano,
                searches=searching * cost(name, 0, 0, ("a query",)).nano,
                known=some.as_of is not None or some.nano > 0,
            )
        )
    fees = STANDARD_FEE * len(tasks)
    day = own.as_of or tables_checked()
    return Quote(
        tasks=len(tasks),
        held=STANDARD_HOLD * len(tasks),
        fees=fees,
        at_most=fees + sum(one.tokens + one.searches for one in models),
        models=models,
        prices_of=None if day is None else day.isoformat(),
    )


_INPUT = ("user_prompt", "system_message", "message_chain")


def show(found: Quote, *, json: bool) -> None:
    """Print it."""
    if json:
        print_json(found)
        return
    rows = [(f"{one.model_name}, {one.tasks:,} tasks: tokens", show_usd(one.tokens)) for one in found.models]
    rows += [
        (f"{one.model_name}: searches, one a task", show_usd(one.searches)) for one in found.models if one.searches
    ]
    rows = [("fees", show_usd(found.fees)), *rows, ("at the most", show_usd(found.at_most))]
    print_table(("", "US dollars"), [*rows, ("held when posted", show_usd(found.held))], right=("US dollars",))
    unknown = [one.model_name for one in found.models if not one.known]
    if unknown:
        from restante.cli.text import say, visible

        say(f"no price is known here for {visible(', '.join(unknown))}: counted as 0")
