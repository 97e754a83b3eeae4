"""Connections: how long one may take over a request, how much it may send before it means something, how many there
may be at once.

uvicorn waits for headers, bodies and readers as long as they like, and takes headers of any size. Here each wait has
an end, and all connections of a process share one look a second, so that a call costs a few dictionary operations
more and no timer. Contract §12.15 has what an honest but large call may send; the bounds are in core/limits.py.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from collections import Counter, OrderedDict
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from restante.core.errors import InternalError
from restante.core.limits import (
    HTTP_BODY_SILENT_SECONDS,
    HTTP_CONNECTIONS,
    HTTP_FILES_RESERVED,
    HTTP_HEADER_BYTES,
    HTTP_HEADER_SECONDS,
    HTTP_HEADERS,
    HTTP_LINGER_SECONDS,
    HTTP_LINGERING,
    HTTP_LOOK_SECONDS,
    HTTP_NOTE_SECONDS,
    HTTP_PIPELINED,
    HTTP_REQUEST_SECONDS,
    HTTP_UNREAD_BYTES,
    HTTP_UNREAD_SECONDS,
)
from restante.web.wire import refused_call

log = logging.getLogger("restante.api")

_FULL: Final = refused_call(InternalError())
_HOP_BY_HOP: Final = frozenset({b"connection", b"upgrade", b"http2-settings"})
_NEWLINES: Final = (b"\r", b"\n")


class Connections:
    """All connections of a process. Those without a call at work are in the order in which they began to wait: beyond
    `most` the one that has waited longest makes room, so that idle connections never keep a call out. Where none waits,
    one whose client does not take its answer does: calls that need no password have large answers too."""

    def __init__(
        self,
        *,
        most: int = HTTP_CONNECTIONS,
        header_seconds: float = HTTP_HEADER_SECONDS,
        request_seconds: float = HTTP_REQUEST_SECONDS,
        silent_seconds: float = HTTP_BODY_SILENT_SECONDS,
        unread_seconds: float = HTTP_UNREAD_SECONDS,
        look_seconds: float = HTTP_LOOK_SECONDS,
    ) -> None:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        room = most if files == resource.RLIM_INFINITY else min(most, files - HTTP_FILES_RESERVED)
        self.most = max(1, room)
        self.request_seconds = request_seconds
        self.silent_seconds = silent_seconds
        self.unread_seconds = unread_seconds
        self._header_seconds = header_seconds
        self._look_seconds = look_seconds
        self._all: set[Guarded] = set()
        self._waiting: OrderedDict[Guarded, float] = OrderedDict()
        self._behind: OrderedDict[Guarded, float] = OrderedDict()  # clients that do not keep up with their answers
        self._turned_away: Counter[str] = Counter()
        self._lingering = 0

    def admit(self, connection: Guarded) -> bool:
        """A new connection; False: there is no room, and none that waits."""
        if len(self._all) >= self.most:
            oldest = next(iter(self._waiting or self._behind), None)
            if oldest is None:
                return False
            self.gone(oldest)
            self.note("made room for others")
            oldest.transport.abort()
        self._all.add(connection)
        self._waiting[connection] = time.monotonic()
        return True

    def waits(self, connection: Guarded) -> None:
        """It has no call at work: its next one's headers have their time from now on."""
        if connection in self._all:
            self._waiting[connection] = time.monotonic()

    def works(self, connection: Guarded) -> None:
        """A call's headers are complete."""
        self._waiting.pop(connection, None)

    def gone(self, connection: Guarded) -> None:
        self._all.discard(connection)
        self._waiting.pop(connection, None)
        self._behind.pop(connection, None)

    def reads(self, connection: Guarded, since: float | None) -> None:
        """Its client takes its answers as they come; or has fallen behind, `since` then."""
        if since is None:
            self._behind.pop(connection, None)
        elif connection in self._all:
            self._behind.setdefault(connection, since)

    def note(self, why: str) -> None:
        """One was turned away; the log has a line a minute, however many there are."""
        self._turned_away[why] += 1

    def linger(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """Close in a moment: at once, what the client is still sending would make it lose the answer."""
        if self._lingering >= HTTP_LINGERING:
            transport.close()
            return
        self._lingering += 1

        def close() -> None:
            self._lingering -= 1
            transport.abort()

        loop.call_later(HTTP_LINGER_SECONDS, close)

    async def keep(self) -> None:
        """Look after them, for ever."""
        noted = looked = time.monotonic()
        while True:
            await asyncio.sleep(self._look_seconds)
            now = time.monotonic()
            late, looked = now - looked > 2 * self._look_seconds, now
            if late:  # it was us who did not listen: what came meanwhile is read first
                continue
            self._look(now)
            if now - noted >= HTTP_NOTE_SECONDS and self._turned_away:
                noted = now
                said = ", ".join(f"{count:,} {why}" for why, count in sorted(self._turned_away.items()))
                self._turned_away.clear()
                log.warning("connections turned away: %s", said)

    def _look(self, now: float) -> None:
        while self._waiting:
            connection, since = next(iter(self._waiting.items()))
            if now - since < self._header_seconds:
                break
            del self._waiting[connection]
            connection.tardy()
        for connection in list(self._all):
            try:
                connection.look(now)
            except Exception:  # a mistake of ours about one must not leave all the others without their bounds
                log.exception("a connection could not be looked after; it is cut off")
                connection.transport.abort()


class Guarded(HttpToolsProtocol):
    """One connection: uvicorn's, with bounds."""

    def __init__(self, connections: Connections, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._guard = connections
        self._over = False  # nothing more is read
        self._head_bytes = 0  # of a head that is not complete
        self._in_body = False  # between a head and the end of its message
        self._fault = 400  # what is wrong with a head that is refused while it is read
        self._silent = 0  # bytes within a body that were none of it: the framing of chunks, trailers
        self._received = 0
        self._progress = (0, 0.0)  # bytes received, and since when no more
        self._began = 0.0  # the call at work, or the newest of them
        self._unread = (0, 0.0)  # bytes of an answer that the client did not take yet, and when

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if not self._guard.admit(self):
            self._guard.note("beyond the connections of this process")
            self._refuse(503)

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        self._guard.gone(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self._unset_keepalive_if_required()
        self._received += len(data)
        if self._in_body:
            self._silent += len(data)
        else:
            self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._malformed()
        else:
            if self._head_bytes > HTTP_HEADER_BYTES:
                self._fault = 431
                self._malformed()
            elif self._in_body and self._silent > HTTP_HEADER_BYTES:
                self._malformed()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._fault = 400

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_body:  # a trailer is no header: what stands before us did not look at it
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # feed_data says so to data_received
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            self._fault = 505
            raise httptools.HttpParserError("another version")
        if len(self.headers) > HTTP_HEADERS:
            self._fault = 431
            raise httptools.HttpParserError("too many headers")
        if len(self.pipeline) >= HTTP_PIPELINED:
            raise httptools.HttpParserError("too many calls at once")
        super().on_headers_complete()
        self._head_bytes = self._silent = 0
        self._in_body = True
        self._began = time.monotonic()
        self._guard.works(self)

    def on_body(self, body: bytes) -> None:
        self._silent = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._in_body:
            return  # of an upgrade
        self._in_body = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and not self.pipeline:
            self._guard.waits(self)

    def tardy(self) -> None:
        """The headers of a call did not come in their time."""
        self._guard.note("too slow with their headers" if self._head_bytes else "idle")
        if self._head_bytes:
            self._refuse(408)
        else:
            self.transport.close()

    def look(self, now: float) -> None:
        """Cut off a client that does not send its body, or does not read its answer."""
        if self._over:
            return
        unread = self.transport.get_write_buffer_size()
        before, since = self._unread
        if not unread or not since or before - unread >= HTTP_UNREAD_BYTES:
            self._unread = (unread, now if unread else 0.0)
            self._guard.reads(self, None)
        elif now - since >= self._guard.unread_seconds:
            self._guard.note("too slow to read an answer")
            self.transport.abort()
            return
        else:
            self._guard.reads(self, since)
        if self.cycle is None or self.cycle.response_complete or not self.cycle.more_body or self.flow.read_paused:
            self._progress = (self._received, now)
            return
        if self._received != self._progress[0]:
            self._progress = (self._received, now)
        silent = now - self._progress[1] >= self._guard.silent_seconds
        if silent or now - self._began >= self._guard.request_seconds:
            self._guard.note("too slow with a body")
            self._cut(408)

    def _malformed(self) -> None:
        """What came is no HTTP, or too much of it. Calls that came whole are answered, then the connection ends."""
        self._guard.note("malformed")
        if self.cycle is not None and not self.cycle.response_complete and not self._in_body:
            self.cycle.keep_alive = False  # the last of those that came
            self._over = True
            return
        self._cut(self._fault)

    def _cut(self, status: int) -> None:
        """An end in the middle of a call: it will not be answered but by this."""
        started = False
        if self.cycle is not None and not self.cycle.response_complete:
            started = self.cycle.response_started or bool(self.pipeline)
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if started:  # the middle of an answer, or calls before this one: there is no place for a word
            self._over = True
            self.transport.abort()
            return
        self._refuse(status)

    def _refuse(self, status: int) -> None:
        """The last word on this connection."""
        self._over = True
        self._guard.works(self)
        kind, body, more = b"text/plain", STATUS_LINE[status][9:-2], b""
        if status == 503:
            kind, body, more = b"application/json", _FULL, b"retry-after: 1\r\n"
        head = b"%bcontent-type: %b\r\ncontent-length: %d\r\n%bconnection: close\r\n\r\n"
        self.transport.write(head % (STATUS_LINE[status], kind, len(body), more) + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._guard.linger(self.transport, self.loop)

    def _stay(self, rest: bytes) -> None:
        """An upgrade that nobody here offers is taken for the plain call that it is too (RFC 9110 §7.8): Java's client
        asks for h2c whenever it connects. The call is read anew without it, its body too, which stayed unread."""
        method = self.parser.get_method()
        if method == b"CONNECT" or any(newline in value for _, value in self.headers for newline in _NEWLINES):
            self._malformed()
            return
        tokens = [
            part.strip().lower() for name, value in self.headers if name == b"connection" for part in value.split(b",")
        ]
        head = [method, b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            if name not in _HOP_BY_HOP:
                head += (name, b": ", value, b"\r\n")
        if b"close" in tokens:
            head.append(b"connection: close\r\n")
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._head_bytes = 0
        self.data_received(b"".join([*head, b"\r\n", rest]))
