"""Logging in and out. The login and API password of an account, judged by the API's own code."""

from __future__ import annotations

import logging
import secrets
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from restante.core.limits import CONSOLE_SESSION_SECONDS
from restante.web.console.desk import Desk, action, done
from restante.web.console.gate import COOKIE, LOGIN, PREFIX, is_ours, viewer_of
from restante.web.console.session import Sessions

log = logging.getLogger("restante.console")

_FORM_COOKIE: Final = "restante_login"  # ties the log-in form to a browser before there is a session
_HOME: Final = f"{PREFIX}/"


class Login:
    """`https`: the session may never be sent over plain HTTP."""

    def __init__(self, desk: Desk, sessions: Sessions, *, https: bool = False) -> None:
        self._desk = desk
        self._sessions = sessions
        self._https = https

    def routes(self) -> list[Route]:
        """Below /console."""
        return [
            Route("/login", self.form, methods=["GET"]),
            Route("/login", self.log_in, methods=["POST"]),
            action("/logout", self.log_out),
        ]

    async def form(self, request: Request) -> Response:
        """The form; whoever is logged in goes on to where they wanted to be."""
        if request.scope["viewer"] is not None:
            return done(_local(request.query_params.get("next", "")))
        return self._form(request, _local(request.query_params.get("next", "")))

    async def log_in(self, request: Request) -> Response:
        """Begin a session, or say that it was wrong: not which of both."""
        form: dict[str, str] | None = request.scope["form"]  # read by the Gate; None: no form of ours
        nonce = request.cookies.get(_FORM_COOKIE, "")
        if form is None or not nonce or not is_ours(request, form, self._sessions.token(nonce)):
            words = "This form was open for too long, or the browser keeps no cookies. Please try again."
            return self._form(request, _local((form or {}).get("next", "")), words, status=403)
        where = _local(form.get("next", ""))
        login = form.get("login", "")
        cookie = await self._sessions.begin(login, form.get("password", ""))
        if cookie is None:
            log.warning("console: a log-in as %.100s was refused", login)
            return self._form(request, where, "Login or password is wrong.", login=login, status=401)
        log.info("console: %s logged in", login)
        answer = RedirectResponse(where, 303)
        self._set(request, answer, COOKIE, cookie, PREFIX, "lax", int(CONSOLE_SESSION_SECONDS))
        answer.delete_cookie(_FORM_COOKIE, path=LOGIN)
        return answer

    async def log_out(self, request: Request) -> Response:
        """Take the session off this browser."""
        log.info("console: %s logged out", viewer_of(request).login)
        answer = RedirectResponse(LOGIN, 303)
        answer.delete_cookie(COOKIE, path=PREFIX)
        return answer

    def _form(self, request: Request, where: str, words: str = "", *, login: str = "", status: int = 200) -> Response:
        nonce = secrets.token_urlsafe(16)
        token = self._sessions.token(nonce)
        answer = self._desk.page(
            request, "login.html", {}, status=status, token=token, where=where, words=words, login=login
        )
        self._set(request, answer, _FORM_COOKIE, nonce, LOGIN, "strict", None)
        return answer

    def _set(
        self, request: Request, answer: Response, name: str, value: str, path: str, same_site: str, seconds: int | None
    ) -> None:
        # A header that anybody can send may make a cookie safer, never less safe.
        forwarded = request.headers.get("x-forwarded-proto", "").split(",")[0].strip().lower()
        secure = self._https or request.url.scheme == "https" or forwarded == "https"
        answer.set_cookie(
            name,
            value,
            max_age=seconds,
            path=path,
            secure=secure,
            httponly=True,
            samesite="strict" if same_site == "strict" else "lax",
        )


def _local(where: str) -> str:
    """A place within the console, or its first page: nobody is sent elsewhere by a link they clicked."""
    inside = where.startswith(_HOME) and where.isprintable() and "\\" not in where and "//" not in where
    return where if inside and not where.startswith((LOGIN, f"{PREFIX}/logout")) else _HOME
