"""A deterministic provider for tests, rehearsals and load: the prompt itself says how the call goes.

Directives stand anywhere in `user_prompt`, in double square brackets, and are not part of the question:

    [[latency=0.5]]              answer after so many seconds; beyond the call's own time it is a time-out
    [[fail=rate_limit_exceeded]] no answer, for this reason; rate_limit_exceeded, overloaded, timeout and
                                 API key rejected are transient, any other reason is final
    [[retry_after=2]]            with a transient failure: the provider names these seconds
    [[fail_times=2]]             the first 2 calls of the task in this process fail transiently (with the reason
                                 of `fail`, else overloaded), the next one answers
    [[blocked=SAFETY]]           the safety filter refuses: final, "blocked: SAFETY"
    [[words=5000]]               so many words after the first line of the answer (default 24, at most 200000)
    [[cost=0.02]]                `money_spent` in US dollars (default 0)
    [[tokens_in=120]]            \
    [[tokens_out=1100]]           > reported usage (default: words; the reasoning is part of the output)
    [[tokens_reasoning=300]]     /
    [[reasoning]]                a reasoning item before the message, as with `use_reasoning` or a Pro model
    [[search]]                   search although `web_search` was not asked for
    [[search=none]]              `web_search` was asked for, and the model did not use it

An unknown directive, or one whose value makes no sense, is a final failure that names it: a typing error must
not pass for a test. Where several apply: bad directive, latency, blocked, fail, answer. `max_output_tokens`,
temperature and top_p change nothing. The text depends on `user_prompt` alone.
"""

from __future__ import annotations

import asyncio
import math
import os
import re
from collections import OrderedDict
from hashlib import shake_128
from pathlib import Path
from typing import Final

import msgspec

from restante.core.answer import Annotation, Answer, Failure, Item, Section
from restante.core.limits import SCRIPTED_SECONDS_MAX as SECONDS_MAX
from restante.core.limits import SCRIPTED_TASKS_REMEMBERED as TASKS_REMEMBERED
from restante.core.limits import SCRIPTED_TOKENS_MAX as TOKENS_MAX
from restante.core.limits import SCRIPTED_WORDS_MAX as WORDS_MAX
from restante.core.money import Nano, parse_usd
from restante.core.task import Model
from restante.providers.api_key import KEY_REJECTED
from restante.providers.provider import Call

WORDS_DEFAULT: Final = 24

_DIRECTIVE: Final = re.compile(r"\[\[([^\[\]]*)\]\]")
_REASON: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ :.-]{0,79}")
_TRANSIENT: Final = frozenset({"rate_limit_exceeded", "overloaded", "timeout", KEY_REJECTED})
_WORDS: Final = (  # noqa: SIM905 (66 quoted words read worse)
    "alpine bay bridge canal castle cedar chapel cliff cloud coast dawn delta dune ferry field forest garden glacier "
    "harbour heath hill island lake lantern market meadow mill mountain night north orchard pass path pier plain "
    "quarry rail rain reef ridge river road sail shore signal snow south spring station stone storm stream summer "
    "terrace tide tower trail valley village wharf willow wind winter"
).split()

#: (statement, domain): more bytes than characters on purpose, so that an index counted in bytes shows at once.
_SOURCES: Final = (
    ("Zürich’s trains 🚆 reach every valley.", "example.org"),
    ("In 京都 the night bus — 夜行バス — costs less.", "example.com"),
)


class _Script(msgspec.Struct, kw_only=True):
    """The directives of one prompt, and the question without them."""

    question: str
    latency: float | None = None
    fail: str | None = None
    retry_after: float | None = None
    fail_times: int | None = None
    blocked: str | None = None
    words: int = WORDS_DEFAULT
    cost: Nano = Nano(0)
    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_reasoning: int | None = None
    reasoning: bool = False
    search: bool | None = None


class _LogLine(msgspec.Struct, frozen=True):
    task_id: str
    model: str
    pid: int


class ScriptedProvider:
    """See the module. `latency_seconds` is for calls that name none; `log` gets one line of JSON per call, written
    before anything else happens: {"task_id": ..., "model": ..., "pid": ...}. Processes may share the file.

    Raises OSError when the log cannot be opened.
    """

    name = "scripted"
    concurrency = 10_000

    def __init__(self, models: tuple[Model, ...], latency_seconds: float = 0.0, log: Path | None = None) -> None:
        self._models = models
        self._latency = latency_seconds
        self._always_reasons = frozenset(model.served for model in models if model.reasoning_forced)
        self._calls: OrderedDict[str, int] = OrderedDict()
        # A file descriptor, since one write of O_APPEND is one whole line whoever else writes.
        self._log = None if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    async def models(self) -> tuple[Model, ...]:
        return self._models

    async def generate(self, call: Call) -> Answer | Failure:
        if self._log is not None:
            os.write(self._log, msgspec.json.encode(_LogLine(call.task_id, call.model, os.getpid())) + b"\n")
        script = _parse(call.prompt.user_prompt)
        if isinstance(script, Failure):
            return script
        latency = self._latency if script.latency is None else script.latency
        if latency > 0:
            await asyncio.sleep(min(latency, call.seconds))
        if latency > call.seconds:
            return Failure(reason="timeout", transient=True)
        if script.blocked is not None:
            return Failure(reason=f"blocked: {script.blocked}")
        return self._failure(call.task_id, script) or self._answer(call, script)

    async def close(self) -> None:
        if self._log is not None:
            os.close(self._log)
            self._log = None

    def _failure(self, task_id: str, script: _Script) -> Failure | None:
        if script.fail_times is not None:
            if self._count(task_id) > script.fail_times:
                return None
            return Failure(reason=script.fail or "overloaded", transient=True, retry_after=script.retry_after)
        if script.fail is None:
            return None
        if script.fail in _TRANSIENT:
            waits = script.fail == KEY_REJECTED
            return Failure(reason=script.fail, transient=True, retry_after=script.retry_after, waits=waits)
        return Failure(reason=script.fail)

    def _count(self, task_id: str) -> int:
        """The number of this call among those of the task, from 1."""
        number = self._calls.pop(task_id, 0) + 1
        self._calls[task_id] = number  # now the youngest
        if len(self._calls) > TASKS_REMEMBERED:
            self._calls.popitem(last=False)
        return number

    def _answer(self, call: Call, script: _Script) -> Answer:
        prompt = call.prompt
        searched = prompt.web_search if script.search is None else script.search
        reasons = script.reasoning or prompt.use_reasoning or call.model in self._always_reasons
        message = _message(prompt.user_prompt, script, asked=prompt.web_search or searched, searched=searched)
        thought = f"Scripted reasoning about: {script.question}" if reasons else ""
        asked = (prompt.user_prompt, prompt.system_message or "", *(turn.message for turn in prompt.message_chain))
        reasoning_tokens = _first(script.tokens_reasoning, _words_in(thought))
        return Answer(
            model_name=call.model,
            input_tokens=_first(script.tokens_in, sum(_words_in(text) for text in asked)),
            output_tokens=_first(script.tokens_out, _words_in(message.text) + reasoning_tokens),
            reasoning_tokens=reasoning_tokens,
            items=(*((Item("reasoning", (Section(thought),)),) if reasons else ()), Item("message", (message,))),
            web_search=searched,
            money_spent=script.cost,
            fan_out_queries=(script.question[:100], "night trains to 京都") if searched else None,
        )


def _message(user_prompt: str, script: _Script, *, asked: bool, searched: bool) -> Section:
    """The text of the answer and, if the web was allowed, where its statements come from (contract §12.12)."""
    digest = shake_128(user_prompt.encode("utf-8", "surrogatepass")).digest(script.words)
    words = [_WORDS[byte % len(_WORDS)] for byte in digest]  # the same every time
    text = f"Scripted answer to: {script.question}"
    if words:
        text += "\n\n" + " ".join(words).capitalize() + "."
    annotations: list[Annotation] = []
    for statement, domain in _SOURCES if searched else ():
        start = len(text) + 2
        text += "\n\n" + statement
        url = f"https://{domain}/scripted"
        redirect = f"https://redirect.{domain}/scripted"
        annotations.append(Annotation(domain, redirect, url, start, len(text), statement))
    return Section(text, tuple(annotations) if asked else None)


def _first(named: int | None, otherwise: int) -> int:
    return otherwise if named is None else named


def _words_in(text: str) -> int:
    return len(text.split())


def _parse(user_prompt: str) -> _Script | Failure:
    if "[[" not in user_prompt:
        return _Script(question=" ".join(user_prompt.split()))
    question = " ".join(_DIRECTIVE.sub(" ", user_prompt).split())
    script = _Script(question=question)
    for found in _DIRECTIVE.finditer(user_prompt):
        name, _, value = found[1].partition("=")
        try:
            _direct(script, name.strip(), value.strip())
        except ValueError:
            return Failure(reason=f"bad directive: {found[0][:100]}")
    return script


def _direct(script: _Script, name: str, value: str) -> None:
    """Write one directive into the script. Raises ValueError when there is no such directive or value."""
    match name:
        case "latency" | "retry_after":
            setattr(script, name, _seconds(value))
        case "fail" | "blocked":
            if _REASON.fullmatch(value) is None:
                raise ValueError(value)
            setattr(script, name, value)
        case "fail_times" | "tokens_in" | "tokens_out" | "tokens_reasoning":
            setattr(script, name, _whole(value, TOKENS_MAX))
        case "words":
            script.words = _whole(value, WORDS_MAX)
        case "cost":
            script.cost = parse_usd(value)
            if script.cost < 0:
                raise ValueError(value)
        case "reasoning" if not value:
            script.reasoning = True
        case "search" if value in ("", "none"):
            script.search = not value
        case _:
            raise ValueError(name)


def _whole(value: str, largest: int) -> int:
    number = int(value)
    if not 0 <= number <= largest:
        raise ValueError(value)
    return number


def _seconds(value: str) -> float:
    number = float(value)
    if not (math.isfinite(number) and 0 <= number <= SECONDS_MAX):
        raise ValueError(value)
    return number
