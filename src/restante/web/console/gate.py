"""The way in to the console: who comes, what a browser may do with a page, and whether a form is ours.

Every page and every form passes here, so that none can forget it. Without a session there is the log-in page, its style
and its scripts, and nothing else.
"""

from __future__ import annotations

import hmac
import logging
import time
from collections import Counter
from typing import Final
from urllib.parse import parse_qsl, quote

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from restante.core.limits import (
    CONSOLE_CALLS,
    CONSOLE_CALLS_ACCOUNT,
    CONSOLE_FORM_BYTES,
    CONSOLE_FORM_FIELDS,
    CONSOLE_LOGIN_BYTES,
    CONSOLE_PATH_CHARS,
)
from restante.store.errors import DatabaseLost
from restante.web.console.session import Sessions, Viewer

log = logging.getLogger("restante.console")

PREFIX: Final = "/console"
LOGIN: Final = f"{PREFIX}/login"
EVENTS: Final = f"{PREFIX}/events"
COOKIE: Final = "restante_session"
CSRF: Final = "csrf"  # the field of every form

_OPEN: Final = (LOGIN, f"{PREFIX}/static/")
_SAFE_METHODS: Final = ("GET", "HEAD")
_SAME_SITE: Final = ("same-origin", "none")  # of Sec-Fetch-Site; none: typed or a bookmark

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Robots-Tag": "noindex",
}


def viewer_of(request: Request) -> Viewer:
    """Who is logged in."""
    viewer: Viewer = request.scope["viewer"]
    return viewer


def form_of(request: Request) -> dict[str, str]:
    """What a form sent, its CSRF token proven; the last of each name. Of the log-in form nothing is proven yet."""
    form: dict[str, str] = request.scope["form"]
    return form


class Gate:
    """Pure ASGI, around all of the console's routes. Sets `scope["viewer"]`, and `scope["form"]` of a POST.

    Of the `most` pages at once an account other than the operator's, and all who have not logged in, may have
    `most_of_account` each: whoever sends or reads slowly keeps nobody else out. As many are the operator's alone. A
    log-in has no place until its form is there.
    """

    def __init__(
        self,
        app: ASGIApp,
        sessions: Sessions,
        *,
        most: int = CONSOLE_CALLS,
        most_of_account: int = CONSOLE_CALLS_ACCOUNT,
    ) -> None:
        self._app = app
        self._sessions = sessions
        self._most, self._most_of_account = most, most_of_account
        self._at_work: Counter[int] = Counter()  # by account; 0: strangers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        send = _sealed(send)
        request = Request(scope, receive)
        try:
            viewer = scope["viewer"] = await self._sessions.viewer(request.cookies.get(COOKIE, ""))
        except DatabaseLost as error:
            log.error("the console cannot tell who comes until the database is back: %s", error)
            lost = Response("The database does not answer. Try again in a moment.", 503, {"Retry-After": "1"})
            await lost(scope, receive, send)
            return
        if scope["path"] == EVENTS:  # a stream, which has bounds of its own (nudges.py)
            await self._pass(request, receive, send)
            return
        if scope["path"] == LOGIN and scope["method"] not in _SAFE_METHODS:
            scope["form"] = await read_form(request, CONSOLE_LOGIN_BYTES)
        number = viewer.account_id if viewer else 0
        operator = viewer is not None and viewer.operator
        share = self._most if operator else self._most_of_account
        room = self._most if operator else self._most - self._most_of_account
        if self._at_work.total() >= room or self._at_work[number] >= share:
            busy = Response("Too many pages at once; try again in a moment.", 503, {"Retry-After": "1"})
            await busy(scope, receive, send)
            return
        self._at_work[number] += 1
        try:
            await self._pass(request, receive, send)
        finally:
            self._at_work[number] -= 1
            if not self._at_work[number]:
                del self._at_work[number]

    async def _pass(self, request: Request, receive: Receive, send: Send) -> None:
        refusal = await self._refusal(request, request.scope["viewer"])
        await (refusal or self._app)(request.scope, receive, send)

    async def _refusal(self, request: Request, viewer: Viewer | None) -> Response | None:
        path = request.scope["path"]
        if len(path) > CONSOLE_PATH_CHARS:
            return Response("Not found.", 404)
        if path.startswith(_OPEN):
            return None  # log-in has a token of its own (login.py)
        if viewer is None:
            return _to_login(request)
        if request.method in _SAFE_METHODS:
            return None
        return await self._forged(request, viewer.csrf)

    async def _forged(self, request: Request, token: str) -> Response | None:
        """Why a form is not taken as ours; None: it is, and it has been read."""
        form = await read_form(request)
        if form is None:
            return Response("This form is too large.", 413)
        if not is_ours(request, form, token):
            log.warning("a form without its token was refused: %s, account %s", request.url.path, _number(request))
            return Response("This form is not of this session. Go back, load the page again and repeat.", 403)
        request.scope["form"] = form
        return None


async def read_form(request: Request, most: int = CONSOLE_FORM_BYTES) -> dict[str, str] | None:
    """A posted form of at most so many bytes; None: it is too large, or no form."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            return None
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=CONSOLE_FORM_FIELDS)
    except ValueError:
        return None
    return dict(pairs)


def is_ours(request: Request, form: dict[str, str], token: str) -> bool:
    """Whether a form was made by us, for this session, and sent from a page of ours as far as the browser says."""
    site = request.headers.get("sec-fetch-site", "none")
    return site in _SAME_SITE and hmac.compare_digest(form.get(CSRF, "").encode(), token.encode())


def wants_json(request: Request) -> bool:
    """Whether the twin of a page is asked for: by its name, or by a program's Accept."""
    accept = request.headers.get("accept", "")
    return request.scope["path"].endswith(".json") or ("application/json" in accept and "text/html" not in accept)


def _to_login(request: Request) -> Response:
    if wants_json(request) or request.scope["path"] == EVENTS:
        return Response(b'{"error":"not logged in"}', 401, media_type="application/json")
    asked = request.scope["path"] + (f"?{request.url.query}" if request.url.query else "")
    where = LOGIN if asked in (PREFIX, f"{PREFIX}/") else f"{LOGIN}?next={quote(asked, safe='/')}"
    if request.headers.get("hx-request"):
        return Response(status_code=204, headers={"HX-Redirect": where})
    return RedirectResponse(where, 303)


def _number(request: Request) -> int:
    viewer: Viewer | None = request.scope["viewer"]
    return viewer.account_id if viewer else 0


def _sealed(send: Send) -> Send:
    """Every answer says what a browser may do with it, and how long it took here; nothing is kept unless it says so
    itself."""
    began = time.perf_counter()

    async def sealed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
            headers["Server-Timing"] = f"restante;dur={(time.perf_counter() - began) * 1_000:.1f}"
        await send(message)

    return sealed
