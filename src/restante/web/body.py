"""Reading a request's body: bounded, and inflated where the client compressed it (contract §12.15, §12.17)."""

from __future__ import annotations

import zlib
from typing import Final

from starlette.requests import Request

from restante.core.errors import InternalError, InvalidBody, Refusal
from restante.core.limits import BODY_DRAIN_BYTES, GZIP_MEMBERS
from restante.web.room import Place

_GZIP: Final = 16 + zlib.MAX_WBITS


class _Inflation:
    """Inflates gzip members one after the other, never further than a limit: a small body may be a bomb."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._member = zlib.decompressobj(_GZIP)
        self._members = 1
        self.size = 0

    def feed(self, chunk: bytes) -> bytes:
        """The text that this chunk ends; at most one byte beyond the limit in all. Raises zlib.error."""
        inflated: list[bytes] = []
        while chunk and self.size <= self._limit:
            if self._member.eof:
                self._members += 1
                if self._members > GZIP_MEMBERS:
                    raise zlib.error("too many members")
                self._member = zlib.decompressobj(_GZIP)
            text = self._member.decompress(chunk, self._limit + 1 - self.size)
            inflated.append(text)
            self.size += len(text)
            chunk = self._member.unconsumed_tail or self._member.unused_data
        return b"".join(inflated)

    @property
    def complete(self) -> bool:
        """The last member came to its end."""
        return self._member.eof


async def read(request: Request, limit: int) -> bytes | Refusal:
    """The body as the client wrote it, or 40503: oversized (never a 413), no valid gzip, or an encoding we do not know;
    or 50000: this process has no room for it now (web/room.py).

    An oversized body is read on to BODY_DRAIN_BYTES, so that its client hears the answer instead of a reset.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    inflation = _Inflation(limit) if encoding in ("gzip", "x-gzip") else None
    refusal: Refusal | None = InvalidBody() if inflation is None and encoding not in ("", "identity") else None
    place: Place | None = request.scope.get("place")
    text = bytearray()
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > BODY_DRAIN_BYTES:
            return InvalidBody()  # whoever sends this much more does not listen; web/connections ends it
        if refusal is not None:
            continue
        try:
            text += chunk if inflation is None else inflation.feed(chunk)
        except zlib.error:
            refusal = InvalidBody()
        if len(text) > limit:
            refusal = InvalidBody()
        elif place is not None and not place.holds(len(text)):
            refusal = InternalError()
        if refusal is not None:
            text.clear()
    if refusal is None and inflation is not None and received and not inflation.complete:
        return InvalidBody()
    return refusal or bytes(text)
