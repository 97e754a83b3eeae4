"""Log lines, for people or for programs; what every loop says while the database is away is said a few times only."""

from __future__ import annotations

import logging
import re
import sys
import time
from typing import Any, Final

import msgspec

from restante.core.limits import LOG_REPEAT_SECONDS, LOG_REPEATS
from restante.core.task import ID_PATTERN, parse_id
from restante.observing import current
from restante.observing.metrics import LOG_LINES
from restante.observing.traces import TRACES, trace_id
from restante.store.errors import DatabaseLost

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_TASK_ID: Final = re.compile(ID_PATTERN.strip("^$"))


class ToStderr(logging.StreamHandler[Any]):
    """Standard error, its lines counted: the handler's own lock is around this, whichever thread logs."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        LOG_LINES.add(1, record.levelname.lower())
        super().emit(record)


class TextLines(logging.Formatter):
    """A message stays on its line: paths, logins and providers' words are other people's, who could otherwise write
    lines of their own into the log. Tracebacks follow on lines of theirs."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:
        return _CONTROL.sub(lambda found: repr(found[0])[1:-1], super().formatMessage(record))


class JsonLines(logging.Formatter):
    """A JSON object a line: `time` (UTC), `level`, `logger`, `message`; where they are known `task`, `account` (its
    number), `trace_id` (where traces are on), and `exception`, the traceback."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        message = _sound(record.getMessage())
        stamp = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        line: dict[str, object] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
        }
        # What the message names goes before whom this coroutine works for: a loop may speak of a task, too.
        named = _TASK_ID.search(message)
        task = named[0] if named else current.task.get()
        known = None if task is None else parse_id(task)
        account = current.account.get() if known is None else known.account_id
        line |= {} if task is None else {"task": task}
        line |= {} if account is None else {"account": account}
        if task is not None and TRACES.recorder is not None:
            line["trace_id"] = f"{trace_id(task):032x}"
        if record.exc_info:
            line["exception"] = _sound(self.formatException(record.exc_info))
        return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", msgspec.json.encode(line).decode())


def _sound(text: str) -> str:
    """Without halves of characters, which paths may have and JSON may not."""
    return text.encode("utf-8", "backslashreplace").decode()


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
