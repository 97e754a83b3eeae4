"""How many calls of a provider's model may start, and how many may be in flight: values and rules, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from restante.core.limits import QUOTA_MAX, QUOTA_USED, WINDOW_FLOOR, WINDOW_STEP

_MINUTE: Final = 60.0


class Quota(msgspec.Struct, frozen=True):
    """Calls and input tokens a minute that one project may have of a model; None: no limit is known."""

    calls: int | None = None
    tokens: int | None = None

    def before(self, other: Quota) -> Quota:
        """This quota, and the other's word where this has none."""
        return Quota(self.calls or other.calls, self.tokens or other.tokens)

    @property
    def call_seconds(self) -> float | None:
        """Between the starts of two calls, a little more than the quota's own, so that no rolling minute passes it."""
        return None if self.calls is None else _MINUTE / (self.calls * QUOTA_USED)

    @property
    def token_seconds(self) -> float | None:
        """Of the rate, that a token takes up."""
        return None if self.tokens is None else _MINUTE / (self.tokens * QUOTA_USED)


def parse_quota(text: str | None) -> Mapping[str, int]:
    """A setting such as "1000" (all models) or "gemini-2.5-flash=1000,*=500": {model or "*": a minute}.

    Raises ValueError naming what cannot be read.
    """
    found: dict[str, int] = {}
    for entry in (text or "").replace(",", " ").split():
        model, equals, number = entry.rpartition("=")
        if not (number.isascii() and number.isdecimal() and 0 < int(number) <= QUOTA_MAX) or bool(model) != bool(
            equals
        ):
            raise ValueError(f"{entry!r} is neither a number nor MODEL=NUMBER, above 0 and up to {QUOTA_MAX}")
        found[model or "*"] = int(number)
    return found


class Window:
    """How many calls of one project and model a process has in flight: halved when the provider has too much to do, at
    most once for the calls that were in flight together, and grown by a step for each round of answers."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._step = max(1.0, most * WINDOW_STEP)
        self._halved_at = float("-inf")
        self.size = float(most)

    @property
    def at_floor(self) -> bool:
        """It cannot get smaller."""
        return self.size <= WINDOW_FLOOR

    def room(self, in_flight: int) -> int:
        """Calls that may start."""
        return max(0, int(self.size) - in_flight)

    def answered(self) -> None:
        """A call went well."""
        self.size = min(float(self._most), self.size + self._step / self.size)

    def refused(self, started: float, now: float) -> None:
        """A call that started then was put off now (seconds of any one clock)."""
        if started > self._halved_at:
            self.size = max(WINDOW_FLOOR, self.size / 2)
            self._halved_at = now
