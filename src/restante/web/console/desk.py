"""What all pages share: reading, rendering, the JSON twin, and words for what went wrong."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from restante import __version__
from restante.core.limits import STANDBY_BEHIND_SECONDS
from restante.flow.reading import Reads, StandbyReads, Work
from restante.store import accounts
from restante.store.database import Database
from restante.store.standby import Standby
from restante.web.console.assets import Assets
from restante.web.console.gate import PREFIX, viewer_of, wants_json
from restante.web.console.render import environment
from restante.web.console.session import Viewer

Endpoint = Callable[[Request], Awaitable[Response]]
T = TypeVar("T")

#: Pages in the order of the navigation: what they are called and where they are.
NAVIGATION: Final = [
    ("Overview", f"{PREFIX}/"),
    ("Tasks", f"{PREFIX}/tasks"),
    ("Deliveries", f"{PREFIX}/deliveries"),
    ("Ledger", f"{PREFIX}/ledger"),
    ("Accounts", f"{PREFIX}/accounts"),
    ("Playground", f"{PREFIX}/playground"),
    ("Models", f"{PREFIX}/models"),
]


class Missing(Exception):
    """There is no such thing, or it is another account's: which of both is not said."""


class Invalid(Exception):
    """What was asked for cannot be: in words for whoever asked."""


class Desk:
    """One per API process. `notice`: what every page has to say of this installation, such as that it is offline."""

    def __init__(
        self, db: Database, clock: Callable[[], datetime], *, notice: str = "", standby: Standby | None = None
    ) -> None:
        self.db = db
        #: What is so now: for whatever precedes or follows an act, and judges who may see what.
        self.now = Reads(db)
        #: What was so a moment ago: for what is only looked at, with `look`, so that the page says how old it is.
        self.reads = StandbyReads(self.now, standby)
        self.clock = clock
        self.assets = Assets()
        self._notice = notice
        self._templates = environment(self.assets.paths, clock)

    async def look(self, request: Request, work: Work[T]) -> T:
        """What a page shows, read from the standby; from the primary what a form asks for or has led to (`?deed=`), and
        None that the standby found: what was asked for may be newer. Raises DatabaseLost, TooSlow."""
        if request.method == "POST" or "deed" in request.query_params:
            return await self.now.look(work)
        found, behind = await self.reads.dated(work)
        if behind is None:
            return found
        if found is None:
            return await self.now.look(work)
        request.scope["behind"] = max(behind, request.scope.get("behind", 0.0))
        return found

    def page(
        self, request: Request, template: str, data: Mapping[str, Any], *, status: int = 200, **more: Any
    ) -> Response:
        """A page, or its twin in JSON: `data` alone. What only the HTML shows is in `more`."""
        behind: float = request.scope.get("behind", 0.0)
        as_of = self.clock() - timedelta(seconds=behind) if behind > STANDBY_BEHIND_SECONDS else None
        if wants_json(request):
            twin = data if as_of is None else {**data, "as_of": as_of}
            return Response(msgspec.json.encode(twin), status, media_type="application/json")
        viewer: Viewer | None = request.scope["viewer"]
        query = f"?{request.url.query}" if request.url.query else ""
        path = request.url.path
        text = self._templates.get_template(template).render(
            {
                "viewer": viewer,
                "csrf": viewer.csrf if viewer else "",
                "navigation": NAVIGATION,
                "here": path,
                "self_url": path + query,
                "json_url": (f"{PREFIX}/overview" if path == f"{PREFIX}/" else path) + ".json" + query,
                "version": __version__,
                "notice": self._notice,
                "now": self.clock(),
                "as_of": as_of,
                "behind": behind,
                **data,
                **more,
            }
        )
        return Response(text, status, media_type="text/html")

    def trouble(self, request: Request, status: int, title: str, words: str) -> Response:
        """A page that says what went wrong and what can be done."""
        if wants_json(request):
            return Response(msgspec.json.encode({"error": words}), status, media_type="application/json")
        return self.page(request, "trouble.html", {}, status=status, title=title, words=words)

    async def chosen(self, request: Request) -> accounts.Account | None:
        """The account that a page is asked for (`?account=LOGIN`); None: the operator looks at all. Others have only
        themselves, whatever they ask for. Raises Missing, DatabaseLost."""
        viewer = viewer_of(request)
        login = request.query_params.get("account", "") if viewer.operator else viewer.login
        if not login:
            return None
        found = None if "\0" in login else await self.now.look(lambda tx: accounts.read(tx, login))
        if found is None:
            raise Missing
        return found


def pages(path: str, endpoint: Endpoint) -> list[Route]:
    """A page and its twin in JSON, by GET. `path` below /console, without a slash at its end."""
    return [Route(f"{path}.json", endpoint, methods=["GET"]), Route(path, endpoint, methods=["GET"])]


def action(path: str, endpoint: Endpoint) -> Route:
    """What a form does, by POST; the Gate has proven its token and the endpoint finds it with `form_of`."""
    return Route(path, endpoint, methods=["POST"])


def done(where: str) -> Response:
    """After a form: to a page that shows what it did, which may be loaded again without doing it again."""
    return RedirectResponse(where, 303)


def text_of(values: Mapping[str, str], name: str, most: int) -> str:
    """A field or parameter, trimmed and without what PostgreSQL cannot hold. Raises Invalid when it is too long."""
    text = values.get(name, "").strip()
    if len(text) > most or "\0" in text:
        raise Invalid(f"{name} is longer than {most} characters or holds what cannot be searched for.")
    return text
