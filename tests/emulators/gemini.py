"""Our emulator of Gemini's REST API, on 127.0.0.1: `python -m tests.emulators.gemini --port 8089`.

Serves /v1 and /v1beta (google-genai uses either): models.list in pages, models.get and models/{model}:generateContent.
Shapes, error bodies and checks follow Google's reference and recorded answers; google-genai itself is run against it in
tests/providers/test_gemini.py. What an answer is like is said in the last text of the request, in directives:

    [[text=...]]          the answer's text ([[text=]]: none); default "Echo: " and the question
    [[thoughts=...]]      a thought part before it ("|" makes several); also without includeThoughts
    [[parts=a|b]]         the answer's text, in these parts; by default in two halves
    [[usage=120,800,300]] prompt, candidates and thoughts token counts; [[cached=100]] of the prompt's
    [[usage=none]]        no usageMetadata
    [[finish=MAX_TOKENS]] the finish reason
    [[version=...]]       modelVersion ([[version=]]: none)
    [[tools=70]]          tokens that a search fed to the model; [[billed=2]] searches in billedToolCalls
    [[search=...]]        and chunks, cites, spans, quotes: the sources, see tests.emulators.grounding
    [[grounding=...]]     this as the groundingMetadata
    [[blocked=SAFETY]]    promptFeedback and no candidates
    [[status=429]]        an error with Google's body for that code; [[retry=2s]] a RetryInfo, [[after=3]] the header
    [[status=302]]        a redirect to this very server
    [[raw=...]]           this as the body of a 200
    [[long=1048576]]      a text of so many characters
    [[cut]]               the connection ends amid the body
    [[drop]]              the connection ends before a byte of an answer
    [[slow=3]]            so many seconds before the answer
    [[hang]]              no answer until the emulator is closed

Redirects that citations name lead on from /grounding-api-redirect/TITLE/NUMBER of this server; those of a title that
begins with "hang" or "gone" never answer or are not found. Tests also set `keys`, `rows`, `list_faults`, `latency` and
`quotas` (tests/emulators/quota.py), and read `requests` and `asked_redirects`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from tests.emulators import grounding
from tests.emulators.batches import Batches, is_upload
from tests.emulators.quota import Quotas

REQUESTS_KEPT: Final = 1_000

_DIRECTIVE: Final = re.compile(r"\[\[([a-z]+)(?:=([^\[\]]*))?\]\]")
_METHODS: Final = ["generateContent", "countTokens", "createCachedContent", "batchGenerateContent"]

Json = dict[str, Any]

_BODY: Final = web.RequestKey[Any]("body", object)


def row(name: str, *, thinking: bool = True, methods: list[str] | None = None) -> Json:
    """A row of models.list as Google sends it."""
    found: Json = {
        "name": f"models/{name}",
        "version": "001",
        "displayName": name.replace("-", " ").title(),
        "description": "Emulated.",
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": _METHODS if methods is None else methods,
        "temperature": 1,
        "topP": 0.95,
        "topK": 64,
        "maxTemperature": 2,
    }
    if thinking:
        found["thinking"] = True  # left out when false, as everywhere in Google's JSON
    return found


ROWS: Final = (
    row("embedding-gecko-001", thinking=False, methods=["embedText", "countTextTokens"]),
    row("gemini-1.5-pro-001", thinking=False),
    row("gemini-1.5-pro-002", thinking=False),
    row("gemini-2.0-flash", thinking=False),
    row("gemini-2.0-flash-001", thinking=False),
    row("gemini-2.5-flash"),
    row("gemini-2.5-flash-lite"),
    row("gemini-2.5-pro"),
    row("gemini-2.5-flash-preview-tts", thinking=False),
    row("gemini-2.5-flash-image", thinking=False),
    row("gemini-2.5-flash-native-audio-latest", methods=["countTokens", "bidiGenerateContent"]),
    row("gemini-2.5-computer-use-preview-10-2025"),
    row("gemini-3.1-pro-preview"),
    row("gemini-3.6-flash"),
    row("gemini-3.7-flash"),
    row("gemini-flash-latest"),
    row("gemini-embedding-001", thinking=False, methods=["embedContent"]),
    row("gemini-robotics-er-2-preview"),
    row("gemma-3-27b-it", thinking=False),
    row("imagen-4.0-generate-001", thinking=False, methods=["predict"]),
)

_STATUS_NAMES: Final = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", "Request had invalid authentication credentials."),
    403: ("PERMISSION_DENIED", "Permission denied."),
    404: ("NOT_FOUND", "The requested entity was not found."),
    408: ("ABORTED", "Request timeout."),
    413: ("INVALID_ARGUMENT", "Request payload size exceeds the limit."),
    429: ("RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan and billing details."),
    500: ("INTERNAL", "An internal error has occurred. Please retry."),
    502: ("UNKNOWN", "Bad gateway."),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
    504: ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
}


@dataclass(frozen=True)
class Recorded:
    """A request as it came in. `body` is the decoded JSON, None for a GET."""

    method: str
    path_qs: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Fault:
    """An error answer."""

    status: int
    message: str = ""
    status_name: str = ""
    details: tuple[Json, ...] = ()
    retry_after: str = ""

    def response(self) -> web.Response:
        name, message = _STATUS_NAMES.get(self.status, ("UNKNOWN", "Unknown error."))
        error: Json = {"code": self.status, "message": self.message or message}
        error["status"] = self.status_name or name
        if self.details:
            error["details"] = list(self.details)
        headers = {"Retry-After": self.retry_after} if self.retry_after else {}
        return web.json_response({"error": error}, status=self.status, headers=headers)


def rejected_key() -> Fault:
    """What Google says to a key it does not know: 400, not 401."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "API_KEY_INVALID",
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }
    return Fault(400, "API key not valid. Please pass a valid API key.", details=(info,))


def quota_fault(retry_delay: str, retry_after: str = "") -> Fault:
    """A 429 with the details Google puts there."""
    quota_id = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
    quota = {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [
            {
                "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
                "quotaId": quota_id,
                "quotaDimensions": {"location": "global", "model": "gemini-2.5-flash"},
                "quotaValue": "10",
            }
        ],
    }
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": retry_delay}
    return Fault(429, details=(quota, info) if retry_delay else (quota,), retry_after=retry_after)


@dataclass
class GeminiEmulator:
    """`async with GeminiEmulator() as emulator:` serves at `emulator.url`. Port 0 takes a free one."""

    port: int = 0
    keys: frozenset[str] | None = None  # None: any key but "bad-key"
    rows: tuple[Json, ...] = ROWS
    page_size_max: int = 1_000  # smaller: models.list in pages however many the client asks for
    list_faults: deque[Fault] = field(default_factory=deque)  # answers of models.list before it works
    requests: deque[Recorded] = field(default_factory=lambda: deque(maxlen=REQUESTS_KEPT))
    asked_redirects: deque[str] = field(default_factory=lambda: deque(maxlen=REQUESTS_KEPT))  # "HEAD /grounding-..."
    first_at: float = 0.0  # when the first generateContent came in, in seconds of the epoch
    flying: int = 0  # those being answered, now and at the most
    most: int = 0
    no_head: bool = False  # redirects answer 405 to HEAD
    quotas: Quotas | None = None
    latency: float = 0.0  # seconds before each answer of generateContent
    hung: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))  # released by each [[hang]]
    batches: Batches = field(init=False)  # tests/emulators/batches.py
    _closing: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __post_init__(self) -> None:
        self.batches = Batches(self._in_batch, lambda: self.url)

    async def __aenter__(self) -> GeminiEmulator:
        app = web.Application(client_max_size=64 * 1024 * 1024, middlewares=[self._guard])
        for version in ("v1", "v1beta"):
            app.router.add_get(f"/{version}/models", self._list)
            app.router.add_get(f"/{version}/models/{{model}}", self._get)
            app.router.add_post(f"/{version}/models/{{model}}:generateContent", self._generate)
        self.batches.add_to(app)
        app.router.add_get("/emulator", self._flight)
        app.router.add_route("*", f"{grounding.REDIRECTS}{{rest:.*}}", self._redirect)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=4_096)  # thousands connect at once
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Record the request and look at its key before anything else, as Google does."""
        if request.path.startswith((grounding.REDIRECTS, "/emulator")):
            redirect: web.StreamResponse = await handler(request)
            return redirect
        body: Any = None
        if request.can_read_body and not is_upload(request):
            try:
                body = json.loads(await request.read())
            except ValueError:
                return Fault(400, "Invalid JSON payload received.").response()
        self.requests.append(Recorded(request.method, request.path_qs, dict(request.headers), body))
        request[_BODY] = camel(body)
        if is_upload(request):  # its address is its key
            uploaded: web.StreamResponse = await handler(request)
            return uploaded
        key = request.headers.get("x-goog-api-key") or request.query.get("key")
        if not key:
            message = "Method doesn't allow unregistered callers (callers without established identity)."
            return Fault(403, message).response()
        if key == "bad-key" or (self.keys is not None and key not in self.keys):
            return rejected_key().response()
        found: web.StreamResponse = await handler(request)
        return found

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if self.list_faults:
            return self.list_faults.popleft().response()
        size = min(int(request.query.get("pageSize", "50")), self.page_size_max)
        start = int(request.query.get("pageToken", "0"))
        page: Json = {"models": list(self.rows[start : start + size])}
        if start + size < len(self.rows):
            page["nextPageToken"] = str(start + size)
        return web.json_response(page)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        found = self._row(request.match_info["model"])
        return web.json_response(found) if found else _unknown_model(request.match_info["model"]).response()

    def _row(self, model: str) -> Json | None:
        return next((found for found in self.rows if found["name"] == f"models/{model}"), None)

    async def _flight(self, _: web.Request) -> web.StreamResponse:
        """For tests that run the emulator in a process of its own."""
        return web.json_response({"first_at": self.first_at, "most": self.most})

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        self.first_at = self.first_at or time.time()
        self.flying += 1
        self.most = max(self.most, self.flying)
        try:
            return await self._answer(request)
        finally:
            self.flying -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        model = request.match_info["model"]
        if self._row(model) is None:
            return _unknown_model(model).response()
        asked = request[_BODY]
        if problem := objection(asked) or grounding.objection(model, asked):
            return Fault(400, problem).response()
        if self.quotas is not None:
            tokens = sum(
                len(part.get("text", "")) // 4 + 1 for content in asked["contents"] for part in content["parts"]
            )
            key = request.headers.get("x-goog-api-key") or request.query.get("key", "")
            if (refused := self.quotas.judge(key, model, tokens)) is not None:
                status, words, details = refused
                return Fault(status, words, details=details).response()
        if self.latency:
            await asyncio.sleep(self.latency)
        said = dict(_DIRECTIVE.findall(asked["contents"][-1]["parts"][-1]["text"]))
        if "hang" in said:
            self.hung.release()
            await self._closing.wait()
            return Fault(503).response()
        if "slow" in said:
            await asyncio.sleep(float(said["slow"]))
        if "drop" in said and request.transport is not None:
            request.transport.abort()
        if "status" in said:
            status = int(said["status"])
            if status == 302:
                return web.Response(status=302, headers={"Location": f"{self.url}/v1beta/models"})
            if status == 429:
                return quota_fault(said.get("retry", ""), said.get("after", "")).response()
            return Fault(status, retry_after=said.get("after", "")).response()
        body = said["raw"].encode() if "raw" in said else json.dumps(reply(model, asked, said, self.url)).encode()
        if "cut" in said:
            return await _cut(request, body)
        return web.Response(body=body, content_type="application/json", charset="utf-8")

    def _in_batch(self, model: str, body: Json) -> Json:
        """One call of a batch: its response or its error."""
        asked = camel(body)
        said = dict(_DIRECTIVE.findall(asked["contents"][-1]["parts"][-1]["text"]))
        if "lost" in said:
            return {"lost": True}
        if problem := objection(asked) or grounding.objection(model, asked):
            return {"error": {"code": 3, "message": problem}}
        if "status" in said:
            return {"error": {"code": int(said["status"]), "message": "It failed."}}
        return {"response": reply(model, asked, said, self.url)}

    async def _redirect(self, request: web.Request) -> web.StreamResponse:
        """Google's redirects of citations: no key, a Location."""
        self.asked_redirects.append(f"{request.method} {request.path}")
        if request.path.startswith(f"{grounding.REDIRECTS}hang"):
            await self._closing.wait()
        if request.method == "HEAD" and self.no_head:
            return web.Response(status=405)
        location = grounding.location(request.path)
        if location is None:
            return web.Response(status=404)
        return web.Response(status=302, headers={"Location": location}, text="Moved.")


def _unknown_model(model: str) -> Fault:
    message = f"models/{model} is not found for API version v1beta, or is not supported for generateContent."
    return Fault(404, message)


async def _cut(request: web.Request, body: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


# --- what Google checks, and what it answers ------------------------------------------------------------

_TOP: Final = frozenset(
    {"contents", "systemInstruction", "generationConfig", "tools", "toolConfig", "safetySettings", "cachedContent"}
)
_CONFIG: Final = frozenset(
    {"maxOutputTokens", "temperature", "topP", "topK", "candidateCount", "stopSequences", "thinkingConfig", "seed"}
)


def camel(value: Any) -> Any:
    """Protobuf's JSON takes either case of a field's name, and google-genai sends both ("include_thoughts")."""
    match value:
        case dict():
            return {re.sub("_([a-z])", lambda m: m[1].upper(), name): camel(held) for name, held in value.items()}
        case list():
            return [camel(held) for held in value]
        case _:
            return value


def objection(body: Any) -> str:
    """Google's word on a request of generateContent that it would refuse; "" when it would not."""
    if not isinstance(body, dict):
        return "Invalid JSON payload received. Root element must be a message."
    config = body.get("generationConfig", {})
    for unknown in sorted((body.keys() - _TOP) | (config.keys() - _CONFIG)):
        return f'Invalid JSON payload received. Unknown name "{unknown}": Cannot find field.'
    contents = body.get("contents") or []
    if not contents:
        return "* GenerateContentRequest.contents: contents is not specified"
    for content in contents:
        if content.get("role", "user") not in ("user", "model"):
            return "Please use a valid role: user, model."
        if not any(part.get("text") for part in content.get("parts", [])):
            return "* GenerateContentRequest.contents.parts: contents.parts must not be empty."
    if not 0 <= config.get("temperature", 1) <= 2:
        return "* GenerateContentRequest.generation_config.temperature: temperature must be in the range [0.0, 2.0]."
    if not 0 <= config.get("topP", 1) <= 1:
        return "* GenerateContentRequest.generation_config.top_p: top_p must be in the range [0.0, 1.0]."
    if not 1 <= config.get("maxOutputTokens", 1) <= 65_536:
        return "Unable to submit request because it has a maxOutputTokens value out of the supported range."
    return ""


def reply(model: str, body: Json, said: dict[str, str], base: str = "") -> Json:
    """A GenerateContentResponse: what is zero or empty is left out, as Google does."""
    question = body["contents"][-1]["parts"][-1]["text"]
    prompt_tokens = sum(len(part["text"]) // 4 + 1 for content in body["contents"] for part in content["parts"])
    answer: Json = {"modelVersion": said.get("version", model), "responseId": "kX1yZ-Pq0Abc1-d2e3F4g"}
    if said.get("version") == "":
        del answer["modelVersion"]
    if "blocked" in said:
        answer["promptFeedback"] = {"blockReason": said["blocked"]}
        answer["usageMetadata"] = _usage(prompt_tokens, 0, 0)
        return answer
    text = said.get("text", "Echo: " + _DIRECTIVE.sub("", question).strip())
    if "long" in said:
        text = "x" * int(said["long"])
    parts: list[Json] = []
    aloud = grounding.thinks_aloud(model, body)
    thoughts = said.get("thoughts", "**Considering the question**\n\nIt is short." if aloud else "")
    parts += [{"text": thought, "thought": True} for thought in thoughts.split("|") if thought]
    # A long answer may come in several parts.
    halves = (text[: len(text) // 2], text[len(text) // 2 :])
    parts += [{"text": piece} for piece in (said["parts"].split("|") if "parts" in said else halves) if piece]
    candidate: Json = {"index": 0, "finishReason": said.get("finish", "STOP")}
    candidate["content"] = {"role": "model", "parts": parts} if parts else {"role": "model"}
    if "grounding" in said:
        candidate["groundingMetadata"] = json.loads(said["grounding"])
    elif body.get("tools"):
        candidate["groundingMetadata"] = grounding.metadata(parts, said, _DIRECTIVE.sub("", question).strip(), base)
    answer["candidates"] = [candidate]
    counts = said.get("usage", f"{prompt_tokens},{len(text) // 4},{len(thoughts) // 4}")
    if counts != "none":
        usage = _usage(*(int(count) for count in counts.split(",")))
        if "cached" in said:
            usage["cachedContentTokenCount"] = int(said["cached"])
        if "tools" in said:
            usage["toolUsePromptTokenCount"] = int(said["tools"])
            usage["totalTokenCount"] += int(said["tools"])
        if "billed" in said:
            calls = {"tool": "GOOGLE_SEARCH_RETRIEVAL", "successfulToolCallCount": int(said["billed"])}
            usage["billedToolCalls"] = [calls]
        answer["usageMetadata"] = usage
    return answer


def _usage(prompt: int, candidates: int, thoughts: int) -> Json:
    counts = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": candidates,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": prompt + candidates + thoughts,
    }
    usage: Json = {name: count for name, count in counts.items() if count}
    usage["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": prompt}]
    return usage


async def _serve(port: int) -> None:
    async with GeminiEmulator(port=port) as emulator:
        print(f"Gemini, emulated, at {emulator.url}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An emulator of Gemini's REST API on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=8089)
    asyncio.run(_serve(parser.parse_args().port))
