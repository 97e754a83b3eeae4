"""There is never a silent fallback: a worker without the key does not answer in Gemini's name."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from restante.providers.registry import EMBEDDED_MODEL
from tests.chaos.processes import assert_gone, house
from tests.emulators.gemini import GeminiEmulator, Recorded
from tests.support import task

TASKS = 1_000


@pytest.fixture
def gemini() -> Iterator[GeminiEmulator]:
    """The emulator on a loop of its own, since the test waits for processes; it forgets no request."""
    emulator, loop = GeminiEmulator(requests=deque[Recorded]()), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(emulator.__aenter__(), loop).result(10)
    yield emulator
    asyncio.run_coroutine_threadsafe(emulator.__aexit__(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def test_only_the_worker_with_the_key_answers_gemini_tasks(tmp_path: Path, gemini: GeminiEmulator) -> None:
    calls = tmp_path / "scripted-calls"
    key = {"GEMINI_API_KEY": "a-key-of-the-emulator", "RESTANTE_GEMINI_BASE_URL": gemini.url}
    with house(tmp_path) as made:
        keyless = dict(made.env)
        made.env |= key
        up = made.start("up", "up", "--workers", "0")
        made.url = up.wait_for(r"up at (http://\S+)")[1]
        assert "provider  gemini" in up.stdout
        ids = made.post([task(f"question {number}", model_name="gemini-2.5-flash") for number in range(TASKS)])

        made.env = keyless
        without = made.start("unconfigured", "worker")
        scripted = made.worker("scripted", SCRIPTED_LOG=str(calls))
        offline = made.start("offline", "worker", "--offline")
        assert without.wait() == 1 and "No language model is configured" in without.log
        for one, name in ((scripted, "scripted"), (offline, "embedded")):
            one.wait_for(f"the worker serves {name}", log=True)
            one.wait_for(f"{TASKS} tasks wait for provider gemini, which this worker does not serve", log=True)
        assert made.sql("select count(*) from queue where state = 0 and attempts = 0")[0][0] == TASKS

        made.env = keyless | key
        with_key = made.start("gemini", "worker")
        made.settled()
        answers = made.collect(ids)
        assert len(answers) == TASKS
        assert {entry["status_code"] for entry in answers.values()} == {20000}
        assert {entry["result"][0]["model_name"] for entry in answers.values()} == {"gemini-2.5-flash"}
        assert EMBEDDED_MODEL not in str(answers)
        generated = [request for request in gemini.requests if request.method == "POST"]
        assert len(generated) == TASKS
        assert {request.path_qs for request in generated} == {"/v1beta/models/gemini-2.5-flash:generateContent"}
        assert len({request.body["contents"][-1]["parts"][-1]["text"] for request in generated}) == TASKS
        assert calls.read_bytes() == b"", "the scripted provider was called"
        made.audit()
        for process in (with_key, scripted, offline, up):
            assert process.stop() == 0, process.log
        assert "a-key-of-the-emulator" not in up.log + with_key.log + up.stdout
        assert_gone(made.data_dir)
