"""Where a webhook goes: `$id` and `$tag` replaced, what a URL cannot hold encoded (contract §4, §12.18)."""

from __future__ import annotations

import contextlib
import re
from typing import Final
from urllib.parse import quote, urlsplit

from restante.core.errors import OperatorError

_VARIABLE: Final = re.compile(r"\$(id|tag)")
_BARE_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SAFE: Final = "!$%&'()*+,-./:;=?@[]_~"  # what has a meaning in a URL stays, escapes that are there already too
_PORTS: Final = {"http": 80, "https": 443}


def target(url: str, task_id: str, tag: str | None) -> tuple[str, str]:
    """The `host:port` and the URL that a judged webhook URL means for one task. Never raises: what cannot be called
    fails when it is called, where the failure is recorded.

    Replaced anywhere in the URL, in one go, so that a tag that says $id stays what it is. `#` starts no fragment: a
    server would never see one.
    """
    values = {"id": task_id, "tag": quote(tag or "", safe="")}
    scheme, _, rest = _VARIABLE.sub(lambda found: values[found[1]], url).partition("://")
    end = next((position for position, char in enumerate(rest) if char in "/?#"), len(rest))
    authority, path = rest[:end], rest[end:]
    if not path.startswith("/"):
        path = "/" + path
    path = quote(_BARE_PERCENT.sub("%25", path), safe=_SAFE)
    made = f"{scheme.lower()}://{_ascii(authority).lower()}{path}"
    return _host(made), made


def check_proxy(url: str | None) -> None:
    """Raises OperatorError for what is no URL of a proxy, without showing it: it may hold a password."""
    try:
        parts = urlsplit("http://none" if url is None else url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known:
        raise OperatorError(
            "RESTANTE_WEBHOOK_PROXY cannot be used: it is no proxy's URL.", "It is such as http://proxy.example:3128."
        )


def _ascii(authority: str) -> str:
    """A host in letters that DNS knows, where it has such."""
    if authority.isascii():
        return authority
    host, colon, port = authority.partition(":")
    with contextlib.suppress(UnicodeError):
        host = ascii_host(host)
    return quote(host + colon + port, safe=_SAFE)  # what DNS has no letters for, and the zone of an address


def ascii_host(host: str) -> str:
    """A host as it is looked up: full-width digits become digits, other letters what DNS has for them. Raises
    UnicodeError where it has nothing."""
    return host if host.isascii() else host.encode("idna").decode()


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    return f"{parts.hostname or ''}:{port or _PORTS.get(parts.scheme, 0)}"
