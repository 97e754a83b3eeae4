"""Counters, histograms and gauges, as light as the hot path needs them; `restante.web.metrics` writes them out.

Prometheus' own classes take a lock for each step and a tenth of a second to import, in every command. Here a step is a
line of arithmetic on the event loop's thread, and the only one: **nothing here may be called from another thread**.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

Labels = tuple[str, ...]  # values, in the order of a metric's label names


class Metric:
    """A name as Prometheus knows it, what it means, and its labels' names. `api`, `worker`: which process has it."""

    type = "untyped"

    def __init__(self, name: str, help: str, labels: Labels = (), *, api: bool = True, worker: bool = True) -> None:
        self.name = name
        self.help = help
        self.labels = labels
        self.api = api
        self.worker = worker


class Gauge(Metric):
    """What is so now. It is read when somebody asks: see `restante.web.metrics.Exposition`."""

    type = "gauge"


class Counter(Metric):
    """What happened since the process began. `per`: how many of what is added make one (nano-dollars: a dollar)."""

    type = "counter"

    def __init__(
        self,
        name: str,
        help: str,
        labels: Labels = (),
        *,
        per: int = 1,
        known: Sequence[Labels] = (),
        api: bool = True,
        worker: bool = True,
    ) -> None:
        """`known`: labels that are shown from the start, at zero, so that the first of them is an increase."""
        super().__init__(name, help, labels, api=api, worker=worker)
        self.per = per
        self.values: dict[Labels, int] = dict.fromkeys(known if labels else ((),), 0)

    def add(self, number: int = 1, *labels: str) -> None:
        """So many more."""
        self.values[labels] = self.values.get(labels, 0) + number

    def read(self) -> Mapping[Labels, float]:
        """The counts until now."""
        return self.values if self.per == 1 else {labels: number / self.per for labels, number in self.values.items()}


class Total(Gauge):
    """A counter that somebody else keeps (the database), over all processes; read as a gauge is."""

    type = "counter"


class Histogram(Metric):
    """How long things took, in seconds: how many of them up to each of `bounds`."""

    type = "histogram"

    def __init__(
        self,
        name: str,
        help: str,
        labels: Labels = (),
        *,
        bounds: Sequence[float],
        api: bool = True,
        worker: bool = True,
    ) -> None:
        super().__init__(name, help, labels, api=api, worker=worker)
        self.bounds = tuple(bounds)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        if not labels:
            self._first(())

    def observe(self, seconds: float, *labels: str) -> None:
        """One more."""
        counts = self._counts.get(labels) or self._first(labels)
        counts[bisect_left(self.bounds, seconds)] += 1
        self._sums[labels] += seconds

    def read(self) -> Iterator[tuple[Labels, list[tuple[str, float]], float]]:
        """For each of the labels: how many up to each bound ("+Inf" the last), and the sum of all."""
        names = [*(f"{bound:g}" for bound in self.bounds), "+Inf"]
        for labels, counts in self._counts.items():
            upto = 0
            buckets: list[tuple[str, float]] = []
            for name, count in zip(names, counts, strict=True):
                upto += count
                buckets.append((name, upto))
            yield labels, buckets, self._sums[labels]

    def _first(self, labels: Labels) -> list[int]:
        self._sums[labels] = 0.0
        counts = self._counts[labels] = [0] * (len(self.bounds) + 1)
        return counts
