"""The installation's figures as metrics have them: read when somebody asks, believed for a few seconds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from restante.core.limits import FIGURES_DATABASE_SECONDS, FIGURES_SECONDS
from restante.core.money import NANO_PER_USD
from restante.observing import metrics
from restante.observing.kinds import Gauge, Labels
from restante.store import figures, health
from restante.store.database import Database
from restante.store.errors import DatabaseLost

log = logging.getLogger("restante.metrics")

Readings = Mapping[Gauge, Mapping[Labels, float]]


class InstallationFigures:
    """What all processes share, of these providers; one per API process."""

    def __init__(self, db: Database, providers: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._db = db
        self._providers = providers
        self._clock = clock
        self._reading = asyncio.Lock()
        self._read_at = float("-inf")
        self._last: Readings = {}

    async def read(self) -> Readings:
        """The figures, some seconds old at the most. Where the database does not answer, only that it does not."""
        async with self._reading:  # whoever comes meanwhile has the same
            if self._clock() - self._read_at >= FIGURES_SECONDS:
                self._last = await self._look()
                self._read_at = self._clock()
        return self._last

    async def _look(self) -> Readings:
        try:
            async with asyncio.timeout(FIGURES_DATABASE_SECONDS):
                return {metrics.DATABASE_UP: {(): 1}, **await self._all(), **await self._by_provider()}
        except (DatabaseLost, TimeoutError) as error:
            log.warning("the database's figures are missing from /metrics: %s", error or "it does not answer")
            return {metrics.DATABASE_UP: {(): 0}}

    async def _all(self) -> Readings:
        found = await figures.figures(self._db)
        ready = await figures.ready(self._db)
        oldest = await health.oldest_delivery(self._db)
        audited = await figures.audited(self._db)
        return {
            metrics.AUDIT_AGE: {} if audited is None else {(): audited[0]},
            metrics.AUDIT_DIFFERENCES: {} if audited is None else {(): audited[1]},
            metrics.QUEUE_READY: ready,
            metrics.QUEUE_PARKED: {("time",): found.parked, ("unpaid",): found.unpaid},
            metrics.QUEUE_RUNNING: {(): found.running},
            metrics.LIVE_AT_WORK: {(): found.live},
            metrics.WORKERS: {(): found.workers},
            metrics.WEBHOOKS_WAITING: {("ready",): found.webhooks_ready, ("retry",): found.webhooks_retry},
            metrics.WEBHOOKS_OLDEST: {(): oldest or 0.0},
            metrics.WEBHOOK_HOSTS_FAILING: {(): found.hosts_failing},
            metrics.BALANCE: {(): found.balance / NANO_PER_USD},
            metrics.HELD: {(): found.held / NANO_PER_USD},
            metrics.SPENT: {(): found.spent / NANO_PER_USD},
        }

    async def _by_provider(self) -> Readings:
        oldest: dict[Labels, float] = {}
        serving: dict[Labels, float] = {}
        calls: dict[Labels, float] = {}
        failed: dict[Labels, float] = {}
        for name in self._providers:
            of = (name,)
            oldest[of] = await health.oldest_ready(self._db, name) or 0.0
            found = await health.processes(self._db, name)
            serving[of], calls[of], failed[of] = found.serving, found.calls, found.failed
        return {
            metrics.QUEUE_OLDEST: oldest,
            metrics.WORKERS_SERVING: serving,
            metrics.RECENT_CALLS: calls,
            metrics.RECENT_FAILED: failed,
        }
