"""Fixtures: accounts of a test's own on the shared restante, and a watch on its log."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support import Http, Restante
from tests.web.calls import Shop, open_shop


@pytest.fixture
def shop(restante: Restante) -> Shop:
    """An account with 10 USD, prepaid."""
    return open_shop(restante)


@pytest.fixture(scope="module")
def visitor(restante: Restante) -> Shop:
    """A metered account that a module's tests share when none minds what the others left in it."""
    return open_shop(restante, "0", credit_limit=None)


@pytest.fixture
async def http(restante: Restante, shop: Shop) -> AsyncIterator[Http]:
    """The five endpoints, as that account."""
    async with Http(restante.family, shop.credentials) as session:
        yield session


@pytest.fixture(scope="module")
def quiet_log(restante: Restante) -> Iterator[None]:
    """Whatever a module's tests send, the server logs no error of its own (acceptance 7: no 500 in the log)."""
    before = len(restante.process.log)
    yield
    logged = restante.process.log[before:]
    assert not re.search(r"Traceback| ERROR |50000|Exception", logged), logged
