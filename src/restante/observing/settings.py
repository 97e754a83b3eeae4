"""Settings of what a process tells of itself; a part of restante.config.Settings."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from restante.core.errors import OperatorError
from restante.core.limits import METRICS_TOKEN_CHARS_MIN

_ADDRESS: Final = re.compile(r"(?:(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):)?([0-9]{1,5})")


class Observing(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may decide of metrics, traces and the log."""

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="How much is logged, to standard error.")
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"],
        Meta(description="`json`: one JSON object a line, with the task and the account that it is about."),
    ] = "text"
    metrics_token: Annotated[
        Annotated[str, Meta(min_length=METRICS_TOKEN_CHARS_MIN)] | None,
        Meta(
            description="Whoever sends it as `Authorization: Bearer …` may read `/metrics`, and nothing else; beside it"
            " the operator's login and password may."
        ),
    ] = None
    metrics_listen: Annotated[
        str | None,
        Meta(
            description="Where a worker serves its own `/metrics`, `/healthz` and `/readyz`: `127.0.0.1:9464`, or only"
            " a port. Those of `restante up` take this port and the following ones. By default nowhere; the API serves"
            " its own on its port."
        ),
    ] = None
    otel: Annotated[
        Literal["auto", "on", "off"],
        Meta(
            description="OpenTelemetry traces from POST to webhook, sent by OTLP over HTTP (`pip install"
            " 'restante[otel]'`). `auto`: when OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT is"
            " set. See docs/observability.md."
        ),
    ] = "auto"

    def metrics_address(self) -> tuple[str, int] | None:
        """Host and port of RESTANTE_METRICS_LISTEN; None: nowhere. Raises OperatorError."""
        if self.metrics_listen is None:
            return None
        found = _ADDRESS.fullmatch(self.metrics_listen)
        if found is None or int(found[2]) > 65_535:
            raise OperatorError(
                f"RESTANTE_METRICS_LISTEN cannot be used: {self.metrics_listen!r} is no address and port.",
                "Such as 127.0.0.1:9464, [::1]:9464, or 9464.",
            )
        return (found[1] or "127.0.0.1").strip("[]"), int(found[2])
