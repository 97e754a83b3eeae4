"""Log lines for people: what every loop says while the database is away is said a few times, not all the time."""

from __future__ import annotations

import logging
import time

from restante.core.limits import LOG_REPEAT_SECONDS, LOG_REPEATS
from restante.store.database import DatabaseLost


class Repeats(logging.Filter):
    """Of lines that carry a `DatabaseLost`, LOG_REPEATS of each kind pass in LOG_REPEAT_SECONDS; how many were
    left out stands in the first one after that. All other lines pass."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}  # since when, and how many since

    def filter(self, record: logging.LogRecord) -> bool:
        args = record.args if isinstance(record.args, tuple) else ()
        if not any(isinstance(one, DatabaseLost) for one in args):
            return True
        kind, now = (record.name, record.msg), time.monotonic()
        since, count = self._seen.get(kind, (float("-inf"), 0))
        if now - since < LOG_REPEAT_SECONDS:
            self._seen[kind] = (since, count + 1)
            return count < LOG_REPEATS
        self._seen[kind] = (now, 1)
        if count > LOG_REPEATS:
            record.msg = f"{record.msg} ({count - LOG_REPEATS} more such lines were left out)"
        return True
