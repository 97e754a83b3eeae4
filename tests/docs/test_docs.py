"""Docs are tested: settings, help, the README's commands, what the lock must not say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.docs import cli, metrics
from tests.docs.settings import render

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
#: Commands that serve, or whose output is a file or another's own bytes.
SAY_NO_DATA = {"up", "api", "worker", "demo", "export", "model install", "task raw"}


def test_the_settings_page_is_what_config_says() -> None:
    assert (ROOT / "docs/settings.md").read_text() == render(), "python -m tests.docs.settings > docs/settings.md"


def test_the_metrics_page_is_what_the_registry_says() -> None:
    assert (ROOT / "docs/metrics.md").read_text() == metrics.render(), "python -m tests.docs.metrics > docs/metrics.md"


def test_the_commands_page_is_what_help_says() -> None:
    assert (ROOT / "docs/cli.md").read_text() == cli.render(), "python -m tests.docs.cli > docs/cli.md"


def test_every_command_has_help_with_an_example_and_json_where_it_prints_data() -> None:
    for name, command in cli.commands():
        text = re.sub(r"\s+", " ", cli.help_of(name, command))
        assert f"restante {name}" in text.partition("Example:")[2], text
        assert "--json" in text or name in SAY_NO_DATA, name


def test_the_command_itself_says_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "restante", "task", "post", "-h"], capture_output=True, text=True, check=True
    )
    assert "Example: restante task post prompts.csv" in done.stdout and "\x1b" not in done.stdout


def test_the_readme_names_commands_that_exist() -> None:
    known = [name for name, _ in cli.commands()]
    for line in re.findall(r"^\$ restante (.+)$", README, re.M):
        assert any(line.startswith(command) for command in known), line


def test_the_readme_names_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.M))
    assert {"demo", "up", "test", "test-long", "check", "bench", "build", "install", "help", "lock"} <= targets
    assert set(re.findall(r"make ([a-z-]+)", README)) <= targets


def test_the_lock_has_hashes_and_names_no_host() -> None:
    for name in ("run", "build", "dev", "mutation"):
        text = (ROOT / f"requirements/{name}.txt").read_text()
        assert not re.search(r"://|index|find-links", text)
        pins = re.findall(r"^[a-z0-9][^\n]*==", text, re.M | re.I)
        assert len(pins) == len(re.findall(r"^[a-z0-9].*\\\n\s+--hash=sha256", text, re.M | re.I))


def test_the_lock_is_of_the_projects_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = (ROOT / "requirements/run.in").read_text().splitlines()
    assert set(project["dependencies"]) <= set(locked)
    assert set(project["optional-dependencies"]["offline"]) <= set(locked)


def test_status_codes_stand_in_two_places_only() -> None:
    """Design: five-digit codes live in web/wire.py and core/errors.py."""
    allowed = {ROOT / "src/restante/core/errors.py", ROOT / "src/restante/web/wire.py"}
    for path in (ROOT / "src").rglob("*.py"):
        code = re.sub(r'""".*?"""|#.*', "", path.read_text(), flags=re.S)
        found = re.findall(r"\b(?:[1245]0[0-9]{3})\b", code)
        assert path in allowed or not found, f"{path}: {found}"


def test_files_and_functions_keep_to_the_house() -> None:
    """Design: no file over 400 lines, but for the list of every bound; no function over 70."""
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 400 or path.name == "limits.py", path
        for one in ast.walk(ast.parse(text)):
            if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (one.end_lineno or 0) - one.lineno < 71, f"{path}: {one.name}"
