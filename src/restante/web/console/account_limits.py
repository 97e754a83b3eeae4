"""Limits of an account: what they are called, what holds, and what was typed for its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from restante.core.allowance import LIMIT_NAMES, Allowance
from restante.core.limits import DEADLINE_HOURS_MAX, RATE_MAX
from restante.core.money import Nano, parse_usd, show_usd
from restante.web.console.desk import Invalid

#: Limits in the order of the page: what they are called, and what they count.
LIMITS: Final = {
    "spend_per_day": ("Spending", "US dollars a UTC day"),
    "duplicates_per_hour": ("Identical tasks", "in a clock hour"),
    "duplicates_per_day": ("Identical tasks", "on a UTC day"),
    "deadline_hours": ("Deadline", "hours in the queue"),
    "live_at_once": ("Live tasks", "at the same time"),
    "task_post": ("task_post", "calls a minute"),
    "live": ("live", "calls a minute"),
    "tasks_ready": ("tasks_ready", "calls a minute"),
    "task_get": ("task_get", "calls a minute"),
    "models": ("models", "calls a minute"),
    "user_data": ("user_data", "calls a minute"),
    "appendix_errors": ("appendix/errors", "calls a minute"),
    "status": ("status", "calls a minute"),
    "webhook_resend": ("webhook_resend", "calls a minute"),
    "id_list": ("id_list", "calls a minute"),
    "errors": ("errors", "calls a minute"),
}
assert set(LIMITS) == {*LIMIT_NAMES, "deadline_hours"}
_DIGITS: Final = re.compile(r"[0-9]{1,10}")
#: As pages write amounts, "$1,234.50", or without the thousands apart. A comma anywhere else may be a decimal one.
_USD: Final = re.compile(r"-?\$?([0-9]+|[0-9]{1,3}(,[0-9]{3})+)(\.[0-9]+)?")


class Limit(msgspec.Struct, frozen=True):
    """A limit as it holds for an account; 0: without limit. `own`: what was set for it alone, as it is typed."""

    name: str
    title: str
    counts: str
    holds: float
    own: str | None

    @property
    def shown(self) -> str:
        if not self.holds:
            return "no limit"
        if self.name == "spend_per_day":
            return f"${show_usd(int(self.holds))}"
        return f"{self.holds:,g}"


def holding(own: Mapping[str, int], installation: Allowance, deadline_hours: float) -> list[Limit]:
    """What holds for an account with these limits of its own, each with where it comes from."""
    holds = msgspec.structs.asdict(installation.with_own(own))
    holds["deadline_hours"] = own.get("deadline_hours", deadline_hours)
    return [
        Limit(name, title, counts, holds[name], _typed(name, own.get(name))) for name, (title, counts) in LIMITS.items()
    ]


def parse_amount(text: str) -> Nano:
    """US dollars as somebody typed them. Raises Invalid."""
    text = text.strip()
    if not _USD.fullmatch(text):
        raise Invalid(f"{text!r} is not an amount of US dollars, such as 12.50 or 1,250.00.")
    try:
        return parse_usd(text.replace(",", "").replace("$", ""))
    except ValueError as error:
        raise Invalid(f"{error}.") from None


def parse(name: str, text: str) -> int | None:
    """A limit as it was typed; None: the installation's. Raises Invalid."""
    text = text.strip()
    if not text:
        return None
    if name == "spend_per_day":
        amount = parse_amount(text)
        if amount < 0:
            raise Invalid(f"{text!r} is negative: 0 is without limit.")
        return int(amount)
    low, high = (1, DEADLINE_HOURS_MAX) if name == "deadline_hours" else (0, RATE_MAX)
    if not (_DIGITS.fullmatch(text) and low <= int(text) <= high):
        raise Invalid(f"{name}: {text!r} is no whole number from {low} to {high:,}.")
    return int(text)


def _typed(name: str, value: int | None) -> str | None:
    if value is None:
        return None
    return show_usd(value) if name == "spend_per_day" else str(value)
