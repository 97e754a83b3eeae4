"""Writes docs/conformance.md from tests/contract/rows and the tests' markers:
`python -m tests.contract.conformance > docs/conformance.md`."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.contract.row import DOCUMENTED, OUR_CHOICE, SEEN, Row
from tests.contract.rows import ROWS

TESTS = Path(__file__).parents[1]

TITLES = {
    "1": "General conventions",
    "2": "Status codes",
    "3": "Endpoints",
    "4": "Webhooks",
    "5": "Limits, retention and ids",
    "6": "Billing",
    "10": "Official clients",
    "12": "restante's own decisions",
}

TESTED, IN_PART, NOT_YET, NOT_COVERED = STATES = ("tested", "tested in part", "not here yet", "not covered")

_TABLE = "| § | row | what | kind | tests | state |\n|---|---|---|---|---|---|\n"
_HEAD = """# Conformance

What the API promises, row by row, and which test proves it. Generated from `tests/contract/rows` and the
`@pytest.mark.contract` of the tests by `python -m tests.contract.conformance > docs/conformance.md`.

**kind** is how sure it is that the original does so: *seen* in its answers and in clients that work with it;
*documented* by it; *our choice* where nobody outside knows. **state** is *tested* when the tests named prove all of it;
otherwise it says what they leave open, or why there is no test.

"""


def markers(file: Path) -> Iterator[tuple[str, str]]:
    """(row, test) of each marker in a file of tests, read without running it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.contract":
                for argument in decorator.args:
                    row = ast.literal_eval(argument)
                    assert isinstance(row, str) and node.name.startswith("test_"), ast.unparse(decorator)
                    yield row, f"{file.relative_to(TESTS)}::{node.name}"


def bound() -> dict[str, list[str]]:
    """Every row that a marker names, with its tests."""
    found: dict[str, list[str]] = defaultdict(list)
    for file in sorted(TESTS.rglob("test_*.py")):
        for row, test in markers(file):
            found[row].append(test)
    return found


def state(row: Row, tests: list[str]) -> tuple[str, str]:
    """Where the row stands, and what is to be said of that."""
    if row.pending:
        return NOT_YET, row.pending
    if row.absent:
        return NOT_COVERED, row.absent
    assert tests, row
    return (IN_PART, row.gap) if row.gap else (TESTED, "")


def render() -> str:
    """The page's text."""
    tests = bound()
    parts = [_HEAD, _summary(tests)]
    chapter = ""
    for row in ROWS:
        if row.section.partition(".")[0] != chapter:
            chapter = row.section.partition(".")[0]
            parts.append(f"\n## {chapter}. {TITLES[chapter]}\n\n{_TABLE}")
        parts.append(_line(row, tests.get(row.key, [])))
    return "".join(parts)


def _line(row: Row, tests: list[str]) -> str:
    where, why = state(row, tests)
    named = "<br>".join(f"`{test}`" for test in tests) or "–"
    cells = [row.section, _cell(row.name), _cell(row.what), row.kind, named, f"{where}: {_cell(why)}" if why else where]
    return f"| {' | '.join(cells)} |\n"


def _summary(tests: dict[str, list[str]]) -> str:
    lines = [f"| kind | rows | {' | '.join(STATES)} |\n|---|---|{'---|' * len(STATES)}\n"]
    for kind in (SEEN, DOCUMENTED, OUR_CHOICE, "all"):
        rows = [row for row in ROWS if kind in (row.kind, "all")]
        counts = Counter(state(row, tests.get(row.key, []))[0] for row in rows)
        lines.append(f"| {kind} | {len(rows)} | {' | '.join(str(counts[one]) for one in STATES)} |\n")
    return "".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    print(render(), end="")
