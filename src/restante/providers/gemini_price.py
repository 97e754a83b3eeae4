"""What Google takes for an answer, from the offline price tables of genai-prices (dated, tiered; no network)."""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from typing import Final

from genai_prices import Usage, calc_price

from restante.core.limits import PRICE_WARNINGS_REMEMBERED as NAMES_REMEMBERED
from restante.core.money import Nano, nano

log = logging.getLogger("restante.gemini")

#: A model nobody has a price for costs what the newest known of its family does (the names are Google's moving
#: aliases). The longest matching family counts: flash-lite is not flash.
_FAMILIES: Final = ("flash-lite", "flash", "pro")


def price(served: str, asked: str, *, input_tokens: int, cached_tokens: int, output_tokens: int) -> Nano:
    """Nano-dollars. `cached_tokens` are those of `input_tokens` that Google billed at its cache price;
    `output_tokens` include the thoughts.

    The price of the model that served, else of the one asked, else of either without its version, else of the
    newest of its family, and then the log says so, once a name. A model of no known family costs 0: the answer is
    paid for and the client shall have it, and the log has an error, once a name.
    """
    source = _price_source(served, asked)
    if source is None:
        return Nano(0)
    usage = Usage(input_tokens=input_tokens, cache_read_tokens=cached_tokens, output_tokens=output_tokens)
    return nano(calc_price(usage, source, provider_id="google").total_price)


@lru_cache(maxsize=NAMES_REMEMBERED)
def _price_source(served: str, asked: str) -> str | None:
    """The name under which genai-prices knows the price; None when there is none."""
    exact = (served, asked, _unversioned(served), _unversioned(asked))
    family = next((name for name in _FAMILIES if f"-{name}-" in f"-{served}-{asked}-"), None)
    source = next((name for name in exact if _known(name)), None)
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
