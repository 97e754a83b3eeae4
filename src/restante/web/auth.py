"""HTTP Basic on every call under /v3 (contract §1, §2.1), without a query: passwords are believed for three seconds."""

from __future__ import annotations

import base64
import binascii
import logging
import math
import time
from collections.abc import Sequence
from typing import Final

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from restante.core.allowance import UNLIMITED, Allowance
from restante.core.credentials import digest, matches
from restante.core.errors import InternalError
from restante.core.limits import AUTHORIZATION_BYTES, CREDENTIALS_CACHED, CREDENTIALS_SECONDS, LOGIN_CHARS
from restante.flow.group import Group
from restante.observing import current
from restante.observing.metrics import HTTP_TURNED_AWAY
from restante.observing.traces import TRACES
from restante.store import accounts
from restante.store.accounts import Credentials
from restante.store.database import Database
from restante.store.errors import DatabaseLost
from restante.web.room import Place, Room
from restante.web.wire import UNAUTHORIZED_BODY, refused_call

log = logging.getLogger("restante.auth")

_GUARDED: Final = ("/v3/", "/restante/")

_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="Rest Server"'}
_JSON_401: Final = Response(UNAUTHORIZED_BODY, 401, _CHALLENGE, media_type="application/json")
_JSON_500: Final = Response(refused_call(InternalError()), 500, media_type="application/json")
_JSON_503: Final = Response(refused_call(InternalError()), 503, {"Retry-After": "1"}, media_type="application/json")


class Caller(msgspec.Struct, frozen=True):
    """Who calls, and how much they may."""

    account_id: int
    login: str
    allowance: Allowance


_NEVER: Final = (-math.inf, None)


class Passwords:
    """Checks logins and passwords against the database. Only what was right is remembered, for a few seconds: whoever
    guesses waits for the database each time, whether the login exists, and whoever uses it, or not."""

    def __init__(self, db: Database, pepper: bytes, allowance: Allowance = UNLIMITED) -> None:
        self._db = db
        self._allowance = allowance
        self._pepper = pepper
        self._proven: dict[bytes, tuple[float, Caller]] = {}  # by a digest of the header, since when
        self._asked: Group[str, Credentials] = Group(self._look_up)

    async def check(self, header: str) -> Caller | None:
        """Who an Authorization header proves to be calling, or None. Raises DatabaseLost."""
        if len(header) > AUTHORIZATION_BYTES:
            return None
        key = digest(header, self._pepper)
        since, caller = self._proven.get(key, _NEVER)
        if time.monotonic() - since < CREDENTIALS_SECONDS:
            return caller
        proven = await self._prove(header)
        if proven is None:
            self._proven.pop(key, None)
            return None
        if len(self._proven) >= CREDENTIALS_CACHED:
            self._proven.clear()
        self._proven[key] = proven
        return proven[1]

    async def _prove(self, header: str) -> tuple[float, Caller] | None:
        """Since when its credentials are known, and who it is."""
        scheme, _, encoded = header.partition(" ")
        try:
            login, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
        if scheme.lower() != "basic" or not colon or "\0" in login or len(login) > LOGIN_CHARS:
            return None
        since = time.monotonic()
        found = await self._find(login)
        # An unknown login costs the same comparisons: no timing tells which logins exist.
        right = matches(password, self._pepper, found.digests)
        return (since, self._caller(found)) if right and found.account_id else None

    def _caller(self, found: Credentials) -> Caller:
        own = found.own_limits()
        allowance = self._allowance.with_own(own) if own else self._allowance
        return Caller(found.account_id, found.login, allowance)

    async def _find(self, login: str) -> Credentials:
        """Raises DatabaseLost."""
        return await self._asked.submit(login)

    async def _look_up(self, logins: Sequence[str]) -> list[Credentials]:
        """One statement for all that asked meanwhile: a flood of wrong passwords takes one connection of the pool."""
        wanted = set(logins)
        found = await self._db.again(lambda: accounts.credentials(self._db, wanted))
        return [found[login] for login in logins]


def _traceparent(scope: Scope) -> str | None:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"), None)


class Door:
    """Lets calls in: those with a right password, to which their account has room."""

    def __init__(self, passwords: Passwords, room: Room) -> None:
        self._passwords = passwords
        self._room = room

    async def admit(self, scope: Scope) -> Place | Response:
        """The call's place, to be left when it is answered, and `scope["account_id"]`, `scope["login"]`,
        `scope["allowance"]` and `scope["place"]` set; or why not: 401, 503 (its account has used up its room), 500."""
        header = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        try:
            caller = await self._passwords.check(header.decode("latin-1"))
        except DatabaseLost as error:
            HTTP_TURNED_AWAY.add(1, "database")
            log.error("%s: 50000, no password can be checked until the database is back: %s", scope["path"], error)
            return _JSON_500
        if caller is None:
            HTTP_TURNED_AWAY.add(1, "credentials")
            return _JSON_401
        place = self._room.enter(caller.account_id)
        if place is None:
            HTTP_TURNED_AWAY.add(1, "room")
            return _JSON_503
        scope["account_id"], scope["login"], scope["allowance"] = caller.account_id, caller.login, caller.allowance
        scope["place"] = place
        current.account.set(caller.account_id)
        if TRACES.recorder is not None:
            current.traceparent.set(_traceparent(scope))
        return place


class BasicAuth:
    """Pure ASGI: a call under /v3 goes through once the door has admitted it."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_GUARDED):
            await self._app(scope, receive, send)
            return
        admitted = await self._door.admit(scope)
        if isinstance(admitted, Response):
            await admitted(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            admitted.leave()
