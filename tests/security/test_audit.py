"""`make audit` says what it found, and plainly that it could not ask; it never passes for having asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.security import audit

CLEAN = (0, "No known vulnerabilities found")
HOLES = (1, "Found 1 known vulnerability in 1 package\nName Version ID\nidna 3.0 PYSEC-2024-60")
AWAY = (1, "Traceback ...\nrequests.exceptions.ConnectionError: Max retries exceeded with url: /pypi/idna/3.0/json")


@pytest.mark.parametrize(
    ("answers", "code", "said"),
    [
        ([(0, ""), (0, ""), CLEAN, CLEAN, CLEAN], 0, "requirements/dev.txt: No known vulnerabilities"),
        ([(0, ""), (0, ""), CLEAN, HOLES, CLEAN], 1, "requirements/build.txt: Found 1 known vulnerability"),
        ([(0, ""), (0, ""), CLEAN, AWAY], 75, "NOT AUDITED: no database of vulnerabilities answered"),
        ([(0, ""), (1, "ERROR: No matching distribution found")], 75, "NOT AUDITED: pip-audit could not be installed"),
        ([(1, "")], 75, "NOT AUDITED: no environment"),
    ],
)
def test_what_it_says(answers: list[tuple[int, str]], code: int, said: str, tmp_path: Path) -> None:
    left = iter(answers)
    asked: list[Sequence[str | Path]] = []

    def run(command: Sequence[str | Path]) -> tuple[int, str]:
        asked.append(command)
        return next(left)

    found, text = audit.audit(tmp_path, run)
    assert found == code and said in text
    assert next(left, None) is None  # all were asked, and none after it was clear
    for command in asked[2:]:
        assert "--require-hashes" in command  # the very packages that are locked
