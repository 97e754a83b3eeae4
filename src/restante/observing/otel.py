"""OpenTelemetry behind restante.observing.traces. Imported where traces are on, and nowhere else.

The exporter is configured by the standard variables (OTEL_EXPORTER_OTLP_ENDPOINT, _HEADERS, OTEL_TRACES_SAMPLER,
OTEL_RESOURCE_ATTRIBUTES ...). It sends from a thread of its own; what it cannot send is dropped, never waited for.
"""

from __future__ import annotations

import os
import socket
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from restante import __version__
from restante.core.limits import TRACES_FLUSH_SECONDS
from restante.observing.traces import Span, first_span_id, trace_id

_KINDS: Final = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}


class _Ids(IdGenerator):
    """Random ids, but for a first span those of its task."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self.of: str | None = None

    def generate_trace_id(self) -> int:
        return self._random.generate_trace_id() if self.of is None else trace_id(self.of)

    def generate_span_id(self) -> int:
        return self._random.generate_span_id() if self.of is None else first_span_id(self.of)

    def is_trace_id_random(self) -> bool:
        return True


class OpenTelemetry:
    """Records spans and sends them in batches. `role`: what this process is."""

    def __init__(self, role: str) -> None:
        name = os.environ.get("OTEL_SERVICE_NAME") or "restante"
        resource = Resource.create(
            {
                "service.name": name,
                "service.version": __version__,
                "service.instance.id": f"{socket.gethostname()}-{os.getpid()}",
                "restante.role": role,
            }
        )
        self._ids = _Ids()
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("restante", __version__)

    def record(self, span: Span) -> None:
        """Take a span, if it is sampled: whether it is follows from its trace id, so that all processes agree."""
        self._ids.of = span.task_id if span.first else None
        try:
            recorded = self._tracer.start_span(
                span.name,
                Context() if span.first else self._under_first(span.task_id),
                _KINDS[span.kind],
                {"restante.task.id": span.task_id, **span.attributes},
                _links(span.traceparent),
                span.began,
            )
        finally:
            self._ids.of = None
        if span.error is not None:
            recorded.set_status(Status(StatusCode.ERROR, span.error))
            recorded.set_attribute("error.type", span.error)
        recorded.end(span.ended)

    def close(self) -> None:
        """Send what is left, for a few seconds at the most. Blocks."""
        self._provider.force_flush(int(TRACES_FLUSH_SECONDS * 1_000))
        self._provider.shutdown()

    def _under_first(self, task_id: str) -> Context:
        """The context of whoever goes on in a task's trace."""
        trace_of = trace_id(task_id)
        sampled = self._provider.sampler.should_sample(None, trace_of, "accept").decision is Decision.RECORD_AND_SAMPLE
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        first = SpanContext(trace_of, first_span_id(task_id), is_remote=True, trace_flags=flags)
        return trace.set_span_in_context(NonRecordingSpan(first), Context())


def _links(traceparent: str | None) -> list[Link]:
    if traceparent is None:
        return []
    found = TraceContextTextMapPropagator().extract({"traceparent": traceparent}, Context())
    caller = trace.get_current_span(found).get_span_context()
    return [Link(caller)] if caller.is_valid else []
