"""The first page: money, the queue, answers by minute, how the provider and the webhooks do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from restante.core.limits import CONSOLE_MINUTES
from restante.flow import health
from restante.store import console
from restante.store import health as stored
from restante.store.database import Session
from restante.web.console.desk import Desk
from restante.web.console.gate import viewer_of

Faults = Callable[[Sequence[str]], Sequence[str]]


class ProviderHealth(msgspec.Struct, frozen=True):
    """How a provider does: the status that `appendix/status` would say, and why. `calls` of the last minutes."""

    name: str
    status: str
    workers: int
    calls: int
    failed: int
    waits_seconds: float | None
    faults: Sequence[str]


class _Read(NamedTuple):
    money: console.Money
    queue: console.Queue
    minutes: list[console.Minute]
    hosts: list[console.Host]


class Overview:
    """`providers` are those of this installation, `faults` tells which of their keys are refused."""

    def __init__(self, desk: Desk, providers: Sequence[str], faults: Faults) -> None:
        self._desk = desk
        self._providers = providers
        self._faults = faults

    def routes(self) -> list[Route]:
        """`/console/` and its twin, `/console/overview.json`."""
        return [Route("/", self.page, methods=["GET"]), Route("/overview.json", self.page, methods=["GET"])]

    async def page(self, request: Request) -> Response:
        """The operator sees the sum of all accounts, or one of them (`?account=LOGIN`)."""
        viewer = viewer_of(request)
        account = await self._desk.chosen(request)
        number = None if account is None else account.id
        now = self._desk.clock()
        first = now.replace(second=0, microsecond=0) - timedelta(minutes=CONSOLE_MINUTES - 1)

        async def read(tx: Session) -> _Read:
            return _Read(
                await console.money(tx, number, now.date()),
                await console.queue(tx, number),
                await console.minutes(tx, number, first),
                await console.failing_hosts(tx, number),
            )

        found = await self._desk.look(request, read)
        # By leases and clocks: a standby that is behind would call every worker dead.
        providers, webhooks = await self._desk.now.look(self._health)
        data = {
            "account": None if account is None else account.login,
            "paused": account is not None and account.paused,
            "money": found.money,
            "queue": found.queue,
            "minutes": _filled(found.minutes, first),
            # Errors of the provider are the operator's affair, how it does is everybody's, as `appendix/status` has it.
            "providers": providers if viewer.operator else [_outside(one) for one in providers],
            "webhooks": webhooks,
            "failing_hosts": found.hosts,
        }
        return self._desk.page(request, "overview.html", data)

    async def _health(self, tx: Session) -> tuple[list[ProviderHealth], str]:
        """How each provider does, and how webhooks do."""
        delivery = await stored.oldest_delivery(tx)
        each, webhooks = [], health.Status.OK
        for name in self._providers:
            found, waits = await stored.processes(tx, name), await stored.oldest_ready(tx, name)
            faults = self._faults([name])
            judged = health.judge(found, waits, delivery, shut=bool(faults))
            each.append(
                ProviderHealth(name, judged.task_post, found.serving, found.calls, found.failed, waits, list(faults))
            )
            webhooks = judged.webhooks
        return each, webhooks


def _outside(one: ProviderHealth) -> ProviderHealth:
    return ProviderHealth(one.name, one.status, 0, 0, 0, None, [])


def _filled(minutes: Sequence[console.Minute], first: datetime) -> list[console.Minute]:
    """One for each minute of the page, those in which nothing ended too."""
    known = {one.minute: one for one in minutes}
    every = [first + timedelta(minutes=number) for number in range(CONSOLE_MINUTES)]
    return [known.get(minute) or console.Minute(minute, 0, 0) for minute in every]
