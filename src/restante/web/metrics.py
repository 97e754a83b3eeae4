"""`/metrics`, as Prometheus reads it: what this process counted, and in the API what the database says of all.

It says what an installation earns and how busy it is, so that it is open to nobody: the operator's credentials, or a
token that is good for nothing else.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from restante import __version__
from restante.flow import accounts
from restante.flow.figures import InstallationFigures, Readings
from restante.observing import metrics
from restante.observing.kinds import Counter, Gauge, Histogram, Labels, Metric, Total
from restante.store.database import Database
from restante.store.errors import DatabaseLost
from restante.web.auth import Passwords

log = logging.getLogger("restante.metrics")

PATH: Final = "/metrics"
_PROCESS: Final = ProcessCollector(registry=None)
_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="restante metrics"'}

#: Gauges of one process: each is read when the page is.
Gauges = Mapping[Gauge, Callable[[], Mapping[Labels, float]]]


class Exposition:
    """What one process has to say. `role`: "api" or "worker"; `figures`: the database's, where it tells them."""

    def __init__(self, role: str, db: Database, gauges: Gauges, figures: InstallationFigures | None = None) -> None:
        self._gauges: Gauges = {
            metrics.BUILD_INFO: lambda: {(__version__, role): 1},
            metrics.DATABASE_CONNECTIONS: lambda: dict(zip((("used",), ("idle",)), db.connections[:2], strict=True)),
            metrics.DATABASE_CONNECTIONS_MAX: lambda: {(): db.connections[2]},
            **gauges,
        }
        self._role = role
        self._figures = figures

    async def page(self, accept: str) -> tuple[bytes, str]:
        """The text and its media type, of the formats that are accepted."""
        readings: Readings = {gauge: read() for gauge, read in self._gauges.items()}
        if self._figures is not None:
            readings = {**readings, **await self._figures.read()}
        encode, media_type = choose_encoder(accept)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Now([*self._families(readings), *_process()]))
        return encode(registry), media_type

    def _families(self, readings: Readings) -> Iterator[Family]:
        for metric in metrics.METRICS:
            if not (metric.api if self._role == "api" else metric.worker):
                continue
            match metric:
                case Gauge():
                    if metric in readings:
                        yield _gauge(metric, readings[metric])
                case Counter():
                    yield _counter(metric, metric.read())
                case Histogram():
                    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
                    for labels, buckets, total in metric.read():
                        family.add_metric(labels, buckets, total)
                    yield family


def _process() -> Iterable[Family]:
    """The process's memory, CPU time and files, as all Prometheus clients tell them."""
    try:
        return list(_PROCESS.collect())
    except ValueError:  # an unlimited number of files is no number to it
        return []


class _Now(Collector):
    """What was found, as the encoders want it."""

    def __init__(self, families: Sequence[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def _gauge(metric: Gauge, found: Mapping[Labels, float]) -> Family:
    if isinstance(metric, Total):
        return _counter(metric, found)
    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in found.items():
        family.add_metric(labels, value)
    return family


def _counter(metric: Metric, found: Mapping[Labels, float]) -> Family:
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in found.items():
        family.add_metric(labels, value)
    return family


class MetricsPage:
    """The endpoint. `token`: RESTANTE_METRICS_TOKEN; without one the operator's login and password open it."""

    def __init__(self, exposition: Exposition, db: Database, passwords: Passwords, token: str | None) -> None:
        self._exposition = exposition
        self._db = db
        self._passwords = passwords
        self._bearer = None if token is None else f"Bearer {token}".encode()

    def routes(self) -> list[Route]:
        """The path, for GET and HEAD."""
        return [Route(PATH, self.metrics)]

    async def metrics(self, request: Request) -> Response:
        """The page; 401 for strangers, 500 when nobody's password can be checked."""
        try:
            allowed = await self._may_read(request.headers.get("authorization", ""))
        except DatabaseLost as error:
            log.error("%s: 500, no password can be checked until the database is back: %s", PATH, error)
            return Response(status_code=500)
        if not allowed:
            return Response(status_code=401, headers=_CHALLENGE)
        body, media_type = await self._exposition.page(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": media_type, "Cache-Control": "no-store"})

    async def _may_read(self, proof: str) -> bool:
        if self._bearer is not None and proof[:7].lower() == "bearer ":
            return hmac.compare_digest(f"Bearer {proof[7:]}".encode(), self._bearer)
        caller = await self._passwords.check(proof)
        return caller is not None and caller.login == await accounts.operator(self._db)
