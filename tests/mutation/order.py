"""A pytest plugin for mutants: quick tests first, by the durations that mutmut measured. The first failure ends it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

_MEASURED = Path("mutmut-stats.json")  # in mutants/, where mutmut runs the tests


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort; what was not measured comes last. Stable, so that a parameter's server is not started twice."""
    if _MEASURED.exists():
        seconds = json.loads(_MEASURED.read_text())["duration_by_test"]
        items.sort(key=lambda item: seconds.get(item.nodeid, float("inf")))
