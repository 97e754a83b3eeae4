"""CSV that a spreadsheet opens without running anything of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Final

from restante.core.money import show_usd

#: What a spreadsheet takes for the beginning of a formula, the full-width forms included, and what it skips before one.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def cell(text: str) -> str:
    """A text as a cell: with an apostrophe before what would be taken for a formula."""
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def amount(nano: int) -> str:
    """Nano-dollars as a number of US dollars: digits, a point and perhaps a minus, hence no formula."""
    return show_usd(nano)


def lines(rows: Iterable[Sequence[str]]) -> bytes:
    """Rows as CSV (RFC 4180)."""
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()
