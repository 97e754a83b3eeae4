"""Who is logged in to the console: a signed cookie, and nothing on the server.

The cookie names the login and when it ends, and is signed with a key made of the installation's pepper. It also holds a
keyed digest of the password's own digest: when the password is not good any more, neither is the session, at most
CREDENTIALS_SECONDS later. Logging out takes the cookie off the browser.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec

from restante.core.credentials import digest
from restante.core.limits import (
    AUTHORIZATION_BYTES,
    CONSOLE_SESSION_SECONDS,
    CREDENTIALS_CACHED,
    CREDENTIALS_SECONDS,
)
from restante.store import accounts
from restante.store.accounts import Credentials
from restante.store.database import Database
from restante.web.auth import Passwords

_MAC_BYTES: Final = 32


class Viewer(msgspec.Struct, frozen=True):
    """Who looks. The operator sees all accounts and does what an operator may; anybody else sees itself only. `csrf` is
    in every form of this session; `expires` in seconds since 1970."""

    account_id: int
    login: str
    operator: bool
    csrf: str
    expires: int

    def account(self, chosen: int | None = None) -> int | None:
        """Whose data a page may show: the operator's choice (None: everybody's), or the viewer's own whatever was
        asked for."""
        return chosen if self.operator else self.account_id


class _Claim(msgspec.Struct, frozen=True, array_like=True):
    """What a cookie says."""

    login: str
    expires: int
    nonce: str
    proof: str  # of the password


class Sessions:
    """Makes and reads the cookies of an installation."""

    def __init__(self, db: Database, passwords: Passwords, pepper: bytes, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._passwords = passwords
        self._pepper = pepper
        self._key = hashlib.blake2b(b"restante: console sessions", key=pepper, digest_size=32).digest()
        self._clock = clock
        self._operator: str | None = None
        self._known: dict[str, tuple[float, Credentials]] = {}  # by login, since when (monotonic)

    async def begin(self, login: str, password: str) -> str | None:
        """The cookie of a new session; None: the password is not the login's. Judged as the API judges it, by the same
        code, so that guessing is no cheaper here. Raises DatabaseLost."""
        try:
            header = "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()
        except UnicodeEncodeError:  # half a surrogate pair
            return None
        caller = None if ":" in login else await self._passwords.check(header)
        if caller is None:
            return None
        expires = int(self._clock().timestamp() + CONSOLE_SESSION_SECONDS)
        proof = self._proof(digest(password, self._pepper))
        return self._signed(_Claim(caller.login, expires, secrets.token_urlsafe(12), proof))

    async def viewer(self, cookie: str) -> Viewer | None:
        """Whose session a cookie is; None: nobody's, or it is over. Raises DatabaseLost."""
        claim = self._read(cookie)
        if claim is None or claim.expires <= self._clock().timestamp():
            return None
        found = await self._credentials(claim.login)
        proofs = [self._proof(one) for one in found.digests if one]
        if not found.account_id or not any(hmac.compare_digest(claim.proof, one) for one in proofs):
            return None
        operator = claim.login == await self._operators_login()
        return Viewer(found.account_id, claim.login, operator, self.token(claim.nonce), claim.expires)

    def token(self, nonce: str) -> str:
        """What a form proves that it is ours with: bound to a session, or to the nonce of a log-in form."""
        return hashlib.blake2b(f"form {nonce}".encode(), key=self._key, digest_size=24).hexdigest()

    def _proof(self, password_digest: bytes) -> str:
        return hashlib.blake2b(b"proof" + password_digest, key=self._key, digest_size=16).hexdigest()

    def _signed(self, claim: _Claim) -> str:
        text = msgspec.json.encode(claim)
        return base64.urlsafe_b64encode(self._mac(text) + text).decode().rstrip("=")

    def _read(self, cookie: str) -> _Claim | None:
        """Without a look at the database: what we did not sign costs nothing."""
        if len(cookie) > AUTHORIZATION_BYTES:
            return None
        try:
            signed = base64.b64decode(cookie + "=" * (-len(cookie) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        mac, text = signed[:_MAC_BYTES], signed[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(text)):
            return None
        return msgspec.json.decode(text, type=_Claim)

    def _mac(self, text: bytes) -> bytes:
        return hashlib.blake2b(b"session" + text, key=self._key, digest_size=_MAC_BYTES).digest()

    async def _credentials(self, login: str) -> Credentials:
        since, known = self._known.get(login, (0.0, None))
        now = time.monotonic()
        if known is not None and now - since < CREDENTIALS_SECONDS:
            return known
        found = (await self._db.again(lambda: accounts.credentials(self._db, [login])))[login]
        if len(self._known) >= CREDENTIALS_CACHED:
            self._known.clear()
        self._known[login] = (now, found)
        return found

    async def _operators_login(self) -> str | None:
        if self._operator is None:  # named once for ever, at the first start
            self._operator = await self._db.again(lambda: accounts.operator(self._db))
        return self._operator
