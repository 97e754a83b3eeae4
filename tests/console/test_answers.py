"""An answer taken apart: every character of it stays, and what is cited is marked where the citation says."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.web.console import answers
from restante.web.console.answers import Piece, pieces, read, shown
from restante.web.console.render import duration, usd

WHOLE = st.text(alphabet=st.characters(codec="utf-8"), max_size=40)
SPAN = st.tuples(st.integers(-3, 50), st.integers(-3, 50), st.sampled_from(["https://a.example", "https://b.example"]))


def result(text: str, *annotations: dict[str, object], **fields: object) -> bytes:
    """A stored result array."""
    item = {"type": "message", "sections": [{"type": "text", "text": text, "annotations": list(annotations)}]}
    return msgspec.json.encode([{"model_name": "m", "input_tokens": 1, "output_tokens": 2, "items": [item]} | fields])


def cited(start: int, end: int, url: str = "https://a.example/1", **more: object) -> dict[str, object]:
    return {"title": "A", "url": url, "direct_url": None, "start_index": start, "end_index": end} | more


@given(text=WHOLE, spans=st.lists(SPAN, max_size=5))
def test_no_character_is_lost_and_none_is_marked_in_vain(text: str, spans: list[tuple[int, int, str]]) -> None:
    annotations = [answers._Annotation("t", url, None, start, end) for start, end, url in spans]
    made = pieces(text, annotations, {"https://a.example": 1, "https://b.example": 2})
    assert "".join(piece.text for piece in made) == text
    assert {number for piece in made for number in piece.sources} == {
        1 + url.startswith("https://b") for *_, url in spans
    }
    marked = [at for piece, at in _characters(made) if piece.cited]
    inside = {at for at in range(len(text)) for start, end, _ in spans if max(start, 0) <= at < min(end, len(text))}
    assert set(marked) == inside


def _characters(made: list[Piece]) -> list[tuple[Piece, int]]:
    found: list[tuple[Piece, int]] = []
    for piece in made:
        found += [(piece, len(found) + number) for number in range(len(piece.text))]
    return found


def test_places_count_code_points() -> None:
    """Not UTF-16: what JavaScript counts (contract §12.12)."""
    [part] = shown(read(result("🚆🚆 Zürich", cited(0, 2), cited(3, 9, "https://b.example")))).parts
    assert [(piece.text, piece.cited, list(piece.sources)) for piece in part.pieces] == [
        ("🚆🚆", True, [1]), (" ", False, []), ("Zürich", True, [2]),
    ]  # fmt: skip


def test_each_source_is_listed_once_by_where_it_leads() -> None:
    again = cited(2, 3, "https://redirect.example/2", direct_url="https://b.example/page")
    found = shown(read(result("abc", cited(0, 1), again, cited(1, 2)))).sources
    assert [(one.number, one.link, one.host) for one in found] == [
        (1, "https://a.example/1", "a.example"), (2, "https://b.example/page", "b.example"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "//a.example", "https://[", "", "file:///etc"]
)
def test_only_the_web_is_linked(url: str) -> None:
    [source] = shown(read(result("a", cited(0, 1, url)))).sources
    assert source.link is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "–"), (0, "0 ms"), (0.0124, "12 ms"), (6.44, "6.4 s"), (59.9, "59 s"), (61, "1 min 1 s"), (7_200, "2 h"),
     (90_061, "1 d 1 h")],
)  # fmt: skip
def test_spans_of_time_in_words(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_amounts_in_words() -> None:
    assert [usd(one) for one in (None, 0, -1, 1_234_500_000_000)] == ["–", "$0.00", "−$0.000000001", "$1,234.50"]
