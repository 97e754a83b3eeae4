"""`restante demo`: one prompt through the documented API, answered by the offline model, or by Gemini with a web
search; and its receipt."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from restante.cli.common import quiet_settings
from restante.cli.connect import connected
from restante.cli.demo_answer import print_answer, print_receipt
from restante.config import Settings
from restante.core.errors import OperatorError
from restante.core.money import NANO_PER_USD, Nano
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
_WEB_LOGIN: Final = "demo-web@localhost"
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

#: Asked of Gemini; the model is the newest that it has.
WEB_EXAMPLE: Final[dict[str, Any]] = {
    "user_prompt": "Which CRM software is best for a small business this year? Answer in three sentences.",
    "web_search": True,
}
WebSearch = Annotated[
    bool,
    typer.Option(
        "--web-search", help="Be answered by Gemini, with a search of the web: needs a key, costs about four cents."
    ),
]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(epilog="Example: restante demo")(demo)


def demo(web_search: WebSearch = False) -> None:
    """Post one prompt to a restante of its own, print the answer and the receipt, and stop. Offline, the documented
    example is answered by the embedded model; with --web-search a question by Gemini, with its sources."""
    base = quiet_settings()
    if web_search and not (base.gemini_api_key or base.gemini_api_key_file):
        raise OperatorError("There is no key of the Gemini API.", "GEMINI_API_KEY=... restante demo --web-search")
    own = msgspec.structs.replace(
        base,
        data_dir=base.data_dir / "demo",
        database_url=None,
        host="127.0.0.1",
        port=0,
        workers=1,
        models=None,
        rate_tasks_ready=0,  # the demonstration looks more often than a client should
        log_level="warning",
    )
    if web_search:
        own = msgspec.structs.replace(own, offline=False, provider="gemini", gemini_batch="off")
    else:
        own = msgspec.structs.replace(
            own, offline=True, provider="embedded", egress_proxy=None, embedded_model=_model(base)
        )
    asyncio.run(_demo(own, web_search=web_search))


def _model(base: Settings) -> Any:
    try:
        return model_files.find_model(base.embedded_model, base.models_dir)
    except OperatorError:
        if importlib.util.find_spec("xllamacpp") is None:
            raise
        print("fetching the offline model (SmolLM2-135M-Instruct, 93 MB), once ...", flush=True)
        return model_files.install(base.models_dir, print)


async def _demo(own: Settings, *, web_search: bool) -> None:
    from restante.up import running  # takes longer than most other commands do

    who = "Gemini will answer" if web_search else "the offline model"
    login, balance, credit = (_WEB_LOGIN, Nano(0), None) if web_search else (_LOGIN, _DOLLAR, Nano(0))
    print(f"starting restante: PostgreSQL, the API, a worker, {who} ...", flush=True)
    async with running(own) as restante:
        password = await _account(restante.db, login, balance, credit)
        print(f"  up at {restante.url}\n")
        async with connected(restante.url, login, password) as client:
            task = WEB_EXAMPLE | {"model_name": await _searching(client)} if web_search else EXAMPLE
            entry = await _ask(client, task, "with a web search" if web_search else "the documented example")
        receipt = await _receipt(restante.db, login, entry.id)
    print_answer(entry, "" if web_search else ", the offline demonstration model: fluent, but it invents its facts")
    print_receipt(receipt, "the fee and what Gemini took" if web_search else "the fee; this model costs nothing")
    if entry.result is None or receipt.charged is None:
        raise OperatorError("The demonstration failed.", "The answer above says why.")


async def _account(db: Database, login: str, balance: Nano, credit_limit: Nano | None) -> str:
    """The demo's account with a fresh password. Offline it is prepaid: a dollar is enough for the first 5,000
    demonstrations."""
    if await stored.read(db, login) is not None:
        return await accounts.change_password(db, login)
    opened = await accounts.open_account(db, login, None, balance=balance, credit_limit=credit_limit, now=utc_now())
    return opened.password


async def _searching(client: Client) -> str:
    """The newest model that searches the web, of the quick kind where there is one."""
    names = [model.model_name for model in await client.models() if model.web_search_supported]
    if not names:
        raise OperatorError("No model of this key searches the web.", "`restante model list` shows what there is.")
    return next((name for name in names if "flash" in name and "lite" not in name), names[0])


async def _ask(client: Client, task: dict[str, Any], what: str) -> Entry:
    """POST task_post, wait for it in tasks_ready, GET task_get: as the documentation tells."""
    print(f"POST task_post   {what}, model_name {task['model_name']}")
    [accepted] = await client.post(task)
    print(f"                 {accepted.status_code} {accepted.status_message}  {accepted.id}")
    async with asyncio.timeout(_TIRED_SECONDS):
        while accepted.id not in {row.id for row in await client.ready()}:
            await asyncio.sleep(_LOOK_SECONDS)  # as its users poll
    print("GET tasks_ready  it is listed")
    entry = await client.get(accepted.id)
    print(f"GET task_get     {entry.status_code} {entry.status_message}\n")
    return entry


async def _receipt(db: Database, login: str, task_id: str) -> Receipt:
    parsed, account = parse_id(task_id), await accounts.find(db, login)
    day = None if parsed is None else parsed.posted_on(utc_now().date())
    receipt = None if day is None else await ledger.receipt(db, account.id, day, task_id)
    assert receipt is not None, "the task was fetched a moment ago"
    return receipt
