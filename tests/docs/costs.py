"""What 1,000 grounded prompts cost, by the server's own prices: `python -m tests.docs.costs` rewrites the tables of
docs/prices.md and README.md."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Final

from restante.core.money import NANO_PER_USD
from restante.core.pricing import STANDARD_FEE
from restante.providers.gemini_price import price, tables_checked

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = (ROOT / "docs/prices.md", ROOT / "README.md")
BEGIN: Final = "<!-- 1,000 grounded prompts: python -m tests.docs.costs -->\n"
END: Final = "<!-- end of 1,000 grounded prompts -->\n"

#: A grounded prompt as trackers post them: a question of some lines, an answer of some paragraphs, two queries.
INPUT_TOKENS: Final = 100
OUTPUT_TOKENS: Final = 1_000
QUERIES: Final = ("best crm software", "crm software small business 2026")
PROMPTS: Final = 1_000
FEE: Final = Decimal(STANDARD_FEE) / NANO_PER_USD

_NOVEMBER: Final = datetime(2026, 11, 22, 12, tzinfo=UTC)
_JANUARY: Final = datetime(2027, 1, 2, 12, tzinfo=UTC)
_ROWS: Final = (
    ("gemini-3.5-flash-lite", _NOVEMBER, ""),
    ("gemini-3.7-flash", _NOVEMBER, ", until 2026-12-31"),
    ("gemini-3.7-flash", _JANUARY, ", from 2027-01-01"),
    ("gemini-3.1-pro-preview", _NOVEMBER, ""),
    ("gemini-2.5-flash", _NOVEMBER, ""),
)


def render() -> str:
    """The table, with what it was reckoned from."""
    text = "| model | tokens | searches | **1,000 prompts** | in batches |\n|---|--:|--:|--:|--:|\n"
    for model, at, note in _ROWS:
        tokens, all_of_it = _usd(model, at, ()), _usd(model, at, QUERIES)
        batched = _usd(model, at, QUERIES, batch=True)
        cells = (tokens, all_of_it - tokens, all_of_it, batched)
        shown = [f"${cell.quantize(Decimal('0.01'), ROUND_HALF_UP)}" for cell in cells]
        shown[2] = f"**{shown[2]}**"
        text += f"| `{model}`{note} | {' | '.join(shown)} |\n"
    return text + (
        f"\nUS dollars to Google on paid quota, for {INPUT_TOKENS} tokens in, {OUTPUT_TOKENS:,} out (thoughts included)"
        f" and {len(QUERIES)} searches\na prompt, by price tables compared with Google's list on {tables_checked()}."
        " Gemini 2.5 pays for a prompt that was\nsearched for, Gemini 3 for each search.\n"
    )


def _usd(model: str, at: datetime, queries: tuple[str, ...], *, batch: bool = False) -> Decimal:
    one = price(
        model, model, input_tokens=INPUT_TOKENS, cached_tokens=0, output_tokens=OUTPUT_TOKENS, queries=queries,
        batch=batch, at=at,
    )  # fmt: skip
    return Decimal(one.nano * PROMPTS) / NANO_PER_USD


def within(text: str) -> str:
    """The table as it stands in a page."""
    return text.partition(BEGIN)[2].partition(END)[0]


if __name__ == "__main__":
    for page in PAGES:
        old = page.read_text()
        page.write_text(re.sub(f"(?s){re.escape(BEGIN)}.*{re.escape(END)}", BEGIN + render() + END, old))
