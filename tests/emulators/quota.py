"""Google's quotas, emulated: calls a rolling minute and a day, input tokens a minute, by key and model; random 503s.

What arrives is counted whether it is let in or not, so that `worst` says what a client did, and not what was allowed.
Quota names, metrics and the words of the refusal are those of recorded 429s.
"""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

_METRIC = "generativelanguage.googleapis.com/"
_PAGE = "https://ai.google.dev/gemini-api/docs/rate-limits"

Refused = tuple[int, str, tuple[dict[str, Any], ...]]


@dataclass
class _Counted:
    """Calls of one key and model: (time, tokens) of the last minute, and how many of the day."""

    arrived: deque[float] = field(default_factory=deque)
    admitted: deque[tuple[float, int]] = field(default_factory=deque)
    day: int = 0


@dataclass
class Quotas:
    """`per_minute`, `per_day` and `tokens_per_minute` by model, "*" for all others; a model without any is unlimited.
    `minute` is its length in seconds. `unavailable`: the share of 503s, by `seed`. `names_time`: whether a 429 has a
    RetryInfo; `names_quota`: whether it has a QuotaFailure."""

    per_minute: dict[str, int] = field(default_factory=dict)
    per_day: dict[str, int] = field(default_factory=dict)
    tokens_per_minute: dict[str, int] = field(default_factory=dict)
    minute: float = 60.0
    unavailable: float = 0.0
    seed: int = 1
    names_time: bool = True
    names_quota: bool = True
    worst: Counter[tuple[str, str]] = field(default_factory=Counter)  # arrivals of a rolling minute, by key and model
    worst_tokens: Counter[tuple[str, str]] = field(default_factory=Counter)  # of those let in
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: Counter[int] = field(default_factory=Counter)  # by status
    first: float = 0.0  # when the first call came, and the last (monotonic)
    last: float = 0.0
    _counted: dict[tuple[str, str], _Counted] = field(default_factory=dict)
    _random: random.Random | None = None

    def judge(self, key: str, model: str, tokens: int) -> Refused | None:
        """Count a call; why it is refused, if it is."""
        now = time.monotonic()
        self.first, self.last = self.first or now, now
        mine = self._counted.setdefault((key, model), _Counted())
        self._count(mine, (key, model), now)
        self._random = self._random or random.Random(self.seed)
        refused = self._exhausted(mine, model, tokens, now)
        if refused is None and self._random.random() < self.unavailable:
            refused = 503, "The model is overloaded. Please try again later.", ()
        if refused is not None:
            self.refused[refused[0]] += 1
            return refused
        mine.admitted.append((now, tokens))
        mine.day += 1
        used = sum(spent for _, spent in mine.admitted)
        self.worst_tokens[key, model] = max(self.worst_tokens[key, model], used)
        return None

    def _count(self, mine: _Counted, bucket: tuple[str, str], now: float) -> None:
        mine.arrived.append(now)
        while mine.arrived[0] <= now - self.minute:
            mine.arrived.popleft()
        while mine.admitted and mine.admitted[0][0] <= now - self.minute:
            mine.admitted.popleft()
        self.calls[bucket] += 1
        self.worst[bucket] = max(self.worst[bucket], len(mine.arrived))

    def _exhausted(self, mine: _Counted, model: str, tokens: int, now: float) -> Refused | None:
        day, calls = _of(self.per_day, model), _of(self.per_minute, model)
        spendable = _of(self.tokens_per_minute, model)
        if day is not None and mine.day >= day:
            name = "GenerateRequestsPerDayPerProjectPerModel"
            return self._fault("generate_requests_per_model_per_day", name, model, day, 30.0)
        wait = mine.admitted[0][0] + self.minute - now if mine.admitted else 0.0
        if calls is not None and len(mine.admitted) >= calls:
            name = "GenerateRequestsPerMinutePerProjectPerModel"
            return self._fault("generate_requests_per_model", name, model, calls, wait)
        if spendable is not None and sum(spent for _, spent in mine.admitted) + tokens > spendable:
            name = "GenerateContentPaidTierInputTokensPerModelPerMinute"
            return self._fault("generate_content_paid_tier_input_token_count", name, model, spendable, wait)
        return None

    def _fault(self, metric: str, quota_id: str, model: str, limit: int, wait: float) -> Refused:
        details: list[dict[str, Any]] = [
            {
                "@type": "type.googleapis.com/google.rpc.Help",
                "links": [{"description": "Learn more about Gemini API quotas", "url": _PAGE}],
            }
        ]
        if self.names_quota:
            violation = {
                "quotaMetric": _METRIC + metric,
                "quotaId": quota_id,
                "quotaDimensions": {"location": "global", "model": model},
                "quotaValue": str(limit),
            }
            details.insert(0, {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]})
        if self.names_time:
            details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{wait:.9f}s"})
        message = (
            "You exceeded your current quota, please check your plan and billing details. For more information on this"
            f" error, head to: {_PAGE}.\n* Quota exceeded for metric: {_METRIC}{metric}, limit: {limit}, model:"
            f" {model}\nPlease retry in {wait:.9f}s."
        )
        return 429, message, tuple(details)


def _of(limits: dict[str, int], model: str) -> int | None:
    return limits.get(model, limits.get("*"))
