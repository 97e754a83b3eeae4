"""Credentials are checked in constant time, on one path for whoever asks: nothing tells which logins exist."""

from __future__ import annotations

import ast
import hmac
import statistics
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

import restante
from restante.core import credentials
from restante.flow import accounts
from restante.store.database import Database
from restante.web.auth import Passwords
from tests.support import open_account
from tests.web.calls import basic

SOUNDS = ("password", ".digest", "secret", "pepper", "signature")
SOURCE = Path(restante.__file__).parent


class Known(NamedTuple):
    """Accounts of every kind, and what a stranger may try."""

    db: Database
    pepper: bytes
    right: str  # a header
    before: str  # with the password that was good before
    tries: dict[str, str]  # what is wrong with it -> the header


@pytest.fixture
async def known(db: Database) -> AsyncIterator[Known]:
    _, password = await open_account(db, "open")
    _, before = await open_account(db, "changed")
    await accounts.change_password(db, "changed", overlap_hours=1)
    await open_account(db, "limited")
    await accounts.change_limits(db, "limited", {"live": 1})
    await open_account(db, "paused")
    await db._pool.execute("update account set paused = true, paused_by = 'operator' where login = 'paused'")
    tries = {
        f"wrong password of {login}": basic(login, password + "x") for login in ("open", "changed", "limited", "paused")
    }
    tries |= {"unknown login": basic("nobody", password), "another's password": basic("changed", password)}
    tries |= {"unknown, with a right password": basic("nobody", before), "no password": basic("open", "")}
    yield Known(db, await accounts.pepper(db), basic("open", password), basic("changed", before), tries)


async def path_of(known: Known, header: str, comparisons: list[tuple[int, int]]) -> tuple[Any, list[str]]:
    """What a fresh process says of a header, and every function of ours it went through."""
    passwords = Passwords(known.db, known.pepper)
    taken: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(SOURCE)):
            taken.append(frame.f_code.co_qualname)

    comparisons.clear()
    sys.setprofile(note)
    try:
        return await passwords.check(header), taken
    finally:
        sys.setprofile(None)


async def test_whatever_is_wrong_the_path_is_the_same(known: Known, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every function of ours that is called on the way, and what is compared with what, in their order."""
    comparisons: list[tuple[int, int]] = []

    class Counting:
        @staticmethod
        def compare_digest(a: bytes, b: bytes) -> bool:
            comparisons.append((len(a), len(b)))
            return hmac.compare_digest(a, b)

    monkeypatch.setattr(credentials, "hmac", Counting)
    await path_of(known, known.right, comparisons)  # statements are read from their files once
    paths = {}
    for what, header in known.tries.items():
        caller, taken = await path_of(known, header, comparisons)
        assert caller is None, what
        assert comparisons == [(32, 32)] * 2, what
        paths[what] = taken
    one = next(iter(paths.values()))
    assert "Passwords._prove" in one and "matches" in one
    assert {what for what, taken in paths.items() if taken != one} == set()
    for header in (known.right, known.before):  # and what is right is compared no less
        caller, _ = await path_of(known, header, comparisons)
        assert caller is not None
        assert comparisons == [(32, 32)] * 2


async def test_what_the_clock_says(known: Known) -> None:
    """Printed, not judged: clocks of shared machines prove nothing. `pytest -s` shows it."""
    times: dict[str, list[float]] = {what: [] for what in known.tries}
    for _ in range(60):
        for what, header in known.tries.items():
            passwords = Passwords(known.db, known.pepper)  # remembers nothing yet
            began = time.perf_counter()
            assert await passwords.check(header) is None
            times[what].append(time.perf_counter() - began)
    for what, taken in times.items():
        quarter, half, three = (1e6 * one for one in statistics.quantiles(taken, n=4))
        print(f"{what:32} {half:7.1f} us (quartiles {quarter:.1f} and {three:.1f})")


def _secrets_compared(tree: ast.AST) -> list[str]:
    """Comparisons by == of what sounds like a secret."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
            for side in (node.left, *node.comparators):
                named = not isinstance(side, ast.Constant)  # a word, such as the name of a setting
                if named and any(word in ast.unparse(side).lower() for word in SOUNDS):
                    found.append(ast.unparse(node))
    return found


def test_no_secret_is_compared_otherwise() -> None:
    """By == a comparison ends at the first byte that differs."""
    assert _secrets_compared(ast.parse("a.digest == b")) and not _secrets_compared(ast.parse("a.code == b"))
    for path in SOURCE.rglob("*.py"):
        assert _secrets_compared(ast.parse(path.read_text())) == [], path
