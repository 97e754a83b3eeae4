"""Which of the models Google lists may be posted, in what order, and what a base name stands for. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from restante.core.task import Model, always_reasons
from restante.providers.gemini_wire import ListedModel

#: Words of names whose models do not answer a text with a text, or not without tools of their own.
_OTHER_KINDS: Final = frozenset(
    {"audio", "banana", "computer", "dialog", "embedding", "image", "live", "omni", "robotics", "tts", "vision"}
)

_GENERATION: Final = re.compile(r"gemini-([0-9]+)(?:\.([0-9]+))?(?:-|$)")
_VERSION: Final = re.compile(r"(gemini-.+)-([0-9]{3})")
_TIERS: Final = ("ultra", "pro", "flash", "flash-lite")

_MOVING: Final = (1_000, 0)  # gemini-flash-latest and the like are always the newest of their kind
_UNNUMBERED: Final = (0, 0)


def text_models(listed: Iterable[ListedModel]) -> tuple[Model, ...]:
    """The text models among Google's rows, newest first, with a row for each base name that has none of its own.

    gemini-1.5-pro is served by gemini-1.5-pro-002 when Google lists only -001 and -002 (contract §7); a base name
    that Google lists itself is left to Google.
    """
    rows = {row.name.removeprefix("models/"): row for row in listed if _is_text(row)}
    served = {name: name for name in rows}
    for name in sorted(rows):  # -001 before -002: the last one stays
        version = _VERSION.fullmatch(name)
        if version is not None and version[1] not in rows:
            served[version[1]] = name
    return tuple(
        Model(
            name=name,
            served=served[name],
            provider="gemini",
            reasoning=rows[served[name]].thinking,
            reasoning_forced=always_reasons(name),
        )
        for name in sorted(served, key=_age)
    )


def _is_text(row: ListedModel) -> bool:
    name = row.name.removeprefix("models/")
    return (
        name.startswith("gemini-")
        and "generateContent" in row.supported_generation_methods
        and _OTHER_KINDS.isdisjoint(name.split("-"))
    )


def _age(name: str) -> tuple[int, int, int, bool, int, str]:
    """Smaller is newer: the generation, then the tier, then the base name before its versions, latest first."""
    generation = _GENERATION.match(name)
    if generation is not None:
        major, minor = int(generation[1]), int(generation[2] or 0)
    else:
        major, minor = _MOVING if name.endswith("-latest") else _UNNUMBERED
    tiers = [position for position, tier in enumerate(_TIERS) if f"-{tier}-" in f"{name}-"]
    version = _VERSION.fullmatch(name)
    return (
        -major,
        -minor,
        max(tiers, default=len(_TIERS)),
        version is not None,
        -int(version[2]) if version is not None else 0,
        name,
    )
