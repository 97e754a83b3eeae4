"""The five llm_responses endpoints (contract §3.1-3.5)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from restante.core.answer import Answer
from restante.core.errors import (
    CREATED_CODE,
    CREATED_MESSAGE,
    AccountPaused,
    CapReached,
    DuplicatesPerDay,
    DuplicatesPerHour,
    EmptyBody,
    ForeignTask,
    InsufficientFunds,
    InternalError,
    InvalidBody,
    InvalidField,
    InvalidPath,
    LiveTimeout,
    ModelPaused,
    OtherFunction,
    PaymentRequired,
    ProviderFailed,
    Refusal,
    ResultsExpired,
    TaskFailed,
    TaskHanded,
    TaskInQueue,
    TaskNotFound,
    TooManyAtOnce,
    TooManyLiveTasks,
    TooManyTasks,
    UnknownField,
)
from restante.core.limits import BODY_BYTES, IDEMPOTENCY_HOURS, IDEMPOTENCY_KEY_CHARS, LIVE_SECONDS, READY_LISTED
from restante.core.money import NANO_PER_USD
from restante.core.pricing import LIVE_FEE, STANDARD_HOLD
from restante.core.task import ID_PATTERN, Function, read_prompt
from restante.flow.accept import Acceptor, Fates, Judged
from restante.flow.collect import Collector
from restante.flow.idempotency import Key, Once, key_of
from restante.flow.live import Live
from restante.observing.metrics import TASKS_REFUSED
from restante.providers.registry import Catalogue
from restante.web import body, examples, judge, wire
from restante.web.judge import Judge, Verdict
from restante.web.operation import Operation
from restante.web.posted import REQUIRED, WEBHOOKS
from restante.web.respond import account_of, allowance_of, answer, json_text, mint, path_of
from restante.web.wire import FAMILY

_POST_REFUSALS = (InvalidField, EmptyBody, InvalidBody, UnknownField)
_MONEY_REFUSALS = (InsufficientFunds, CapReached, DuplicatesPerHour, DuplicatesPerDay)
_RUN_REFUSALS = (ProviderFailed, InternalError)
_GET_REFUSALS = (
    ForeignTask,
    OtherFunction,
    TaskFailed,
    PaymentRequired,
    TaskNotFound,
    InvalidPath,
    ResultsExpired,
    TaskHanded,
    TaskInQueue,
    *_RUN_REFUSALS,
)
_ID_PARAMETER = {
    "name": "task_id",
    "in": "path",
    "required": True,
    "description": "As `task_post` gave it.",
    "schema": {"type": "string", "pattern": ID_PATTERN},
    "example": examples.TASK_ID,
}


def _key_parameter(kept: timedelta) -> dict[str, object]:
    """`kept`: how long a key has its first answer. Programs that repeat a POST read it here, in seconds."""
    return {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Any text of your own: posting again with the same key and body within 24 hours (by default) "
        "gets the first answer again, and nothing is posted twice. The same key with another body is refused.",
        "schema": {
            "type": "string",
            "minLength": 1,
            "maxLength": IDEMPOTENCY_KEY_CHARS,
            "pattern": "^[ -~]+$",
            "x-kept-seconds": int(kept.total_seconds()),
        },
        "example": "run-17-batch-4",
    }


_FAMILY_OPERATION = partial(Operation, group="LLM Responses")


class Api:
    """The endpoints over their flows; `operations()` is what is served."""

    def __init__(
        self,
        acceptor: Acceptor,
        once: Once,
        collector: Collector,
        live: Live,
        catalogue: Catalogue,
        judge: Judge,
        clock: Callable[[], datetime],
        body_bytes: int = BODY_BYTES,
        provider_fault: Callable[[str], str | None] = lambda provider: None,
        key_kept: timedelta = timedelta(hours=IDEMPOTENCY_HOURS),
    ) -> None:
        self._acceptor = acceptor
        self._once = once
        self._collector = collector
        self._live = live
        self._catalogue = catalogue
        self._judge = judge
        self._clock = clock
        self._body_bytes = body_bytes
        self._provider_fault = provider_fault
        self._key_kept = key_kept

    def operations(self) -> list[Operation]:
        """The family's five paths, in the documentation's order."""
        task_post, live = self._posting()
        tasks_ready, task_get, models = self._fetching()
        return [task_post, tasks_ready, task_get, live, models]

    def _posting(self) -> list[Operation]:
        form = self._judge.form
        posts = partial(
            _FAMILY_OPERATION,
            method="POST",
            request=form.task,
            requires=REQUIRED,
            ignores_unknown=self._judge.ignore_unknown,
        )
        return [
            posts(
                name="task_post",
                path=f"{FAMILY}/task_post",
                summary="Post tasks",
                description=f"Queues up to {form.tasks} tasks, each judged alone: one that is refused comes back with "
                "its code and disturbs none of the others. A task is answered once, within 72 hours by default; "
                "collect it with `task_get`, or be told by a webhook. Of its cost, 0.01 USD is an advance: what the "
                "model does not use comes back, and a task that fails costs nothing.",
                endpoint=self.task_post,
                rate="task_post",
                parameters=[_key_parameter(self._key_kept)],
                tasks=form.tasks,
                success=(CREATED_CODE, CREATED_MESSAGE),
                refusals=(TooManyTasks, *_MONEY_REFUSALS, *_POST_REFUSALS, ProviderFailed),
                sent=examples.TASK,
                cost=STANDARD_HOLD,
            ),
            posts(
                name="live",
                path=f"{FAMILY}/live",
                summary="Ask and wait",
                description=f"One task, answered in this call within {LIVE_SECONDS:.0f} seconds. Nothing of it is "
                "stored. Its cost is 0.0006 USD and what the model's provider takes; a task that fails costs nothing.",
                endpoint=self.live,
                rate="live",
                omits=WEBHOOKS,
                result=wire.AnswerResult,
                refusals=(
                    TooManyLiveTasks,
                    TooManyAtOnce,
                    AccountPaused,
                    ModelPaused,
                    *_MONEY_REFUSALS,
                    *_POST_REFUSALS,
                    *_RUN_REFUSALS,
                    LiveTimeout,
                ),
                sent=examples.LIVE_TASK,
                rows=[examples.LIVE_ANSWER],
                cost=LIVE_FEE + round(examples.LIVE_ANSWER.money_spent * NANO_PER_USD),
            ),
        ]

    def _fetching(self) -> list[Operation]:
        gets = partial(_FAMILY_OPERATION, method="GET")
        return [
            gets(
                name="tasks_ready",
                path=f"{FAMILY}/tasks_ready",
                summary="List finished tasks",
                description=f"Up to {READY_LISTED:,} finished tasks that nobody collected yet, oldest first, each for "
                "three days by default. A task whose postback was delivered is not among them.",
                endpoint=self.tasks_ready,
                rate="tasks_ready",
                result=wire.ReadyResult,
                rows=[examples.READY],
            ),
            gets(
                name="task_get",
                path=f"{FAMILY}/task_get/{{task_id}}",
                summary="Collect an answer",
                description="One task's answer, as often as you like for 30 days by default. Collecting takes the task "
                "off `tasks_ready`.",
                endpoint=self.task_get,
                rate="task_get",
                parameters=[_ID_PARAMETER],
                result=wire.AnswerResult,
                refusals=_GET_REFUSALS,
                sent=examples.TASK,
                rows=[examples.ANSWER],
            ),
            gets(
                name="models",
                path=f"{FAMILY}/models",
                summary="List the models",
                description="The names that `model_name` may have, newest first.",
                endpoint=self.models,
                rate="models",
                result=wire.ModelResult,
                rows=examples.MODELS,
            ),
        ]

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
        judged = verdicts
        verdicts = [self._served(one) for one in judged]
        if verdicts != judged and all(one.refusal for one in verdicts):
            # §12.26; not kept for an Idempotency-Key: the same POST may be accepted when it is over.
            return json_text(self._accepted(account_id, path, verdicts, [], [], started))
        good = [Judged(one.model, one.task.tag, one.request) for one in verdicts if one.task and one.model]

        def body_of(ids: Sequence[str], fates: Fates) -> bytes:
            return self._accepted(account_id, path, verdicts, ids, fates, started)

        allowance = allowance_of(request)
        if not isinstance(key, Key):
            accepted = await self._acceptor.accept(account_id, good, allowance=allowance) if good else ([], [])
            return json_text(body_of(*accepted))
        answered = await self._once.accept(key, good, body_of, allowance)
        if isinstance(answered, Refusal):
            return self._refused(account_id, Function.TASK_POST, path, answered, started)
        return json_text(answered)

    def _served(self, verdict: Verdict) -> Verdict:
        """The verdict; a good task that its provider would not answer now is refused (§12.26)."""
        fault = None if verdict.model is None else self._provider_fault(verdict.model.provider)
        return verdict if fault is None else Verdict(verdict.request, refusal=ProviderFailed(fault))

    def _accepted(
        self,
        account_id: int,
        path: Sequence[str],
        verdicts: Sequence[Verdict],
        ids: Sequence[str],
        fates: Fates,
        started: float,
    ) -> bytes:
        """task_post's answer: `ids` and `fates` are of the good tasks."""
        elapsed = time.perf_counter() - started
        good = iter(zip(ids, fates, strict=True))
        entries = []
        for one in verdicts:
            refused = one.refusal
            task_id, fate = (self._mint(account_id, Function.TASK_POST), refused) if refused else next(good)
            if fate is None:
                entries.append(_created(task_id, path, elapsed, one.request))
            else:
                TASKS_REFUSED.add(1, str(fate.code))
                entries.append(wire.entry(task_id, path, refusal=fate, request=one.request))
        cost = fates.count(None) * STANDARD_HOLD
        return wire.envelope(entries, elapsed=time.perf_counter() - started, cost=cost)

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
        prompt = read_prompt(verdict.request)
        task_id, outcome, cost = await self._live.ask(account_id, verdict.model, prompt, allowance_of(request))
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
        if function is Function.TASK_POST:
            TASKS_REFUSED.add(1, str(why.code))
        return answer([wire.entry(self._mint(account_id, function), path, refusal=why)], started)

    def _mint(self, account_id: int, function: Function) -> str:
        return mint(self._clock(), account_id, function)


def _idempotency_key(request: Request, account_id: int, body: bytes) -> Key | InvalidBody | None:
    """The POST's Idempotency-Key, if it has one; one that cannot be used is refused rather than not honoured."""
    text = request.headers.get("idempotency-key")
    if text is None:
        return None
    usable = 0 < len(text) <= IDEMPOTENCY_KEY_CHARS and text.isascii() and text.isprintable()
    return key_of(account_id, text, body) if usable else InvalidBody()


def _created(task_id: str, path: Sequence[str], elapsed: float, request: bytes) -> wire.TaskEntry:
    return wire.entry(
        task_id, path, elapsed=elapsed, code=CREATED_CODE, message=CREATED_MESSAGE, cost=STANDARD_HOLD, request=request
    )
