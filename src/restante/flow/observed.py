"""What flows tell of themselves: one call for each thing that happened, counted and, where traces are on, recorded.

What is counted for many at once (a POST, a group commit) is told once for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

from restante.core.answer import Answer, Failure
from restante.core.errors import ERROR_CODES_FROM, OK_CODE, Refusal
from restante.core.task import Function
from restante.observing import metrics
from restante.observing.current import traceparent
from restante.observing.traces import TRACES, Span

if TYPE_CHECKING:
    from restante.core.task import Model
    from restante.providers.provider import Call
    from restante.store.deliveries import Leased
    from restante.store.queue import Claimed, Settlement
    from restante.webhooks.sender import Outcome

#: Providers by the names that the GenAI conventions have for them; others are told by their own.
_GENAI: Final = {"gemini": "gcp.gemini"}


def now() -> int:
    """Nanoseconds since 1970, for what begins."""
    return time.time_ns()


def accepted(models: Sequence[Model], ids: Sequence[str], fates: Sequence[Refusal | None], began: int) -> None:
    """A POST's good tasks were accepted, or refused for want of money and the like, each as its fate says."""
    ended = now()
    metrics.ACCEPT_SECONDS.observe((ended - began) / 1e9)
    for provider in {model.provider for model in models}:
        of = [fate for model, fate in zip(models, fates, strict=True) if model.provider == provider]
        metrics.TASKS_ACCEPTED.add(of.count(None), provider)
    if TRACES.recorder is not None:
        for task_id, model, fate in zip(ids, models, fates, strict=True):
            if fate is None:
                _first(TRACES.recorder.record, task_id, model, Function.TASK_POST, began, ended)


def live_began(task_id: str, model: Model, began: int) -> None:
    """A live task's money is held."""
    if TRACES.recorder is not None:
        _first(TRACES.recorder.record, task_id, model, Function.LIVE, began, now())


def live_ended(outcome: Answer | Refusal, began: int) -> None:
    """A live task was answered or not."""
    if isinstance(outcome, Answer):
        metrics.LIVE_TASKS.add(1, str(OK_CODE))
    else:
        metrics.LIVE_TASKS.add(1, str(outcome.code))
    metrics.LIVE_SECONDS.observe((now() - began) / 1e9)


def live_refused(why: Refusal) -> None:
    """A live task was refused before anything was asked."""
    metrics.LIVE_TASKS.add(1, str(why.code))


def called(provider: str, call: Call, outcome: Answer | Failure, began: int) -> None:
    """A provider answered a call, or failed to."""
    ended = now()
    kind = None if isinstance(outcome, Answer) else outcome.kind
    metrics.PROVIDER_CALLS.add(1, provider, call.model, kind or "answered")
    metrics.PROVIDER_SECONDS.observe((ended - began) / 1e9, provider)
    if isinstance(outcome, Answer):
        spent(provider, call.model, outcome)
    if TRACES.recorder is None:
        return
    prompt = call.prompt
    attributes: dict[str, str | int | float | bool] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _GENAI.get(provider, provider),
        "gen_ai.request.model": call.model,
        "gen_ai.request.max_tokens": prompt.max_output_tokens,
        "gen_ai.request.temperature": prompt.temperature,
        "gen_ai.request.top_p": prompt.top_p,
        "restante.web_search": prompt.web_search,
    }
    if isinstance(outcome, Answer):
        attributes |= {
            "gen_ai.response.model": outcome.model_name,
            "gen_ai.usage.input_tokens": outcome.input_tokens,
            "gen_ai.usage.output_tokens": outcome.output_tokens,
            "gen_ai.usage.reasoning.output_tokens": outcome.reasoning_tokens,
        }
    TRACES.recorder.record(Span(call.task_id, f"chat {call.model}", began, ended, "client", attributes, kind))


def spent(provider: str, model: str, answer: Answer) -> None:
    """What an answer took of the provider, whether it came by a call or in a batch."""
    metrics.PROVIDER_TOKENS.add(answer.input_tokens, provider, model, "input")
    metrics.PROVIDER_TOKENS.add(answer.output_tokens, provider, model, "output")
    metrics.PROVIDER_TOKENS.add(answer.reasoning_tokens, provider, model, "reasoning")
    metrics.PROVIDER_COST.add(answer.money_spent, provider, model)


def waited(provider: str, claimed: Claimed, at: datetime) -> None:
    """A task's call begins; told at its first one."""
    if not (claimed.tries or claimed.lost or claimed.wasted):
        metrics.TASK_WAIT_SECONDS.observe(_since(claimed, at), provider)


def done(provider: str, claimed: Claimed, at: datetime) -> None:
    """A task has ended and can be collected."""
    metrics.TASK_SECONDS.observe(_since(claimed, at), provider)


def _since(claimed: Claimed, at: datetime) -> float:
    return max(0.0, (at - claimed.posted_at).total_seconds())  # clocks of hosts differ a little


def settled(group: Sequence[Settlement], ids: Collection[str], began: int) -> None:
    """A group of settlements was committed; those of `ids` changed something, the others came late."""
    ended = now()
    metrics.SETTLE_SECONDS.observe((ended - began) / 1e9)
    charged = 0
    codes: dict[int, int] = {}
    for one in group:
        if one.id in ids:
            codes[one.code] = codes.get(one.code, 0) + 1
            charged += one.charged
    for code, number in codes.items():
        metrics.TASKS_SETTLED.add(number, str(code))
    metrics.CHARGED.add(charged)
    metrics.LATE_ANSWERS.add(len(group) - sum(codes.values()))
    if TRACES.recorder is not None:
        for one in group:
            if one.id in ids:
                error = str(one.code) if one.code >= ERROR_CODES_FROM else None
                attributes = {"restante.code": one.code, "restante.charged_nano_dollars": one.charged}
                TRACES.recorder.record(Span(one.id, "settle", began, ended, "internal", attributes, error))


def attempted(delivery: Leased, outcome: Outcome, began: int, *, last: bool) -> None:
    """An attempt to bring a webhook is over; `last`: it failed, and none comes after it."""
    ended = now()
    kind = delivery.kind.name.lower()
    metrics.WEBHOOK_ATTEMPTS.add(1, kind, outcome.word)
    if outcome.unsent is None:
        metrics.WEBHOOK_SECONDS.observe((ended - began) / 1e9)
    if last:
        metrics.WEBHOOKS_GIVEN_UP.add(1, kind)
    if TRACES.recorder is None:
        return
    attributes: dict[str, str | int | float | bool] = {
        "http.request.method": "GET" if delivery.body is None else "POST",
        "server.address": delivery.host,
        "restante.webhook.attempt": delivery.attempts + 1,
    }
    if outcome.status is not None:
        attributes["http.response.status_code"] = outcome.status
    error = None if outcome.error is None else outcome.word
    TRACES.recorder.record(Span(delivery.task_id, f"deliver {kind}", began, ended, "client", attributes, error))


def _first(
    record: Callable[[Span], None], task_id: str, model: Model, function: Function, began: int, ended: int
) -> None:
    attributes = {"gen_ai.request.model": model.name, "restante.function": function.name.lower()}
    record(Span(task_id, "accept", began, ended, "server", attributes, first=True, traceparent=traceparent.get()))
