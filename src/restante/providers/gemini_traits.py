"""What Google's models can do, told by their names: the one place to change when a generation comes or goes. No I/O.

Sources, read in November 2026: ai.google.dev/gemini-api/docs (thinking, google-search, pricing, models) and
docs.cloud.google.com/gemini-enterprise-agent-platform/models/thinking, whose tables say for each model which thinking
levels (3 and later) or budgets (2.5) it takes. A level or budget beyond them is answered with HTTP 400.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, Literal

import msgspec

from restante.core.limits import PRICE_WARNINGS_REMEMBERED as NAMES_REMEMBERED
from restante.core.task import always_reasons

Level = Literal["MINIMAL", "LOW", "MEDIUM", "HIGH"]

_GENERATION: Final = re.compile(r"gemini-([0-9]+)(?:\.([0-9]+))?(?:-|$)")

MOVING: Final = (1_000, 0)  # gemini-flash-latest and the like are always the newest of their kind
UNNUMBERED: Final = (0, 0)

#: The generation from which models think, the one from which they are told so by level, and the one from which Google
#: counts search queries instead of grounded prompts.
_THINKS: Final = (2, 5)
_BY_LEVEL: Final = (3, 0)
_PAID_BY_QUERY: Final = (3, 0)

#: google_search exists from 2.0 on (1.5 had another tool, and is shut down); 2.0 Flash-Lite never had it.
_SEARCHES: Final = (2, 0)
_NO_SEARCH: Final = ("gemini-2.0-flash-lite",)

#: The smallest budget of 2.5 that is not 0. Pro refuses 0: its thinking cannot be turned off.
_BUDGET_MIN: Final = (("gemini-2.5-pro", 128), ("gemini-2.5-flash-lite", 512), ("gemini-2.5-flash", 1))

#: Models of 3 and later that take MINIMAL, which is as near to "off" as they come. All text models take LOW, so that is
#: what others are told, those that are not yet known included.
_MINIMAL: Final = (
    "gemini-3-flash", "gemini-3.1-flash-lite", "gemini-3.5-flash", "gemini-3.5-flash-lite", "gemini-3.6-flash",
)  # fmt: skip


class Traits(msgspec.Struct, frozen=True):
    """One model's. `budget_min` is 0 where thinking is told by level or not at all."""

    generation: tuple[int, int]
    thinks: bool
    always_thinks: bool
    by_level: bool
    budget_min: int
    least_level: Level
    searches: bool
    paid_by_query: bool


@lru_cache(maxsize=NAMES_REMEMBERED)
def traits(name: str) -> Traits:
    """What a model of this name can do."""
    number = generation(name)
    by_level = number >= _BY_LEVEL
    return Traits(
        generation=number,
        thinks=number >= _THINKS,
        always_thinks=always_reasons(name),
        by_level=by_level,
        budget_min=0 if by_level else next((least for base, least in _BUDGET_MIN if name.startswith(base)), 1),
        least_level="MINIMAL" if _is_one_of(name, _MINIMAL) else "LOW",
        searches=number >= _SEARCHES and not _is_one_of(name, _NO_SEARCH),
        paid_by_query=number >= _PAID_BY_QUERY,
    )


def generation(name: str) -> tuple[int, int]:
    """(3, 7) for gemini-3.7-flash; moving aliases are newer than every number, what has none is older."""
    found = _GENERATION.match(name)
    if found is not None:
        return int(found[1]), int(found[2] or 0)
    return MOVING if name.endswith("-latest") else UNNUMBERED


def _is_one_of(name: str, bases: tuple[str, ...]) -> bool:
    """Whether it is one of these models or a version of one (-001, -preview, -preview-11-2025)."""
    return any(re.fullmatch(re.escape(base) + r"(-preview)?(-[0-9]{2,4}){0,2}", name) for base in bases)
