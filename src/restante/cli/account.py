"""`restante account`: who may call, and their money."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from restante.cli.common import confirm, print_json, print_json_lines, print_table, quiet_settings, with_database
from restante.core.allowance import LIMIT_NAMES
from restante.core.errors import OperatorError
from restante.core.limits import DEADLINE_HOURS_MAX, PASSWORD_OVERLAP_HOURS_MAX, RATE_MAX
from restante.core.money import Nano, parse_usd, show_usd
from restante.flow import accounts
from restante.flow.erase import Erased
from restante.flow.erase import erase as erase_texts
from restante.flow.pause import pause_account
from restante.operator_account import keep_password, password_file
from restante.store import accounts as stored
from restante.store.accounts import Account
from restante.store.database import Database
from restante.wiring import utc_now

app = typer.Typer(help="Accounts: who may call, and their money.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON; amounts in nano-dollars.")]


def usd(text: str) -> Nano:
    """An amount of US dollars from the command line."""
    try:
        return parse_usd(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@app.command(epilog="Example: restante account add shop@example.org --balance 25")
def add(
    login: str,
    balance: Annotated[str, typer.Option(help="US dollars it starts with.")] = "0",
    credit_limit: Annotated[
        str, typer.Option(help="US dollars it may go below zero; 'none' is metered, without limit.")
    ] = "0",
    json: Json = False,
) -> None:
    """Open an account, prepaid unless a credit limit is given, and print its password: this once."""
    start, limit = usd(balance), None if credit_limit == "none" else usd(credit_limit)
    if start < 0 or (limit or 0) < 0:
        raise typer.BadParameter("--balance and --credit-limit are not negative")

    async def work(db: Database) -> accounts.Opened:
        return await accounts.open_account(db, login, None, balance=start, credit_limit=limit, now=utc_now())

    opened = with_database(work)
    if json:
        print_json(opened)
    else:
        print(f"account   {opened.account_id}\nlogin     {opened.login}")
        print(f"password  {opened.password}   (shown this once)")


@app.command(name="list", epilog="Example: restante account list --json")
def list_accounts(json: Json = False) -> None:
    """All accounts with what they own, hold and have spent."""
    found = with_database(stored.every)
    if json:
        print_json_lines(found)
        return
    columns = ("number", "login", "balance", "held", "spent", "funded", "credit limit", "")
    print_table(columns, [_row(account) for account in found], right=columns[:1] + columns[2:7])


def _row(account: Account) -> tuple[object, ...]:
    limit = "metered" if account.credit_limit is None else show_usd(account.credit_limit)
    amounts = (account.balance, account.held, account.spent, account.funded)
    return (account.id, account.login, *map(show_usd, amounts), limit, "paused" if account.paused else "")


@app.command(name="top-up", epilog="Example: restante account top-up shop@example.org 25")
def top_up(login: str, amount: str, json: Json = False) -> None:
    """Put US dollars into an account; a negative amount takes them back (after a --)."""
    paid = usd(amount)
    if not paid:
        raise OperatorError("Nothing to top up: the amount is 0.")

    async def work(db: Database) -> int:
        return await accounts.top_up(db, login, paid, utc_now())

    balance = with_database(work)
    if json:
        print_json({"login": login, "balance": balance})
    else:
        print(f"{login} now has a balance of {show_usd(balance)} US dollars")


@app.command(epilog="Example: restante account pause shop@example.org")
def pause(login: str, json: Json = False) -> None:
    """Pause an account: its queued tasks wait, its live tasks are refused. Running ones end, answers can be fetched."""
    _set_paused(login, paused=True, json=json)


@app.command(epilog="Example: restante account resume shop@example.org")
def resume(login: str, json: Json = False) -> None:
    """Resume a paused account: its tasks go on at once."""
    _set_paused(login, paused=False, json=json)


def _set_paused(login: str, *, paused: bool, json: bool) -> None:
    async def work(db: Database) -> None:
        await pause_account(db, login, paused=paused, by="operator")

    with_database(work)
    if json:
        print_json({"login": login, "paused": paused})
    else:
        print(f"{login} is {'paused' if paused else 'not paused'}")


@app.command(epilog="Example: restante account erase shop@example.org --yes")
def erase(
    login: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Erase an account's prompts, answers, tags and webhooks at once. What is queued or running is cancelled, its money
    returns. The ledger stays, and the account itself. Cannot be undone."""
    confirm(f"Erase all prompts and answers of {login}? This cannot be undone.", yes=yes)

    async def work(db: Database) -> Erased:
        return await erase_texts(
            db, login, utc_now(), lambda day, tasks: None if json else print(f"{day}  {tasks:,} tasks")
        )

    erased = with_database(work)
    if json:
        print_json(erased)
    else:
        print(
            f"{login}: {erased.tasks:,} tasks and {erased.webhooks:,} webhooks are erased,"
            f" {erased.cancelled:,} unfinished ones were cancelled"
        )


@app.command(epilog="Example: restante account password shop@example.org --overlap-hours 24")
def password(
    login: str,
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=PASSWORD_OVERLAP_HOURS_MAX, help="Hours that the old one stays valid beside it.")
    ] = 0,
    json: Json = False,
) -> None:
    """Give an account a new password and print it: this once. The old one ends within seconds, or after the hours
    given; without them this also ends one that was kept before."""

    async def work(db: Database) -> str:
        return await accounts.change_password(db, login, overlap_hours=overlap_hours)

    fresh = with_database(work)
    loaded = quiet_settings()
    if login == loaded.login and password_file(loaded).exists():
        keep_password(loaded, fresh)
    if json:
        print_json({"login": login, "password": fresh})
    else:
        print(f"login     {login}\npassword  {fresh}   (shown this once)")


@app.command(name="webhook-secret", epilog="Example: restante account webhook-secret shop@example.org --rotate")
def webhook_secret(
    login: str,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Make a new one; the one before stays valid beside it.")
    ] = False,
    json: Json = False,
) -> None:
    """The secrets that sign an account's webhooks (Standard Webhooks), newest first: two are valid at a time."""

    async def work(db: Database) -> list[str]:
        return await accounts.webhook_secrets(db, login, rotate=rotate)

    found = with_database(work)
    if json:
        print_json({"login": login, "secrets": found})
    else:
        print("\n".join(found))


def _limit(text: str) -> str:
    """A limit from the command line: a number, or "default" for the installation's."""
    if text != "default" and not (text.isascii() and text.isdecimal() and int(text) <= RATE_MAX):
        raise typer.BadParameter(f"{text!r} is neither a number up to {RATE_MAX:,} nor 'default'")
    return text


def _spend(text: str) -> str:
    """US dollars a day from the command line, as the number of nano-dollars that is kept."""
    amount = text if text == "default" else str(int(usd(text)))
    if amount.startswith("-"):
        raise typer.BadParameter(f"{text!r} is negative")
    return amount


def _hours(text: str) -> str:
    """A deadline from the command line: whole hours, or "default" for the installation's."""
    if text != "default" and not (text.isascii() and text.isdecimal() and 1 <= int(text) <= DEADLINE_HOURS_MAX):
        raise typer.BadParameter(f"{text!r} is neither whole hours from 1 to {DEADLINE_HOURS_MAX} nor 'default'")
    return text


Spend = Annotated[
    str | None,
    typer.Option(parser=_spend, metavar="USD|default", help="What the tasks of one UTC day may cost, in US dollars."),
]
Duplicates = Annotated[
    str | None, typer.Option(parser=_limit, metavar="N|default", help="Identical tasks in a clock hour, or a UTC day.")
]
Deadline = Annotated[
    str | None,
    typer.Option(parser=_hours, metavar="HOURS|default", help="Hours after which a queued task fails, refunded."),
]
Limit = Annotated[str | None, typer.Option(parser=_limit, metavar="N|default", help="Calls a minute.")]
AtOnce = Annotated[
    str | None, typer.Option(parser=_limit, metavar="N|default", help="Live tasks at work at the same time.")
]


@app.command(epilog="Example: restante account limit shop@example.org --tasks-ready 60")
def limit(
    login: str,
    task_post: Limit = None,
    live: Limit = None,
    tasks_ready: Limit = None,
    task_get: Limit = None,
    models: Limit = None,
    user_data: Limit = None,
    appendix_errors: Limit = None,
    status: Limit = None,
    webhook_resend: Limit = None,
    id_list: Limit = None,
    errors: Limit = None,
    live_at_once: AtOnce = None,
    spend_per_day: Spend = None,
    duplicates_per_hour: Duplicates = None,
    duplicates_per_day: Duplicates = None,
    deadline_hours: Deadline = None,
    json: Json = False,
) -> None:
    """Give an account rates, caps and a deadline of its own, and show what holds for it: calls a minute, live tasks at
    once, US dollars a day, duplicates, hours. 0 is without limit (there is always a deadline), 'default' is the
    installation's. API processes follow within seconds, the deadline within a minute."""
    given: dict[str, Any] = {
        "task_post": task_post,
        "live": live,
        "tasks_ready": tasks_ready,
        "task_get": task_get,
        "models": models,
        "user_data": user_data,
        "appendix_errors": appendix_errors,
        "status": status,
        "webhook_resend": webhook_resend,
        "id_list": id_list,
        "errors": errors,
        "live_at_once": live_at_once,
        "spend_per_day": spend_per_day,
        "duplicates_per_hour": duplicates_per_hour,
        "duplicates_per_day": duplicates_per_day,
        "deadline_hours": deadline_hours,
    }
    changes = {name: None if text == "default" else int(text) for name, text in given.items() if text is not None}

    async def work(db: Database) -> dict[str, int]:
        return await accounts.change_limits(db, login, changes)

    own = with_database(work)
    loaded = quiet_settings()
    allowance = loaded.allowance().with_own(own)
    holds = {name: getattr(allowance, name) for name in LIMIT_NAMES}
    holds["deadline_hours"] = own.get("deadline_hours", loaded.deadline_hours)
    if json:
        print_json({"login": login, "limits": holds, "own": own})
        return
    rows = [
        (name, _shown(name, most), "its own" if name in own else "the installation's") for name, most in holds.items()
    ]
    print_table(("limit", "at the most", "whose"), rows, right=("at the most",))


def _shown(name: str, most: float) -> str:
    if not most:
        return "without limit"
    if name == "deadline_hours":
        return f"{most:g} hours"
    return f"{show_usd(int(most))} US dollars" if name == "spend_per_day" else str(most)
