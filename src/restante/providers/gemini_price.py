"""What Google takes for an answer: the operator's own prices, else the offline tables of genai-prices (dated, tiered;
no network).

Searches have two units, by generation: 2.5 and older pay for a grounded prompt, 3 and later for each query that is not
empty, the same one once (ai.google.dev/gemini-api/docs/google-search, "Pricing"). Batch processing halves tokens and
leaves search fees as they are. Free allowances are not deducted: they are the project's, not a task's.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cache, lru_cache
from typing import Final

import msgspec
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import PriceContext

from restante.core.limits import PRICE_WARNINGS_REMEMBERED as NAMES_REMEMBERED
from restante.core.money import Nano
from restante.core.pricing import ListPrice
from restante.providers.gemini_traits import traits
from restante.providers.price_list import NONE, PriceList, Rates

log = logging.getLogger("restante.gemini")

#: A model nobody has a price for costs what the newest known of its family does (the names are Google's moving
#: aliases). The longest matching family counts: flash-lite is not flash.
_FAMILIES: Final = ("flash-lite", "flash", "pro")

_BATCH: Final[PriceContext] = {"processing": "batch"}
_MILLION: Final = 1_000_000
_ONE_TIER: Final = 100_000  # Google's first tier ends at 128,000 or 200,000 input tokens
_CHECKED: Final = re.compile(r"verified on ([0-9]{4}-[0-9]{2}-[0-9]{2})")


class Price(msgspec.Struct, frozen=True):
    """An answer's price in nano-dollars, and the day of the tables it was reckoned with, if they tell."""

    nano: Nano
    as_of: date | None


def price(
    served: str,
    asked: str,
    *,
    input_tokens: int,
    cached_tokens: int,
    output_tokens: int,
    queries: Sequence[str] = (),
    billed_searches: int = 0,
    batch: bool = False,
    own: PriceList = NONE,
    at: datetime | None = None,
) -> Price:
    """What an answer cost. `cached_tokens` are those of `input_tokens` that Google billed at its cache price;
    `output_tokens` include the thoughts; `queries` are those of its search, `billed_searches` what Google itself says
    it billed of them (0: nothing said); `at` is the time of the call, by default now.

    The price of the model that served, else of the one asked, else of either without its version, else of the
    newest of its family, and then the log says so, once a name. A model of no known family costs 0: the answer is
    paid for and the client shall have it, and the log has an error, once a name.
    """
    rates = next((own.models[name] for name in _names(served, asked) if name in own.models), None)
    by_query = traits(served).paid_by_query
    if rates is not None and rates.search_unit is not None:
        by_query = rates.search_unit == "query"
    searches = searches_billed(queries, billed_searches, by_query=by_query)
    if rates is not None:
        cost = rates.cost(
            input_tokens=input_tokens, cached_tokens=cached_tokens, output_tokens=output_tokens, searches=searches,
            batch=batch,
        )  # fmt: skip
        return Price(cost, own.as_of)
    source = _price_source(served, asked)
    if source is None:
        return Price(Nano(0), None)
    day = (at or datetime.now(UTC)).astimezone(UTC).date()
    tier = input_tokens if input_tokens > _ONE_TIER else 0
    cost = _rates(source, day, tier, batch=batch).cost(
        input_tokens=input_tokens, cached_tokens=cached_tokens, output_tokens=output_tokens, searches=searches
    )
    return Price(cost, tables_checked())


def list_price(served: str, own: PriceList = NONE, at: datetime | None = None) -> ListPrice | None:
    """What Google takes for a model, for people: of the lowest tier, direct calls. None: no price is known."""
    rates = next((own.models[name] for name in _names(served, served) if name in own.models), None)
    by_query = traits(served).paid_by_query
    as_of = own.as_of
    if rates is None:
        source = _price_source(served, served)
        if source is None:
            return None
        day = (at or datetime.now(UTC)).astimezone(UTC).date()
        rates, as_of = _rates(source, day, 0, batch=False), tables_checked()
    elif rates.search_unit is not None:
        by_query = rates.search_unit == "query"
    search = rates.search if traits(served).searches else None
    return ListPrice(rates.input, rates.output, search, "query" if by_query else "prompt", as_of)


def searches_billed(queries: Sequence[str], billed: int, *, by_query: bool) -> int:
    """How many searches are paid for. Google's own count goes before ours."""
    unique = len({query for query in queries if query.strip()})
    if by_query:
        return billed or unique
    return 1 if billed or unique else 0


@cache
def tables_checked() -> date | None:
    """The last day on which genai-prices says that it compared prices of Google's; None when it says none."""
    google = next((provider for provider in get_snapshot().providers if provider.id == "google"), None)
    days = [
        date.fromisoformat(day)
        for model in (google.models if google is not None else ())
        for day in _CHECKED.findall(model.price_comments or "")
    ]
    return max(days, default=None)


@lru_cache(maxsize=NAMES_REMEMBERED)
def _rates(source: str, day: date, tier: int, *, batch: bool) -> Rates:
    """The tables' prices of a day for prompts of `tier` tokens (0: those below every tier). Remembered, since asking
    the tables takes longer than all else that is done for an answer."""
    context = _BATCH if batch else None

    def usd(context: PriceContext | None = context, **usage: int) -> Decimal:
        at = datetime.combine(day, time(12), UTC)
        counted = Usage(**{"input_tokens": tier or _ONE_TIER} | usage)
        return calc_price(
            counted, source, provider_id="google", genai_request_timestamp=at, price_context=context
        ).total_price

    prompt = usd()
    into = prompt / (tier or _ONE_TIER)
    out = (usd(output_tokens=1_000) - prompt) / 1_000
    cached = usd(cache_read_tokens=tier or _ONE_TIER) / (tier or _ONE_TIER)
    search = (usd(web_searches=1_000) - prompt) / 1_000
    if batch and usd() == usd(None) and usd(output_tokens=1_000) == usd(None, output_tokens=1_000):
        # The tables lack the batch price of this model and give the ordinary one; Google halves the tokens of every
        # model in batches, and neither what comes from its cache nor searches.
        if cached == into:
            cached /= 2  # there is no cache price
        into, out = into / 2, out / 2
    return Rates(input=into * _MILLION, output=out * _MILLION, cached=cached * _MILLION, search=search * 1_000)


def _names(served: str, asked: str) -> tuple[str, ...]:
    return (served, asked, _unversioned(served), _unversioned(asked))


@lru_cache(maxsize=NAMES_REMEMBERED)
def _price_source(served: str, asked: str) -> str | None:
    """The name under which genai-prices knows the price; None when there is none."""
    family = next((name for name in _FAMILIES if f"-{name}-" in f"-{served}-{asked}-"), None)
    source = next((name for name in _names(served, asked) if _known(name)), None)
    if source is None and family is not None and _known(f"gemini-{family}-latest"):
        source = f"gemini-{family}-latest"
        log.warning("no price is known for %r: its answers are charged as %s; update genai-prices", served, source)
    elif source is None:
        log.error("no price is known for %r: its answers are charged nothing; update genai-prices", served)
    return source


def _known(name: str) -> bool:
    try:
        calc_price(Usage(input_tokens=1, output_tokens=1), name, provider_id="google")
    except LookupError:
        return False
    return True


def _unversioned(name: str) -> str:
    """gemini-2.5-flash for gemini-2.5-flash-001 and for gemini-2.5-flash-preview-11-2025."""
    return re.sub(r"(?:-preview)?(?:-[0-9]{2,4}){0,2}$", "", name)
