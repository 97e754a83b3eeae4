"""The table of the contract's rows is whole, bound to tests, and docs/conformance.md is made of it."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.contract.conformance import TESTS, bound, markers, render
from tests.contract.rows import ROWS

CONTRACT = Path(os.environ.get("RESTANTE_CONTRACT") or TESTS.parents[1] / "shared" / "contract.md")
COVERED = {"1", "2", "3", "4", "5", "6"}  # the sections whose tables are rows here; 12 is counted by its numbers


def test_the_page_is_what_the_table_says() -> None:
    page = TESTS.parent / "docs/conformance.md"
    assert page.read_text() == render(), "python -m tests.contract.conformance > docs/conformance.md"


def test_each_row_is_there_once() -> None:
    assert not [key for key, times in Counter(row.key for row in ROWS).items() if times > 1]


def test_every_marker_names_a_row() -> None:
    assert not set(bound()) - {row.key for row in ROWS}


def test_a_row_is_proven_or_says_why_not() -> None:
    """Never both: a reason must not outlive the day its tests come."""
    tests = bound()
    wrong = [row.key for row in ROWS if bool(tests.get(row.key)) == bool(row.absent or row.pending)]
    assert not wrong
    assert not [row.key for row in ROWS if row.gap and not tests.get(row.key)]
    assert not [row.key for row in ROWS if row.absent and row.pending]


def test_a_marker_is_seen_wherever_it_stands(tmp_path: Path) -> None:
    """The page is made without running the tests: what is not read here would silently be missing there."""
    counted = sum(len(re.findall(r"^\s*@pytest\.mark\.contract\(", f.read_text(), re.M)) for f in TESTS.rglob("*.py"))
    read = Counter(test for file in TESTS.rglob("test_*.py") for _, test in markers(file))
    assert counted == len(read)


def test_no_decision_is_missing() -> None:
    assert {row.section for row in ROWS if row.section.startswith("12.")} == {f"12.{n}" for n in range(1, 32)}


@pytest.mark.skipif(not CONTRACT.is_file(), reason=f"the contract is not at {CONTRACT} (RESTANTE_CONTRACT)")
def test_no_row_of_the_contracts_tables_is_missing() -> None:
    """Each first cell of its tables is a row's name, or a part of one, as often as the section has it."""
    section, heads = "", {"Item", "Field", "Feature", "Cause", "HTTP", "Code", "Situation", "Object", "Topic", "What"}
    heads |= {"Part", "Fact"}
    wanted: Counter[tuple[str, str]] = Counter()
    for line in CONTRACT.read_text().splitlines():
        if heading := re.match(r"#+ (\d+(?:\.\d+)?)[. ]", line):
            section = heading[1]
        first = line.strip("| ").partition(" | ")[0]
        if line.startswith("| ") and section.partition(".")[0] in COVERED and first not in heads:
            wanted[section, first] += 1
    assert len(wanted) > 150
    plain = {(row.section, row.key) for row in ROWS}
    missing = {
        (where, name)
        for (where, name), times in wanted.items()
        if sum(section == where and _plain(name) in _plain(key) for section, key in plain) < times
    }
    assert not missing


def _plain(text: str) -> str:
    return re.sub(r"[`*\s]|Host / ", "", text.replace(" / prefix", " and prefix")).lower()
