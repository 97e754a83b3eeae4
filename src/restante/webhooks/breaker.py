"""Hosts that let attempts hang: after a row of them the host gets probes instead of every delivery.

A hanging receiver holds a slot of its worker for ten seconds an attempt. Without this a thousand deliveries to it would
come to their first failure, and hence to tasks_ready (contract §12.19), minutes late, and a few such hosts would fill
the worker. One worker's memory, by host.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from restante.core.limits import HANGING_AFTER, HANGING_FRESH_SECONDS, HANGING_HOSTS_REMEMBERED, HANGING_PROBES


class _Host:
    def __init__(self) -> None:
        self.hung = 0  # attempts that hung, without one that did not in between
        self.last = 0.0
        self.trying = 0


class Breaker:
    """Ask `gives_up` before an attempt; if it does not, call `began` and afterwards `ended`. `clock` in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._hosts: OrderedDict[str, _Host] = OrderedDict()

    def room(self, name: str, most: int) -> int:
        """How many deliveries to a host may be in this worker's hands: `most`, but only probes while it hangs. What has
        to wait for them waits in the database, where it holds no slot."""
        return most if self._hanging(name) is None or self.gives_up(name) else min(most, HANGING_PROBES)

    def gives_up(self, name: str) -> bool:
        """Whether the host let its last attempts hang, the last one a moment ago: it need not be asked again."""
        host = self._hanging(name)
        return host is not None and self._clock() - host.last < HANGING_FRESH_SECONDS

    def began(self, name: str) -> None:
        """An attempt is being made."""
        self._hosts.setdefault(name, _Host()).trying += 1
        self._hosts.move_to_end(name)
        while len(self._hosts) > HANGING_HOSTS_REMEMBERED:
            idle = next((other for other, host in self._hosts.items() if not host.trying), None)
            if idle is None:
                return
            del self._hosts[idle]

    def ended(self, name: str, *, hung: bool | None) -> None:
        """It is over; `hung` None: it was cut off by us and says nothing."""
        host = self._hosts[name]
        host.trying -= 1
        if hung:
            host.hung, host.last = host.hung + 1, self._clock()
        elif hung is False:
            host.hung = 0

    def _hanging(self, name: str) -> _Host | None:
        """The host, if it let a row of attempts hang."""
        host = self._hosts.get(name)
        return host if host is not None and host.hung >= HANGING_AFTER else None
