"""Webhooks: the hosts they go to and how they fare, each with its payload and its attempts, and sending them again."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from restante.core.limits import (
    CONSOLE_ATTEMPTS,
    CONSOLE_COUNTED,
    CONSOLE_LOOKED,
    CONSOLE_PAYLOAD_BYTES,
    CONSOLE_RESEND_TASKS,
    CONSOLE_ROWS,
    ERROR_DAYS,
    RESULT_DAYS,
)
from restante.core.task import ID_PATTERN
from restante.flow.deeds import Deed, Keep
from restante.flow.deliver import webhook_id
from restante.flow.resend import Resender
from restante.store import accounts
from restante.store import books_deliveries as stored
from restante.store.books_deliveries import HostShown, Page, Stage, Wanted, WebhookShown
from restante.store.deliveries import Kind
from restante.web.console import places
from restante.web.console.acting import Acting, place, whose
from restante.web.console.desk import Desk, Invalid, Missing, action, pages, text_of
from restante.web.console.gate import PREFIX, form_of, viewer_of

log = logging.getLogger("restante.console")

PATH: Final = f"{PREFIX}/deliveries"
_HOST_CHARS: Final = 300
_Id = Annotated[int, msgspec.Meta(ge=0, lt=2**63)]
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]
_Uuid = Annotated[str, msgspec.Meta(pattern=ID_PATTERN)]

#: What people choose from, and what it means of the rows.
STATES: Final = {
    "": ("all", Wanted()),
    "waiting": ("waiting", Wanted((Stage.READY, Stage.PARKED, Stage.LEASED), tried=False)),
    "retrying": ("retrying", Wanted((Stage.READY, Stage.PARKED, Stage.LEASED), tried=True)),
    "delivered": ("delivered", Wanted((Stage.DELIVERED,))),
    "failed": ("given up", Wanted((Stage.GIVEN_UP,))),
}
SINCE: Final = {"1": "the last hour", "24": "the last 24 hours", "72": "the last 3 days", "168": "the last 7 days"}


def state_of(webhook: WebhookShown) -> str:
    """In one word, as the facets have it."""
    if webhook.stage is Stage.LEASED:
        return "sending"
    if webhook.stage is Stage.DELIVERED:
        return "delivered"
    if webhook.stage is Stage.GIVEN_UP:
        return "failed"
    return "retrying" if webhook.attempts else "waiting"


class Row(msgspec.Struct, frozen=True):
    """A webhook in a list, and as the JSON twin has it."""

    id: int
    state: str
    task_id: str
    kind: str
    host: str
    url: str
    attempts: int
    created_at: datetime
    next_at: datetime | None
    last_at: datetime | None
    last_status: int | None
    last_error: str | None
    last_milliseconds: int | None
    login: str | None


class Deliveries:
    """The pages."""

    def __init__(
        self,
        acting: Acting,
        resender: Resender,
        *,
        error_days: int = ERROR_DAYS,
        result_days: int = RESULT_DAYS,
    ) -> None:
        self._acting = acting
        self._desk: Desk = acting.desk
        self._resender = resender
        self._clock = self._desk.clock
        self._error_days = error_days
        self._result_days = result_days

    def routes(self) -> list[Route]:
        """Below /console."""
        return [
            *pages("/deliveries", self.listing),
            *pages("/deliveries/{number:int}", self.webhook),
            Route("/deliveries/{number:int}/payload", self.payload, methods=["GET"]),
            action("/deliveries/{number:int}/resend", self.resend),
            action("/deliveries/resend", self.resend_failed),
        ]

    async def listing(self, request: Request) -> Response:
        """Hosts, and webhooks by host and state."""
        account = await self._desk.chosen(request)
        number = None if account is None else account.id
        state = request.query_params.get("state", "")
        if state not in STATES:
            raise Invalid(f"There is no state {state!r} of webhooks.")
        host = text_of(request.query_params, "host", _HOST_CHARS) or None
        after = request.query_params.get("after", "")
        now = self._clock()

        async def look(tx: Any) -> tuple[list[HostShown], Page]:
            hosts = [] if after else await stored.hosts(tx, number, now - timedelta(days=7), now + timedelta(minutes=1))
            return hosts, await self._page(tx, number, msgspec.structs.replace(STATES[state][1], host=host), after, now)

        hosts, page = await self._desk.look(request, look)
        login = None if account is None else account.login
        asked = {"account": login if viewer_of(request).operator else None, "state": state, "host": host}
        data = {
            "hosts": hosts,
            "webhooks": [_row(one) for one in page.webhooks],
            "older": None if page.after is None else place(PATH, **asked, after=places.write(page.after)),
            "looked": page.looked,
        }
        return self._desk.page(
            request,
            "deliveries.html",
            data,
            asked=asked,
            states=[(name, words, place(PATH, **{**asked, "state": name})) for name, (words, _) in STATES.items()],
            since=SINCE,
            first=not after,
            counted=CONSOLE_COUNTED,
            window=CONSOLE_LOOKED,
            told=await self._acting.told(request),
            of_all=number is None,
        )

    async def _page(self, tx: Any, account_id: int | None, wanted: Wanted, after: str, now: datetime) -> Page:
        tried_since = (now - timedelta(days=self._error_days)).date()
        if account_id is None or wanted.stages == (Stage.GIVEN_UP,):
            [below] = places.read(after, tuple[_Id]) or [None]
            if wanted.stages == (Stage.GIVEN_UP,):
                return await stored.given_up(tx, account_id, wanted.host, below, CONSOLE_ROWS, tried_since)
            return await stored.of_all(tx, wanted, below, CONSOLE_ROWS, tried_since)
        last = places.read(after, tuple[_Moment, _Uuid])
        since = now - timedelta(days=self._result_days + 1)
        until = now + timedelta(minutes=1) if last is None else last[0] + timedelta(microseconds=1)
        return await stored.of_account(tx, account_id, wanted, since, until, last, CONSOLE_ROWS, tried_since)

    async def webhook(self, request: Request) -> Response:
        """One: where it goes, what it says, and each attempt."""
        found, body, attempts, withheld = await self._found(request)
        text, left = _text(body)
        row = _row(found)
        data = {
            "webhook": row,
            "webhook_id": webhook_id(found),
            "withheld": withheld,
            "payload": text,
            "attempts": [
                {
                    "made_at": one.made_at,
                    "milliseconds": one.milliseconds,
                    "status": one.status,
                    "error": one.error,
                    "reply": None if one.reply is None else one.reply.decode(errors="replace"),
                }
                for one in attempts
            ],
        }
        told = await self._acting.told(request)
        return self._desk.page(request, "delivery.html", data, left=left, told=told, error_days=self._error_days)

    async def payload(self, request: Request) -> Response:
        """The body of a postback, whole, as a file."""
        found, body, _, _ = await self._found(request)
        if body is None:
            raise Missing
        headers = {"Content-Disposition": f'attachment; filename="{found.task_id}.json"'}
        return Response(body, media_type="application/json", headers=headers)

    async def _found(self, request: Request) -> tuple[WebhookShown, bytes | None, Sequence[stored.AttemptShown], bool]:
        """A webhook of the viewer's, its body as JSON, its attempts, and whether its body is withheld, since its
        account owes more than it may. Raises Missing."""
        viewer = viewer_of(request)
        number: int = request.path_params["number"]
        since = (self._clock() - timedelta(days=self._error_days)).date()

        async def look(tx: Any) -> Any:
            found = await stored.one(tx, number, None if viewer.operator else viewer.account_id)
            return found and (*found, await stored.attempts(tx, number, since, CONSOLE_ATTEMPTS))

        found = await self._desk.look(request, look) if number < 2**63 else None
        if found is None:
            raise Missing
        webhook, packed, owes, attempts = found
        if owes and not viewer.operator:
            return webhook, None, attempts, webhook.kind is Kind.POSTBACK
        body = gzip.decompress(packed) if packed is not None else None
        if body is None and webhook.kind is Kind.POSTBACK:  # once it was brought it is not kept: written anew
            body = await self._resender.payload(webhook.account_id, webhook.task_id)
        return webhook, body, attempts, False

    async def resend(self, request: Request) -> Response:
        """Send a task's webhooks again."""
        webhook, _, _, _ = await self._found(request)
        viewer = viewer_of(request)
        here = f"{PATH}/{webhook.id}"

        async def work(_: Keep) -> Deed:
            [said] = await self._resender.resend(webhook.account_id, [webhook.task_id])
            if said.code >= 40_000:
                return Deed(f"Nothing was sent: {said.message}", here)
            log.info("console: %s sent the webhooks of task %s again", viewer.login, webhook.task_id)
            return Deed("The task's webhooks go out again now, on their schedule from the beginning.", here)

        return await self._acting.act(request, work, where=here)

    async def resend_failed(self, request: Request) -> Response:
        """Send again all that failed since a time, of an account or all, to a host or any."""
        viewer, form = viewer_of(request), form_of(request)
        login = form.get("account", "") if viewer.operator else viewer.login
        number = whose(request, await self._number_of(login)) if login else None
        hours, host = form.get("since", ""), text_of(form, "host", _HOST_CHARS) or None
        if hours not in SINCE:
            raise Invalid("Choose since when.")
        asked = {"account": login if viewer.operator else None, "host": host}
        back = place(PATH, **asked)
        since = self._clock() - timedelta(hours=int(hours))
        told = f"{'to ' + host if host else 'to any host'}, owed since {since:%Y-%m-%d %H:%M} UTC"
        of_whom = f"of {login}" if login else "of all accounts"
        found = await self._desk.now.look(lambda tx: stored.failed(tx, number, since, host, CONSOLE_RESEND_TASKS))
        count = f"{len(found):,}{' or more' if len(found) == CONSOLE_RESEND_TASKS else ''}"
        confirm = self._acting.unconfirmed(
            request,
            "Send failed webhooks again",
            f"Webhooks of {count} tasks {of_whom}, {told}, failed and were not delivered since. They go out again now,"
            " with the ids they had, so that a receiver which minds `webhook-id` takes none twice.",
            "Send them again",
            back=back,
        )
        if confirm is not None:
            return confirm

        async def work(_: Keep) -> Deed:
            sent = await self._resender.resend_failed(number, since, host)
            log.info("console: %s sent failed webhooks of %d tasks again, %s", viewer.login, sent.sent, told)
            left = (
                f" Of {sent.left:,} tasks the answers have expired, so that nothing can be sent." if sent.left else ""
            )
            more = " There may be more: send the form again." if sent.more else ""
            return Deed(f"The failed webhooks of {sent.sent:,} tasks go out again.{left}{more}", back)

        return await self._acting.act(request, work, where=back)

    async def _number_of(self, login: str) -> int:
        account = None if "\0" in login else await self._desk.now.look(lambda tx: accounts.read(tx, login))
        if account is None:
            raise Missing
        return account.id


def _row(one: WebhookShown) -> Row:
    last = one.last
    return Row(
        id=one.id,
        state=state_of(one),
        task_id=one.task_id,
        kind="pingback" if one.kind is Kind.PINGBACK else "postback",
        host=one.host,
        url=one.url,
        attempts=one.attempts,
        created_at=one.created_at,
        next_at=one.next_at,
        last_at=None if last is None else last.made_at,
        last_status=None if last is None else last.status,
        last_error=None if last is None else last.error,
        last_milliseconds=None if last is None else last.milliseconds,
        login=one.login,
    )


def _text(body: bytes | None) -> tuple[str | None, int]:
    """A payload for people, indented, and how many bytes of it are not shown."""
    if body is None:
        return None, 0
    if len(body) > CONSOLE_PAYLOAD_BYTES:
        return body[:CONSOLE_PAYLOAD_BYTES].decode(errors="replace"), len(body) - CONSOLE_PAYLOAD_BYTES
    return msgspec.json.format(body, indent=2).decode(), 0
