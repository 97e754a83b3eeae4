"""Models and providers: which names may be posted, what they cost, who answers to them, and how the providers do."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from restante.core.limits import CONSOLE_COUNTED, LEARNED_SECONDS, MODEL_NAME_CHARS, STATUS_CALLS_SECONDS
from restante.core.pricing import LIVE_FEE, STANDARD_FEE
from restante.core.task import Model
from restante.flow.deeds import Deed, Keep
from restante.flow.health import judge
from restante.flow.keys import Keys
from restante.flow.pause import pause_model
from restante.providers.registry import Catalogue
from restante.store import batches, books_accounts, health, inspection, pacing
from restante.store.batches import Known as Batch
from restante.store.books_accounts import LaneShown
from restante.store.health import Processes
from restante.store.inspection import Pause
from restante.store.pacing import Known
from restante.web.console.acting import Acting, operator_only
from restante.web.console.desk import Desk, Missing, action, pages, text_of
from restante.web.console.gate import PREFIX, form_of, viewer_of

log = logging.getLogger("restante.console")

PATH: Final = f"{PREFIX}/models"
_BATCHES: Final = 10


class Row(msgspec.Struct, frozen=True):
    """A name that may be posted. Prices in US dollars per million tokens and per thousand searches; `priced` False:
    nobody knows them. `ready` tasks of its model, `oldest` of them since; both for the operator."""

    name: str
    served: str
    provider: str
    web_search: bool
    reasoning: bool
    reasoning_forced: bool
    priced: bool
    input: Decimal | None
    output: Decimal | None
    search: Decimal | None
    search_unit: str
    as_of: str | None
    paused: bool
    ready: int | None = None
    oldest: datetime | None = None


class ProviderRow(msgspec.Struct, frozen=True):
    """How a provider does: its `status` as the API's `status` tells it, for whoever looks; the rest for the operator.

    Of `calls` in the last minutes so many `failed`. `keys` of `keys_of` are taken. `waits`: seconds that the oldest
    task which may run has waited.
    """

    name: str
    status: str
    workers: int | None = None
    calls: int | None = None
    failed: int | None = None
    keys: int | None = None
    keys_of: int | None = None
    waits: float | None = None


class Models:
    """The page. `names`: the providers'."""

    def __init__(self, acting: Acting, catalogue: Catalogue, names: Sequence[str], keys: Keys) -> None:
        self._acting = acting
        self._desk: Desk = acting.desk
        self._catalogue = catalogue
        self._names = names
        self._keys = keys

    def routes(self) -> list[Route]:
        """Below /console."""
        return [*pages("/models", self.listing), action("/models/pause", self.pause)]

    async def listing(self, request: Request) -> Response:
        """The catalogue, the providers, what is put off, and batches."""
        operator = viewer_of(request).operator

        async def providers(tx: Any) -> Any:
            return [
                (name, await health.processes(tx, name), await health.oldest_ready(tx, name)) for name in self._names
            ]

        async def look(tx: Any) -> Any:
            lanes = await books_accounts.lanes(tx, CONSOLE_COUNTED)
            pauses = await inspection.pauses(tx) if operator else []
            known = await pacing.known(tx, self._names, LEARNED_SECONDS) if operator else []
            made = await batches.listed(tx, _BATCHES, only_open=False) if operator else []
            return lanes, pauses, known, made

        lanes, pauses, known, made = await self._desk.look(request, look)
        each = await self._desk.now.look(providers)  # by leases and clocks: behind, every worker would seem dead
        by_model = {(lane.provider, lane.model): lane for lane in lanes}
        data = {
            "models": [self._row(one, by_model, operator=operator) for one in self._catalogue.listed()],
            "providers": [self._provider(*one, operator=operator) for one in each],
            "pauses": [_pause(one) for one in pauses],
            "quotas": [_quota(one) for one in known if one.model and (one.calls or one.tokens)],
            "batches": [_batch(one) for one in made],
            "fees": {"task_post": STANDARD_FEE, "live": LIVE_FEE},
        }
        told = await self._acting.told(request)
        return self._desk.page(
            request,
            "models.html",
            data,
            told=told,
            counted=CONSOLE_COUNTED,
            minutes=int(STATUS_CALLS_SECONDS // 60),
        )

    async def pause(self, request: Request) -> Response:
        """Pause or resume a model, and every name that it answers to."""
        operator_only(request)
        form = form_of(request)
        model = self._catalogue.find(text_of(form, "model", MODEL_NAME_CHARS))
        if model is None:
            raise Missing
        paused = form.get("paused") == "yes"
        viewer = viewer_of(request)
        names = ", ".join(one.name for one in self._catalogue.siblings(model))
        if paused:
            confirm = self._acting.unconfirmed(
                request,
                "Pause a model",
                f"Tasks of {names} wait, whoever posted them, and its live tasks are refused. New tasks are"
                " accepted and wait behind them; their deadlines go on.",
                "Pause it",
                back=PATH,
            )
            if confirm is not None:
                return confirm

        async def work(_: Keep) -> Deed:
            await pause_model(self._desk.db, model, paused=paused)
            log.info("console: %s %s the model %s", viewer.login, "paused" if paused else "resumed", model.served)
            return Deed(f"{names}: {'paused, its tasks wait' if paused else 'not paused, what waited goes on'}.", PATH)

        return await self._acting.act(request, work, where=PATH)

    def _row(self, model: Model, lanes: dict[tuple[str, str], LaneShown], *, operator: bool) -> Row:
        price = self._catalogue.price(model)
        lane = lanes.get((model.provider, model.served))
        return Row(
            name=model.name,
            served=model.served,
            provider=model.provider,
            web_search=model.web_search,
            reasoning=model.reasoning,
            reasoning_forced=model.reasoning_forced,
            priced=price is not None,
            input=None if price is None else price.input,
            output=None if price is None else price.output,
            search=None if price is None or not model.web_search else price.search,
            search_unit="prompt" if price is None else price.search_unit,
            as_of=None if price is None or price.as_of is None else price.as_of.isoformat(),
            paused=lane is not None and lane.paused,
            ready=(0 if lane is None else lane.ready) if operator else None,
            oldest=None if lane is None or not operator else lane.oldest,
        )

    def _provider(self, name: str, found: Processes, waits: float | None, *, operator: bool) -> ProviderRow:
        shut = self._keys.fault(name) is not None
        status = judge(found, waits, None, shut=shut).task_post
        if not operator:
            return ProviderRow(name, str(status))
        good, every = self._keys.counts(name) if name in self._keys.providers else (None, None)
        return ProviderRow(name, str(status), found.serving, found.calls, found.failed, good, every, waits)


def _pause(one: Pause) -> dict[str, Any]:
    return msgspec.structs.asdict(one)


def _quota(one: Known) -> dict[str, Any]:
    return {
        "provider": one.provider,
        "project": one.project,
        "model": one.model,
        "calls": one.calls,
        "tokens": one.tokens,
    }


def _batch(one: Batch) -> dict[str, Any]:
    return msgspec.structs.asdict(one) | {"state": one.state.name.lower()}
