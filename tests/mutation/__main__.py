"""`make mutation`: mistakes made on purpose, one at a time, each of which a test must find (docs/mutation.md).

Verdicts are kept in mutants/ (delete it to begin anew): run again, it goes on where it was, and `--again` looks once
more at those that survived.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

from tests.mutation import order, report, server, sql

_KILLED = (1, 3)  # mutmut's numbers: pytest's exit codes, and its own
_NO_TESTS = 33
_JOBS = 2 * (os.cpu_count() or 1) + 1  # most of them wait, for webhooks and their hosts


def main() -> int:
    """0 when enough mutants were killed and the others are explained."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("names", nargs="*", help="only these Python mutants, such as 'restante.flow.settle*', anew")
    parser.add_argument("--python", action="store_true", help="the Python modules only")
    parser.add_argument("--sql", nargs="?", const="", help="the SQL only, or only statements that begin so")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many; run it again to go on")
    parser.add_argument("--jobs", type=int, default=_JOBS, help="Python mutants at a time")
    parser.add_argument("--again", action="store_true", help="judge survivors once more, by all tests")
    parser.add_argument("--report", action="store_true", help="judge nothing, only show what is known")
    parser.add_argument("--write", action="store_true", help=f"put the tables into {report.DOCUMENT}")
    asked = parser.parse_args()
    if not asked.report:
        until = time.monotonic() + asked.seconds
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server is stopped, whoever ends this
        _forget(survivors=asked.again)
        _forget_callers()
        if asked.again:
            os.environ[order.ALL] = "1"
        with server.running() as dsn:
            os.environ[server.VARIABLE] = dsn
            if asked.sql is None:
                _mutmut(asked.names, asked.jobs, until - time.monotonic())
            if not asked.python:
                sql.run(asked.sql or "", until - time.monotonic())
    found, wrong = report.text()
    print(found)
    for one in wrong:
        print(one)
    if asked.write:
        report.write()
    return 1 if wrong else 0


def _mutmut(names: list[str], jobs: int, seconds: float) -> None:
    """Run mutmut until it has judged every mutant or the time is over."""
    Path("mutants/src").mkdir(parents=True, exist_ok=True)  # Python never looks again where it saw no directory
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(str(Path("mutants", part).resolve()) for part in ("src", ""))}
    command = [str(Path(sys.executable).parent / "mutmut"), "run", "--max-children", str(jobs), *names]
    process = subprocess.Popen(command, env=environ)
    try:
        process.wait(None if seconds == float("inf") else seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # it keeps the verdicts it has
        process.wait()


def _forget(*, survivors: bool) -> None:
    """Of mutmut's verdicts: that a function had no test, which it may have by now; and what survived or timed out."""
    for path in Path("mutants/src").rglob("*.meta"):
        data = json.loads(path.read_text())
        verdicts = data["exit_code_by_key"]
        data["exit_code_by_key"] = {
            name: None if code == _NO_TESTS or (survivors and code not in _KILLED) else code
            for name, code in verdicts.items()
        }
        path.write_text(json.dumps(data, indent=4))


def _forget_callers() -> None:
    """Which tests call which function: mutmut asks new tests only, and so would not know those of a new function."""
    measured = Path("mutants/mutmut-stats.json")
    if measured.exists():
        asked_at = measured.stat().st_mtime
        sources = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["mutmut"]["only_mutate"]
        if any(Path(source).stat().st_mtime > asked_at for source in sources):
            measured.unlink()


if __name__ == "__main__":
    sys.exit(main())
