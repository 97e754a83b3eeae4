"""Writes docs/cli.md from the commands' own --help: `python -m tests.docs.cli > docs/cli.md`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from restante.cli import command_line

_WIDTH = 100

_HEAD = (Path(__file__).parent / "cli_head.md").read_text()


def commands() -> Iterator[tuple[str, TyperCommand]]:
    """Every command as it is typed, in the order of `restante --help`."""
    root = get_command(command_line())
    assert isinstance(root, TyperGroup)
    for name, command in root.commands.items():
        below = {name: command}
        if isinstance(command, TyperGroup):
            below = {f"{name} {verb}": one for verb, one in command.commands.items()}
        for typed, one in below.items():
            assert isinstance(one, TyperCommand)
            yield typed, one


def help_of(name: str, command: TyperCommand) -> str:
    """Its --help, without colours and boxes."""
    root = typer.Context(get_command(command_line([])), info_name="restante", help_option_names=["-h", "--help"])
    context = typer.Context(command, info_name=name, parent=root, terminal_width=_WIDTH, max_content_width=_WIDTH)
    command.rich_markup_mode = None
    return command.get_help(context)


def render() -> str:
    """The page's text."""
    parts = [_HEAD]
    for name, command in commands():
        text = re.sub(r"[ \t]+$", "", help_of(name, command), flags=re.M).rstrip()
        parts.append(f"## restante {name}\n\n```text\n{text}\n```\n\n")
    return "".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    print(render(), end="")
