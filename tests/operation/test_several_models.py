"""One installation, three kinds of model: Gemini (the emulator), a real llama.cpp server and renamed names, all
through HTTP → queue → worker → task_get, and live."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from restante.providers.embedded import DEFAULT_SYSTEM_MESSAGE
from restante.providers.model_files import find_model
from restante.providers.model_server import ModelServer
from tests.emulators.gemini import GeminiEmulator
from tests.support import COMMAND, Http, Restante, differences, environment, task

LLAMA_TOML = """
[servers.workshop]
url = "{url}/v1"
key_env = "WORKSHOP_KEY"
concurrency = 2
price_input = 100.0
price_output = 200.0

[models.llama]
server = "workshop"
served = "smollm2-135m-instruct"

[models.absent]
server = "workshop"
served = "not-there"

[models.house]
server = "gemini"
served = "gemini-2.5-flash"

[renamed]
"gemini-1.5-flash" = "llama"
"gemini-1.0-pro" = "gemini-0.9-pro"
"""

FRANCE = "What is the capital of France?"
BRIEF: dict[str, Any] = {"max_output_tokens": 16, "temperature": 0.0, "system_message": DEFAULT_SYSTEM_MESSAGE}


@pytest.fixture
async def llama(tmp_path: Path) -> AsyncIterator[ModelServer]:
    """llama.cpp's own server with the demonstration model, in a process of its own."""
    server = ModelServer(tmp_path / "model", find_model(None, Path("/nonexistent")))
    yield server
    await server.close()


@pytest.fixture
async def gemini() -> AsyncIterator[GeminiEmulator]:
    async with GeminiEmulator() as emulator:
        yield emulator


async def toml(llama: ModelServer, tmp_path: Path) -> tuple[str, str]:
    """The map's path and the server's key."""
    address = await llama.address()
    path = tmp_path / "models.toml"
    path.write_text(LLAMA_TOML.format(url=address.url))
    return str(path), address.key


async def test_gemini_and_an_openai_compatible_server_answer_side_by_side(
    llama: ModelServer, gemini: GeminiEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, key = await toml(llama, tmp_path)
    monkeypatch.setenv("WORKSHOP_KEY", key)
    settings = {"MODELS": path, "GEMINI_API_KEY": "good-key", "GEMINI_BASE_URL": gemini.url}
    up = await asyncio.to_thread(Restante, tmp_path, **settings)
    try:
        async with Http(up.family) as http:
            [listing] = (await http.get("models"))["tasks"]
            names = [row["model_name"] for row in listing["result"]]
            assert names[-3:] == ["llama", "house", "gemini-1.5-flash"], "Gemini's first, the map's after"
            assert "gemini-2.5-flash" in names
            assert "absent" not in names, "the server does not list it"

            asked = ["llama", "gemini-2.5-flash", "house", "gemini-1.5-flash", "absent", "gemini-1.0-pro"]
            posted = await http.post([task(FRANCE, model_name=name, **BRIEF) for name in asked])
            codes = [entry["status_code"] for entry in posted["tasks"]]
            assert codes == [20100, 20100, 20100, 20100, 40501, 40501]
            ids = [entry["id"] for entry in posted["tasks"][:4]]
            answers = await http.answers(ids)
            results = [answers[one]["result"][0] for one in ids]
            assert [one["model_name"] for one in results] == [
                "smollm2-135m-instruct", "gemini-2.5-flash", "gemini-2.5-flash", "smollm2-135m-instruct",
            ]  # fmt: skip
            assert "Paris" in text(results[0])
            assert results[0]["input_tokens"] > 10
            money = (results[0]["input_tokens"] * 100 + results[0]["output_tokens"] * 200) / 1e6
            assert results[0]["money_spent"] == pytest.approx(money, abs=1e-9)

            [live] = (await http.post([task(FRANCE, model_name="llama", **BRIEF)], "live"))["tasks"]
            assert live["status_code"] == 20000
            assert text(live["result"][0]) == text(results[0])
            assert live["cost"] == pytest.approx(money + 0.0006, abs=1e-9)
        assert "model 'absent' is not offered: server workshop does not list it" in up.process.log
        assert "'gemini-1.0-pro' is refused: it is mapped onto 'gemini-0.9-pro', which nobody serves" in up.process.log
        assert key not in up.process.log
        assert await asyncio.to_thread(up.look, differences) == []
        assert await asyncio.to_thread(up.stop) == 0
    finally:
        up.process.kill()


def text(result: dict[str, Any]) -> str:
    found = [section["text"] for item in result["items"] if item["type"] == "message" for section in item["sections"]]
    return "".join(found)


async def test_a_server_of_ones_own_is_enough(
    llama: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a key nor --offline: the map's names are answered, and a Gemini name is nobody's."""
    path, key = await toml(llama, tmp_path)
    monkeypatch.setenv("WORKSHOP_KEY", key)
    up = await asyncio.to_thread(lambda: Restante(tmp_path, MODELS=path))
    try:
        assert "no Gemini" in up.process.stdout
        async with Http(up.family) as http:
            names = ("llama", "gemini-2.5-flash", "house")
            posted = await http.post([task("Say hello.", model_name=name, **BRIEF) for name in names])
            assert [entry["status_code"] for entry in posted["tasks"]] == [20100, 40501, 40501]
            await http.answers([posted["tasks"][0]["id"]])
        assert await asyncio.to_thread(up.look, differences) == []
        assert await asyncio.to_thread(up.stop) == 0
    finally:
        up.process.kill()


@pytest.mark.parametrize("command", ["up", "api"])
def test_a_map_that_cannot_be_used_is_said_before_anything_is_started(tmp_path: Path, command: str) -> None:
    (tmp_path / "models.toml").write_text('[servers.a]\nurl = "http://a"\ncolour = 1\n')
    env = environment(tmp_path / "data", MODELS=str(tmp_path / "models.toml"))
    done = subprocess.run([*COMMAND, command], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "[servers.a]: key 'colour'" in " ".join(done.stderr.split())
    assert not (tmp_path / "data").exists()
