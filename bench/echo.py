"""A model server that says the same to everybody at once: OpenAI's /chat/completions as cheap as Python can.

`python -m bench.echo` prints its port. A call of the model `throttled` is refused with 429 and told to wait.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import msgspec
import uvloop

MODEL = "echo"
THROTTLED = "throttled"
RETRY_SECONDS = 2

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


def _response(status: str, value: object, more: str = "") -> bytes:
    body = msgspec.json.encode(value)
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


_ANSWER = _response(
    "200 OK",
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Five brands come to mind: " + "harbour " * 24},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 16, "completion_tokens": 40, "total_tokens": 56},
    },
)
_MODELS = _response(
    "200 OK", {"object": "list", "data": [{"id": one, "object": "model"} for one in (MODEL, THROTTLED)]}
)
_WAIT = _response(
    "429 Too Many Requests",
    {"error": {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}},
    f"Retry-After: {RETRY_SECONDS}\r\n",
)


def models_map(port: int, model: str, concurrency: int) -> bytes:
    """What RESTANTE_MODELS says of a model of the server at `port`."""
    server = f'[servers.echo]\nurl = "http://127.0.0.1:{port}/v1"\nconcurrency = {concurrency}\n'
    return f'{server}[models.{model}]\nserver = "echo"\n'.encode()


class _Server(asyncio.Protocol):
    def __init__(self) -> None:
        self._received = bytearray()
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        end = received.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        length = _LENGTH.search(received, 0, end)
        if len(received) < end + (int(length[1]) if length else 0):
            return
        if received.startswith(b"GET"):
            self._transport.write(_MODELS)
        else:
            self._transport.write(_WAIT if b'"' + THROTTLED.encode() + b'"' in received else _ANSWER)
        if _CLOSE.search(received, 0, end):
            self._transport.close()
        received.clear()


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Server, "127.0.0.1", 0, backlog=1_024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
