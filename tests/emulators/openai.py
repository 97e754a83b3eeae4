"""An OpenAI-compatible server that answers as a test tells it to: faults, odd replies, records of what it heard."""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

Reply = Callable[[], Awaitable[web.StreamResponse]]


def completion(content: str | None = "Hello.", finish: str = "stop", **others: Any) -> dict[str, Any]:
    """A reply of /chat/completions; `others` go into its message, `usage` beside it."""
    usage = others.pop("usage", {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17})
    message = {"role": "assistant", "content": content} | others
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": "some-model",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": usage,
    }


def reply(body: object, status: int = 200, **headers: str) -> Reply:
    """A reply that is `body` as JSON, or itself if it is bytes."""

    async def make() -> web.Response:
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return web.Response(body=content, status=status, headers=headers, content_type="application/json")

    return make


@dataclass
class OpenAIEmulator:
    """`async with OpenAIEmulator() as emulator:` serves at `emulator.url`. Replies in `script` come first."""

    key: str | None = None
    refuses: int = 401  # another key, with this status
    names: tuple[str, ...] | None = ("some-model",)  # None: no list of models
    tls: ssl.SSLContext | None = None
    script: deque[Reply] = field(default_factory=deque)
    heard: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)  # path, headers, body
    peers: list[object] = field(default_factory=list)  # whose connection each question came by
    port: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> OpenAIEmulator:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._list)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        self.peers.append(request.transport.get_extra_info("peername"))
        self.heard.append((request.path, dict(request.headers), msgspec.json.decode(await request.read())))
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            error = {"message": f"Incorrect API key: {request.headers.get('Authorization')}", "code": "invalid_api_key"}
            return await reply({"error": error}, self.refuses)()
        if not self.heard[-1][2].get("messages"):
            return await reply({"error": {"message": "'messages' is required", "code": 400}}, 400)()
        return await (self.script.popleft() if self.script else reply(completion()))()

    async def _list(self, request: web.Request) -> web.StreamResponse:
        self.heard.append((request.path, dict(request.headers), None))
        if self.names is None:
            return web.Response(status=404)
        rows = [{"id": name, "object": "model", "owned_by": "us"} for name in self.names]
        return await reply({"object": "list", "data": rows})()
