"""The code blocks of the documentation: found, with what they say about being run, and consoles run as a reader would.

Each fenced block names its language. The HTML comment right above it, which readers do not see, says more:

    <!-- not run: REASON -->      nobody runs it, and why
    <!-- run -->                  a console: its commands run, in the order of the page, in one shell

In a console, lines that begin with "$ " are commands; the lines below one are what it prints, in their order, where "…"
stands for anything. A block with a title is a file; tests/docs/test_blocks.py has a test for each title.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
SECONDS: Final = 110  # of a page: most of it commands that start, on a machine that does much else

_FENCE: Final = re.compile(
    r"(?P<note><!--[^\n]*-->\n)?(?P<indent>[ ]*)```(?P<language>\w*)(?P<rest>[^\n]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.M | re.S,
)
_MARK: Final = "@@restante-docs"


class Block(NamedTuple):
    """A fenced block: where it is, in what language, its title, what the comment above it says, and its text."""

    page: str
    line: int
    language: str
    title: str
    note: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    """Everything that people read."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks() -> list[Block]:
    """All of them, in the order of their pages."""
    return [block for page in pages() for block in of(page)]


def of(page: Path) -> list[Block]:
    """Those of one page."""
    text = page.read_text()
    assert text.count("\n```") % 2 == 0, f"{page}: a fence is not closed"
    found = []
    for match in _FENCE.finditer(text):
        title = re.search(r'title="([^"]+)"', match["rest"])
        note = (match["note"] or "").strip().removeprefix("<!--").removesuffix("-->").strip()
        line = text.count("\n", 0, match.start("language")) + 1
        name = str(page.relative_to(ROOT))
        found.append(Block(name, line, match["language"], title[1] if title else "", note, match["text"]))
    return found


class Ran(NamedTuple):
    """A command of a console, what it should print, its exit code and what it did print."""

    where: str
    command: str
    expected: list[str]
    code: int
    printed: str


def run(consoles: list[Block], directory: Path, env: Mapping[str, str], replaced: Mapping[str, str]) -> list[Ran]:
    """Run the commands of a page's consoles in one shell, in their order. `replaced`: what the page says for an example
    (the URL), and what it is here."""
    commands: list[tuple[str, str, list[str]]] = []
    for console in consoles:
        for command, expected in _commands(console.text):
            commands.append((console.where, command, expected))
    script = "exec 2>&1\n"
    for number, (_, command, _) in enumerate(commands):
        for word, value in replaced.items():
            command = command.replace(word, value)
        script += f"{command}\necho; echo {_MARK} {number} $?\n"
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=directory,
        env=dict(env),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    ran, rest = [], done.stdout
    for number, (where, command, expected) in enumerate(commands):
        printed, found, rest = rest.partition(f"\n{_MARK} {number} ")
        assert found, f"{where}: the shell ended at: {command}\n{done.stdout[-2000:]}"
        code, _, rest = rest.partition("\n")
        ran.append(Ran(where, command, expected, int(code), printed))
    return ran


def _commands(text: str) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found and (found[-1][0].endswith("\\") or found[-1][0].count("'") % 2):  # goes on
            found[-1] = (f"{found[-1][0]}\n{line}", [])
        elif found and line:
            found[-1][1].append(line)
    return found


def says(expected: list[str], printed: str) -> bool:
    """Whether the lines of a page are among those printed, in their order; "…" is anything."""
    lines = iter(printed.splitlines())
    return all(any(_like(one, line) for line in lines) for one in expected)


def _like(expected: str, line: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in re.split("…", expected.strip()))
    return re.fullmatch(rf"\s*{pattern}\s*", line) is not None
