"""Accounts and limits: what an account owns and may do. The operator opens, pays, limits, pauses and cancels for all;
an account does for itself what its API lets it do."""

from __future__ import annotations

import logging
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from restante.core.allowance import Allowance
from restante.core.limits import (
    ACCOUNTS_MAX,
    CONSOLE_ROWS,
    LOGIN_CHARS,
    PASSWORD_OVERLAP_HOURS_MAX,
    TAG_CHARS,
)
from restante.core.money import show_usd
from restante.flow import accounts
from restante.flow.deeds import Deed, Keep
from restante.flow.end import cancel
from restante.flow.pause import pause_account
from restante.store import books_accounts as stored
from restante.store.accounts import By
from restante.store.books_accounts import AccountShown
from restante.store.database import Session
from restante.web.console.account_limits import LIMITS, holding, parse, parse_amount
from restante.web.console.acting import Acting, operator_only, place, whose
from restante.web.console.desk import Desk, Invalid, Missing, action, done, pages, text_of
from restante.web.console.gate import PREFIX, form_of, viewer_of
from restante.web.wire import postback

log = logging.getLogger("restante.console")

PATH: Final = f"{PREFIX}/accounts"


class Accounts:
    """The pages. `allowance` and `deadline_hours` are the installation's."""

    def __init__(self, acting: Acting, allowance: Allowance, deadline_hours: float) -> None:
        self._acting = acting
        self._desk: Desk = acting.desk
        self._db = self._desk.db
        self._clock = self._desk.clock
        self._allowance = allowance
        self._deadline_hours = deadline_hours

    def routes(self) -> list[Route]:
        """Below /console."""
        one = "/accounts/{number:int}"
        return [
            *pages("/accounts", self.listing),
            action("/accounts", self.open),
            *pages(one, self.account),
            action(f"{one}/top-up", self.top_up),
            action(f"{one}/password", self.password),
            action(f"{one}/webhook-secret", self.webhook_secret),
            action(f"{one}/limits", self.limits),
            action(f"{one}/pause", self.pause),
            action(f"{one}/cancel", self.cancel),
        ]

    async def listing(self, request: Request) -> Response:
        """All accounts, for the operator; anybody else's own is their list."""
        viewer = viewer_of(request)
        if not viewer.operator:
            suffix = ".json" if request.url.path.endswith(".json") else ""
            return done(f"{PATH}/{viewer.account_id}{suffix}")
        contains = text_of(request.query_params, "login", LOGIN_CHARS)
        which = request.query_params.get("which", "")
        if which not in ("", "paused", "owing"):
            raise Invalid(f"There are no {which!r} accounts.")
        after = request.query_params.get("after", "0")
        if not (after.isascii() and after.isdecimal() and len(after) < 10 and int(after) <= ACCOUNTS_MAX):
            raise Invalid("No list goes on from there. Go back to its first page.")
        today = self._clock().date()
        found = await self._desk.now.look(
            lambda tx: stored.page(
                tx, int(after), contains or None, today, CONSOLE_ROWS + 1,
                paused=which == "paused", owing=which == "owing",
            )
        )  # fmt: skip
        shown = found[:CONSOLE_ROWS]
        more = len(found) > CONSOLE_ROWS
        data = {
            "accounts": [_summary(one) for one in shown],
            "more": place(PATH, login=contains, which=which, after=shown[-1].account.id) if more else None,
        }
        told = await self._acting.told(request)
        asked = {"login": contains, "which": which}
        return self._desk.page(request, "accounts.html", data, asked=asked, told=told, first=after == "0")

    async def account(self, request: Request) -> Response:
        """One account: its money, its limits, and what can be done."""
        one = await self._one(request)
        data = {
            "account": _summary(one),
            "limits": holding(one.limits, self._allowance, self._deadline_hours),
            "old_password_until": one.old_password_until,
        }
        return self._desk.page(
            request,
            "account.html",
            data,
            told=await self._acting.told(request),
            own=one.account.id == viewer_of(request).account_id,
            overlap_most=PASSWORD_OVERLAP_HOURS_MAX,
        )

    async def open(self, request: Request) -> Response:
        """Open an account, perhaps with money in it."""
        operator_only(request)
        form = form_of(request)
        login = text_of(form, "login", LOGIN_CHARS)
        balance = parse_amount(form.get("balance", "") or "0")
        credit = form.get("credit_limit", "").strip() or "0"
        limit = None if credit == "none" else parse_amount(credit)
        if balance < 0 or (limit or 0) < 0:
            raise Invalid("The balance and the credit limit are not negative.")
        may = "spend without limit" if limit is None else f"go ${show_usd(limit)} below zero"
        confirm = self._acting.unconfirmed(
            request,
            "Open an account",
            f"The account {login} is opened with ${show_usd(balance)} and may {may}.",
            "Open it",
            back=PATH,
        )
        if confirm is not None:
            return confirm
        viewer = viewer_of(request)

        async def work(keep: Keep) -> Deed:
            def said(opened: accounts.Opened, secret: object) -> Deed:
                words = f"The account {opened.login} is open, with ${show_usd(balance)}."
                return Deed(words, f"{PATH}/{opened.account_id}", secret)

            async def also(tx: Session, opened: accounts.Opened) -> None:
                await keep(tx, said(opened, None))

            opened = await accounts.open_account(
                self._db, login, None, balance=balance, credit_limit=limit, now=self._clock(), also=also
            )
            log.info("console: %s opened the account %s with %s USD", viewer.login, login, show_usd(balance))
            return said(opened, opened.password)

        return await self._acting.act(
            request, work, where=PATH, shown=lambda deed: self._secret(request, deed, login, "password")
        )

    async def top_up(self, request: Request) -> Response:
        """Put money in, or take it back."""
        operator_only(request)
        one = await self._one(request)
        account, viewer = one.account, viewer_of(request)
        paid = parse_amount(form_of(request).get("amount", ""))
        if not paid:
            raise Invalid("Nothing to top up: the amount is 0.")
        here = f"{PATH}/{account.id}"
        what = f"${show_usd(abs(paid))} {'into' if paid > 0 else 'out of'} the account {account.login}"
        confirm = self._acting.unconfirmed(
            request,
            "Top up" if paid > 0 else "Take money back",
            f"Put {what}." if paid > 0 else f"Take {what}.",
            "Top up" if paid > 0 else "Take it back",
            back=here,
            facts={
                "Balance now": f"${show_usd(account.balance)}",
                "Balance then": f"${show_usd(account.balance + paid)}",
            },
        )
        if confirm is not None:
            return confirm

        async def work(keep: Keep) -> Deed:
            def said(balance: int) -> Deed:
                return Deed(f"{'Put' if paid > 0 else 'Took'} {what}: its balance is ${show_usd(balance)}.", here)

            async def also(tx: Session, balance: int) -> None:
                await keep(tx, said(balance))

            balance = await accounts.top_up(self._db, account.login, paid, self._clock(), also=also)
            log.info("console: %s topped up %s by %s USD", viewer.login, account.login, show_usd(paid))
            return said(balance)

        return await self._acting.act(request, work, where=here)

    async def password(self, request: Request) -> Response:
        """A new password, shown once; the one before may stay good for some hours."""
        one = await self._one(request)
        account, viewer = one.account, viewer_of(request)
        hours = _hours(form_of(request).get("overlap_hours", "") or "0")
        here = f"{PATH}/{account.id}"
        kept = f"stays good for {hours:g} hours more" if hours else "ends within seconds"
        clients = "Programs that use it must be given the new one."
        mine = "" if hours or account.id != viewer.account_id else " So does this session: log in with the new one."
        confirm = self._acting.unconfirmed(
            request,
            "New password",
            f"The account {account.login} gets a new password, which is shown once. The one before {kept}.{mine}"
            f" {clients}",
            "Make a new one",
            back=here,
        )
        if confirm is not None:
            return confirm

        async def work(keep: Keep) -> Deed:
            deed = Deed(f"The account {account.login} has a new password; the one before {kept}.", here)

            async def also(tx: Session, _: str) -> None:
                await keep(tx, deed)

            fresh = await accounts.change_password(self._db, account.login, overlap_hours=hours, also=also)
            log.info("console: %s gave %s a new password", viewer.login, account.login)
            return msgspec.structs.replace(deed, secret=fresh)

        return await self._acting.act(
            request, work, where=here, shown=lambda deed: self._secret(request, deed, account.login, "password")
        )

    async def webhook_secret(self, request: Request) -> Response:
        """The secrets that sign the account's webhooks, newest first; a new one before them, if asked for."""
        one = await self._one(request)
        account, viewer = one.account, viewer_of(request)
        here = f"{PATH}/{account.id}"
        rotate = form_of(request).get("do") == "rotate"
        if rotate:
            confirm = self._acting.unconfirmed(
                request,
                "New signing secret",
                f"Webhooks of {account.login} are signed with a new secret too. The newest one before stays valid"
                " beside it; older ones end.",
                "Make a new one",
                back=here,
            )
            if confirm is not None:
                return confirm

        async def work(keep: Keep) -> Deed:
            deed = Deed("There is a new signing secret." if rotate else "The signing secrets were shown.", here)

            async def also(tx: Session, _: None) -> None:
                await keep(tx, deed)

            found = await accounts.webhook_secrets(self._db, account.login, rotate=rotate, also=also)
            did = "made a new signing secret for" if rotate else "looked at the signing secrets of"
            log.info("console: %s %s %s", viewer.login, did, account.login)
            return msgspec.structs.replace(deed, secret="\n".join(found))

        return await self._acting.act(
            request, work, where=here, shown=lambda deed: self._secret(request, deed, account.login, "signing secrets")
        )

    async def limits(self, request: Request) -> Response:
        """Limits of the account's own; an empty field is the installation's."""
        operator_only(request)
        one = await self._one(request)
        account, viewer = one.account, viewer_of(request)
        form = form_of(request)
        # Only what was typed over: somebody else may have changed another one since this page was loaded.
        typed = [name for name in LIMITS if name in form and form[name].strip() != form.get(f"was-{name}")]
        changes = {name: parse(name, form[name]) for name in typed}
        changes = {name: value for name, value in changes.items() if one.limits.get(name) != value}
        here = f"{PATH}/{account.id}"

        async def work(_: Keep) -> Deed:
            if not changes:
                return Deed("No limit was changed.", here)
            await accounts.change_limits(self._db, account.login, changes)
            names = ", ".join(name for name in changes)
            log.info("console: %s changed limits of %s: %s", viewer.login, account.login, changes)
            return Deed(f"Changed for {account.login}: {names}. It holds within seconds.", here)

        return await self._acting.act(request, work, where=here)

    async def pause(self, request: Request) -> Response:
        """Pause or resume: queued tasks wait, live ones are refused."""
        one = await self._one(request)
        account, viewer = one.account, viewer_of(request)
        paused = form_of(request).get("paused") == "yes"
        by: By = "operator" if viewer.operator else "owner"
        here = f"{PATH}/{account.id}"

        async def work(_: Keep) -> Deed:
            if not await pause_account(self._db, account.login, paused=paused, by=by):
                return Deed("Nothing was changed: the operator paused this account and alone may resume it.", here)
            log.info("console: %s %s %s", viewer.login, "paused" if paused else "resumed", account.login)
            if paused:
                return Deed(f"{account.login} is paused: its queued tasks wait, its live tasks are refused.", here)
            return Deed(f"{account.login} is not paused: what waited goes on.", here)

        return await self._acting.act(request, work, where=here)

    async def cancel(self, request: Request) -> Response:
        """Cancel what is queued, all of it or one tag's; the money returns."""
        one = await self._one(request)
        account, viewer = one.account, viewer_of(request)
        tag = text_of(form_of(request), "tag", TAG_CHARS) or None
        here = f"{PATH}/{account.id}"
        which = "all queued tasks" if tag is None else f"the queued tasks with the tag {tag}"
        confirm = self._acting.unconfirmed(
            request,
            "Cancel queued tasks",
            f"Cancel {which} of {account.login}. They fail with 40103 and their money returns; running ones go on."
            " This cannot be undone.",
            "Cancel them",
            back=here,
            facts={"Held for its open tasks": f"${show_usd(account.held)}"},
        )
        if confirm is not None:
            return confirm

        async def work(_: Keep) -> Deed:
            ended = await cancel(self._db, self._clock(), postback, account_id=account.id, tag=tag)
            log.info("console: %s cancelled %d tasks of %s", viewer.login, len(ended), account.login)
            return Deed(f"{len(ended):,} tasks were cancelled, their money returned.", here)

        return await self._acting.act(request, work, where=here)

    async def _one(self, request: Request) -> AccountShown:
        """The account of the path, if it is the viewer's to see. Raises Missing."""
        number = whose(request, request.path_params["number"])
        today = self._clock().date()
        found = None
        if number <= ACCOUNTS_MAX:
            found = await self._desk.now.look(lambda tx: stored.one(tx, number, today))
        if found is None:
            raise Missing
        return found

    def _secret(self, request: Request, deed: Deed, login: str, what: str) -> Response:
        """The answer to a form that made a secret: the only place where it is."""
        data = {"login": login, "said": deed.said, "secret": deed.secret}
        return self._desk.page(request, "secret.html", data, what=what, link=deed.link, json_url="")


def _summary(one: AccountShown) -> dict[str, Any]:
    return msgspec.structs.asdict(one.account) | {
        "spent_today": one.spent_today,
        "below_limit": one.below_limit,
        "paused_by": one.paused_by,
    }


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = -1.0
    if not 0 <= hours <= PASSWORD_OVERLAP_HOURS_MAX:
        raise Invalid(f"{text!r} is no number of hours from 0 to {PASSWORD_OVERLAP_HOURS_MAX}.")
    return hours
