"""Health, as status tells it (contract §3.9): how the provider does, how long work waits, who lives.

Each process counts in memory how its provider's calls ended and writes that with its heartbeat, so that any API
process can tell of all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec

from restante.core.answer import Answer, Failure
from restante.core.limits import (
    STATUS_CALLS_BUCKET_SECONDS,
    STATUS_CALLS_MIN,
    STATUS_CALLS_SECONDS,
    STATUS_FAILED_SHARE,
    STATUS_QUEUE_SECONDS,
    STATUS_WEBHOOK_SECONDS,
)
from restante.store import health
from restante.store.database import Session
from restante.store.health import Processes


class Status(StrEnum):
    """The documented values that occur here, the worst last; OK is restante's own (contract §12.22)."""

    OK = "ok"
    WEBHOOK_DELAY = "webhook_delay"
    LONG_EXECUTION_TIME = "long_execution_time"
    PARTIAL_OUTAGE = "partial_outage"
    MAJOR_OUTAGE = "major_outage"


def worst(statuses: list[Status]) -> Status:
    """The worst of them; OK when there are none."""
    order = list(Status)
    return max(statuses, key=order.index, default=Status.OK)


class Health(msgspec.Struct, frozen=True):
    """The status of each kind of endpoint."""

    task_post: Status
    task_get: Status
    live: Status
    webhooks: Status


class Report(msgspec.Struct, frozen=True):
    """What a process says of its provider: calls of the last five minutes, of which so many failed, and when (seconds
    since 1970, 0: never) the provider last rejected and last took the key."""

    calls: int
    failed: int
    rejected_at: float
    taken_at: float


class Counts:
    """How the calls of a provider ended, as flow/pacing hears of them. A call fails when the provider is at fault: its
    failure is transient, or it broke, or it ignored its time-out. What is wrong with a prompt, a safety filter
    included, is no failure of it."""

    def __init__(
        self, name: str, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._now = now
        self._buckets: dict[int, list[int]] = {}  # number of the bucket -> [calls, failed]
        self._rejected_at = 0.0
        self._taken_at = 0.0
        self.name = name

    def heard(self, outcome: Answer | Failure) -> None:
        """A call ended so."""
        if isinstance(outcome, Failure):
            self._count(failed=outcome.transient or outcome.waits)
            if outcome.waits and not outcome.doubts_key:  # of keys, flow/keys knows more
                self._rejected_at = self._now()
        else:
            self._count(failed=False)
            self._taken_at = self._now()

    def report(self) -> str:
        """The Report, as JSON."""
        self._forget()
        calls, failed = (sum(bucket[part] for bucket in self._buckets.values()) for part in (0, 1))
        return msgspec.json.encode(Report(calls, failed, self._rejected_at, self._taken_at)).decode()

    def _count(self, *, failed: bool) -> None:
        bucket = self._buckets.setdefault(self._number(), [0, 0])
        bucket[0] += 1
        bucket[1] += failed
        if len(self._buckets) > STATUS_CALLS_SECONDS // STATUS_CALLS_BUCKET_SECONDS + 1:
            self._forget()

    def _forget(self) -> None:
        oldest = self._number() - STATUS_CALLS_SECONDS // STATUS_CALLS_BUCKET_SECONDS
        self._buckets = {number: counts for number, counts in self._buckets.items() if number > oldest}

    def _number(self) -> int:
        return int(self._clock()) // STATUS_CALLS_BUCKET_SECONDS


def judge(
    processes: Processes, ready_seconds: float | None, delivery_seconds: float | None, *, shut: bool = False
) -> Health:
    """What these figures mean. `ready_seconds`, `delivery_seconds`: how long the oldest of each waits, None: none.
    `shut`: the provider takes none of its keys (restante.flow.keys)."""
    provider = Status.MAJOR_OUTAGE if shut else _provider(processes)
    posted = [provider]
    if not processes.serving:
        posted.append(Status.MAJOR_OUTAGE)
    if (ready_seconds or 0) > STATUS_QUEUE_SECONDS:
        posted.append(Status.LONG_EXECUTION_TIME)
    webhooks = Status.OK
    if not processes.workers:  # nobody sends any
        webhooks = Status.MAJOR_OUTAGE
    elif (delivery_seconds or 0) > STATUS_WEBHOOK_SECONDS:
        webhooks = Status.WEBHOOK_DELAY
    # Whoever can ask for this status can fetch answers: both are one statement on the same database.
    return Health(task_post=worst(posted), task_get=Status.OK, live=provider, webhooks=webhooks)


def _provider(processes: Processes) -> Status:
    if processes.rejected_at > processes.taken_at:
        return Status.MAJOR_OUTAGE
    if processes.calls >= STATUS_CALLS_MIN and processes.failed > STATUS_FAILED_SHARE * processes.calls:
        return Status.PARTIAL_OUTAGE
    return Status.OK


async def look(
    db: Session, providers: Sequence[str], faults: Callable[[Sequence[str]], Sequence[str]] = lambda names: ()
) -> Health:
    """The installation's health now, for what is posted to its providers; `faults` are those of their keys. Raises
    DatabaseLost."""
    delivery = await health.oldest_delivery(db)
    each = []
    for name in providers:
        found, ready = await health.processes(db, name), await health.oldest_ready(db, name)
        each.append(judge(found, ready, delivery, shut=bool(faults([name]))))
    return together(each)


def together(each: Sequence[Health]) -> Health:
    """The health of an installation from that of each of its providers: a major outage is one of all of them."""

    def of(statuses: list[Status]) -> Status:
        bad = worst(statuses)
        return Status.PARTIAL_OUTAGE if bad is Status.MAJOR_OUTAGE and {*statuses} != {bad} else bad

    return Health(*(of([getattr(one, field) for one in each]) for field in Health.__struct_fields__))


def report(counts: Sequence[Counts]) -> str:
    """What a process says of all its providers, by their names: the JSON that a heartbeat carries."""
    return msgspec.json.encode({one.name: msgspec.Raw(one.report().encode()) for one in counts}).decode()
