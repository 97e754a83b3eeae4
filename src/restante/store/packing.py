"""How JSON lies in the database: small texts as they are, larger ones compressed. The first byte tells which.

JSON of ours starts with { or [, a zlib stream with x. Level 1: higher ones cost more CPU than a whole accepted task
and save little on kilobytes of prose.
"""

from __future__ import annotations

import zlib
from typing import Final

_WORTH_IT_BYTES: Final = 1_024
_ZLIB_FIRST_BYTE: Final = 0x78


def pack(json: bytes) -> bytes:
    """JSON text (an object or array) as it is stored."""
    return json if len(json) < _WORTH_IT_BYTES else zlib.compress(json, 1)


def unpack(stored: bytes) -> bytes:
    """The JSON text that `pack` was given."""
    return zlib.decompress(stored) if stored[0] == _ZLIB_FIRST_BYTE else stored


def unpack_any(stored: bytes | None) -> bytes | None:
    """The same of a column that may be null."""
    return None if stored is None else unpack(stored)
