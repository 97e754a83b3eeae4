"""Runs the tests against each mutant of statements.py: in a fork of one process that has imported them all."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import asyncpg
import pytest

from restante.store import database
from tests.mutation import server
from tests.mutation.statements import MUTANTS, TESTS, Mutant

KEPT = Path("mutants/sql.json")
SECONDS = 240  # for all tests of a mutant; each has half a minute
#: pytest finds itself imported already, by us.
_IMPORTED = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
ARGUMENTS = [*_IMPORTED, "-x", "-q", "-k", "not postgresql-15", "-o", "timeout=30", "-p", "no:cacheprovider", "--tb=no"]


def changed(mutant: Mutant) -> str:
    """The statement with the mistake. Raises ValueError where it does not say any more what is to be changed."""
    text = database.statement(mutant.statement)
    for old, new in mutant.changes:
        if text.count(old) != 1:
            raise ValueError(f"{mutant.statement}.sql has {text.count(old)} times {old!r} ({mutant.what})")
        text = text.replace(old, new)
    return text


def key(mutant: Mutant) -> str:
    """What a verdict is kept under: the same mistake in the same statement."""
    return f"{mutant.statement}: {mutant.what} {blake2b(changed(mutant).encode(), digest_size=6).hexdigest()}"


def kept() -> dict[str, str]:
    """Verdicts so far: the test that found the mistake, "timed out", or nothing where it survived."""
    return json.loads(KEPT.read_text()) if KEPT.exists() else {}


def run(only: str = "", seconds: float = float("inf")) -> None:
    """Judge those mutants whose statement begins with `only` that were not found before, until the time is over."""
    until = time.monotonic() + seconds
    asyncio.run(_check(MUTANTS))
    verdicts = kept()
    todo = [one for one in MUTANTS if one.statement.startswith(only) and not verdicts.get(key(one))]
    if not todo:
        return
    if pytest.main(["--collect-only", "-qqq", *_IMPORTED, *_tests(*TESTS)]):
        raise RuntimeError("the tests cannot be collected")
    for number, mutant in enumerate(todo, 1):
        if time.monotonic() > until:
            return
        verdict = _judge(mutant)
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.write_text(json.dumps(kept() | {key(mutant): verdict}, indent=1, sort_keys=True))
        print(f"{number}/{len(todo)} {mutant.statement}: {mutant.what}: {verdict or 'SURVIVED'}", flush=True)


def _last(mutant: Mutant) -> str:
    """The test that found it the last time, before the statement changed: it comes first."""
    before = f"{mutant.statement}: {mutant.what} "
    return next((verdict.partition("[")[0] for one, verdict in kept().items() if one.startswith(before)), "")


def _tests(*statements: str) -> list[str]:
    """In the order in which a statement names them."""
    return list(dict.fromkeys(f"tests/flow/{name}.py" for one in statements for name in TESTS[one]))


async def _check(mutants: Sequence[Mutant]) -> None:
    """A mistake that PostgreSQL finds by itself proves nothing. Raises ValueError with what it says of such ones."""
    wrong = []
    connection = await asyncpg.connect(os.environ[server.VARIABLE])
    try:
        for mutant in mutants:
            try:
                await connection.prepare(changed(mutant))
            except asyncpg.PostgresError as error:
                wrong.append(f"{mutant.statement}.sql is no SQL any more ({mutant.what}): {error}")
    finally:
        await connection.close()
    if wrong:
        raise ValueError("\n".join(wrong))


def _judge(mutant: Mutant) -> str:
    out = KEPT.parent / f"sql-{os.getpid()}.out"
    out.parent.mkdir(exist_ok=True)
    pid = os.fork()
    if pid == 0:
        _child(mutant, out)
    status = _wait(pid, time.monotonic() + SECONDS)
    said = out.read_text()
    out.unlink()
    if status is None:
        return "timed out"
    if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
        return ""
    found = re.search(r"^(?:FAILED|ERROR) \S*?(test_\w+\.py::\S+)", said, re.MULTILINE)
    if not found:
        raise RuntimeError(f"{mutant}: the tests ended strangely:\n{said}")
    return found[1].removesuffix("[postgresql-18]")


def _child(mutant: Mutant, out: Path) -> None:
    code = 99
    try:
        with out.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        text, original = changed(mutant), database.statement
        setattr(database, "statement", lambda name: text if name == mutant.statement else original(name))  # noqa: B010
        module, _, name = _last(mutant).partition("::")
        if name:
            code = int(pytest.main([*ARGUMENTS, "-k", f"{name} and not postgresql-15", f"tests/flow/{module}"]))
        if code in (0, 99, pytest.ExitCode.NO_TESTS_COLLECTED):
            code = int(pytest.main([*ARGUMENTS, *_tests(mutant.statement)]))
    finally:
        sys.stdout.flush()
        os._exit(code)


def _wait(pid: int, until: float) -> int | None:
    """Its exit status; None: it was killed, its time was over."""
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None
