"""Acting: what a form does, once, confirmed where it costs money or cannot be undone, and said afterwards.

A form is sent by POST with the session's token (the Gate proves it) and a token of its own that is good once
(flow/deeds). What it did is shown where it leads to (`?deed=`); a secret that it made only in the answer to the form.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from restante.core.errors import OperatorError
from restante.core.limits import CLOCK_TOLERANCE_SECONDS, DEED_PATIENCE_SECONDS
from restante.flow.deeds import Deed, Deeds, Form, FormUsed, Work
from restante.store.database import DatabaseLost
from restante.web.console.desk import Desk, Invalid, Missing, done
from restante.web.console.gate import CSRF, form_of, viewer_of, wants_json

log = logging.getLogger("restante.console")

ONCE: Final = "once"  # the field of a form's own token
SURE: Final = "sure"  # that it was confirmed
#: When the form was made, in seconds since 1970, and chance: a form older than what is remembered is not taken.
_TOKEN: Final = re.compile(r"([0-9]{1,12})-[A-Za-z0-9_-]{16,40}")
_NOT_ASKED: Final = (CSRF, ONCE, SURE, "quoted")


class Told(msgspec.Struct, frozen=True):
    """What a page says of the form that led to it: what was done, or that it still goes on."""

    said: str
    going_on: bool = False


class Acting:
    """One per process."""

    def __init__(self, desk: Desk, deeds: Deeds, *, patience: float = DEED_PATIENCE_SECONDS) -> None:
        self.desk = desk
        self._deeds = deeds
        self._patience = patience

    async def told(self, request: Request) -> Told | None:
        """What the form did that led here, if one did. Raises DatabaseLost."""
        token = request.query_params.get("deed", "")
        if not _TOKEN.fullmatch(token):
            return None
        viewer = viewer_of(request)
        deed = await self._deeds.find(viewer.account_id, token)
        if deed is not None:
            return Told(deed.said)
        if self._deeds.doing(viewer.account_id, token):
            return Told("This is being done. The page looks again every few seconds.", going_on=True)
        return None

    def unconfirmed(
        self,
        request: Request,
        title: str,
        words: str,
        button: str,
        *,
        back: str,
        facts: Mapping[str, str] | None = None,
    ) -> Response | None:
        """The page that asks whether it is meant; None: it was answered yes."""
        form = form_of(request)
        if form.get(SURE) == "yes":
            return None
        fields = {name: value for name, value in form.items() if name not in _NOT_ASKED}
        return self.desk.page(
            request,
            "confirm.html",
            {"confirm": words, "facts": dict(facts or {}), "fields": fields},
            title=title,
            button=button,
            back=back,
            where=request.url.path,
            json_url="",
        )

    async def act(
        self,
        request: Request,
        work: Work,
        *,
        where: str,
        shown: Callable[[Deed], Response] | None = None,
        patience: float | None = None,
    ) -> Response:
        """Do it once and go `where` it is said; `shown` makes the answer itself, where there is a secret to tell.
        What goes on beyond `patience` goes on without its page."""
        form = form_of(request)
        viewer = viewer_of(request)
        token = form.get(ONCE, "")
        made_at = _TOKEN.fullmatch(token)
        if made_at is None:
            raise Invalid("This form has no token of its own. Load the page again and repeat.")
        if not -CLOCK_TOLERANCE_SECONDS < self.desk.clock().timestamp() - int(made_at[1]) < self._deeds.seconds:
            raise Invalid("This form was open for too long. Load the page again and repeat.")
        try:
            task = await self._deeds.once(Form(viewer.account_id, token, _digest(request, form)), work)
            await asyncio.wait([task], timeout=self._patience if patience is None else patience)
            deed = task.result() if task.done() else None
        except FormUsed as used:
            words = f"This form was used before, for something else: {used.deed.said}. Nothing was done now."
            return self.desk.trouble(request, 409, "An old form", f"{words} Load its page again to repeat.")
        except OperatorError as error:
            words = f"{error.problem} {error.remedy}" if error.remedy else error.problem
            return self.desk.trouble(request, 400, "Nothing was done", words)
        except DatabaseLost as error:
            log.error("console: whether a form was carried out is not known: %s: %s", request.url.path, error)
            words = "The database was lost meanwhile, so that it is not known whether this was done."
            return self.desk.trouble(
                request, 503, "Perhaps", f"{words} Send the same form again, by reloading: it is not done twice."
            )
        if wants_json(request):
            body = {"said": deed.said, "link": deed.link} if deed else {"said": "going on", "link": where}
            return Response(msgspec.json.encode(body), media_type="application/json")
        if deed is not None and deed.secret is not None and shown is not None:
            return shown(deed)
        to = deed.link if deed is not None and deed.link else where
        return done(f"{to}{'&' if '?' in to else '?'}{urlencode({'deed': token})}")


def _digest(request: Request, form: Mapping[str, str]) -> bytes:
    fields = sorted((name, value) for name, value in form.items() if name not in _NOT_ASKED)
    return hashlib.blake2b(msgspec.json.encode([request.url.path, fields]), digest_size=32).digest()


def operator_only(request: Request) -> None:
    """Raises Missing for anybody else: what only the operator may do is not there for them."""
    if not viewer_of(request).operator:
        raise Missing


def whose(request: Request, number: int) -> int:
    """An account's number in a path, if the viewer may see it. Raises Missing."""
    viewer = viewer_of(request)
    if not viewer.operator and number != viewer.account_id:
        raise Missing
    return number


def place(path: str, **parameters: Any) -> str:
    """A link with those parameters that say something."""
    query = urlencode({name: value for name, value in parameters.items() if value not in (None, "")})
    return f"{path}?{query}" if query else path
