"""An answer as people read it: its text, with what is cited marked in it. Text, never HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final
from urllib.parse import urlsplit

import msgspec

_LINKED: Final = ("http", "https")


class _Annotation(msgspec.Struct, frozen=True):
    title: str | None = None
    url: str | None = None
    direct_url: str | None = None
    start_index: int = 0
    end_index: int = 0


class _Section(msgspec.Struct, frozen=True):
    text: str = ""
    annotations: Sequence[_Annotation] | None = None


class _Item(msgspec.Struct, frozen=True):
    type: str = ""
    sections: Sequence[_Section] = ()


class Said(msgspec.Struct, frozen=True):
    """A stored result, as far as it is shown."""

    model_name: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    web_search: bool = False
    money_spent: float = 0
    items: Sequence[_Item] = ()
    fan_out_queries: Sequence[str] | None = None


class Source(msgspec.Struct, frozen=True):
    """What an answer cites, once for each address. `link` None: it is none that a browser should follow."""

    number: int
    title: str
    link: str | None
    host: str


class Piece(msgspec.Struct, frozen=True):
    """A stretch of text: `cited` or not, and the sources that end with it."""

    text: str
    cited: bool = False
    sources: Sequence[int] = ()


class Part(msgspec.Struct, frozen=True):
    """A section: of the message, or of what the model thought before (`reasoning`)."""

    reasoning: bool
    pieces: Sequence[Piece]


class Shown(msgspec.Struct, frozen=True):
    """An answer taken apart for a page."""

    parts: Sequence[Part]
    sources: Sequence[Source]
    queries: Sequence[str]


def read(result: bytes) -> Said:
    """The stored result array's only member."""
    return msgspec.json.decode(result, type=list[Said])[0]


def shown(said: Said) -> Shown:
    """Its text in pieces, and the sources in the order in which they are first cited."""
    sources: dict[str, Source] = {}
    for item in said.items:
        for section in item.sections:
            for one in section.annotations or ():
                address = one.direct_url or one.url or ""
                if address not in sources:
                    sources[address] = _source(len(sources) + 1, one.title or "", address)
    numbers = {address: source.number for address, source in sources.items()}
    parts = [
        Part(item.type == "reasoning", pieces(section.text, section.annotations or (), numbers))
        for item in said.items
        for section in item.sections
    ]
    return Shown(parts, list(sources.values()), said.fan_out_queries or ())


def pieces(text: str, annotations: Sequence[_Annotation], numbers: Mapping[str, int]) -> list[Piece]:
    """A text cut where citations begin and end. They count in code points, as Python does; what is beyond the text, or
    turned round, is brought within it."""
    spans = []
    for one in annotations:
        start = min(max(one.start_index, 0), len(text))
        spans.append((start, min(max(one.end_index, start), len(text)), numbers[one.direct_url or one.url or ""]))
    cuts = sorted({0, len(text), *(at for start, end, _ in spans for at in (start, end))})
    made: list[Piece] = []
    for start, end in pairwise(cuts):
        cited = any(begin <= start and end <= until for begin, until, _ in spans)
        ending = sorted({number for _, until, number in spans if until == end})
        made.append(Piece(text[start:end], cited, ending))
    before = sorted({number for _, until, number in spans if until == 0})
    return [Piece("", False, before), *made] if before else made


def _source(number: int, title: str, address: str) -> Source:
    try:
        parts = urlsplit(address)
        safe = parts.scheme in _LINKED and bool(parts.hostname)
        host = (parts.hostname or "") if safe else ""
    except ValueError:  # half an IPv6 address
        safe, host = False, ""
    return Source(number, title or host or address, address if safe else None, host)
