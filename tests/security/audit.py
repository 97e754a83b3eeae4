"""`make audit`: do the locked packages have known holes? `python -m tests.security.audit`

Asks a database of vulnerabilities, through pip-audit in an environment of its own. Exit codes: 0 none is known; 1 there
are some, named; 75 it could not be asked, which is said and is no good news.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
LOCKS = ("run", "build", "dev")
NOT_AUDITED = 75  # EX_TEMPFAIL

Run = Callable[[Sequence[str | Path]], tuple[int, str]]


def run(command: Sequence[str | Path]) -> tuple[int, str]:
    """A command's exit code and what it said."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=600
    )
    return done.returncode, done.stdout


def audit(directory: Path, run: Run) -> tuple[int, str]:
    """The exit code, and what to tell people."""
    python = directory / "bin" / "python"
    steps: dict[str, Sequence[str | Path]] = {
        "no environment could be made for pip-audit": [sys.executable, "-m", "venv", directory],
        "pip-audit could not be installed": [python, "-m", "pip", "install", "--quiet", "pip-audit"],
    }
    for what, command in steps.items():
        code, said = run(command)
        if code:
            return NOT_AUDITED, _not_audited(what, said)
    verdicts = []
    for lock in LOCKS:
        locked = REQUIREMENTS / f"{lock}.txt"
        code, said = run([python, "-m", "pip_audit", "--requirement", locked, "--require-hashes", "--disable-pip"])
        if code and "known vulnerabilit" not in said:
            return NOT_AUDITED, _not_audited(
                f"no database of vulnerabilities answered for requirements/{lock}.txt", said
            )
        verdicts.append((code, f"requirements/{lock}.txt: {said.strip()}"))
    return int(any(code for code, _ in verdicts)), "\n".join(said for _, said in verdicts)


def _not_audited(why: str, said: str) -> str:
    lines = [line.strip() for line in said.strip().splitlines() if line.strip()]
    return f"NOT AUDITED: {why}. Whether a package has a known hole is not known.\n  {lines[-1] if lines else ''}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        code, said = audit(Path(made), run)
    print(said)
    sys.exit(code)
