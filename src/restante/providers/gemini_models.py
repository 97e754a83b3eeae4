"""Which of the models Google lists may be posted, in what order, and what a base name stands for. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from restante.core.task import Model, always_reasons
from restante.providers.gemini_traits import generation, traits
from restante.providers.gemini_wire import ListedModel

#: Words of names whose models do not answer a text with a text, or not without tools of their own.
_OTHER_KINDS: Final = frozenset(
    {"audio", "banana", "computer", "dialog", "embedding", "image", "live", "omni", "robotics", "tts", "vision"}
)

_VERSION: Final = re.compile(r"(gemini-.+)-([0-9]{3})")
_TIERS: Final = ("ultra", "pro", "flash", "flash-lite")


def text_models(listed: Iterable[ListedModel]) -> tuple[Model, ...]:
    """The text models among Google's rows, newest first, with a row for each base name that has none of its own.

    gemini-1.5-pro is served by gemini-1.5-pro-002 when Google lists only -001 and -002 (contract §7); a base name
    that Google lists itself is left to Google. Whether a model reasons Google says in its row; whether it may search
    the web is known by its name alone (gemini_traits).
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
            web_search=traits(served[name]).searches,
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
    major, minor = generation(name)
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
