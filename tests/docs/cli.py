"""Writes docs/cli.md from the commands' own --help: `python -m tests.docs.cli > docs/cli.md`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import typer
from typer.main import get_command

from restante.cli import app

_WIDTH = 100

_HEAD = (Path(__file__).parent / "cli_head.md").read_text()


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command as it is typed, in the order of `restante --help`."""
    root = get_command(app)
    assert isinstance(root, typer.core.TyperGroup)
    for name, command in root.commands.items():
        below = getattr(command, "commands", None)
        if below is None:
            yield name, command
        else:
            for verb, one in below.items():
                yield f"{name} {verb}", one


def help_of(name: str, command: click.Command) -> str:
    """Its --help, without colours and boxes."""
    root = click.Context(get_command(app), info_name="restante", **app.info.context_settings or {})
    context = click.Context(command, info_name=name, parent=root, terminal_width=_WIDTH, max_content_width=_WIDTH)
    if isinstance(command, typer.core.TyperCommand):
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
