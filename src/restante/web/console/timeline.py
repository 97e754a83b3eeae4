"""What happened to a task, in its order: from what the database recorded, and saying so where it recorded no time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from restante.core.money import show_usd
from restante.core.task import Function, State
from restante.store.console_tasks import Attempt, Delivery, Whole
from restante.store.deliveries import Kind
from restante.web.console.answers import Said
from restante.web.console.render import duration

_HOOK: Final = {Kind.PINGBACK: "pingback", Kind.POSTBACK: "postback"}


class Event(msgspec.Struct, frozen=True):
    """One thing that happened. `at` None: when is not recorded, or it has not happened yet (`pending`). `mood`: good,
    bad, busy or plain, as its dot is coloured; `facts` in words."""

    what: str
    at: datetime | None = None
    facts: list[str] = []
    mood: str = "plain"
    pending: bool = False


def timeline(task: Whole, said: Said | None) -> list[Event]:
    """Every event of a task, oldest first."""
    events = [*_taken(task), *_run(task, said), *_ended(task)]
    hooks = [event for delivery in task.deliveries for event in _brought(delivery)]
    hooks.sort(key=lambda event: (event.at is None, event.at or task.posted_at))
    return [*events, *hooks, *_collected(task)]


def _taken(task: Whole) -> Iterator[Event]:
    live = task.function == Function.LIVE
    where = [f"for {task.model} at {task.provider}"] if task.model else []
    yield Event("Accepted", task.posted_at, [f"by {'live' if live else 'task_post'}", *where])
    together = "" if live else ", in one hold with the others of its POST"
    yield Event("Money held", task.posted_at, [f"${show_usd(task.held)}{together}"])


def _run(task: Whole, said: Said | None) -> Iterator[Event]:
    tried = task.trail or task
    if tried.lost:
        yield Event(
            "Leases lost", None, [f"{tried.lost} times a worker died or lost touch while it had the task"], "bad"
        )
    if tried.tries or tried.wasted:
        paid = f", {tried.wasted} of them paid for in vain" if tried.wasted else ""
        yield Event("Put off", None, [f"{max(tried.tries, tried.wasted)} calls gave no answer{paid}"], "bad")
    if task.trail is not None:
        claimed = datetime.fromtimestamp(task.trail.claimed_at / 1_000, UTC)
        yield Event("Claimed", claimed, [f"by {task.trail.worker}"])
        paced = [f"after {duration(task.trail.paced / 1_000)} of pacing"] if task.trail.paced >= 5 else []
        called = claimed + timedelta(milliseconds=task.trail.paced)
        took = f"took {duration(task.trail.called / 1_000)}"
        yield Event(
            "Model called", called, [took, *paced, *_spoken(said)], "good" if task.state == State.DONE else "bad"
        )
    elif task.batch_saved is not None:
        yield Event("Answered in a batch", None, [f"${show_usd(task.batch_saved)} cheaper", *_spoken(said)], "good")
    elif said is not None:
        yield Event("Model called", None, _spoken(said), "good")
    if task.state == State.QUEUED:
        yield _now(task)


def _spoken(said: Said | None) -> list[str]:
    if said is None:
        return []
    reasoned = f" ({said.reasoning_tokens:,} of it reasoning)" if said.reasoning_tokens else ""
    facts = [said.model_name, f"{said.input_tokens:,} tokens in, {said.output_tokens:,} out{reasoned}"]
    return facts + (["searched the web"] if said.web_search else [])


def _now(task: Whole) -> Event:
    """What an unfinished task is doing."""
    if task.queue_state == 2:
        by = [f"by {task.worker}"] if task.worker else []
        return Event("Running", None, by, "busy", pending=True)
    if task.batch is not None:
        words = [f"in {task.batch_name}" if task.batch_name else "gathers for a batch"]
        return Event("In a batch", task.batch_asked_at, words, "busy", pending=True)
    if task.queue_state == 1 and task.run_at is not None:
        if task.run_at.year > 9_000:
            return Event("Waits", None, ["until its account has money again or is resumed"], "bad", pending=True)
        return Event("Tried again", task.run_at, ["after a failure that may pass"], "bad", pending=True)
    return Event("Queued", None, ["waits for a worker"], "busy", pending=True)


def _ended(task: Whole) -> Iterator[Event]:
    if task.settled_at is None or task.charged is None:
        return
    back = task.held - task.charged
    money = [f"${show_usd(task.charged)} charged"]
    if back > 0:
        money.append(f"${show_usd(back)} released")
    elif back < 0:
        money.append(f"${show_usd(-back)} more than was held, from the balance")
    if task.state == State.DONE:
        dated = [f"at the prices of {task.price_date}"] if task.price_date else []
        yield Event("Answered and settled", task.settled_at, money + dated, "good")
    else:
        why = [f"{task.code}: {task.message}" if task.message else f"{task.code}"]
        yield Event("Failed and settled", task.settled_at, why + money, "bad")


def _brought(delivery: Delivery) -> Iterator[Event]:
    name = _HOOK[delivery.kind]
    for number, one in enumerate(delivery.attempts, 1):
        good = one.error is None
        what = f"{name.capitalize()} {'delivered' if good else 'failed'}"
        yield Event(what, one.made_at, [f"attempt {number}", *_answered(one)], "good" if good else "bad")
    if delivery.state in (0, 1, 2):
        at = delivery.run_at if delivery.state == 1 else None
        what = f"{name.capitalize()} is being sent" if delivery.state == 2 else f"{name.capitalize()} to be sent"
        yield Event(what, at, [delivery.url], "busy", pending=True)
    elif delivery.state == 4:
        yield Event(f"{name.capitalize()} given up", None, ["it can be sent again"], "bad")


def _answered(one: Attempt) -> list[str]:
    status = "no answer" if one.status is None else f"HTTP {one.status}"
    return [status, duration(one.milliseconds / 1_000), *([one.error] if one.error else [])]


def _collected(task: Whole) -> Iterator[Event]:
    if task.state == State.QUEUED or task.function == Function.LIVE or (task.message is None and task.result is None):
        return
    hooks = [one for one in task.deliveries if one.kind is Kind.POSTBACK]
    if task.listed_at is not None:
        yield Event("Listed in tasks_ready", task.listed_at, ["waits to be collected"], "busy", pending=True)
    elif any(one.collected for one in hooks):
        yield Event("Collected", None, ["with task_get"], "good")
    elif hooks and all(one.error is None for hook in hooks for one in hook.attempts[:1]):
        return  # brought, and never listed
    else:
        yield Event("Off tasks_ready", None, ["collected with task_get, or its three days were over"], "good")
