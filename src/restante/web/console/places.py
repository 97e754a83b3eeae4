"""Where a list goes on: the last row of a page, in a link. Whoever changes it reads another page of what is theirs."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Final, TypeVar

import msgspec

from restante.web.console.desk import Invalid

T = TypeVar("T")

UUID: Final = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

_CHARS: Final = 200
_YEARS: Final = range(2000, 2201)


def write(place: object) -> str:
    """A place as it stands in a link."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def read(text: str, kind: type[T]) -> T | None:
    """A place of this type; None: from the beginning. Raises Invalid for what is none."""
    if not text:
        return None
    try:
        if len(text) > _CHARS:
            raise ValueError(text)
        found = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=kind)
        for one in found if isinstance(found, tuple) else msgspec.structs.astuple(found):  # type: ignore[arg-type]
            if isinstance(one, datetime) and one.year not in _YEARS:
                raise ValueError(one)  # no number of PostgreSQL's, or none in UTC
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise Invalid("No list goes on from there. Go back to its first page.") from None
    return found
