"""The console put together: its pages behind its gate, mounted at /console."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from restante.store.errors import DatabaseLost
from restante.store.reading import TooSlow
from restante.web.console.desk import Desk, Invalid, Missing
from restante.web.console.gate import PREFIX, Gate
from restante.web.console.login import Login
from restante.web.console.nudges import Nudges
from restante.web.console.session import Sessions

log = logging.getLogger("restante.console")


class Console:
    """All of it. `pages` are the routes of every page, below /console."""

    def __init__(
        self, desk: Desk, sessions: Sessions, nudges: Nudges, pages: Sequence[Route], *, https: bool = False
    ) -> None:
        self._desk = desk
        self._sessions = sessions
        #: What is served below /console.
        self.served = [
            *Login(desk, sessions, https=https).routes(),
            Route("/static/{name}", desk.assets.serve, methods=["GET"]),
            Route("/events", nudges.events, methods=["GET"]),
            *pages,
        ]

    def routes(self) -> list[BaseRoute]:
        """What the application serves of it."""
        app = Starlette(
            routes=self.served,
            exception_handlers={
                HTTPException: self._not_served,
                Missing: self._missing,
                Invalid: self._invalid,
                TooSlow: self._too_slow,
                DatabaseLost: self._no_database,
                ClientDisconnect: _gone,
                Exception: self._broken,
            },
        )
        app.router.redirect_slashes = False
        return [Route(PREFIX, _home, methods=["GET"]), Mount(PREFIX, app=Gate(app, self._sessions))]

    async def _not_served(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            return self._desk.trouble(request, 405, "Not this way", "This address is for forms.")
        return await self._missing(request, error)

    async def _missing(self, request: Request, error: Exception) -> Response:
        return self._desk.trouble(request, 404, "Not here", "There is no such page, or it is not of this account.")

    async def _invalid(self, request: Request, error: Exception) -> Response:
        return self._desk.trouble(request, 400, "That cannot be", str(error))

    async def _too_slow(self, request: Request, error: Exception) -> Response:
        log.warning("console: %s took %s", request.url.path, error)
        words = "This took longer than 5 seconds and was given up. Choose a shorter time, or fewer conditions."
        return self._desk.trouble(request, 503, "Too much at once", words)

    async def _no_database(self, request: Request, error: Exception) -> Response:
        log.error("console: no %s until the database is back: %s", request.url.path, error)
        words = "The database does not answer. What was accepted is safe; try again in a moment."
        return self._desk.trouble(request, 503, "No database", words)

    async def _broken(self, request: Request, error: Exception) -> Response:
        words = "Something in restante broke. The log says more; please report it."
        return self._desk.trouble(request, 500, "That broke", words)


async def _home(request: Request) -> Response:
    return RedirectResponse(f"{PREFIX}/", 308)


async def _gone(request: Request, error: Exception) -> Response:
    return Response()  # nobody reads it
