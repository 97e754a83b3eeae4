"""The five llm_responses endpoints (contract §3.1-3.5) and what is said of every other path (§12.15)."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from restante.core.allowance import Endpoint
from restante.core.answer import Answer
from restante.core.errors import (
    CREATED_CODE,
    CREATED_MESSAGE,
    InsufficientFunds,
    InternalError,
    InvalidBody,
    InvalidPath,
    NotFound,
    ProviderFailed,
    Refusal,
    TooManyLiveTasks,
    TooManyTasks,
)
from restante.core.limits import BODY_BYTES, GZIP_FROM_BYTES, IDEMPOTENCY_KEY_CHARS
from restante.core.pricing import STANDARD_HOLD
from restante.core.task import Function, read_prompt
from restante.flow.accept import Acceptor, Judged
from restante.flow.collect import Collector
from restante.flow.idempotency import Key, Once, key_of
from restante.flow.live import Live
from restante.providers.registry import Catalogue
from restante.store.database import DatabaseLost
from restante.web import body, judge, wire
from restante.web.auth import BasicAuth, Passwords
from restante.web.formats import Formats
from restante.web.judge import Judge, Verdict
from restante.web.rate_limit import RateLimits
from restante.web.respond import account_of, allowance_of, answer, endpoint_route, json_text, mint, path_of

log = logging.getLogger("restante.api")

FAMILY = "/" + "/".join(wire.FAMILY_PATH)
_OUR_APIS = ("/v3/ai_optimization", "/v3/appendix")  # inside them a wrong path is 40402, elsewhere 40400


class Api:
    """The endpoints over their flows; `routes()` is what Starlette serves."""

    def __init__(
        self,
        acceptor: Acceptor,
        once: Once,
        collector: Collector,
        live: Live,
        catalogue: Catalogue,
        judge: Judge,
        rates: RateLimits,
        clock: Callable[[], datetime],
        body_bytes: int = BODY_BYTES,
        provider_fault: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._acceptor = acceptor
        self._once = once
        self._collector = collector
        self._live = live
        self._catalogue = catalogue
        self._judge = judge
        self._rates = rates
        self._clock = clock
        self._body_bytes = body_bytes
        self._provider_fault = provider_fault

    def routes(self) -> list[Route]:
        """The family's five paths."""
        return [
            self._route("POST", "task_post", self.task_post),
            self._route("GET", "tasks_ready", self.tasks_ready),
            self._route("GET", "task_get", self.task_get, "/{task_id}"),
            self._route("POST", "live", self.live),
            self._route("GET", "models", self.models),
        ]

    def _route(
        self, method: str, name: Endpoint, endpoint: Callable[[Request], Awaitable[Response]], rest: str = ""
    ) -> Route:
        return endpoint_route(self._rates, method, f"{FAMILY}/{name}{rest}", name, endpoint)

    async def task_post(self, request: Request) -> Response:
        """§3.1: up to 100 tasks, each judged alone; those beyond are answered 40006."""
        started = time.perf_counter()
        account_id = account_of(request)
        path = path_of(request)
        sent = await body.read(request, self._body_bytes)
        key = sent if isinstance(sent, Refusal) else _idempotency_key(request, account_id, sent)
        first = await self._once.first_answer(key) if isinstance(key, Key) else key
        if isinstance(first, bytes):
            return json_text(first)
        verdicts = sent if isinstance(sent, Refusal) else first or self._judge_all(sent)
        if isinstance(verdicts, Refusal):
            return self._refused(account_id, Function.TASK_POST, path, verdicts, started)
        fault = self._provider_fault()
        if fault is not None:  # §12.26; not kept for an Idempotency-Key: the same POST may be accepted when it is over
            verdicts = [_unserved(one, fault) for one in verdicts]
            return json_text(self._accepted(account_id, path, verdicts, [], 0, started))
        good = [Judged(one.model, one.task.tag, one.request) for one in verdicts if one.task and one.model]

        def body_of(ids: Sequence[str], covered: int) -> bytes:
            return self._accepted(account_id, path, verdicts, ids, covered, started)

        if not isinstance(key, Key):
            return json_text(body_of(*(await self._acceptor.accept(account_id, good) if good else ([], 0))))
        answered = await self._once.accept(key, good, body_of)
        if isinstance(answered, Refusal):
            return self._refused(account_id, Function.TASK_POST, path, answered, started)
        return json_text(answered)

    def _accepted(
        self,
        account_id: int,
        path: Sequence[str],
        verdicts: Sequence[Verdict],
        ids: Sequence[str],
        covered: int,
        started: float,
    ) -> bytes:
        """task_post's answer: `ids` are of the good tasks, of which the first so many are covered."""
        elapsed = time.perf_counter() - started
        accepted = iter(zip(ids, (position < covered for position in range(len(ids))), strict=True))
        entries = []
        for one in verdicts:
            refusal = one.refusal
            task_id, paid = (self._mint(account_id, Function.TASK_POST), False) if refusal else next(accepted)
            if paid:
                entries.append(_created(task_id, path, elapsed, one.request))
            else:
                refusal = refusal or InsufficientFunds()
                entries.append(wire.entry(task_id, path, refusal=refusal, request=one.request))
        return wire.envelope(entries, elapsed=time.perf_counter() - started, cost=covered * STANDARD_HOLD)

    async def live(self, request: Request) -> Response:
        """§3.4: one task, answered in this call."""
        started = time.perf_counter()
        account_id = account_of(request)
        path = path_of(request)
        sent = await body.read(request, self._body_bytes)
        tasks = sent if isinstance(sent, Refusal) else judge.split(sent, self._judge.form)
        if not isinstance(tasks, Refusal) and len(tasks) > 1:
            tasks = TooManyLiveTasks()
        verdict = tasks if isinstance(tasks, Refusal) else self._judge.judge(tasks[0], live=True)
        if isinstance(verdict, Refusal):
            return self._refused(account_id, Function.LIVE, path, verdict, started)
        if verdict.model is None:
            task_id = self._mint(account_id, Function.LIVE)
            return answer([wire.entry(task_id, path, refusal=verdict.refusal, request=verdict.request)], started)
        at_once = allowance_of(request).live_at_once
        task_id, outcome, cost = await self._live.ask(account_id, verdict.model, read_prompt(verdict.request), at_once)
        elapsed = time.perf_counter() - started
        if isinstance(outcome, Answer):
            result = wire.answer_result(outcome, self._clock())
            entry = wire.entry(
                task_id, path, elapsed=elapsed, cost=cost, request=verdict.request, result=result, result_count=1
            )
        else:
            entry = wire.entry(task_id, path, elapsed=elapsed, refusal=outcome, request=verdict.request)
        return answer([entry], started, cost=cost)

    async def tasks_ready(self, request: Request) -> Response:
        """§3.2: finished tasks nobody fetched yet."""
        started = time.perf_counter()
        listed = await self._collector.ready(account_of(request))
        return self._listing(request, Function.TASKS_READY, wire.ready_result(listed), len(listed), started)

    async def models(self, request: Request) -> Response:
        """§3.5: the models that may be named."""
        started = time.perf_counter()
        listed = self._catalogue.listed()
        return self._listing(request, Function.MODELS, wire.models_result(listed), len(listed), started)

    async def task_get(self, request: Request) -> Response:
        """§3.3: one answer; fetching it takes the task off tasks_ready."""
        started = time.perf_counter()
        task_id = request.path_params["task_id"]
        found = await self._collector.task_get(account_of(request), task_id)
        entry = wire.fetched_entry(task_id, found, path_of(request), time.perf_counter() - started)
        return answer([entry], started)

    def _judge_all(self, body: bytes) -> Sequence[Verdict] | Refusal:
        form = self._judge.form
        tasks = judge.split(body, form)
        if isinstance(tasks, Refusal):
            return tasks
        verdicts = []
        for number, raw in enumerate(tasks):
            if number < form.tasks:
                verdict = self._judge.judge(raw)
            else:
                verdict = self._judge.surplus(raw, TooManyTasks(str(form.tasks)))
            if isinstance(verdict, Refusal):
                return verdict
            verdicts.append(verdict)
        return verdicts

    def _listing(self, request: Request, function: Function, result: bytes, count: int, started: float) -> Response:
        entry = wire.entry(
            self._mint(account_of(request), function),
            path_of(request),
            elapsed=time.perf_counter() - started,
            result=result,
            result_count=count,
        )
        return answer([entry], started)

    def _refused(
        self, account_id: int, function: Function, path: Sequence[str], why: Refusal, started: float
    ) -> Response:
        """A whole call refused: one task that says why (contract §12.5)."""
        return answer([wire.entry(self._mint(account_id, function), path, refusal=why)], started)

    def _mint(self, account_id: int, function: Function) -> str:
        return mint(self._clock(), account_id, function)


def _idempotency_key(request: Request, account_id: int, body: bytes) -> Key | InvalidBody | None:
    """The POST's Idempotency-Key, if it has one; one that cannot be used is refused rather than not honoured."""
    text = request.headers.get("idempotency-key")
    if text is None:
        return None
    usable = 0 < len(text) <= IDEMPOTENCY_KEY_CHARS and text.isprintable()
    return key_of(account_id, text, body) if usable else InvalidBody()


def _unserved(verdict: Verdict, fault: str) -> Verdict:
    """A good task that no provider would answer now."""
    return verdict if verdict.refusal else Verdict(verdict.request, refusal=ProviderFailed(fault))


def _created(task_id: str, path: Sequence[str], elapsed: float, request: bytes) -> wire.TaskEntry:
    return wire.entry(
        task_id, path, elapsed=elapsed, code=CREATED_CODE, message=CREATED_MESSAGE, cost=STANDARD_HOLD, request=request
    )


def create_app(routes: Sequence[Route], passwords: Passwords, clock: Callable[[], datetime]) -> Starlette:
    """The ASGI application."""

    async def unknown_path(request: Request, _: Exception) -> Response:
        """§12.15: 40402 inside our APIs, with a task and no data; 40400 and HTTP 404 elsewhere."""
        path = request.scope["path"]
        if not any(path == ours or path.startswith(f"{ours}/") for ours in _OUR_APIS):
            return json_text(wire.refused_call(NotFound()), 404)
        task_id = mint(clock(), account_of(request), Function.TASK_POST)
        entry = wire.entry(task_id, path_of(request), refusal=InvalidPath())
        return answer([msgspec.structs.replace(entry, data=None)], time.perf_counter())

    async def no_database(request: Request, error: Exception) -> Response:
        log.error("%s %s: 50000, %s", request.method, request.url.path, error)
        return json_text(wire.refused_call(InternalError()), 500)

    async def gone(request: Request, _: Exception) -> Response:
        return Response()  # nobody reads it

    async def broken(request: Request, error: Exception) -> Response:
        return json_text(wire.refused_call(InternalError()), 500)  # the traceback is logged by the server

    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(GZipMiddleware, minimum_size=GZIP_FROM_BYTES, compresslevel=1),
            Middleware(BasicAuth, passwords=passwords),
            Middleware(Formats),  # inside: a 401 is the same bytes whatever was asked for
        ],
        exception_handlers={
            HTTPException: unknown_path,
            DatabaseLost: no_database,
            ClientDisconnect: gone,
            Exception: broken,
        },
    )
    app.router.redirect_slashes = False  # a path with a slash too many is a wrong path (§12.15), not a redirect
    return app
