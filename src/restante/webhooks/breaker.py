"""Hosts that let attempts hang: after a row of them the host gets probes instead of every delivery.

A hanging receiver holds a slot of its worker for ten seconds an attempt. Without this a thousand deliveries to it would
come to their first failure, and hence to tasks_ready (contract §12.19), minutes late, and a few such hosts would fill
the worker. One worker's memory, by host.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable

from restante.core.limits import HANGING_AFTER, HANGING_FRESH_SECONDS, HANGING_HOSTS_REMEMBERED, HANGING_PROBES


class _Host:
    def __init__(self) -> None:
        self.hung = 0  # attempts that hung, without one that did not in between
        self.last = 0.0
        self.trying = 0
        self.ended = asyncio.Event()


class Breaker:
    """Ask `admit` before an attempt; if it says so, tell `ended` afterwards. `clock` in seconds, for tests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._hosts: OrderedDict[str, _Host] = OrderedDict()

    async def admit(self, name: str) -> bool:
        """Begin an attempt. False: the host let its last attempts hang, the last one a moment ago. While probes are out
        whose answers are worth waiting for, this waits for them."""
        host = self._hosts.setdefault(name, _Host())
        self._hosts.move_to_end(name)
        self._forget()
        while host.hung >= HANGING_AFTER:
            if self._clock() - host.last < HANGING_FRESH_SECONDS:
                return False
            if host.trying < HANGING_PROBES:
                break
            await host.ended.wait()
        self._hosts.setdefault(name, host).trying += 1
        return True

    def ended(self, name: str, *, hung: bool | None) -> None:
        """An attempt is over; `hung` None: it was cut off by us and says nothing."""
        host = self._hosts[name]
        host.trying -= 1
        if hung:
            host.hung, host.last = host.hung + 1, self._clock()
        elif hung is False:
            host.hung = 0
        host.ended.set()
        host.ended = asyncio.Event()

    def _forget(self) -> None:
        while len(self._hosts) > HANGING_HOSTS_REMEMBERED:
            idle = next((name for name, host in self._hosts.items() if not host.trying), None)
            if idle is None:
                return
            del self._hosts[idle]
