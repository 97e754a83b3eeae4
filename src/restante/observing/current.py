"""Whom this coroutine works for, so that log lines of whatever it calls can say so, and a client's trace be linked.

A task of asyncio inherits these from whoever starts it. What many share, such as a group commit, starts as `nobody`.
"""

from __future__ import annotations

from contextvars import Context, ContextVar
from typing import Final

#: The id of the task that is being run, answered or delivered.
task: Final[ContextVar[str | None]] = ContextVar("task", default=None)
#: The number of the account that calls.
account: Final[ContextVar[int | None]] = ContextVar("account", default=None)
#: The W3C `traceparent` header of a call, where it has one and traces are on.
traceparent: Final[ContextVar[str | None]] = ContextVar("traceparent", default=None)


def nobody() -> Context:
    """A context for work that is many clients', or nobody's."""
    return Context()
