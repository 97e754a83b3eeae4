"""What Google's errors mean for a task, for its bucket and for its key. No I/O but the time zone's rules.

Status codes and details (google.rpc.ErrorInfo, RetryInfo, QuotaFailure): Google's reference, and recorded answers.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import msgspec

from restante.core.answer import Failure
from restante.core.limits import QUOTA_MAX, RETRY_AFTER_MAX
from restante.core.pacing import Quota
from restante.providers.api_key import KEY_REJECTED
from restante.providers.provider import NO_JSON
from restante.providers.session import retry_after_seconds

INVALID_ARGUMENT: Final = "invalid argument"
RATE_LIMITED: Final = "rate_limit_exceeded"

_PACIFIC: Final = ZoneInfo("America/Los_Angeles")
_NAME: Final = re.compile(r"[A-Z][A-Z_]{0,59}")


class _Status(msgspec.Struct, frozen=True):
    status: str = ""
    message: str = ""
    details: tuple[dict[str, Any], ...] = ()


class _ErrorBody(msgspec.Struct, frozen=True):
    error: _Status = _Status()


class Fault(msgspec.Struct, frozen=True):
    """An error answer: what the queue is told, and what only the operator's log is (it may name the key)."""

    failure: Failure
    detail: str


_errors: Final = msgspec.json.Decoder(_ErrorBody)


def fault_of(status: int, retry_after: str, body: bytes, now: datetime) -> Fault:
    """What an HTTP status other than 200 means, with the Retry-After header ("" if there was none).

    A rejected key is transient: it is the operator's to mend, and tasks wait for that (contract §12.26). So is a
    failed precondition (no billing, no service where the server stands): it too is about the key's project.
    """
    try:
        error = _errors.decode(body).error
    except NO_JSON:
        error = _Status()
    detail = f"HTTP {status} {_status(error.status)}: {error.message[:500]!r}"
    wait = min(max(retry_after_seconds(retry_after, now) or 0.0, _retry_info(error.details)), RETRY_AFTER_MAX)

    def later(reason: str, strain: Literal["overloaded"] | None = None) -> Fault:
        waits = reason == KEY_REJECTED
        failure = Failure(
            reason=reason, transient=True, retry_after=wait or None, waits=waits, doubts_key=waits, strain=strain
        )
        return Fault(failure, detail)

    def never(reason: str) -> Fault:
        return Fault(Failure(reason=reason), detail)

    key_refused = status == 400 and (
        error.status == "FAILED_PRECONDITION" or any(_names_key(entry) for entry in error.details)
    )
    match status:
        case 429:
            return Fault(_exhausted(error.details, wait, now), detail)
        case 503:
            return later("overloaded", "overloaded")
        case 408 | 504:
            return later("timeout")
        case 407:  # the egress proxy's word, not Google's
            return later("connection failed")
        case 401 | 403:
            return later(KEY_REJECTED)
        case 400 if key_refused:
            return later(KEY_REJECTED)
        case 400:
            return never(INVALID_ARGUMENT)
        case 404:
            return never("model not found")
        case _ if 400 <= status < 500:
            return never(f"refused with HTTP {status}")
        case _ if status >= 500:
            return later("provider error")
        case _:  # a redirect or the page of a captive portal: something stands between Google and us
            return later(f"unexpected HTTP {status}")


class _Violation(msgspec.Struct, rename="camel", frozen=True):
    """One quota of a google.rpc.QuotaFailure."""

    quota_metric: str = ""
    quota_id: str = ""
    quota_value: str | int = ""


class _QuotaFailure(msgspec.Struct, frozen=True):
    violations: tuple[_Violation, ...] = ()


def _exhausted(details: tuple[dict[str, Any], ...], wait: float, now: datetime) -> Failure:
    """A 429. The quotas of a minute that it names are learned; one of a day is back at midnight in California. A quota
    of something that only some calls use (searches) puts off this call alone."""
    violations = [one for detail in details for one in _violations(detail)]
    extras = [one for one in violations if _is_extra(one)]
    named = [one for one in violations if one not in extras]
    if any("PerDay" in one.quota_id for one in named or extras):
        wait = max(wait, seconds_to_pacific_midnight(now))
    if extras and not named:
        return Failure(reason=RATE_LIMITED, transient=True, retry_after=wait or None)
    minute = [one for one in named if "PerMinute" in one.quota_id]
    tokens = [_value(one) for one in minute if "token" in one.quota_metric.lower() or "Token" in one.quota_id]
    calls = [_value(one) for one in minute if "token" not in one.quota_metric.lower() and "Token" not in one.quota_id]
    return Failure(
        reason=RATE_LIMITED,
        transient=True,
        retry_after=wait or None,
        strain="quota",
        quota=Quota(min(filter(None, calls), default=None), min(filter(None, tokens), default=None)),
    )


def _violations(detail: dict[str, Any]) -> tuple[_Violation, ...]:
    if not str(detail.get("@type", "")).endswith("google.rpc.QuotaFailure"):
        return ()
    try:
        return msgspec.convert(detail, _QuotaFailure).violations
    except msgspec.ValidationError:
        return ()


def _is_extra(violation: _Violation) -> bool:
    """A quota that calls without a search or a map do not touch."""
    return (
        re.search("search|grounding|maps", f"{violation.quota_metric} {violation.quota_id}", re.IGNORECASE) is not None
    )


def _value(violation: _Violation) -> int | None:
    """A quota above 0 that fits what it is kept in."""
    text = str(violation.quota_value)
    return int(text) if re.fullmatch("[0-9]{1,10}", text) and 0 < int(text) <= QUOTA_MAX else None


def seconds_to_pacific_midnight(now: datetime) -> float:
    """Until Google's day ends: daily quotas are counted by California's calendar, summer time included."""
    here = now.astimezone(_PACIFIC)
    midnight = datetime.combine(here.date() + timedelta(days=1), datetime.min.time(), _PACIFIC)
    return (midnight.astimezone(UTC) - now).total_seconds()


def _names_key(detail: dict[str, Any]) -> bool:
    """google.rpc.ErrorInfo, reason API_KEY_INVALID, API_KEY_SERVICE_BLOCKED and the like."""
    return str(detail.get("reason", "")).startswith("API_KEY_")


def _retry_info(details: tuple[dict[str, Any], ...]) -> float:
    """Seconds of google.rpc.RetryInfo, a JSON Duration such as "2s" or "1.5s"; 0 when there is none."""
    for detail in details:
        if str(detail.get("@type", "")).endswith("google.rpc.RetryInfo"):
            delay = str(detail.get("retryDelay", ""))
            if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?s", delay):
                return float(delay[:-1])
    return 0.0


def _status(name: str) -> str:
    """A status of Google's as it may stand in the log: one word in capitals."""
    return name if _NAME.fullmatch(name) else "OTHER"
