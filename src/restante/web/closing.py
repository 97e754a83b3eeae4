"""How connections end when an API process stops, so that no request is lost on the way (docs/restart.md).

uvicorn closes idle connections at once. A client that is just sending its next request then gets a reset, and cannot
know whether its tasks were accepted. Here each connection's next answer says `Connection: close`, which tells the
client to go elsewhere; one on which nothing comes is closed when its keep-alive time is over, as on any other day.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
import sys
from typing import Final

from restante.web.fast_path import HttpProtocol

_SO_ATTACH_FILTER: Final = 26  # <asm-generic/socket.h>
# Classic BPF over the TCP header: drop what has SYN among its flags (byte 13), let the rest pass.
_NO_SYN: Final = (
    (0x30, 0, 0, 13),  # load byte 13
    (0x45, 0, 1, 0x02),  # SYN?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFF_FFFF),  # pass
)


class ClosingProtocol(HttpProtocol):
    """uvicorn's protocol, closing as this module says. The server's `FastPath` knows that it stops (`closing`)."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._closing:  # accepted in the last moment
            self._wait_for_a_request()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self._closing and self.cycle is not None:
            self.cycle.keep_alive = False  # read when the answer is written, which is later

    def shutdown(self) -> None:
        """uvicorn calls it once, when it has stopped listening."""
        if self.cycle is None or self.cycle.response_complete:
            if self.timeout_keep_alive_task is None:
                self._wait_for_a_request()
        elif not self.cycle.response_started:
            self.cycle.keep_alive = False
        # else its answer has said that the connection goes on: the next one will say that it does not

    @property
    def _closing(self) -> bool:
        return bool(getattr(self.config.loaded_app, "closing", False))

    def _wait_for_a_request(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)


def refuse_newcomers(listening: socket.socket) -> bool:
    """Have the kernel overlook new connections to a socket that is about to be closed, so that those it has made
    already can be accepted before. Their clients ask again after a second, and are then refused or find the next
    process. Not for a socket that others listen on too. False where the system cannot (only Linux can)."""
    if sys.platform != "linux":
        return False
    program = b"".join(struct.pack("HBBI", *instruction) for instruction in _NO_SYN)
    buffer = ctypes.create_string_buffer(program)
    try:
        listening.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_NO_SYN), ctypes.addressof(buffer))
        )
    except OSError:
        return False
    return True
