"""The ledger: an account's statement, money that came in, the same as CSV, and what the audit said last."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from restante.core.limits import (
    CONSOLE_CSV_PAGE,
    CONSOLE_CSV_ROWS,
    CONSOLE_LEDGER_DAYS,
    CONSOLE_LEDGER_DAYS_MAX,
    CONSOLE_ROWS,
    VERDICTS_SHOWN,
)
from restante.core.spreadsheet import cell
from restante.core.task import Function, parse_id
from restante.flow.deeds import Deed, Keep
from restante.flow.verdict import Auditor
from restante.store import books_accounts
from restante.store import books_ledger as stored
from restante.store.accounts import Account
from restante.store.books_ledger import Entry, Place, Span
from restante.store.ledger import KINDS
from restante.web.console import places
from restante.web.console.acting import Acting, operator_only, place
from restante.web.console.desk import Desk, Invalid, action, pages
from restante.web.console.gate import PREFIX, form_of, viewer_of
from restante.web.console.places import UUID
from restante.web.console.spreadsheet import amount, lines

log = logging.getLogger("restante.console")

PATH: Final = f"{PREFIX}/ledger"
_KIND_NUMBERS: Final = {name: number for number, name in KINDS.items()}


class _Place(msgspec.Struct, frozen=True, array_like=True):
    """As a link has it: nothing in it is believed but its form."""

    made_at: Annotated[datetime, msgspec.Meta(tz=True)]
    id: Annotated[str, msgspec.Meta(pattern=UUID)]
    kind: Annotated[int, msgspec.Meta(ge=1, le=3)]


class Row(msgspec.Struct, frozen=True):
    """A transfer in a list, and as the JSON twin has it; amounts in nano-dollars. `task` is the page of a task's."""

    made_at: datetime
    kind: str
    id: str
    balance: int
    held: int
    spent: int
    funded: int
    task: str | None
    login: str | None = None


class Asked(msgspec.Struct, frozen=True):
    """What a statement is asked for: days in UTC, both ends included; `kind` "": all."""

    since: date
    until: date
    kind: str

    @property
    def span(self) -> Span:
        midnight = time(tzinfo=UTC)
        return Span(datetime.combine(self.since, midnight), datetime.combine(self.until + timedelta(days=1), midnight))


class Ledger:
    """The pages."""

    def __init__(self, acting: Acting, auditor: Auditor) -> None:
        self._acting = acting
        self._desk: Desk = acting.desk
        self._auditor = auditor
        self._clock = self._desk.clock

    def routes(self) -> list[Route]:
        """Below /console."""
        return [
            *pages("/ledger", self.listing),
            Route("/ledger.csv", self.spreadsheet, methods=["GET"]),
            action("/ledger/audit", self.audit),
        ]

    async def listing(self, request: Request) -> Response:
        """An account's statement; of all accounts their sums and the money that came in."""
        account = await self._desk.chosen(request)
        asked = self._asked(request, account)
        place_read = places.read(request.query_params.get("after", ""), _Place)
        after = None if place_read is None else (place_read.made_at, place_read.id, place_read.kind)
        operator = viewer_of(request).operator

        async def look(tx: Any) -> Any:
            entries = await _entries(tx, account, asked, after, CONSOLE_ROWS + 1)
            whole = await stored.totals(tx) if account is None else None
            said = await stored.verdicts(tx, VERDICTS_SHOWN) if operator else []
            today = self._clock().date()
            one = None if account is None else await books_accounts.one(tx, account.id, today)
            return entries, whole, said, one

        entries, whole, said, one = await self._desk.look(request, look)
        shown = entries[:CONSOLE_ROWS]
        chosen = {
            "account": account.login if account is not None and operator else None,
            "kind": asked.kind,
            "from": asked.since.isoformat(),
            "to": asked.until.isoformat(),
        }
        more = len(entries) > CONSOLE_ROWS
        data = {
            "account": None if one is None else one.account,
            "spent_today": None if one is None else one.spent_today,
            "totals": whole,
            "transfers": [_row(entry) for entry in shown],
            "older": place(PATH, **chosen, after=places.write(shown[-1].place)) if more else None,
            "audits": said,
        }
        return self._desk.page(
            request,
            "ledger.html",
            data,
            asked=asked,
            chosen=chosen,
            kinds=[(name, place(PATH, **{**chosen, "kind": name})) for name in ("", *_KIND_NUMBERS)],
            csv=place(f"{PATH}.csv", **chosen),
            first=after is None,
            auditing=self._auditor.running,
            spans=self._spans(chosen),
            told=await self._acting.told(request),
        )

    def _spans(self, chosen: dict[str, Any]) -> list[tuple[str, str, bool]]:
        """Spans that are a click away: their words, their link, and whether it is the one that is shown."""
        today = self._clock().date()
        found = []
        for words, days in (("Today", 0), ("7 days", 6), ("30 days", 29), ("90 days", 89)):
            ends = {"from": (today - timedelta(days=days)).isoformat(), "to": today.isoformat()}
            here = all(chosen[name] == value for name, value in ends.items())
            found.append((words, place(PATH, **{**chosen, **ends}), here))
        return found

    async def spreadsheet(self, request: Request) -> Response:
        """The same transfers as CSV, read page by page as the browser takes them. Where there are more than a
        spreadsheet opens, the last line says so: its sums are not the account's.

        A file does not say how old it is: it is read from a standby that is not behind, and once from the primary, from
        there to its end."""
        account = await self._desk.chosen(request)
        asked = self._asked(request, account)
        name = f"ledger-{asked.since}-{asked.until}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(self._lines(account, asked), media_type="text/csv; charset=utf-8", headers=headers)

    async def _lines(self, account: Account | None, asked: Asked) -> AsyncIterator[bytes]:
        columns = ("made_at", "account", "kind", "id", "balance", "held", "spent", "funded")
        yield lines([columns])
        after: Place | None = None
        left = CONSOLE_CSV_ROWS
        standby = True
        while left > 0:
            most = min(left, CONSOLE_CSV_PAGE)

            async def look(tx: Any) -> list[Entry]:
                return await _entries(tx, account, asked, after, most)  # noqa: B023

            if standby:
                entries, behind = await self._desk.reads.prompt(look)
                standby = behind is not None
            else:
                entries = await self._desk.now.look(look)
            yield lines([_cells(one, account) for one in entries])
            left -= len(entries)
            if len(entries) < most:
                return
            after = entries[-1].place
        if await self._desk.now.look(lambda tx: _entries(tx, account, asked, after, 1)):
            yield lines([("", "", "", f"{CONSOLE_CSV_ROWS} transfers, and older ones are left out: choose fewer days")])

    async def audit(self, request: Request) -> Response:
        """Begin an audit; its verdict is on the page when it ended."""
        operator_only(request)
        whole = form_of(request).get("whole") == "yes"
        login = viewer_of(request).login

        async def work(_: Keep) -> Deed:
            if not self._auditor.start(whole=whole):
                return Deed("An audit is going on; its verdict comes here.", PATH)
            log.info("console: %s began an audit%s", login, " of every day" if whole else "")
            return Deed("The audit began. It reads in short steps and slows nobody; its verdict comes here.", PATH)

        return await self._acting.act(request, work, where=PATH)

    def _asked(self, request: Request, account: Account | None) -> Asked:
        """The conditions in a link. Raises Invalid."""
        today = self._clock().date()
        until = _day(request.query_params.get("to", ""), today)
        since = _day(request.query_params.get("from", ""), until - timedelta(days=CONSOLE_LEDGER_DAYS - 1))
        if since > until:
            raise Invalid("The statement would end before it begins.")
        if (until - since).days >= CONSOLE_LEDGER_DAYS_MAX:
            raise Invalid(f"One statement has {CONSOLE_LEDGER_DAYS_MAX} days at the most.")
        kind = request.query_params.get("kind", "")
        if kind and kind not in _KIND_NUMBERS:
            raise Invalid(f"There is no kind {kind!r} of transfers.")
        return Asked(since, until, "top-up" if account is None else kind)


async def _entries(tx: Any, account: Account | None, asked: Asked, after: Place | None, most: int) -> list[Entry]:
    if asked.kind == "top-up":
        return await stored.money_in(tx, None if account is None else account.id, asked.span, after, most)
    assert account is not None
    return await stored.statement(tx, account.id, asked.span, _KIND_NUMBERS.get(asked.kind), after, most)


def _row(entry: Entry) -> Row:
    one = entry.transfer
    parsed = None if one.kind == "top-up" else parse_id(one.task_id)
    posted = parsed is not None and parsed.function in (Function.TASK_POST, Function.LIVE)
    task = f"{PREFIX}/tasks/{one.task_id}" if posted else None
    amounts = (one.balance, one.held, one.spent, one.funded)
    return Row(one.made_at, one.kind, one.task_id, *amounts, task, entry.login)


def _cells(entry: Entry, account: Account | None) -> list[str]:
    one = entry.transfer
    login = entry.login or (account.login if account is not None else "")
    amounts = [amount(value) for value in (one.balance, one.held, one.spent, one.funded)]
    return [one.made_at.isoformat(), cell(login), one.kind, one.task_id, *amounts]


def _day(text: str, otherwise: date) -> date:
    """A day of a link. Raises Invalid."""
    if not text:
        return otherwise
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise Invalid(f"{text!r} is no day, such as 2026-11-22.") from None
    if not date(2000, 1, 1) <= day <= date(2200, 1, 1):
        raise Invalid(f"{text} is too far away.")
    return day
