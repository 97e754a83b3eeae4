"""docs/security.md and docs/restart.md name tests that exist, and the settings and commands they tell people to use."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from restante.config import Settings, variable

ROOT = Path(__file__).parents[2]
PAGES = ("security", "restart")


def page(name: str) -> str:
    return (ROOT / f"docs/{name}.md").read_text()


@pytest.mark.parametrize("name", PAGES)
def test_it_names_tests_that_exist(name: str) -> None:
    named = re.findall(r"\b(tests/[\w/]+\.py)(?:::(\w+))?", page(name))
    assert named
    for path, test in named:
        assert (ROOT / path).exists(), path
        functions = {
            node.name
            for node in ast.walk(ast.parse((ROOT / path).read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert not test or test in functions, f"{path}::{test}"


@pytest.mark.parametrize("name", PAGES)
def test_it_names_settings_that_exist(name: str) -> None:
    known = {variable(field) for field in Settings.__struct_fields__}
    assert set(re.findall(r"\b(?:RESTANTE|GEMINI)_[A-Z_]+\b", page(name))) <= known


def test_every_threat_has_a_proof() -> None:
    """Each row of the tables of threats and of changes ends with a test, or says why there is none."""
    threats = page("security").partition("## Threats")[2].partition("## Changing secrets")[0]
    rows = [
        line for line in threats.splitlines() if line.startswith("| ") and not line.startswith(("| threat", "|---"))
    ]
    assert len(rows) > 20
    assert [row for row in rows if "::test_" not in row] == []
