"""The machine, run: a short slice of the same examples each time, and hundreds of new ones in the long suite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from restante.wiring import utc_now
from tests.model.base import House
from tests.model.leaving import Machine

STEPS = 50
_common = settings(
    deadline=None, stateful_step_count=STEPS, suppress_health_check=list(HealthCheck), print_blob=True, database=None
)


@pytest.fixture
def machine(server_dsn: str, template: str) -> Iterator[type[Machine]]:
    """The machine on this server."""

    class Here(Machine):
        house = House(server_dsn, template, utc_now())

    yield Here
    Here.house.close()


def test_whatever_happens_the_database_says_what_the_book_says(machine: type[Machine]) -> None:
    run_state_machine_as_test(machine, settings=settings(_common, max_examples=8, derandomize=True))


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_whatever_happens_hundreds_of_times(machine: type[Machine]) -> None:
    run_state_machine_as_test(machine, settings=settings(_common, max_examples=300))
