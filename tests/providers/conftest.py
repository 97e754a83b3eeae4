"""Fixtures of the provider tests: a Gemini emulator on a free port, and a provider that speaks to it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from restante.providers.gemini import GeminiProvider
from tests.emulators.gemini import GeminiEmulator


@pytest.fixture
async def emulator() -> AsyncIterator[GeminiEmulator]:
    async with GeminiEmulator() as emulator:
        yield emulator


@pytest.fixture
async def gemini(emulator: GeminiEmulator) -> AsyncIterator[GeminiProvider]:
    provider = GeminiProvider(lambda: "good-key", emulator.url)
    yield provider
    await provider.close()
