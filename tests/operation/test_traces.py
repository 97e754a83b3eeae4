"""Traces as a collector receives them, by OTLP over HTTP, from real processes: one a task, from POST to webhook."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from restante.config import load
from restante.core.errors import OperatorError
from restante.core.limits import TRACES_FLUSH_SECONDS
from restante.observing import otel
from restante.observing.traces import TRACES, Span, first_span_id, trace_id
from restante.wiring import tracing
from tests.chaos.processes import House, house
from tests.support import Http, task
from tests.webhooks.receiver import receiving

CALLER: Final = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
PROMPT: Final = "kx7 what nobody but the model shall read"


class Spans:
    """Everything that came in."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self.roles: dict[bytes, str] = {}  # by span id
        self.came = asyncio.Event()
        self.raw = b""

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        body = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        self.raw += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            role = values(resource.resource.attributes)["restante.role"]
            for scope in resource.scope_spans:
                self.all += scope.spans
                self.roles |= {span.span_id: str(role) for span in scope.spans}
        self.came.set()
        return web.Response(content_type="application/x-protobuf")

    async def of(self, task_id: str, names: Sequence[str]) -> dict[str, Any]:
        """The spans of a task's trace by their names, once all of these have come."""
        async with asyncio.timeout(30):
            while True:
                self.came.clear()
                trace = trace_id(task_id).to_bytes(16)
                found = [span for span in self.all if span.trace_id == trace]
                if {span.name for span in found} >= set(names):
                    assert sorted(span.name for span in found) == sorted(names)
                    return {span.name: span for span in found}
                await self.came.wait()


def values(attributes: Any) -> dict[str, object]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextlib.asynccontextmanager
async def collecting() -> AsyncIterator[tuple[Spans, str]]:
    """A collector for the block, and its URL."""
    spans = Spans()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/v1/traces", spans.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield spans, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _up(made: House, endpoint: str) -> None:
    made.env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    made.up(WEBHOOK_ALLOW="127.0.0.1", LOG_FORMAT="json")


async def test_one_trace_from_post_to_webhook(tmp_path: Path) -> None:
    async with collecting() as (spans, endpoint), receiving() as receiver:
        with house(tmp_path) as made:
            await asyncio.to_thread(_up, made, endpoint)
            async with Http(made.url + "/v3/ai_optimization/gemini/llm_responses") as http:
                http._session.headers["traceparent"] = f"00-{CALLER[0]}-{CALLER[1]}-01"
                posted = await http.post(
                    [
                        task(PROMPT + " [[tokens_in=120]] [[tokens_out=30]]", postback_url=f"{receiver.url}/$id"),
                        task(PROMPT + " [[fail=a reason]]"),
                    ]
                )
                live = await http.post([task(PROMPT)], "live")
                good, bad = (entry["id"] for entry in posted["tasks"])
                await _check_answered(spans, good, receiver.port)
                await _check_failed(spans, bad)
                found = await spans.of(live["tasks"][0]["id"], ["accept", "chat gemini-2.5-flash", "settle"])
                assert {spans.roles[span.span_id] for span in found.values()} == {"api"}
            assert b"kx7" not in spans.raw, "the prompt was told"
            log = (tmp_path / "up.err").read_text()
            assert f'"trace_id":"{trace_id(bad):032x}"' in log or f'"task":"{bad}"' not in log


async def _check_answered(spans: Spans, task_id: str, port: int) -> None:
    call = "chat gemini-2.5-flash"
    found = await spans.of(task_id, ["accept", call, "settle", "deliver postback"])
    first = found["accept"]
    assert int.from_bytes(first.span_id) == first_span_id(task_id) and not first.parent_span_id
    assert [(link.trace_id.hex(), link.span_id.hex()) for link in first.links] == [CALLER]
    assert {spans.roles[span.span_id] for span in found.values()} == {"api", "worker"}
    assert spans.roles[first.span_id] == "api"
    for name, span in found.items():
        assert span.parent_span_id == (b"" if name == "accept" else first.span_id)
        assert values(span.attributes)["restante.task.id"] == task_id
        assert first.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
    assert found[call].end_time_unix_nano <= found["settle"].end_time_unix_nano
    told = values(found[call].attributes)
    assert told["gen_ai.operation.name"] == "chat" and told["gen_ai.provider.name"] == "scripted"
    assert told["gen_ai.request.model"] == told["gen_ai.response.model"] == "gemini-2.5-flash"
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (120, 30)
    assert told["gen_ai.request.max_tokens"] == 2048
    assert values(found["settle"].attributes)["restante.code"] == 20000
    brought = values(found["deliver postback"].attributes)
    assert brought["server.address"] == f"127.0.0.1:{port}" and brought["http.response.status_code"] == 200


async def _check_failed(spans: Spans, task_id: str) -> None:
    found = await spans.of(task_id, ["accept", "chat gemini-2.5-flash", "settle"])
    for name, error in (("chat gemini-2.5-flash", "refused"), ("settle", "50301")):
        assert found[name].status.code == 2 and values(found[name].attributes)["error.type"] == error


def test_all_processes_agree_on_what_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ratio is judged by the trace id, which each process makes of the task's: whole traces or none."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    kept = []
    for first in (True, False):  # the API begins the trace, a worker goes on in it
        exporter = InMemorySpanExporter()
        monkeypatch.setattr(otel, "OTLPSpanExporter", lambda exporter=exporter: exporter)
        recorder = otel.OpenTelemetry("test")
        for number in range(100):
            recorder.record(Span(f"11221330-0001-0613-0000-{number:012x}", "a span", 1, 2, first=first))
        recorder.close()
        kept.append({(span.attributes or {})["restante.task.id"] for span in exporter.get_finished_spans()})
    assert kept[0] == kept[1] and 20 < len(kept[0]) < 80


async def test_a_collector_that_is_away_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither who records nor who stops; what cannot be sent is dropped."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    async with asyncio.timeout(5 * TRACES_FLUSH_SECONDS), tracing(load({"RESTANTE_PROVIDER": "scripted"}), "api"):
        assert TRACES.recorder is not None
        TRACES.recorder.record(Span("11221330-0001-0613-0000-000000000001", "a span", 1, 2))
    assert TRACES.recorder is None


def test_without_being_asked_nothing_of_it_is_imported() -> None:
    """Nor is Prometheus' client by commands that serve nothing."""
    for modules, unwanted in (("restante.app, restante.worker", "opentelemetry"), ("restante.cli", "prometheus")):
        code = f"import sys, {modules}; sys.exit(any(name.startswith({unwanted!r}) for name in sys.modules))"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0, modules


@pytest.mark.parametrize("asked", ["on", "auto", "off"])
async def test_without_the_extra_it_says_what_is_missing(
    asked: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`on` does not start, `auto` goes on without, `off` says nothing."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "restante.observing.otel", None)  # importing it raises ImportError
    told = contextlib.nullcontext() if asked != "on" else pytest.raises(OperatorError, match=r"restante\[otel\]")
    with told:
        async with tracing(load({"RESTANTE_PROVIDER": "scripted", "RESTANTE_OTEL": asked}), "api"):
            assert TRACES.recorder is None
    assert ("pip install 'restante[otel]'" in caplog.text) == (asked == "auto")


async def test_traces_are_off_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    async with tracing(load({"RESTANTE_PROVIDER": "scripted"}), "api"):
        assert TRACES.recorder is None
