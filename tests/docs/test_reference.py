"""Every setting, command, metric and endpoint is in the documentation, and generated pages are as generated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from restante.cli import command_line
from restante.config import Settings, variable
from restante.core.allowance import Allowance
from restante.observing.metrics import METRICS
from restante.web.openapi import document
from tests.docs import api, cli, costs
from tests.web.test_openapi import operations

ROOT = Path(__file__).parents[2]
DOCS = {path: path.read_text() for path in sorted((ROOT / "docs").rglob("*.md"))}
EVERYTHING = "\n".join([(ROOT / "README.md").read_text(), *DOCS.values()])


def envvars(command: object) -> Iterator[str]:
    """The variables that options of the command line are read from."""
    for parameter in getattr(command, "params", ()):
        names = parameter.envvar or ()
        yield from [names] if isinstance(names, str) else names
    for below in getattr(command, "commands", {}).values():
        yield from envvars(below)


def test_every_command() -> None:
    """Typed in full somewhere: `restante task post`."""
    typed = [f"restante {name}" for name, command in cli.commands() if not command.hidden]
    assert [command for command in typed if not re.search(rf"\b{re.escape(command)}\b", EVERYTHING)] == []
    assert len(typed) > 25


def test_every_setting() -> None:
    page = (ROOT / "docs/settings.md").read_text()
    assert [field for field in Settings.__struct_fields__ if f"`{variable(field)}`" not in page] == []


def test_no_setting_that_is_none() -> None:
    """A variable that nobody reads is a promise that nobody keeps."""
    known = {variable(field) for field in Settings.__struct_fields__}
    known |= set(envvars(get_command(command_line()))) | {"RESTANTE_FAULTS"}  # of tests: docs/reliability.md
    for path, text in {**DOCS, ROOT / "README.md": (ROOT / "README.md").read_text()}.items():
        named = set(re.findall(r"\b(?:RESTANTE|GEMINI)_[A-Z][A-Z_]+[A-Z]\b", text))
        assert named <= known, f"{path}: {named - known}"


@pytest.mark.parametrize("place", ["docs/api.md"])
def test_every_endpoint(place: str) -> None:
    text = (ROOT / place).read_text()
    assert text == api.render(), "python -m tests.docs.api > docs/api.md"
    served = document(operations(), Allowance())["paths"]
    assert [path for path in served if f" {path}`" not in text] == []


def test_every_metric() -> None:
    page = (ROOT / "docs/metrics.md").read_text()
    assert [one.name for one in METRICS if f"`{one.name}`" not in page] == []
    assert len(METRICS) > 20


@pytest.mark.parametrize("page", costs.PAGES, ids=lambda page: page.name)
def test_prices(page: Path) -> None:
    assert costs.within(page.read_text()) == costs.render(), "python -m tests.docs.costs"


def test_the_arithmetic_of_money() -> None:
    """docs/explanation/money.md: a grounded answer of Gemini 2.5 Flash."""
    took = costs._usd("gemini-2.5-flash", costs._NOVEMBER, costs.QUERIES) / costs.PROMPTS
    text = (ROOT / "docs/explanation/money.md").read_text()
    assert f"takes ${took.normalize()}," in text.replace("\n", " ")
    assert f"${(took + costs.FEE).normalize()} charged" in text.replace("\n", " ")
