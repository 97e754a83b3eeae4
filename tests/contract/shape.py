"""What an answer must be, value by value: the suite's own checkers, which test_flips.py in turn puts to the proof.

A specification is written as the answer itself, in its order of keys. Where the contract leaves a value open its place
holds a `Free`, which says what it must look like all the same. Everything else must be equal, in type too: 0 is neither
0.0 nor false.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

_STAMP_MINUTES = 2  # a test's calls are this fresh


class Wrong(AssertionError):
    """An answer is not what the contract says; names the place."""


class Free(msgspec.Struct, frozen=True):
    """A value of the server's own choosing: `why` it is free, what it must be, and `another` that is as good."""

    why: str
    accepts: Callable[[Any], bool]
    another: Callable[[Any], Any]


def check(value: Any, spec: Any, place: str = "answer") -> None:
    """Raises Wrong at the first difference."""
    if isinstance(spec, Free):
        if not spec.accepts(value):
            raise Wrong(f"{place}: {value!r} ({spec.why})")
    elif type(value) is not type(spec):
        raise Wrong(f"{place}: {value!r} is no {type(spec).__name__}")
    elif isinstance(spec, dict):
        if list(value) != list(spec):
            raise Wrong(f"{place}: keys {list(value)}, not {list(spec)}")
        for key, inner in spec.items():
            check(value[key], inner, f"{place}.{key}")
    elif isinstance(spec, list):
        if len(value) != len(spec):
            raise Wrong(f"{place}: {len(value)} elements, not {len(spec)}")
        for number, inner in enumerate(spec):
            check(value[number], inner, f"{place}[{number}]")
    elif value != spec:
        raise Wrong(f"{place}: {value!r}, not {spec!r}")


def _text(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


def _fresh(text: str) -> bool:
    at = datetime.strptime(text, "%Y-%m-%d %H:%M:%S %z")
    return timedelta(seconds=-1) <= datetime.now(UTC) - at < timedelta(minutes=_STAMP_MINUTES)


TIME = Free(
    "§1: how long it took, four decimals", _text(r"\d+\.\d{4} sec\."), lambda value: "9" + value  # still of its form
)  # fmt: skip
VERSION = Free("§1: 0.1 and a date", _text(r"0\.1\.20\d{6}"), lambda _: "0.1.20260806")
_moment = _text(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+00:00")
MOMENT = Free(
    "§1: the moment, UTC, a blank before the offset",
    lambda value: _moment(value) and _fresh(value),
    lambda _: f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} +00:00",
)


def own_id(account: int, function: int) -> Free:
    """§5.4: an id that was just made for this account and function; its last twelve digits are chance."""
    form = _text(rf"\d{{8}}-{account:04x}-{function:04d}-0000-[0-9a-f]{{12}}")

    def accepts(value: Any) -> bool:
        now = datetime.now(UTC)
        stamps = {f"{now - timedelta(minutes=back):%m%d%H%M}" for back in range(_STAMP_MINUTES + 1)}
        return form(value) and value[:8] in stamps

    return Free("§5.4: an id", accepts, lambda value: value[:-12] + "0123456789ab")


TOKENS = Free(
    "§3.3: how many tokens there were, above 0",
    lambda value: type(value) is int and value > 0,
    lambda value: value + 1,
)

COUNT = Free(
    "§3.7: how often something was called", lambda value: type(value) is int and value >= 0, lambda value: value + 1
)
DURATION = Free("§3.12: seconds", lambda value: type(value) is float and 0 <= value < 60, lambda value: value + 1)
DAY = Free("§3.7: the day", _text(r"\d{4}-\d\d-\d\d"), lambda _: "2026-11-20")
MINUTE = Free("§3.7: the minute", _text(r"\d{4}-\d\d-\d\d \d\d:\d\d"), lambda _: "2026-11-20 12:30")
_STATUSES = ("ok", "webhook_delay", "long_execution_time", "partial_outage", "major_outage")
STATUS = Free("§3.9: how it is", lambda value: value in _STATUSES, lambda _: "webhook_delay")

FAMILY = ["v3", "ai_optimization", "gemini", "llm_responses"]
DATA = {"api": "ai_optimization", "function": "llm_responses", "se": "gemini"}


def task(
    task_id: Any,
    path: list[str],
    *,
    code: int = 20000,
    message: str = "Ok.",
    time: Any = TIME,
    cost: Any = 0,
    count: int = 0,
    data: Any,
    result: Any = None,
) -> dict[str, Any]:
    """A task of an envelope (§1.1)."""
    return {
        "id": task_id,
        "status_code": code,
        "status_message": message,
        "time": time,
        "cost": cost,
        "result_count": count,
        "path": path,
        "data": data,
        "result": result,
    }


def envelope(
    *tasks: dict[str, Any], cost: Any = 0, errors: int = 0, code: int = 20000, message: str = "Ok."
) -> dict[str, Any]:
    """An answered call (§1.1)."""
    return {
        "version": VERSION,
        "status_code": code,
        "status_message": message,
        "time": TIME,
        "cost": cost,
        "tasks_count": len(tasks),
        "tasks_error": errors,
        "tasks": list(tasks),
    }
