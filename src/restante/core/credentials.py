"""Passwords of the API: how they are kept and which are refused.

Generated ones carry 192 random bits, so a keyed hash in a microsecond is as safe as a slow one, and no stranger can
make us spend 95 ms of CPU by guessing (design, decision 10). Chosen ones must be long instead.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from restante.core.limits import LOGIN_CHARS, PASSWORD_CHARS_MIN, PASSWORD_DISTINCT_MIN

PEPPER_BYTES = 32
_NOBODYS = bytes(32)
GENERATED_BYTES = 24  # token_urlsafe(24): 192 bits, 32 characters


def digest(password: str, pepper: bytes) -> bytes:
    """What is stored of a password: BLAKE2b keyed with the installation's pepper."""
    return hashlib.blake2b(password.encode(), key=pepper, digest_size=32).digest()


def matches(password: str, pepper: bytes, stored: Iterable[bytes]) -> bool:
    """Whether it is any of the passwords that these digests are of. In constant time: each is compared, whichever is
    right, and an empty one, which no password has, like the others."""
    given = digest(password, pepper)
    right = [hmac.compare_digest(given, one or _NOBODYS) and bool(one) for one in stored]
    return any(right)


def login_fault(login: str) -> str | None:
    """Why a login cannot be used with HTTP Basic, or None."""
    if not login or len(login) > LOGIN_CHARS:
        return f"a login has 1 to {LOGIN_CHARS} characters"
    if ":" in login or not login.isprintable() or login != login.strip():
        return "a login has no colon, no control characters and no blank at its ends"
    return None


def password_fault(password: str) -> str | None:
    """Why a password that somebody chose is too weak, or None."""
    if len(password) < PASSWORD_CHARS_MIN:
        return f"a password has at least {PASSWORD_CHARS_MIN} characters"
    if len(set(password)) < PASSWORD_DISTINCT_MIN:
        return f"a password has at least {PASSWORD_DISTINCT_MIN} different characters"
    if "\0" in password:
        return "a password has no NUL"
    return None
