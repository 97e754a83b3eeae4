"""What the fuzzer once found stays found: every kept input, and every honest one, goes through its target again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import __main__ as fuzzing
from tests.fuzz.planted import PLANTED, Planted
from tests.fuzz.seeds import dictionary, seeds
from tests.fuzz.targets import TARGETS

KEPT = sorted((Path(__file__).parent / "corpus").glob("*/*"))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_is_mended(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_honest_inputs_keep_every_promise(target: str) -> None:
    """And so do they cut short, or with a byte changed: a few hundred inputs, always the same."""
    for body in seeds(target):
        for place in range(1, len(body), max(1, len(body) // 12)):
            TARGETS[target](body[:place])
            TARGETS[target](body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :])
        TARGETS[target](body)


def test_the_planted_bug_is_one() -> None:
    """What the long test lets the fuzzer find: an input of which the judge breaks, and nothing near it."""
    body = json.dumps([{"user_prompt": "hi", "model_name": "plain", "pingback_url": "http://a.example:7/"}]).encode()
    with pytest.raises(Planted):
        PLANTED(b"\0" + body)
    PLANTED(b"\0" + body.replace(b":7/", b":700/"))


def test_words_are_what_libfuzzer_reads() -> None:
    assert all(line[0] == line[-1] == '"' for line in dictionary().splitlines())


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_fuzzer_finds_a_planted_bug(tmp_path: Path) -> None:
    """Installs atheris at its first use."""
    code, run = fuzzing.fuzz("planted", 300, tmp_path, "-seed=1")
    assert code != 0, run
    [found] = (tmp_path / "planted").glob("crash-*")
    with pytest.raises(Planted):
        PLANTED(found.read_bytes())


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("target", TARGETS)
def test_a_minute_finds_nothing(target: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", target, "--minutes", "1", "--dir", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ.copy())
    assert ended.returncode == 0, ended.stdout
