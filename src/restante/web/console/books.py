"""The console's pages that do something, put together: deliveries, ledger, accounts, playground, models."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from starlette.routing import Route

from restante.core.allowance import Allowance
from restante.core.limits import DEED_HOURS, DRAIN_SECONDS
from restante.flow.accept import Acceptor
from restante.flow.deeds import Deeds
from restante.flow.keys import Keys
from restante.flow.live import Live
from restante.flow.rates import Rates
from restante.flow.resend import Resender
from restante.flow.usage import Meter
from restante.flow.verdict import Auditor
from restante.providers.registry import Catalogue
from restante.web.console.accounts import Accounts
from restante.web.console.acting import Acting
from restante.web.console.deliveries import Deliveries
from restante.web.console.desk import Desk
from restante.web.console.ledger import Ledger
from restante.web.console.models import Models
from restante.web.console.playground import Playground
from restante.web.judge import Judge
from restante.web.wire import postback


class Counter(NamedTuple):
    """Where tasks come in, the same for the API and for people; `providers` are their names."""

    acceptor: Acceptor
    live: Live
    catalogue: Catalogue
    judge: Judge
    rates: Rates
    meter: Meter
    keys: Keys
    providers: Sequence[str]


class Terms(NamedTuple):
    """What holds in this installation for accounts without limits of their own."""

    allowance: Allowance
    deadline_hours: float
    error_days: int
    result_days: int
    idempotency_hours: float  # that what a form did is remembered, with the answers to Idempotency-Keys


def books(stack: contextlib.AsyncExitStack, desk: Desk, terms: Terms, counter: Counter) -> list[Route]:
    """All of their routes, below /console. What they began is let end, or given up, as the `stack` unwinds."""
    deeds = Deeds(desk.db, desk.clock, timedelta(hours=min(DEED_HOURS, terms.idempotency_hours)))
    stack.push_async_callback(deeds.close, DRAIN_SECONDS)
    auditor = Auditor(desk.db, desk.clock, desk.reads)
    stack.callback(auditor.close)
    acting = Acting(desk, deeds)
    resender = Resender(desk.db, desk.clock, postback)
    return [
        *Deliveries(acting, resender, error_days=terms.error_days, result_days=terms.result_days).routes(),
        *Ledger(acting, auditor).routes(),
        *Accounts(acting, terms.allowance, terms.deadline_hours).routes(),
        *Playground(
            acting,
            counter.catalogue,
            counter.judge,
            counter.acceptor,
            counter.live,
            counter.rates,
            terms.allowance,
            fault=counter.keys.fault,
            count=counter.meter.count,
        ).routes(),
        *Models(acting, counter.catalogue, counter.providers, counter.keys).routes(),
    ]
