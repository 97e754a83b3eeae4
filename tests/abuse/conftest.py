"""Hostile clients, receivers and providers, on the event loop that serves (cli/serve.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from tests.support import Restante
from tests.web.calls import Shop, open_shop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def shop(restante: Restante) -> Shop:
    """An account with 10 USD, prepaid."""
    return open_shop(restante)
