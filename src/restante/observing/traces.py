"""One trace a task, from POST to webhook, over all processes.

A task's trace id and its first span's id are made of the task's id. So each process knows them without being told, and
nothing is stored: the API records `accept`, a worker the model's call, `settle` and `deliver`, hours later maybe, each
under the first. OpenTelemetry itself is imported only where traces are on (restante.observing.otel).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, Protocol

Kind = Literal["server", "client", "internal"]
Attributes = Mapping[str, str | int | float | bool]


class Span(NamedTuple):
    """Something that was done for a task; times in nanoseconds since 1970. `error`: a word for what went wrong.
    `first`: the trace begins with it. `traceparent`: of the call behind it, which is linked."""

    task_id: str
    name: str
    began: int
    ended: int
    kind: Kind = "internal"
    attributes: Attributes = MappingProxyType({})
    error: str | None = None
    first: bool = False
    traceparent: str | None = None


class Recorder(Protocol):
    """Who takes spans: at once, without waiting and without raising."""

    def record(self, span: Span) -> None: ...


class _Traces:
    """Where spans go in this process; nowhere unless traces are on."""

    recorder: Recorder | None = None


TRACES: Final = _Traces()


def trace_id(task_id: str) -> int:
    """128 bits that look random, of which samplers use the last 64."""
    return int.from_bytes(_digest(task_id)[:16]) or 1  # 0 is no id


def first_span_id(task_id: str) -> int:
    """64 bits."""
    return int.from_bytes(_digest(task_id)[16:]) or 1


def _digest(task_id: str) -> bytes:
    return hashlib.blake2b(task_id.lower().encode(), digest_size=24, person=b"restante trace").digest()
