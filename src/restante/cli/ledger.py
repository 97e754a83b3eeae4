"""`restante ledger`: the statement of an account, and the audit."""

from __future__ import annotations

from typing import Annotated

import typer

from restante.cli.common import print_json, print_table, with_database
from restante.core.errors import OperatorError
from restante.core.money import show_usd
from restante.core.task import parse_id
from restante.flow import accounts, verdict
from restante.flow.verdict import Audited
from restante.store import ledger as stored
from restante.store.database import Database
from restante.store.ledger import Receipt, Transfer
from restante.wiring import utc_now

app = typer.Typer(help="The ledger: statements and the audit.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON; amounts in nano-dollars.")]


@app.command(epilog="Example: restante ledger show operator --limit 20")
def show(
    login: str,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many transfers, newest first.")] = 50,
    json: Json = False,
) -> None:
    """An account's newest transfers: what each did to its balance, its holds, its spending and its funding."""

    async def work(db: Database) -> list[Transfer]:
        account = await accounts.find(db, login)
        return await stored.statement(db, account.id, limit)

    transfers = with_database(work)
    if json:
        print_json(transfers)
        return
    columns = ("made at", "kind", "task", "balance", "held", "spent", "funded")
    rows = [
        (f"{t.made_at:%Y-%m-%d %H:%M:%S}", t.kind, t.task_id, *map(_signed, (t.balance, t.held, t.spent, t.funded)))
        for t in transfers
    ]
    print_table(columns, rows, right=columns[3:])


def _signed(amount: int) -> str:
    return f"+{show_usd(amount)}" if amount > 0 else show_usd(amount) if amount else "0"


@app.command(epilog="Example: restante ledger audit && echo all adds up")
def audit(
    json: Json = False,
    full: Annotated[bool, typer.Option("--full", help="Every day there is, those whose answers are over too.")] = False,
) -> None:
    """Recompute every balance and what became of every task; exit 1 on any difference, named by docs/invariants.md.
    The console shows the verdict."""

    async def work(db: Database) -> Audited:
        return await verdict.audit(db, utc_now, whole=full)

    found = with_database(work)
    totals, differences = found.totals, found.differences
    if json:
        print_json({"totals": totals, "differences": differences})
    else:
        print(
            f"{totals.transfers:,} transfers of {totals.accounts:,} accounts: funded {show_usd(totals.funded)}"
            f" = balances {show_usd(totals.balance)} + held {show_usd(totals.held)} + spent {show_usd(totals.spent)}"
        )
        for difference in differences:
            print(f"DIFFERENCE  {difference}")
        print(f"{len(differences)} differences" if differences else "no difference: the ledger adds up")
    if differences or totals.difference:
        raise typer.Exit(1)


@app.command(epilog="Example: restante ledger receipt operator 11201415-0001-0613-0000-5d0c1be9a7f3")
def receipt(login: str, task_id: str, json: Json = False) -> None:
    """What one task cost its account: held, charged, returned, and what its batch saved, if it was in one."""
    parts = parse_id(task_id)

    async def work(db: Database) -> Receipt | None:
        account = await accounts.find(db, login)
        day = None if parts is None else parts.posted_on(utc_now().date())
        return None if day is None else await stored.receipt(db, account.id, day, task_id.lower())

    found = with_database(work)
    if found is None:
        raise OperatorError(f"The account {login} has no such task.")
    if json:
        print_json(found)
        return
    amounts = {
        "held": found.held,
        "charged": found.charged,
        "returned": found.refunded,
        "batch saved": found.batch_saved,
    }
    print_table(
        ("", "US dollars"), [(k, "-" if v is None else show_usd(v)) for k, v in amounts.items()], right=("US dollars",)
    )
