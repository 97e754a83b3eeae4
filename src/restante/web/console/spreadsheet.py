"""CSV that a spreadsheet opens without running anything of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from restante.core.money import show_usd


def amount(nano: int) -> str:
    """Nano-dollars as a number of US dollars: digits, a point and perhaps a minus, hence no formula."""
    return show_usd(nano)


def lines(rows: Iterable[Sequence[str]]) -> bytes:
    """Rows as CSV (RFC 4180)."""
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()
