"""`restante demo`: one prompt through the documented API, answered by the offline model, with its receipt."""

from __future__ import annotations

import asyncio
import importlib.util
import textwrap
from typing import TYPE_CHECKING, Any, Final

import msgspec
import typer

from restante.cli.common import out, quiet_settings
from restante.cli.connect import connected
from restante.cli.text import visible
from restante.config import Settings
from restante.core.errors import OperatorError
from restante.core.money import NANO_PER_USD, Nano, show_usd
from restante.core.task import parse_id
from restante.flow import accounts
from restante.providers import model_files
from restante.store import accounts as stored
from restante.store import ledger
from restante.store.database import Database
from restante.store.ledger import Receipt
from restante.wiring import utc_now

if TYPE_CHECKING:
    from restante.client import Client, Entry

_LOGIN: Final = "demo@localhost"
_DOLLAR: Final = Nano(NANO_PER_USD)
_TIRED_SECONDS: Final = 240.0
_LOOK_SECONDS: Final = 0.1

#: The request of the original's documentation (shared/seeds).
EXAMPLE: Final[dict[str, Any]] = {
    "system_message": "communicate as if we are in a business meeting",
    "message_chain": [
        {"role": "user", "message": "Hello, what’s up?"},
        {
            "role": "ai",
            "message": "Hello! I’m doing well, thank you. How can I assist you today? Are there any specific topics or"
            " projects you’d like to discuss in our meeting?",
        },
    ],
    "model_name": "gemini-2.5-flash",
    "user_prompt": "provide information on how relevant the amusement park business is in France now",
}


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(epilog="Example: restante demo")(demo)


def demo() -> None:
    """Post the documented example to a restante of its own, print the answer and the receipt, and stop. Offline."""
    base = quiet_settings()
    own = msgspec.structs.replace(
        base,
        data_dir=base.data_dir / "demo",
        embedded_model=_model(base),
        database_url=None,
        host="127.0.0.1",
        port=0,
        workers=1,
        offline=True,
        provider="embedded",
        models=None,
        egress_proxy=None,
        rate_tasks_ready=0,  # the demonstration looks more often than a client should
        log_level="warning",
    )
    asyncio.run(_demo(own))


def _model(base: Settings) -> Any:
    try:
        return model_files.find_model(base.embedded_model, base.models_dir)
    except OperatorError:
        if importlib.util.find_spec("xllamacpp") is None:
            raise
        print("fetching the offline model (SmolLM2-135M-Instruct, 93 MB), once ...", flush=True)
        return model_files.install(base.models_dir, print)


async def _demo(own: Settings) -> None:
    from restante.up import running  # takes longer than most other commands do

    print("starting restante: PostgreSQL, the API, a worker, the offline model ...", flush=True)
    async with running(own) as restante:
        password = await _account(restante.db)
        print(f"  up at {restante.url}\n")
        async with connected(restante.url, _LOGIN, password) as client:
            entry = await _ask(client)
        receipt = await _receipt(restante.db, entry.id)
    _print_answer(entry)
    _print_receipt(receipt)
    if entry.result is None or receipt.charged is None:
        raise OperatorError("The demonstration failed.", "The answer above says why.")


async def _account(db: Database) -> str:
    """The demo's prepaid account with a fresh password; a dollar is enough for the first 5,000 demonstrations."""
    if await stored.read(db, _LOGIN) is not None:
        return await accounts.change_password(db, _LOGIN)
    opened = await accounts.open_account(db, _LOGIN, None, balance=_DOLLAR, credit_limit=Nano(0), now=utc_now())
    return opened.password


async def _ask(client: Client) -> Entry:
    """POST task_post, wait for it in tasks_ready, GET task_get: as the documentation tells."""
    print("POST task_post   the documented example, model_name gemini-2.5-flash")
    [accepted] = await client.post(EXAMPLE)
    print(f"                 {accepted.status_code} {accepted.status_message}  {accepted.id}")
    async with asyncio.timeout(_TIRED_SECONDS):
        while accepted.id not in {row.id for row in await client.ready()}:
            await asyncio.sleep(_LOOK_SECONDS)  # as its users poll
    print("GET tasks_ready  it is listed")
    entry = await client.get(accepted.id)
    print(f"GET task_get     {entry.status_code} {entry.status_message}\n")
    return entry


async def _receipt(db: Database, task_id: str) -> Receipt:
    parsed, account = parse_id(task_id), await accounts.find(db, _LOGIN)
    day = None if parsed is None else parsed.posted_on(utc_now().date())
    receipt = None if day is None else await ledger.receipt(db, account.id, day, task_id)
    assert receipt is not None, "the task was fetched a moment ago"
    return receipt


def _print_answer(entry: Entry) -> None:
    for result in entry.result or ():
        print(f"answered by {result.model_name}, the offline demonstration model: fluent, but it invents its facts")
        text = visible(result.text, lines=True)
        print(textwrap.fill(text, width=min(out.width, 100), initial_indent="  | ", subsequent_indent="  | "))
        print(f"  {result.input_tokens} tokens in, {result.output_tokens} tokens out\n")


def _print_receipt(receipt: Receipt) -> None:
    print("receipt, US dollars")
    print(f"  held      {show_usd(receipt.held)}    the fee 0.0002 and a prepayment of 0.01 for the model")
    if receipt.charged is not None and receipt.refunded is not None:
        print(f"  charged   {show_usd(receipt.charged)}    the fee; this model costs nothing")
        print(f"  refunded  {show_usd(receipt.refunded)}")
