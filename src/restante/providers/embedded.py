"""The embedded provider: the demonstration model, so that everything can be tried without a key or a network.

It answers under every name it is given and says so (`model_name` is its own); it costs nothing. English only: what
135 million parameters say in other languages is broken text, and what they say in English is often made up.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import aiohttp
import msgspec

from restante.core.answer import Answer, Failure
from restante.core.errors import OperatorError
from restante.core.task import Model, Prompt
from restante.providers.model_server import Address, ModelServer
from restante.providers.openai_wire import Request, answer_of, conversation, read_completion, read_fault
from restante.providers.provider import Call
from restante.providers.registry import EMBEDDED_MODEL
from restante.providers.session import DIRECT, open_session

# Used only when a task brings no system message; its tokens count as input. Without any, the model's template puts in
# a line of its own. With this one answers are short, end by themselves and stay nearer the question (read by eye).
DEFAULT_SYSTEM_MESSAGE: Final = (
    "You are a helpful assistant. Answer the question in two or three short sentences of plain English. "
    "Stay on the topic of the question."
)

# Temperature and top_p are the client's. These three keep a model this small out of word salad (1.3 / 0.9, the
# contract's defaults, without min_p) and endless loops (temperature 0 without repeat_penalty).
_MIN_P: Final = 0.2
_TOP_K: Final = 40
_REPEAT_PENALTY: Final = 1.1

_ASKED_TWICE: Final = 2  # the server may have died with its owner: a call finds out, and asks its successor

_log = logging.getLogger(__name__)


class EmbeddedProvider:
    """SmolLM2-135M-Instruct on this machine's processor. Implements restante.providers.provider.Provider."""

    def __init__(self, models: tuple[Model, ...], server: ModelServer) -> None:
        """`models` are the names to answer under. `server` is started at the first call, and closed with this."""
        self.name = "embedded"
        self.concurrency = server.slots
        self._models = models
        self._server = server
        self._slots = asyncio.Semaphore(server.slots)
        self._session: aiohttp.ClientSession | None = None

    async def models(self) -> tuple[Model, ...]:
        """The names given to the constructor."""
        return self._models

    async def start(self) -> None:
        """Load the model now rather than at the first call (about a second). Raises OperatorError."""
        await self._server.address()

    async def generate(self, call: Call) -> Answer | Failure:
        """Ask the model. `call.seconds` count from when a slot is free; cancelling stops the generation.

        A prompt longer than the model's context is a lasting `Failure`: nothing is cut off silently.
        """
        async with self._slots:
            try:
                async with asyncio.timeout(call.seconds):
                    return await self._ask(msgspec.json.encode(_request(call.prompt)))
            except TimeoutError:
                self._server.doubt()  # it may hang rather than be slow
                return Failure(reason="timeout", transient=True)
            except OperatorError as error:
                _log.error("The embedded model cannot answer. %s", error)
                return Failure(reason="the embedded model does not start", transient=True)

    async def close(self) -> None:
        """Stop the model if this process runs it. Calls still in flight end with a Failure."""
        await self._server.close()
        if self._session is not None:
            await self._session.close()

    async def _ask(self, body: bytes) -> Answer | Failure:
        for _ in range(_ASKED_TWICE):
            address = await self._server.address()
            try:
                return await self._post(address, body)
            except (aiohttp.ClientError, _KeyRefused) as error:
                _log.warning("The embedded model's server is gone (%s): %s", type(error).__name__, address)
                self._server.doubt()
        return Failure(reason="the embedded model crashed", transient=True, costly=True)

    async def _post(self, address: Address, body: bytes) -> Answer | Failure:
        """One request. Raises aiohttp.ClientError or _KeyRefused when that server is not, or no longer, ours."""
        if self._session is None:
            # A connection each: the server drops idle ones, and a call that met such a one would look like a crash.
            # Never through a proxy: the port is on this machine, and the key is its owner's.
            self._session = open_session(DIRECT, reuse=False)
        headers = {**address.headers, "Content-Type": "application/json"}
        url = f"{address.url}/v1/chat/completions"
        async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            content = await response.read()
        match response.status:
            case 200:
                return _answer(content)
            case 401:
                raise _KeyRefused
            case status:
                return _failure(status, content)


class _KeyRefused(Exception):
    """The server does not know our key: another process listens where ours did."""


class _Request(Request):
    """The body of /v1/chat/completions, with the engine's own sampling parameters."""

    min_p: float = _MIN_P
    top_k: int = _TOP_K
    repeat_penalty: float = _REPEAT_PENALTY


def _request(prompt: Prompt) -> _Request:
    """What the engine is sent."""
    return _Request(
        model=EMBEDDED_MODEL,
        messages=conversation(prompt, prompt.system_message or DEFAULT_SYSTEM_MESSAGE),
        max_tokens=prompt.max_output_tokens,
        temperature=prompt.temperature,
        top_p=prompt.top_p,
    )


def _answer(content: bytes) -> Answer | Failure:
    """The engine's 200. Its token counts are exact and include the chat template."""
    completion = read_completion(content)
    if completion is None or completion.usage is None:
        return Failure(reason="the embedded model gave an unreadable answer", transient=True, costly=True)
    answer = answer_of(completion, EMBEDDED_MODEL)
    if isinstance(answer, Failure) or not answer.items:
        # Chance, by sampling; only so often.
        return Failure(reason="the embedded model gave an empty answer", transient=True, costly=True)
    return answer


def _failure(status: int, content: bytes) -> Failure:
    """The engine's refusal. Only the engine's own troubles (5xx) may pass; a request it refuses, it refuses again."""
    too_long = read_fault(content).too_long
    if too_long is not None:
        return Failure(reason=too_long)
    return Failure(reason=f"the embedded model answered HTTP {status}", transient=status >= 500)
