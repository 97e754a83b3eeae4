"""Any server that speaks OpenAI's /chat/completions: Ollama, vLLM, LM Studio, llama.cpp, OpenAI itself and others.

Which servers, which of their models, under which names and at what price: restante.providers.models_map. What goes
over the wire: openai_wire. The key travels in a header only, redirects are not followed (they would take it along),
and no message of ours shows it.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

import aiohttp
import msgspec
from yarl import URL

from restante.core.answer import Answer, Failure
from restante.core.errors import OperatorError
from restante.core.limits import KEY_PROBE_SECONDS
from restante.core.limits import PROVIDER_MODELS_CALL_SECONDS as MODELS_CALL_SECONDS
from restante.core.limits import PROVIDER_REPLY_BYTES as REPLY_BYTES
from restante.core.pricing import ListPrice
from restante.core.task import Model
from restante.providers.api_key import REJECTED, WITHDRAWN, project_of
from restante.providers.models_map import Server
from restante.providers.openai_wire import (
    UNREADABLE,
    Completion,
    Fault,
    answer_of,
    read_completion,
    read_fault,
    read_names,
    request,
)
from restante.providers.provider import Call
from restante.providers.session import DIRECT, Egress, open_session, read_bounded, retry_after_seconds

log = logging.getLogger("restante.openai")


class OpenAICompatibleProvider:
    """One server of the models map. Implements restante.providers.provider.Keyed: the key that it wants, or that it
    wants none, is its one project."""

    def __init__(self, server: Server, egress: Egress = DIRECT) -> None:
        self.name = server.name
        self.concurrency = server.concurrency
        self._server = server
        self._egress = egress.direct() if server.direct else egress.for_url(server.url)
        self._offers = {offer.served: offer for offer in server.offers}
        self._slots = asyncio.Semaphore(server.concurrency)  # live calls do not come through a claim
        self._session: aiohttp.ClientSession | None = None
        self._unserved: frozenset[str] = frozenset()  # names warned about
        self._key_refused = False  # so that the log says it once, and once when it is over

    async def models(self) -> tuple[Model, ...]:
        """The names mapped to this server, in the map's order, without those that it does not list.

        A server that is away, or lists nothing, is believed to serve what the operator said.
        """
        listed = await self._listed() if self._server.lists_models else None
        offers = [offer for offer in self._server.offers if listed is None or offer.served in listed]
        unserved = frozenset(offer.name for offer in self._server.offers if offer not in offers)
        for name in sorted(unserved - self._unserved):
            log.warning("model %r is not offered: server %s does not list it", name, self.name)
        self._unserved = unserved
        return tuple(
            Model(name=offer.name, served=offer.served, provider=self.name, reasoning=offer.reasoning)
            for offer in offers
        )

    async def generate(self, call: Call) -> Answer | Failure:
        """Ask the server. A task of a model that the map no longer has waits: nobody knows its price."""
        offer = self._offers.get(call.model)
        if offer is None:
            log.warning("a task waits for model %r, which server %s has no entry for", call.model, self.name)
            return Failure(reason="model not configured", transient=True, waits=True)
        body = msgspec.json.encode(request(call.model, call.prompt))
        try:
            async with asyncio.timeout(call.seconds), self._slots:
                outcome = await self._exchange("chat/completions", body)
        except TimeoutError:
            return Failure(reason="timeout", transient=True)
        if isinstance(outcome, Failure):
            return outcome
        completion = read_completion(outcome)
        if completion is None:
            log.warning("%s sent a reply of %d bytes that is no completion", self.name, len(outcome))
            return Failure(reason=UNREADABLE, transient=True, costly=True)
        answer = answer_of(completion, call.model)
        if isinstance(answer, Failure):
            return answer
        self._note_usage(completion)
        return msgspec.structs.replace(answer, money_spent=offer.price(answer.input_tokens, answer.output_tokens))

    def list_price(self, served: str) -> ListPrice | None:
        offer = self._offers.get(served)
        return None if offer is None else ListPrice(offer.price_input, offer.price_output)

    def projects(self) -> tuple[str, ...]:
        return (project_of(self._key() or ""),)

    async def probe(self, project: str) -> Failure | None:
        """A question with nothing in it: a server that takes the key finds it invalid, and bills nothing. Its list of
        models would say less, since many show that to everybody."""
        try:
            if self.projects() != (project,):
                return WITHDRAWN
            async with asyncio.timeout(KEY_PROBE_SECONDS):
                outcome = await self._exchange("chat/completions", b"{}")
        except OperatorError:
            return WITHDRAWN
        except TimeoutError:
            return Failure(reason="timeout", transient=True)
        if not isinstance(outcome, Failure):
            return None
        if outcome.doubts_key:  # a prompt that is none offends no filter: 403 is about the key too
            return REJECTED
        # "no credit" is said to a key that is known, "provider error" may be by a gateway that never looked at it.
        return outcome if outcome.transient and not outcome.waits else None

    def _key(self) -> str | None:
        """Raises OperatorError."""
        return None if self._server.key is None else self._server.key()

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _listed(self) -> frozenset[str] | None:
        """What the server says it serves; None when it does not say."""
        try:
            async with asyncio.timeout(MODELS_CALL_SECONDS):
                outcome = await self._exchange("models", None)
        except TimeoutError:
            return None
        names = None if isinstance(outcome, Failure) else read_names(outcome)
        if not names:
            return None
        return names | {name.removesuffix(":latest") for name in names}  # Ollama's default tag

    async def _exchange(self, path: str, body: bytes | None) -> bytes | Failure:
        """One request: the body of a 200, or what the failure means. Raises TimeoutError and CancelledError only."""
        try:
            key = self._key()
        except OperatorError as error:
            self._note_key(refused=True, detail=error.problem)
            return REJECTED
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        method, url = "GET" if body is None else "POST", URL(f"{self._server.url}/{path}", encoded=True)
        try:
            async with self._http().request(method, url, data=body, headers=headers, allow_redirects=False) as response:
                content = await read_bounded(response.content, REPLY_BYTES)
                if content is None:
                    return Failure(reason="reply too long")
                if response.status == 200:
                    self._note_key(refused=False)
                    return content
                fault = read_fault(content)
                wait = retry_after_seconds(response.headers.get("Retry-After", ""), datetime.now(UTC))
                failure = failure_of(response.status, fault, wait)
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            # The class alone: messages of aiohttp hold URLs.
            log.info("no answer from %s: %s", self.name, type(error).__name__)
            return Failure(reason="connection failed", transient=True)
        self._note_failure(failure, response.status, fault, key)
        return failure

    def _http(self) -> aiohttp.ClientSession:
        """Made at the first call, since it belongs to the running event loop."""
        if self._session is None:
            # Plain http takes a connection each. Small servers drop idle ones after seconds, and a live call that met
            # such a one would fail; and to a proxy aiohttp shows its credentials once a connection.
            self._session = open_session(self._egress, reuse=self._server.url.startswith("https:"))
        return self._session

    def _note_usage(self, completion: Completion) -> None:
        if completion.usage is None:
            log.error("%s answered without usage: the answer is charged nothing; let it report usage", self.name)

    def _note_failure(self, failure: Failure, status: int, fault: Fault, key: str | None) -> None:
        message = fault.message[:500] if key is None else fault.message.replace(key, "(key)")[:500]
        detail = f"HTTP {status} {fault.code}: {message!r}"
        if failure.waits:
            self._note_key(refused=True, detail=detail)
        elif not failure.transient:
            log.warning("%s refuses: %s", self.name, detail)

    def _note_key(self, *, refused: bool, detail: str = "") -> None:
        if refused and not self._key_refused:
            log.error("%s does not take the API key; tasks wait for a good one: %s", self.name, detail)
        elif self._key_refused and not refused:
            log.warning("%s takes the API key again", self.name)
        self._key_refused = refused


def failure_of(status: int, fault: Fault, wait: float | None) -> Failure:
    """What an HTTP status other than 200 means for the task; `wait` is what Retry-After said."""
    if fault.too_long is not None and 400 <= status < 500:
        return Failure(reason=fault.too_long)
    match status:
        case 401:
            return msgspec.structs.replace(REJECTED, retry_after=wait)
        case 402:  # a prepaid server's balance is empty: a top-up there mends it
            return Failure(reason="no credit", transient=True, retry_after=wait, waits=True)
        case 403:  # a key without the right, or a prompt that this server's filter refuses: tried again, not for ever
            return Failure(reason="refused", transient=True, retry_after=wait, costly=True, doubts_key=True)
        case 429:
            return Failure(reason="rate_limit_exceeded", transient=True, retry_after=wait, strain="quota")
        case 408 | 504:
            return Failure(reason="timeout", transient=True, retry_after=wait)
        case 503 | 529:
            return Failure(reason="overloaded", transient=True, retry_after=wait, strain="overloaded")
        case 407:  # the egress proxy's word, not the server's
            return Failure(reason="connection failed", transient=True, retry_after=wait)
        case 404:
            return Failure(reason="model not found")
        case 400 | 422:
            return Failure(reason="invalid argument")
        case _ if 400 <= status < 500:
            return Failure(reason=f"refused with HTTP {status}")
        case _ if status >= 500:
            return Failure(reason="provider error", transient=True, retry_after=wait)
        case _:  # a redirect or the page of a captive portal: something stands between the server and us
            return Failure(reason=f"unexpected HTTP {status}", transient=True, retry_after=wait)
