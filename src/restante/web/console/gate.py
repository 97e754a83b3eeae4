"""The way in to the console: who comes, what a browser may do with a page, and whether a form is ours.

Every page and every form passes here, so that none can forget it. Without a session there is the log-in page, its style
and its scripts, and nothing else.
"""

from __future__ import annotations

import hmac
import logging
import time
from typing import Final
from urllib.parse import parse_qsl, quote

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from restante.core.limits import CONSOLE_CALLS, CONSOLE_FORM_BYTES, CONSOLE_FORM_FIELDS
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
    """What a form sent, its CSRF token proven; the last of each name."""
    form: dict[str, str] = request.scope["form"]
    return form


class Gate:
    """Pure ASGI, around all of the console's routes. Sets `scope["viewer"]`, and `scope["form"]` of a POST."""

    def __init__(self, app: ASGIApp, sessions: Sessions, *, most: int = CONSOLE_CALLS) -> None:
        self._app = app
        self._sessions = sessions
        self._room = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == EVENTS:  # a stream, which has bounds of its own (nudges.py)
            await self._pass(scope, receive, _sealed(send))
            return
        if self._room <= 0:
            busy = Response("Too many pages at once; try again in a moment.", 503, {"Retry-After": "1"})
            await busy(scope, receive, _sealed(send))
            return
        self._room -= 1
        try:
            await self._pass(scope, receive, _sealed(send))
        finally:
            self._room += 1

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = await self._refusal(Request(scope, receive))
        await (refusal or self._app)(scope, receive, send)

    async def _refusal(self, request: Request) -> Response | None:
        path = request.scope["path"]
        try:
            viewer = await self._sessions.viewer(request.cookies.get(COOKIE, ""))
        except DatabaseLost as error:
            log.error("the console cannot tell who comes until the database is back: %s", error)
            return Response("The database does not answer. Try again in a moment.", 503, {"Retry-After": "1"})
        request.scope["viewer"] = viewer
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


async def read_form(request: Request) -> dict[str, str] | None:
    """A posted form; None: it is too large, or no form."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > CONSOLE_FORM_BYTES:
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
