"""The machine, run: a short slice of the same examples each time, and hundreds of new ones in the long suite."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.leaving import Machine

COMMON = settings(
    deadline=None, stateful_step_count=50, suppress_health_check=list(HealthCheck), print_blob=True, database=None
)
#: Rounds of new examples. Which of two at once comes first is not Hypothesis's to say, so what a beginning leads to
#: may differ; it calls that flaky when it meets the same beginning again, as it does in one long round.
ROUNDS = 60


@pytest.mark.timeout(600)  # on a machine that is busy with other things; some ten seconds otherwise
def test_whatever_happens_the_database_says_what_the_book_says(machine: type[Machine]) -> None:
    run_state_machine_as_test(machine, settings=settings(COMMON, max_examples=5, derandomize=True))


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_whatever_happens_hundreds_of_times(machine: type[Machine]) -> None:
    for _ in range(ROUNDS):
        run_state_machine_as_test(machine, settings=settings(COMMON, max_examples=5))
