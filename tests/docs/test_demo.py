"""The first command that anybody types: `restante demo`, which is what `make demo` runs."""

from __future__ import annotations

import asyncio
import re
import subprocess
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from restante.core.errors import OperatorError
from restante.providers.model_files import find_model, require_engine
from tests.emulators.gemini import GeminiEmulator
from tests.emulators.grounding import REDIRECTS
from tests.support import COMMAND, environment


@pytest.mark.long  # the model writes some 300 tokens; CI sees the same code answered by the emulated Gemini, below
def test_the_offline_demonstration(tmp_path: Path) -> None:
    """A labelled answer of the little model, and the receipt; nothing goes on running."""
    try:
        require_engine()
        find_model(None, tmp_path)
    except OperatorError as missing:
        pytest.skip(missing.problem)
    done = subprocess.run(
        [*COMMAND, "demo"], env=environment(tmp_path / "data"), capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    assert re.search(r"20100 Task Created\.  \w{8}-\w{4}-0613-0000-\w{12}\n", said)
    assert re.search(r"answered by smollm2-135m-instruct, the offline demonstration model.*\n  \| \w", said)
    assert re.search(r"held +0\.0102 .*\n  charged +0\.0002 .*\n  refunded +0\.01\n", said)


async def test_the_demonstration_with_a_web_search(tmp_path: Path) -> None:
    """The emulated Gemini's answer, its sources marked in it, what they were searched with, and what all of it cost."""
    async with GeminiEmulator() as google:
        settings = {
            "GEMINI_API_KEY": "a-key-of-the-emulator",
            "GEMINI_BASE_URL": google.url,
            "GEMINI_REDIRECTS": f"{google.url}{REDIRECTS}",
            "WEBHOOK_ALLOW": "127.0.0.1",  # where the emulated redirects are
        }
        env = environment(tmp_path / "data", **settings)
        command = [*COMMAND, "demo", "--web-search"]
        done = await asyncio.create_subprocess_exec(*command, env=env, stdout=PIPE, stderr=PIPE)
        out, err = await done.communicate()
    said = out.decode()
    assert done.returncode == 0, said + err.decode()
    assert re.search(r"POST task_post   with a web search, model_name gemini-(\d\.\d-)?flash(-latest)?\n", said), said
    assert re.search(r"answered by gemini-(\d\.\d-)?flash(-latest)?\n  \| Echo: Which CRM", said), said
    assert "software is best for a small [1] business" in re.sub(r"\n  \| ", " ", said)
    assert re.search(r"^  \[1\] example\.org  https://www\.example\.org/page-0$", said, re.M), said
    assert "  searched for: Which CRM software" in said
    assert re.search(r"tokens out, \$0\.01\d+ to its provider\n", said), said
    assert re.search(r"charged   0\.01\d+    the fee and what Gemini took\n", said), said


def test_without_a_key_nothing_is_asked(tmp_path: Path) -> None:
    command = [*COMMAND, "demo", "--web-search"]
    done = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "There is no key of the Gemini API." in done.stderr and "GEMINI_API_KEY=... restante demo" in done.stderr
