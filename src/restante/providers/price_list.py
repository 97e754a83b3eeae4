"""An operator's own prices, before those of genai-prices: the TOML file that RESTANTE_PRICES names, read at the start.

as_of = 2026-11-22                  # the day of these prices, stored with each answer; by default the file's own

[models."gemini-2.5-flash"]         # the served or the asked name
input = 0.30                        # US dollars per million tokens
output = 2.50                       # thoughts included
cached = 0.03                       # of input tokens that came from a cache; by default `input`
search = 35                         # US dollars per thousand; by default 0
search_unit = "prompt"              # or "query"; by default what Google does for that generation

[models."gemini-2.5-flash".batch]   # by default half of `input` and `output`, and `cached` as it is
input = 0.15
output = 1.25
"""

from __future__ import annotations

import tomllib
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from restante.core.errors import OperatorError
from restante.core.limits import PRICE_FILE_BYTES, PRICE_USD_MAX
from restante.core.money import Nano, nano

SETTING: Final = "RESTANTE_PRICES"
_EXAMPLE: Final = 'An example: [models."gemini-2.5-flash"], and below it input = 0.30 and output = 2.50.'
_MILLION: Final = 1_000_000
_THOUSAND: Final = 1_000

SearchUnit = Literal["prompt", "query"]


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What differs in Google's batch processing."""

    input: Decimal | None = None
    output: Decimal | None = None
    cached: Decimal | None = None


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model's prices."""

    input: Decimal
    output: Decimal
    cached: Decimal | None = None
    search: Decimal = Decimal(0)
    search_unit: SearchUnit | None = None
    batch: Batch = Batch()

    def cost(
        self, *, input_tokens: int, cached_tokens: int, output_tokens: int, searches: int, batch: bool = False
    ) -> Nano:
        """Nano-dollars. `cached_tokens` are those of `input_tokens` that came from a cache."""
        into, out = self.input, self.output
        cached = self.input if self.cached is None else self.cached
        if batch:
            # Google halves tokens, not what comes from its cache; without a cache price all input is alike.
            halved = into / 2 if self.cached is None else cached
            cached = halved if self.batch.cached is None else self.batch.cached
            into = into / 2 if self.batch.input is None else self.batch.input
            out = out / 2 if self.batch.output is None else self.batch.output
        tokens = (input_tokens - cached_tokens) * into + cached_tokens * cached + output_tokens * out
        return nano(tokens / _MILLION + searches * self.search / _THOUSAND)


class PriceList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file's content."""

    models: dict[str, Rates]
    as_of: date | None = None


NONE: Final = PriceList(models={})


def load(path: Path | None) -> PriceList:
    """The file's prices, none without a file. Raises OperatorError that says what is wrong and where."""
    if path is None:
        return NONE
    try:
        with path.open("rb") as file:
            text = file.read(PRICE_FILE_BYTES + 1)
            changed = datetime.fromtimestamp(path.stat().st_mtime, UTC).date()
        if len(text) > PRICE_FILE_BYTES:
            raise OperatorError(f"{SETTING} cannot be used: {path} is larger than {PRICE_FILE_BYTES} bytes.", _EXAMPLE)
        # As a text, so that 0.1 is a tenth and no binary fraction of it.
        parsed: dict[str, Any] = tomllib.loads(text.decode(), parse_float=str)
        found = msgspec.convert(parsed, PriceList, strict=False)
    except OSError as error:
        raise OperatorError(f"{SETTING} cannot be read: {path}: {error.strerror or error}.", _EXAMPLE) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OperatorError(f"{SETTING} cannot be used: {path} is no TOML: {error}.", _EXAMPLE) from None
    except msgspec.ValidationError as error:
        raise OperatorError(f"{SETTING} cannot be used: {path}: {error}.", _EXAMPLE) from None
    for name, rates in found.models.items():
        _check(path, name, rates)
    return found if found.as_of is not None else msgspec.structs.replace(found, as_of=changed)


def _check(path: Path, name: str, rates: Rates) -> None:
    amounts = {field: getattr(rates, field) for field in ("input", "output", "cached", "search")}
    amounts |= {f"batch.{field}": getattr(rates.batch, field) for field in ("input", "output", "cached")}
    for field, usd in amounts.items():
        if usd is not None and not (usd.is_finite() and 0 <= usd <= PRICE_USD_MAX):
            raise OperatorError(
                f"{SETTING} cannot be used: {path}: models.{name}.{field} is {usd}, not 0 to {PRICE_USD_MAX:,}.",
                "Tokens are priced in US dollars per million, searches per thousand.",
            )
