"""docs/invariants.md names files and tests that exist, and numbers as the audit prints them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/invariants.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:src|tests)/[^`]+)`", TEXT)))


@pytest.mark.parametrize("named", NAMED)
def test_what_it_names_exists(named: str) -> None:
    path, _, test = named.partition("::")
    assert (ROOT / path).is_file()
    assert not test or re.search(rf"^(?:async )?def {test}\(", (ROOT / path).read_text(), re.M)


def test_every_promise_says_why_what_keeps_it_and_what_checks_it() -> None:
    promises = re.split(r"^\*\*I(\d+)\. ", TEXT.split("## Who looks")[0], flags=re.M)
    assert [int(number) for number in promises[1::2]] == list(range(1, len(promises) // 2 + 1))
    for number, promise in zip(promises[1::2], promises[2::2], strict=True):
        parts = [promise.index(part) for part in ("\n- Why: ", "\n- Kept by: ", "\n- Checked by: ")]
        assert parts == sorted(parts), number
        assert "`tests/" in promise[parts[2] :] and "`src/" in promise[parts[1] : parts[2]], number


def test_the_numbers_that_the_audit_prints_are_promises() -> None:
    checks = [*(ROOT / "src/restante/store/sql").glob("audit_*.sql"), ROOT / "src/restante/store/audit.py"]
    printed = {int(number) for path in checks for number in re.findall(r"\bI(\d+)\b", path.read_text())}
    promised = {int(number) for number in re.findall(r"^\*\*I(\d+)\. ", TEXT, re.M)}
    assert printed <= promised and printed == set(range(1, 12))


def test_every_statement_of_the_audit_is_named() -> None:
    statements = {path.name for path in (ROOT / "src/restante/store/sql").glob("audit_*.sql")}
    assert statements - set(re.findall(r"audit_\w+\.sql", TEXT)) == {"audit_days.sql", "audit_part.sql"}
