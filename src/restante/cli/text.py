"""Other people's words on our terminal and in their spreadsheets: shown, never obeyed.

Prompts, answers, tags, logins and what servers say may hold escape sequences, line breaks or directional marks that
would move the cursor, forge lines or turn a line around. On a terminal they are written as what they are (`\\x1b`).
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import lru_cache
from typing import Final

import msgspec

from restante.core import spreadsheet

_SUSPECTS: Final = re.compile(r"[^\t\n -~\u00a0-\u00ac\u00ae-\u02ff]")
_JOINERS: Final = "\u200c\u200d"  # of Indian and Arabic scripts, and of composed emoji: they hide nothing
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_HARMFUL_IN_JSON: Final = re.compile(r"[^\n -~\u00a0-\u00ac\u00ae-\u02ff]")


def visible(text: str, *, lines: bool = False) -> str:
    """The text with what a terminal would obey written out. `lines`: it may go over several lines, as it does."""
    shown = _SUSPECTS.sub(lambda found: _shown(found[0]), text)
    return shown if lines else shown.replace("\n", "\\n").replace("\t", "\\t")


@lru_cache(maxsize=4_096)
def _shown(char: str) -> str:
    if char in _JOINERS or unicodedata.category(char) not in _UNSEEN:
        return char
    return char.encode("unicode_escape", "backslashreplace").decode()


def json_text(value: object, *, indent: int = -1) -> str:
    """JSON that shows harmlessly and means the same: what a terminal would obey is written as \\uXXXX."""
    return harmless_json(msgspec.json.format(msgspec.json.encode(value), indent=indent).decode())


def harmless_json(text: str) -> str:
    """The same of a JSON text."""
    return _HARMFUL_IN_JSON.sub(_in_json, text)


def _in_json(found: re.Match[str]) -> str:
    char = found[0]
    if _shown(char) == char:
        return char
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place]:02x}{units[place + 1]:02x}" for place in range(0, len(units), 2))


def cell(text: str) -> str:
    """A text as a cell of a CSV file that people open in a spreadsheet: one that would be taken for a formula gets an
    apostrophe before it, control characters are written out, tabs and line breaks stay."""
    return spreadsheet.cell(visible(text, lines=True))


def say(text: str) -> None:
    """A line for people, on standard error."""
    print(text, file=sys.stderr, flush=True)
