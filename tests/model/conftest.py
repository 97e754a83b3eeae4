"""The machine, on each PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from restante.wiring import utc_now
from tests.model.base import House
from tests.model.leaving import Machine


@pytest.fixture
def machine(server_dsn: str, template: str) -> Iterator[type[Machine]]:
    """The machine on this server."""

    class Here(Machine):
        house = House(server_dsn, template, utc_now())

    yield Here
    Here.house.close()
