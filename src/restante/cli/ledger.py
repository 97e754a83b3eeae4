"""`restante ledger`: the statement of an account, and the audit."""

from __future__ import annotations

from typing import Annotated

import typer

from restante.cli.common import print_json, print_table, with_database
from restante.core.money import show_usd
from restante.flow import accounts
from restante.store import ledger as stored
from restante.store.database import Database
from restante.store.ledger import Totals, Transfer

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
def audit(json: Json = False) -> None:
    """Recompute every balance and every task's settlement from the transfers; exit 1 on any difference."""

    async def work(db: Database) -> tuple[Totals, list[str]]:
        return await stored.totals(db), [difference async for difference in accounts.audit(db)]

    totals, differences = with_database(work)
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
