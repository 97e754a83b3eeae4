"""What other people wrote, in a spreadsheet: shown, never run."""

from __future__ import annotations

import re
from typing import Final

#: What a spreadsheet takes for a formula's beginning, the full-width forms included, and what it skips before one.
_FORMULA: Final = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")


def cell(text: str) -> str:
    """A text as a cell of a CSV file: with an apostrophe before what would be taken for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text
