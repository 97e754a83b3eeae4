"""A patient for `restante doctor`: settings of a test's own and its database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from restante.config import load
from restante.doctor.finding import Patient
from restante.store.database import Database
from restante.wiring import utc_now

Ill = Callable[..., Patient]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """CI has each of these on one PostgreSQL only, and `make test-long` on both: what differs between them is met by
    the examination of a new database, which has both always."""
    for item in items:
        module, name = item.nodeid.split("::", 1)
        twice = {"test_doctor.py": "postgresql-15", "test_backup.py": "postgresql-18"}.get(Path(module).name)
        if twice is not None and twice in name and not name.startswith("test_a_new_database"):
            item.add_marker(pytest.mark.long)


@pytest.fixture
def patient(tmp_path: Path) -> Ill:
    """Makes one: `patient(db, PORT="1")`; by default it is well, as far as its files are concerned."""

    def make(db: Database | None = None, **variables: str) -> Patient:
        given = {name if name.startswith("GEMINI") else f"RESTANTE_{name}": text for name, text in variables.items()}
        environ = {"RESTANTE_DATA_DIR": str(tmp_path), "RESTANTE_PROVIDER": "scripted"} | given
        return Patient(load(environ), environ, utc_now(), db)

    return make
