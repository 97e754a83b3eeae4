"""Writes docs/metrics.md from restante.observing.metrics: `python -m tests.docs.metrics > docs/metrics.md`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from restante.observing.kinds import Histogram, Metric
from restante.observing.metrics import BY_DATABASE, METRICS

_HEAD = """# Metrics

What `/metrics` says, in the formats of Prometheus and OpenMetrics. How to have it scraped, what to watch and what to do
about it: [observability.md](observability.md). This page is generated from `src/restante/observing/metrics.py`.

Times are in seconds, sizes in bytes, money in US dollars. No label holds what clients send: there are no URLs, logins,
tags or task ids in them. A provider is one of those configured, a model one of a provider's own names, a code one of
`appendix/errors`: the number of series is bounded by the configuration, not by the traffic.
"""
_PARTS: Final[tuple[tuple[str, str, Callable[[Metric], bool]], ...]] = (
    ("Every process", "Counted by the process itself, from its start on.", lambda m: m.api and m.worker),
    ("The API", "Counted by each API process itself.", lambda m: m.api and not m.worker),
    ("Workers", "Counted by each worker itself (RESTANTE_METRICS_LISTEN).", lambda m: m.worker and not m.api),
)
_DATABASE = """
## The database's truth

Of the whole installation, whatever its processes are. Every API process tells the same, some seconds old: take the
`max` over them, not the sum. While the database does not answer they are missing, but for `restante_database_up`.

"""
_PROCESS = """
## The process, as all Prometheus clients tell it

`process_start_time_seconds` (its age is `time() - process_start_time_seconds`), `process_cpu_seconds_total`,
`process_resident_memory_bytes`, `process_virtual_memory_bytes`, `process_open_fds`, `process_max_fds`.
"""


def render() -> str:
    """The page's text."""
    text = _HEAD
    for title, said, belongs in _PARTS:
        found = [one for one in METRICS if one not in BY_DATABASE and belongs(one)]
        text += f"\n## {title}\n\n{said}\n\n{_table(found)}"
    return text + _DATABASE + _table(BY_DATABASE) + _PROCESS


def _table(found: Sequence[Metric]) -> str:
    rows = [f"| {_name(one)} | {one.type} | {one.help} |\n" for one in found]
    return "| metric | type | what it says |\n|---|---|---|\n" + "".join(rows)


def _name(metric: Metric) -> str:
    name = f"`{metric.name}`" + (f" by {', '.join(f'`{label}`' for label in metric.labels)}" if metric.labels else "")
    if isinstance(metric, Histogram):
        name += f", to {metric.bounds[-1]:,g} s"
    return name


if __name__ == "__main__":
    print(render(), end="")
