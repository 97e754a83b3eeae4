"""Money is an integer number of nano-dollars (10⁻⁹ USD), in Python and in PostgreSQL's BIGINT alike.

One token of a cheap model costs tens of nano-dollars, so nothing is rounded on the way through; floats of
money exist on the wire only (restante.web.wire).
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Final, NewType

from restante.core.limits import USD_MAX

Nano = NewType("Nano", int)

NANO_PER_USD: Final = 1_000_000_000


def nano(usd: Decimal) -> Nano:
    """US dollars as nano-dollars, half a nano-dollar to the even one."""
    return Nano(int((usd * NANO_PER_USD).to_integral_value(ROUND_HALF_EVEN)))


def parse_usd(text: str) -> Nano:
    """What a person typed as an amount of US dollars ("12.50") as nano-dollars.

    Raises ValueError when it is no finite number, has more than nine decimal places or is beyond USD_MAX.
    """
    try:
        usd = Decimal(text.strip().removeprefix("$"))
    except InvalidOperation:
        raise ValueError(f"{text!r} is not an amount of US dollars, such as 12.50") from None
    if not usd.is_finite() or abs(usd) > USD_MAX:
        raise ValueError(f"{text!r} is out of range: at most {USD_MAX:,} US dollars")
    amount = nano(usd)
    if Decimal(amount) / NANO_PER_USD != usd:
        raise ValueError(f"{text!r} is finer than a nano-dollar: at most nine decimal places")
    return amount


def show_usd(amount: int) -> str:
    """Nano-dollars for people: at least two decimal places, at most nine, no trailing zeros beyond."""
    sign = "-" if amount < 0 else ""
    whole, rest = divmod(abs(amount), NANO_PER_USD)
    places = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{places}"
