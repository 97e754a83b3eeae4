"""A restante that answers from the emulated Gemini, all of it real processes, and the emulator's other doings."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.gemini import GeminiEmulator, Recorded
from tests.emulators.grounding import REDIRECTS
from tests.support import Restante, running


@pytest.fixture(scope="module")
def google() -> Iterator[GeminiEmulator]:
    """The emulator on a loop of its own, since tests wait for processes; it forgets no request."""
    emulator, loop = GeminiEmulator(requests=deque[Recorded]()), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(emulator.__aenter__(), loop).result(10)
    yield emulator
    asyncio.run_coroutine_threadsafe(emulator.__aexit__(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def settings(google: GeminiEmulator) -> dict[str, str]:
    """What points a restante at the emulator."""
    return {
        "GEMINI_API_KEY": "a-key-of-the-emulator",
        "GEMINI_BASE_URL": google.url,
        "GEMINI_REDIRECTS": f"{google.url}{REDIRECTS}",
        "WEBHOOK_ALLOW": "127.0.0.1",
    }


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, google: GeminiEmulator) -> Iterator[Restante]:
    """`restante up` with the emulator's key."""
    directory: Path = tmp_path_factory.mktemp("gemini")
    with running(directory, **settings(google)) as up:
        yield up
