"""Templates, and how money, times and numbers are written. Everything is escaped text: nothing of a prompt, an answer
or a server's reply is ever HTML."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from restante.core.money import show_usd

_HERE: Final = Path(__file__).parent
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def environment(assets: Mapping[str, str], clock: Callable[[], datetime]) -> Environment:
    """The console's templates. `assets`: names of files -> URLs."""
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    made.filters |= {"usd": usd, "number": number, "duration": duration, "when": when, "clock_time": clock_time}
    made.filters["tojson_text"] = lambda value: json.dumps(
        value, ensure_ascii=False
    )  # text, to be escaped as any other
    made.filters["brief"] = lambda moment: brief(moment, clock())
    made.filters |= {"capped": capped, "share": share, "stage": stage, "given": given, "price": price}
    made.filters["ago"] = lambda moment: ago(moment, clock())
    made.globals["asset"] = assets.__getitem__
    made.globals["fresh"] = lambda: f"{int(clock().timestamp())}-{secrets.token_urlsafe(16)}"  # good once: acting.py
    return made


def usd(amount: int | None) -> str:
    """Nano-dollars for people."""
    if amount is None:
        return "–"
    text = show_usd(abs(amount))
    whole, _, places = text.partition(".")
    return f"{'−' if amount < 0 else ''}${int(whole):,}.{places}"


def number(value: int | float | None) -> str:
    """A count, its thousands apart."""
    return "–" if value is None else f"{value:,}"


def capped(value: int, most: int) -> str:
    """A count that goes no further than `most`."""
    return f"{most:,}+" if value >= most else f"{value:,}"


def share(part: int, whole: int) -> str:
    """A part of a whole in per cent; what is not all of it never says 100."""
    if not whole:
        return "–"
    rounded = f"{100 * part / whole:.1f}"
    return f"{rounded if part == whole or rounded != '100.0' else '99.9'} %".replace(".0 %", " %")


def stage(state: str) -> str:
    """A webhook's state for people."""
    return {"failed": "given up"}.get(state, state)


def given(values: Mapping[str, str | None]) -> dict[str, str]:
    """Those that say something, for a link."""
    return {name: value for name, value in values.items() if value}


def price(usd: Decimal | None) -> str:
    """A list price in US dollars, with the places that it has, two at least."""
    if usd is None:
        return "–"
    text = f"{usd.normalize():f}"
    places = len(text.partition(".")[2])
    return f"${usd:,.{max(2, places)}f}"


def duration(seconds: float | None) -> str:
    """A span of time, in its two largest units."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{max(0, round(seconds * 1_000))} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    rest = int(seconds)
    parts: list[str] = []
    for unit, size in _UNITS:
        if rest >= size and len(parts) < 2:
            parts.append(f"{rest // size} {unit}")
            rest %= size
        elif parts:
            break
    return " ".join(parts)


def when(moment: datetime | None, *, precise: bool = False) -> Markup:
    """A moment in UTC, to the second, with the machine's form beside it."""
    if moment is None:
        return Markup("–")
    text = f"{moment:%Y-%m-%d %H:%M:%S}" + (f".{moment.microsecond // 1_000:03d}" if precise else "")
    return Markup('<time datetime="{}">{}</time>').format(moment.isoformat(), text)


def clock_time(moment: datetime, since: datetime) -> Markup:
    """The time of a moment to the millisecond, its day too where it is another than that of `since`."""
    day = "" if moment.date() == since.date() else f"{moment:%d %b} "
    text = f"{day}{moment:%H:%M:%S}.{moment.microsecond // 1_000:03d}"
    return Markup('<time datetime="{}">{}</time>').format(moment.isoformat(), text)


def brief(moment: datetime, now: datetime) -> Markup:
    """A moment in a column: its time if it is of today, else its day too."""
    text = f"{moment:%H:%M:%S}" if moment.date() == now.date() else f"{moment:%d %b %H:%M}"
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        moment.isoformat(), f"{moment:%Y-%m-%d %H:%M:%S}", text
    )


def ago(moment: datetime | None, now: datetime) -> Markup:
    """How long ago, the moment itself as its title."""
    if moment is None:
        return Markup("–")
    seconds = (now - moment).total_seconds()
    text = "just now" if -5 < seconds < 1 else f"{duration(seconds)} ago" if seconds > 0 else f"in {duration(-seconds)}"
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
        moment.isoformat(), f"{moment:%Y-%m-%d %H:%M:%S}", text
    )
