"""The appendix: user_data, errors and status (contract §3.7-3.9). The structs are what the OpenAPI document shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Final, get_args

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from restante.core.allowance import Allowance, Endpoint
from restante.core.errors import code_book
from restante.core.pricing import LIVE_FEE, STANDARD_FEE
from restante.core.task import Function
from restante.flow import health
from restante.flow.health import Health, Status, worst
from restante.flow.usage import Meter, Usage
from restante.store.accounts import Account
from restante.store.database import Session
from restante.web import wire
from restante.web.operation import Operation
from restante.web.respond import account_of, allowance_of, answer, login_of, mint, path_of

PATH: Final = "/v3/appendix"

Number = int | float


class LlmResponses(msgspec.Struct, frozen=True, kw_only=True):
    """A figure for each function of `gemini/llm_responses`."""

    live: Number = 0
    task_post: Number = 0
    tasks_ready: Number = 0
    task_get: Number = 0
    models: Number = 0


class AiOptimization(msgspec.Struct, frozen=True, kw_only=True):
    """A figure for each function of the AI Optimization API."""

    llm_responses: LlmResponses
    errors: Annotated[Number, Meta(description="ai_optimization/errors")] = 0
    id_list: Annotated[Number, Meta(description="ai_optimization/id_list")] = 0


class AppendixFunctions(msgspec.Struct, frozen=True, kw_only=True):
    """A figure for each function of the appendix."""

    user_data: Number = 0
    errors: Annotated[Number, Meta(description="appendix/errors")] = 0
    status: Number = 0


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Figures by API and function. In limits, 0 is without limit."""

    ai_optimization: AiOptimization
    total_ai_optimization: Annotated[Number, Meta(description="Of all AI Optimization functions together")]
    appendix: AppendixFunctions
    total: Annotated[Number, Meta(description="Of all functions together")]


class TimedFigures(Figures, frozen=True, kw_only=True):
    """Figures of a period."""

    value: Annotated[str, Meta(description="The period, UTC: `yyyy-MM-dd` or `yyyy-MM-dd HH:mm`")]


class Limits(msgspec.Struct, frozen=True):
    """Limits a day and a minute; 0 is without limit."""

    day: Figures
    minute: Figures


class Statistics(msgspec.Struct, frozen=True):
    """What there was today and in the current minute."""

    day: TimedFigures
    minute: TimedFigures


class Rates(msgspec.Struct, frozen=True):
    """Calls of the API."""

    limits: Annotated[Limits, Meta(description="How many calls the account may make")]
    statistics: Annotated[Statistics, Meta(description="How many it made, refused ones included")]


class Money(msgspec.Struct, frozen=True):
    """US dollars, to nine decimal places."""

    total: Annotated[Number, Meta(description="All that was ever paid in")]
    balance: Annotated[Number, Meta(description="What may be spent now; money held for unfinished tasks has left it")]
    limits: Annotated[Limits, Meta(description="How much the account may spend; `day.total` is its daily cap")]
    statistics: Annotated[
        Statistics,
        Meta(description="What its tasks of the period cost: charges, and for unfinished ones what is held"),
    ]


class PriceEntry(msgspec.Struct, frozen=True):
    """A part of a price."""

    cost_type: Annotated[str, Meta(description="`per_request`: for each task")]
    cost: Annotated[Number, Meta(description="US dollars, before what the language model itself costs")]


class Price(msgspec.Struct, frozen=True):
    """The price of a function. Priorities cost the same: llm_responses has none."""

    priority_low: Sequence[PriceEntry]
    priority_normal: Sequence[PriceEntry]
    priority_high: Sequence[PriceEntry]


class LlmResponsesPrices(msgspec.Struct, frozen=True):
    """The price of each function of `gemini/llm_responses`."""

    live: Price
    task_post: Price
    tasks_ready: Price
    task_get: Price
    models: Price


class AiOptimizationPrices(msgspec.Struct, frozen=True):
    """The prices of the AI Optimization API."""

    llm_responses: LlmResponsesPrices


class Prices(msgspec.Struct, frozen=True):
    """Prices by API."""

    ai_optimization: AiOptimizationPrices


class UserDataResult(msgspec.Struct, frozen=True):
    """The result of user_data (contract §3.7)."""

    login: str
    timezone: Annotated[str, Meta(description="Of days and minutes here: always `UTC`")]
    rates: Rates
    money: Money
    price: Prices
    backlinks_subscription_expiry_date: Annotated[None, Meta(description="Of an API that is not served here: null")]
    llm_mentions_subscription_expiry_date: Annotated[None, Meta(description="Of an API that is not served here: null")]


class ErrorResult(msgspec.Struct, frozen=True):
    """A row of appendix/errors (contract §3.8)."""

    code: Annotated[int, Meta(description="A status code")]
    message: Annotated[str, Meta(description="Its message in general; an answer's own may say more")]


class EndpointStatus(msgspec.Struct, frozen=True):
    """The status of a kind of endpoint."""

    endpoint: Annotated[str, Meta(description="`task_post`, `task_get`, `live` or `postback/pingback`")]
    status: Annotated[
        Status,
        Meta(
            description="`ok`; `webhook_delay`: webhooks wait to be sent; `long_execution_time`: tasks wait long;"
            " `partial_outage`: most calls of the model's provider fail; `major_outage`: nobody runs tasks, or the"
            " provider rejects the key"
        ),
    ]


class StatusResult(msgspec.Struct, frozen=True):
    """A row of status (contract §3.9)."""

    api: Annotated[str, Meta(description="`ai_optimization` or `appendix`")]
    status: Annotated[Status, Meta(description="The worst of its endpoints'")]
    endpoints: Sequence[EndpointStatus]


class Appendix:
    """The endpoints; `operations()` is what is served. `providers`: who answers what is posted."""

    def __init__(
        self,
        db: Session,
        providers: Sequence[str],
        meter: Meter,
        clock: Callable[[], datetime],
        key_faults: Callable[[Sequence[str]], Sequence[str]] = lambda names: (),
    ) -> None:
        self._key_faults = key_faults
        self._db = db
        self._providers = providers
        self._meter = meter
        self._clock = clock

    def operations(self) -> list[Operation]:
        """The three paths."""
        appendix = partial(Operation, group="Appendix", method="GET")
        return [
            appendix(
                name="user_data",
                path=f"{PATH}/user_data",
                summary="Your limits, calls, money and prices",
                description="Rates and caps, what was called and spent today and in this minute (UTC), the balance.",
                endpoint=self.user_data,
                rate="user_data",
                result=UserDataResult,
                origin=wire.origin_of("user_data"),
                rows=[user_data_result(_example(), Allowance())],
            ),
            appendix(
                name="appendix_errors",
                path=f"{PATH}/errors",
                summary="The status codes",
                description="Every status code with its message.",
                endpoint=self.errors,
                rate="appendix_errors",
                result=ErrorResult,
                origin=wire.origin_of("appendix_errors"),
                rows=[ErrorResult(code, message) for code, message in code_book()[:2]],
            ),
            appendix(
                name="status",
                path=f"{PATH}/status",
                summary="How the installation is",
                description="By kind of endpoint, as it is now.",
                endpoint=self.status,
                rate="status",
                result=StatusResult,
                origin=wire.origin_of("status"),
                rows=status_results(Health(Status.OK, Status.OK, Status.OK, Status.OK)),
            ),
        ]

    async def user_data(self, request: Request) -> Response:
        """§3.7: limits, calls, money and prices of the caller."""
        started = time.perf_counter()
        usage = await self._meter.read(account_of(request), login_of(request))
        return self._answer(request, "user_data", [user_data_result(usage, allowance_of(request))], started)

    async def errors(self, request: Request) -> Response:
        """§3.8: every status code and its message."""
        started = time.perf_counter()
        rows = [ErrorResult(code, message) for code, message in code_book()]
        return self._answer(request, "appendix_errors", rows, started)

    async def status(self, request: Request) -> Response:
        """§3.9: how the installation is."""
        started = time.perf_counter()
        found = await health.look(self._db, self._providers, self._key_faults)
        return self._answer(request, "status", status_results(found), started)

    def _answer(self, request: Request, name: Endpoint, rows: Sequence[object], started: float) -> Response:
        entry = wire.entry(
            mint(self._clock(), account_of(request), _FUNCTIONS[name]),
            path_of(request),
            elapsed=time.perf_counter() - started,
            origin=wire.origin_of(name),
            result=msgspec.json.encode(rows),
            result_count=len(rows),
        )
        return answer([entry], started)


_FUNCTIONS: Final[dict[Endpoint, Function]] = {
    "user_data": Function.USER_DATA,
    "appendix_errors": Function.APPENDIX_ERRORS,
    "status": Function.STATUS,
}


def user_data_result(usage: Usage, allowance: Allowance) -> UserDataResult:
    """What user_data tells an account of itself."""
    day, minute = f"{usage.minute:%Y-%m-%d}", f"{usage.minute:%Y-%m-%d %H:%M}"
    rates = {name: allowance.rate(name) for name in get_args(Endpoint)}
    of_day = {name: calls for name, (calls, _) in usage.calls.items()}
    of_minute = {name: calls for name, (_, calls) in usage.calls.items()}
    nothing = figures({}, total=0)
    return UserDataResult(
        login=usage.account.login,
        timezone="UTC",
        rates=Rates(
            Limits(day=nothing, minute=figures(rates, total=0)),
            Statistics(day=timed(figures(of_day), day), minute=timed(figures(of_minute), minute)),
        ),
        money=Money(
            total=wire.usd(usage.account.funded),
            balance=wire.usd(usage.account.balance),
            limits=Limits(day=figures({}, wire.usd, total=allowance.spend_per_day), minute=nothing),
            statistics=Statistics(
                day=timed(figures(usage.day_spent, wire.usd), day),
                minute=timed(figures(usage.minute_spent, wire.usd), minute),
            ),
        ),
        price=_PRICES,
        backlinks_subscription_expiry_date=None,
        llm_mentions_subscription_expiry_date=None,
    )


def figures(
    of: Mapping[str, int], show: Callable[[int], Number] = lambda number: number, *, total: int | None = None
) -> Figures:
    """Whole numbers by endpoint, each as `show` writes it. Totals are sums; of limits `total` is one of its own."""

    def shown(*names: Endpoint) -> dict[str, Number]:
        return {name: show(of.get(name, 0)) for name in names}

    return Figures(
        ai_optimization=AiOptimization(
            llm_responses=LlmResponses(**shown(*_LLM_RESPONSES)), **shown("errors", "id_list")
        ),
        total_ai_optimization=show(0 if total is not None else sum(of.get(name, 0) for name in _AI_OPTIMIZATION)),
        appendix=AppendixFunctions(**shown("user_data", "status"), errors=show(of.get("appendix_errors", 0))),
        total=show(sum(of.values()) if total is None else total),
    )


def timed(of: Figures, value: str) -> TimedFigures:
    """Figures of a period."""
    return TimedFigures(**msgspec.structs.asdict(of), value=value)


def _price(nano: int) -> Price:
    entries = (PriceEntry("per_request", wire.usd(nano)),)
    return Price(entries, entries, entries)


def status_results(found: Health) -> list[StatusResult]:
    """status's result array. That the appendix answers at all says how it is."""
    endpoints = [
        EndpointStatus("task_post", found.task_post),
        EndpointStatus("task_get", found.task_get),
        EndpointStatus("live", found.live),
        EndpointStatus("postback/pingback", found.webhooks),
    ]
    return [
        StatusResult("ai_optimization", worst([one.status for one in endpoints]), endpoints),
        StatusResult("appendix", Status.OK, []),
    ]


_LLM_RESPONSES: Final[tuple[Endpoint, ...]] = ("live", "task_post", "tasks_ready", "task_get", "models")
_AI_OPTIMIZATION: Final[tuple[Endpoint, ...]] = (*_LLM_RESPONSES, "errors", "id_list")

_PRICES: Final = Prices(
    AiOptimizationPrices(
        LlmResponsesPrices(
            live=_price(LIVE_FEE),
            task_post=_price(STANDARD_FEE),
            tasks_ready=_price(0),
            task_get=_price(0),
            models=_price(0),
        )
    )
)


def _example() -> Usage:
    """What the documentation shows: an account on the day of the other examples."""
    made_at = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
    account = Account(66, "shop@example.org", 24_964_150_200, 0, 35_849_800, 25_000_000_000, 0, made_at)
    calls = {"task_post": (1, 0), "tasks_ready": (3, 1), "task_get": (1, 0)}
    return Usage(account, made_at, calls, {"task_post": 35_849_800}, {})
