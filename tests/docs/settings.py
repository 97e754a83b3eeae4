"""Writes docs/settings.md from config.Settings: `python -m tests.docs.settings > docs/settings.md`."""

from __future__ import annotations

from typing import get_args, get_type_hints

import msgspec

from restante.config import Settings, variable

_HEAD = """# Settings

restante reads its settings from the environment, once, at the start of a process. An empty variable counts as not set.
Command-line options of the same name go before. This page is generated from `src/restante/config.py`.

| variable | default | what it decides |
|---|---|---|
"""


def render() -> str:
    """The page's text."""
    rows = []
    defaults = {field.name: field for field in msgspec.structs.fields(Settings)}
    hints = get_type_hints(Settings, include_extras=True)
    for field, kind in sorted(
        hints.items(), key=lambda hint: hint[0] not in Settings.__annotations__
    ):  # inherited last
        description = next(
            meta.description for meta in get_args(kind) if isinstance(meta, msgspec.Meta) and meta.description
        )
        rows.append(f"| `{variable(field)}` | {_shown(field, defaults[field].default)} | {description} |\n")
    return _HEAD + "".join(rows)


def _shown(field: str, value: object) -> str:
    if field == "data_dir":
        return "`/var/lib/restante` for root, else `~/.local/share/restante`"
    if value is None or value == "":
        return "–"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    print(render(), end="")
