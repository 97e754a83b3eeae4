"""Google's Gemini over its REST API, a thin adapter: one shared session, typed structs, faults as values.

What goes over the wire: gemini_wire. What an answer says: gemini_answer. Errors: gemini_faults. Which models, and what
they can do: gemini_models, gemini_traits. What it costs: gemini_price, price_list. When a call may be made and with
which project's key is not decided here: restante.flow.pacing.
The key travels in a header only, redirects are not followed (they would take it along), and no message of ours
shows it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec
from yarl import URL

from restante.core.answer import Answer, Failure
from restante.core.errors import OperatorError
from restante.core.limits import DIRECT_URL_MARGIN_SECONDS, DIRECT_URL_SECONDS, GEMINI_CONCURRENCY, KEY_PROBE_SECONDS
from restante.core.limits import GEMINI_MODELS_CALL_SECONDS as MODELS_CALL_SECONDS
from restante.core.limits import GEMINI_MODELS_PAGES as MODELS_PAGES
from restante.core.limits import GEMINI_MODELS_RETRY_SECONDS as MODELS_RETRY_SECONDS
from restante.core.limits import GEMINI_MODELS_SECONDS as MODELS_SECONDS
from restante.core.limits import GEMINI_REPLY_BYTES as REPLY_BYTES
from restante.core.money import Nano
from restante.core.pacing import Quota
from restante.core.pricing import ListPrice
from restante.core.task import Model
from restante.providers.api_key import KEY_REJECTED, REJECTED, WITHDRAWN, project_of, split_keys
from restante.providers.gemini_answer import answer_of, billed_searches, cited_urls, with_direct_urls
from restante.providers.gemini_faults import Fault, fault_of
from restante.providers.gemini_models import text_models
from restante.providers.gemini_price import list_price, price
from restante.providers.gemini_wire import (
    MALFORMED,
    ListedModel,
    Reply,
    read_models,
    read_reply,
    request_body,
)
from restante.providers.price_list import NONE, PriceList
from restante.providers.provider import Call
from restante.providers.session import DIRECT, Egress, open_session, read_bounded

#: Where URLs lead, asked within so many seconds; None where that is not known (restante.webhooks.redirects).
Resolve = Callable[[Sequence[str], float], Awaitable[dict[str, str | None]]]

T = TypeVar("T")

log = logging.getLogger("restante.gemini")


# Google's messages may quote a key ("Consumer 'api_key:AIza...' has been suspended").
_KEYS: Final = re.compile(r"AIza[0-9A-Za-z_-]{10,}|AQ\.[0-9A-Za-z_-]{10,}")


class GeminiProvider:
    """`api_key` is asked before every call (restante.providers.api_key) and gives one key, or several between commas or
    white space, each of a project of its own. `base_url` has no path of its own. `prices` go before the tables;
    `resolve` finds each citation's `direct_url`, which is null without it. `calls` and `tokens` are the quotas of a
    minute, {model or "*": number}, as far as the operator names them.

    Raises OperatorError when `base_url` is no http or https URL.
    """

    name = "gemini"
    concurrency = GEMINI_CONCURRENCY

    def __init__(
        self,
        api_key: Callable[[], str],
        base_url: str = "https://generativelanguage.googleapis.com",
        *,
        prices: PriceList = NONE,
        resolve: Resolve | None = None,
        close: Callable[[], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.monotonic,
        egress: Egress = DIRECT,
        calls: Mapping[str, int] | None = None,
        tokens: Mapping[str, int] | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise OperatorError("The base URL of Gemini is no http or https URL.", "Leave it unset for Google's own.")
        self._api_key = api_key
        self.base_url = base_url.rstrip("/")
        self._base = f"{self.base_url}/v1beta/models"
        self._prices = prices
        self._resolve = resolve
        self._close_resolver = close
        self._clock = clock
        self._egress = egress.for_url(base_url)
        self._calls, self._tokens = calls or {}, tokens or {}
        self._session: aiohttp.ClientSession | None = None
        self._listed: tuple[Model, ...] = ()
        self._ask_again_at = 0.0
        self._listing = asyncio.Lock()
        self._refused: set[str] = set()  # projects, so that the log says it once, and once when it is over

    async def generate(self, call: Call) -> Answer | Failure:
        began = self._clock()
        url = f"{self._base}/{quote(call.model, safe='')}:generateContent"
        key = self.key(call.project)
        if isinstance(key, Failure):
            return key
        outcome = await self._exchange("POST", url, request_body(call.prompt, call.model), call.seconds, key)
        if isinstance(outcome, Failure):
            return outcome
        said = _costly(read_answer(outcome, call, self._prices))
        # Of what is left of the call's time, less what settling needs: the answer is paid for.
        left = call.seconds - (self._clock() - began) - DIRECT_URL_MARGIN_SECONDS
        return await self._cited(said, min(DIRECT_URL_SECONDS, left))

    async def _cited(self, said: Answer | Failure, seconds: float) -> Answer | Failure:
        """The answer with the direct URLs of what it cites, as far as they can be had in this time."""
        if isinstance(said, Answer) and self._resolve is not None and (urls := cited_urls(said)):
            return with_direct_urls(said, await self._resolve(urls, max(0.0, seconds)))
        return said

    async def batch_answer(self, call: Call, body: bytes) -> tuple[Answer | Failure, Nano]:
        """What a reply in a batch says, and what a direct call would have cost more."""
        said = read_answer(body, call, self._prices, batch=True)
        direct = read_answer(body, call, self._prices)
        if isinstance(said, Failure) or isinstance(direct, Failure):
            return said, Nano(0)
        return await self._cited(said, call.seconds), Nano(max(0, direct.money_spent - said.money_spent))

    def projects(self) -> tuple[str, ...]:
        return tuple(self._keys())

    def quota(self, model: str) -> Quota:
        calls = self._calls.get(model, self._calls.get("*"))
        tokens = self._tokens.get(model, self._tokens.get("*"))
        return Quota(calls, tokens)

    async def probe(self, project: str) -> Failure | None:
        key = self.key(project)
        if isinstance(key, Failure):
            return key
        outcome = await self._exchange("GET", f"{self._base}?pageSize=1", None, KEY_PROBE_SECONDS, key)
        return outcome if isinstance(outcome, Failure) else None

    def _keys(self) -> dict[str, str]:
        """The keys as they are now, by their projects. Raises OperatorError."""
        return {project_of(key): key for key in split_keys(self._api_key())}

    def key(self, project: str) -> str | Failure:
        """A project's key; without one, the first that was not refused."""
        try:
            keys = self._keys()
        except OperatorError as error:
            self._note_key("", refused=True, detail=error.problem)
            return REJECTED
        self._note_key("", refused=False)
        self._refused &= keys.keys()  # a key that was taken away is forgotten
        if project:
            return keys.get(project, WITHDRAWN)
        return keys[min(keys, key=lambda one: one in self._refused)]

    async def models(self) -> tuple[Model, ...]:
        """Google's text models, newest first, as of the last hour; the last good list while Google is away."""
        async with self._listing:  # one question for all who wait
            if self._listed and self._clock() < self._ask_again_at:
                return self._listed
            try:
                self._listed = await self._ask_models()
            except OperatorError as error:
                if not self._listed:
                    raise
                log.warning("the list of models stays as it was: %s", error.problem)
                self._ask_again_at = self._clock() + MODELS_RETRY_SECONDS
            else:
                self._ask_again_at = self._clock() + MODELS_SECONDS
            return self._listed

    def list_price(self, served: str) -> ListPrice | None:
        return list_price(served, self._prices)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        if self._close_resolver is not None:
            await self._close_resolver()

    async def _ask_models(self) -> tuple[Model, ...]:
        deadline = self._clock() + MODELS_CALL_SECONDS
        rows: list[ListedModel] = []
        token = ""
        for _ in range(MODELS_PAGES):
            url = f"{self._base}?pageSize=1000" + (f"&pageToken={quote(token, safe='')}" if token else "")
            key = self.key("")
            if isinstance(key, Failure):
                raise _no_list(key.reason)
            outcome = await self._exchange("GET", url, None, max(0.1, deadline - self._clock()), key)
            if isinstance(outcome, Failure):
                raise _no_list(outcome.reason)
            page = read_models(outcome)
            if page is None:
                raise _no_list(MALFORMED.reason)
            rows += page.models
            token = page.next_page_token
            if not token:
                break
        else:
            log.warning("Google lists more than %d pages of models; those beyond are unknown here", MODELS_PAGES)
        models = text_models(rows)
        if not models:
            raise _no_list("no text model is listed")
        return models

    async def _exchange(self, method: str, url: str, body: bytes | None, seconds: float, key: str) -> bytes | Failure:
        """One request: the body of a 200, or what the failure means. Raises nothing but CancelledError."""
        return await self.exchange(method, url, body, seconds, key, {}, whole)

    async def exchange(
        self,
        method: str,
        url: str,
        body: bytes | None,
        seconds: float,
        key: str,
        headers: Mapping[str, str],
        read: Callable[[aiohttp.ClientResponse], Awaitable[T | Failure]],
        *,
        owned: bool = False,
    ) -> T | Failure:
        """One request: what `read` makes of a 200, or what the failure means. Raises nothing but CancelledError.
        `owned`: it is about a thing that may be another project's; a refusal says nothing of the key then."""
        sent = {"x-goog-api-key": key} | ({} if body is None else {"Content-Type": "application/json"}) | dict(headers)
        try:
            async with (
                asyncio.timeout(seconds),
                self._http().request(
                    method, URL(url, encoded=True), data=body, headers=sent, allow_redirects=False
                ) as response,
            ):
                if response.status == 200:
                    self._note_key(project_of(key), refused=False)
                    return await read(response)
                content = await whole(response)
                if isinstance(content, Failure):
                    return content
                waiting = response.headers.get("Retry-After", "")
                fault = fault_of(response.status, waiting, content, datetime.now(UTC))
        except TimeoutError:
            return Failure(reason="timeout", transient=True)
        except (aiohttp.ClientError, OSError) as error:
            # The class alone: messages of aiohttp hold URLs, and clients read the reason.
            log.info("no answer from Gemini: %s", type(error).__name__)
            return Failure(reason="connection failed", transient=True)
        if not owned:
            self._note_fault(fault, key)
        return fault.failure

    def _http(self) -> aiohttp.ClientSession:
        """Made at the first call, since it belongs to the running event loop."""
        if self._session is None:
            self._session = open_session(self._egress)
        return self._session

    def _note_fault(self, fault: Fault, key: str) -> None:
        detail = _KEYS.sub("(key)", fault.detail.replace(key, "(key)"))
        if fault.failure.reason == KEY_REJECTED:
            self._note_key(project_of(key), refused=True, detail=detail)
        elif not fault.failure.transient:
            log.warning("Gemini refuses: %s", detail)

    def _note_key(self, project: str, *, refused: bool, detail: str = "") -> None:
        if refused and project not in self._refused:
            log.error(
                "Gemini does not take the API key of project %s; others go on, and a good one in GEMINI_API_KEY_FILE"
                " needs no restart: %s", project or "(none)", detail,
            )  # fmt: skip
            self._refused.add(project)
        elif project in self._refused and not refused:
            log.warning("Gemini takes the API key of project %s again", project or "(none)")
            self._refused.discard(project)


async def whole(response: aiohttp.ClientResponse) -> bytes | Failure:
    """The whole body, unless it is longer than REPLY_BYTES."""
    content = await read_bounded(response.content, REPLY_BYTES)
    return Failure(reason="reply too long") if content is None else content


def read_answer(body: bytes, call: Call, prices: PriceList = NONE, *, batch: bool = False) -> Answer | Failure:
    """What a reply of generateContent says, its price and the reply itself included. `batch`: at batch prices."""
    reply = read_reply(body)
    if reply is None:
        log.warning("%r sent a reply of %d bytes that is no answer", call.model, len(body))
        return MALFORMED
    answer = answer_of(reply, call.model, web_search=call.prompt.web_search)
    if isinstance(answer, Failure):
        return answer
    return msgspec.structs.replace(_priced(answer, reply, call.model, prices, batch=batch), raw=body)


def _priced(answer: Answer, reply: Reply, asked: str, prices: PriceList, *, batch: bool) -> Answer:
    usage = reply.usage_metadata
    if usage is None:
        log.error("%r answered without its usage: the answer is charged nothing", asked)
        return answer
    found = price(
        answer.model_name,
        asked,
        input_tokens=usage.input_tokens,
        cached_tokens=min(usage.cached_content_token_count, usage.input_tokens),
        output_tokens=usage.output_tokens,
        queries=answer.fan_out_queries or (),
        billed_searches=billed_searches(usage),
        batch=batch,
        own=prices,
    )
    return msgspec.structs.replace(answer, money_spent=found.nano, price_date=found.as_of)


def _costly(outcome: Answer | Failure) -> Answer | Failure:
    """What came with a 200 was paid for: without an answer it is not asked for again for ever."""
    if isinstance(outcome, Failure) and outcome.transient:
        return msgspec.structs.replace(outcome, costly=True)
    return outcome


def _no_list(reason: str) -> OperatorError:
    remedy = (
        "Check GEMINI_API_KEY or the file GEMINI_API_KEY_FILE names."
        if reason == KEY_REJECTED
        else "Check the connection to Google and its status, then start again."
    )
    return OperatorError(f"Gemini's list of models cannot be had: {reason}.", remedy)
