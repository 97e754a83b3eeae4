"""A pytest plugin for mutants: quick tests first, by the durations that mutmut measured, since the first failure ends
it. Most mutants fall to the tests of their own module, so that only what survived these meets all the others."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

#: Set: every test is run.
ALL = "MUTATION_ALL_TESTS"

#: By the last part of a module's name.
OWN = {
    "money": ("test_money.py", "test_settle.py"),
    "settle": ("test_settle.py", "test_billing.py"),
    "accept": ("test_accept.py", "test_billing.py", "test_idempotency.py"),
    "deliver": ("test_owed.py", "test_deliver.py", "test_deliverer.py", "test_slots.py"),
}

_MEASURED = Path("mutmut-stats.json")  # in mutants/, where mutmut runs the tests
_SLOW_SECONDS = 5.0


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort, and drop what the first round does without."""
    if not _MEASURED.exists():
        return
    seconds = json.loads(_MEASURED.read_text())["duration_by_test"]
    items.sort(key=lambda item: seconds.get(item.nodeid, 0.0))
    module, _, mutant = os.environ["MUTANT_UNDER_TEST"].rpartition(".")
    if ALL in os.environ or "__mutmut_" not in mutant:
        return
    own = OWN[module.rpartition(".")[2]]
    quick = [item for item in items if item.path.name in own and seconds.get(item.nodeid, 0.0) <= _SLOW_SECONDS]
    kept = quick or items  # all are slow, or others': "no tests" would be taken for neither killed nor survived
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept
