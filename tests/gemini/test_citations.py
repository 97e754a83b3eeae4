"""Citations point at the right words, whatever Google counts in: bytes, per part, with or without the thoughts."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante.core.answer import Annotation, Answer
from restante.core.task import Prompt
from restante.providers.gemini import read_answer
from restante.providers.gemini_answer import cited_urls, search_suggestions, with_direct_urls
from restante.providers.provider import Call

Json = dict[str, Any]

PARTS = ["Zürich liegt ", "am See. 🚆 Bern nicht."]
TEXT = "".join(PARTS)


def read(parts: list[Json], grounding: Any, *, web_search: bool = True) -> Answer:
    reply = {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP", "groundingMetadata": grounding}]}
    prompt = Prompt(user_prompt="q", model_name="gemini-2.5-flash", web_search=web_search)
    call = Call(task_id="t-1", model="gemini-2.5-flash", prompt=prompt, seconds=1)
    found = read_answer(msgspec.json.encode(reply), call)
    assert isinstance(found, Answer)
    return found


def notes(parts: list[str] | list[Json], *segments: Json, chunks: int = 1) -> tuple[Annotation, ...] | None:
    """The annotations of segments that all rest on page 0."""
    supports = [{"segment": segment, "groundingChunkIndices": [0]} for segment in segments]
    pages = [{"web": {"uri": f"https://r.example/{number}", "title": f"{number}.org"}} for number in range(chunks)]
    content = [{"text": part} if isinstance(part, str) else part for part in parts]
    return read(content, {"groundingChunks": pages, "groundingSupports": supports}).items[-1].sections[0].annotations


def span(part: int, start: int, end: int, text: str = "") -> Json:
    found = {"partIndex": part, "startIndex": start, "endIndex": end, "text": text}
    return {name: value for name, value in found.items() if value}  # as Google: zero is left out


@pytest.mark.parametrize(
    ("segment", "words"),
    [
        (span(0, 0, 7), "Zürich"),  # a missing start and part
        (span(0, 0, 7, "Zürich"), "Zürich"),
        (span(0, 8, 13), "liegt"),  # behind a letter of two bytes
        (span(1, 0, 7), "am See."),
        (span(1, 8, 17), "🚆 Bern"),  # four bytes
        (span(1, 13, 17), "Bern"),
        (span(1, 0, 24), "am See. 🚆 Bern nicht."),  # to the very end
        (span(0, 2, 7), "ürich"),  # a start inside a code point takes the whole of it in
        (span(0, 0, 2), "Zü"),  # and an end
        (span(1, 9, 11), "🚆"),  # both inside the same
        (span(0, 0, 2, "Z\ufffd"), "Zü"),  # Google's own words cut there
        (span(0, 22, 31, "🚆 Bern"), "🚆 Bern"),  # counted in the whole text
        (span(0, 21, 27, "🚆 Bern"), "🚆 Bern"),  # counted in code points
        (span(7, 0, 5, "liegt"), "liegt"),  # a part that is not there, but the words stand in the text once
        (span(0, 900, 905, "nicht"), "nicht"),
        ({"text": "Bern"}, "Bern"),
    ],
)
def test_where_a_segment_lies(segment: Json, words: str) -> None:
    [note] = notes(PARTS, segment) or ()
    assert note.text == words == TEXT[note.start_index : note.end_index]


@pytest.mark.parametrize(
    "segment",
    [
        span(0, 0, 0), span(0, 5, 5), span(0, 7, 3), span(0, 0, 900), span(0, 800, 900), span(5, 0, 3), {},
        {"startIndex": -4, "endIndex": 3}, {"partIndex": -1, "endIndex": 3}, span(0, 0, 7, "Genf"), {"text": "e"},
    ],
)  # fmt: skip
def test_what_points_nowhere_is_left_out(segment: Json) -> None:
    assert notes(PARTS, segment) == ()


def test_thoughts_are_parts_too() -> None:
    parts: list[Json] = [{"text": "hm, Bern", "thought": True}, {"text": "Bern "}, {"text": "ist schön."}]
    assert [note.text for note in notes(parts, span(1, 0, 4), span(2, 4, 10)) or ()] == ["Bern", "schön"]
    # Counted without them, as Google's words tell.
    assert [note.start_index for note in notes(parts, span(1, 4, 10, "schön")) or ()] == [9]
    assert notes(parts, span(0, 0, 2)) == ()  # nobody is shown what the model thought


def test_each_page_of_a_support_is_an_annotation() -> None:
    grounding = {
        "webSearchQueries": ["a", "", "b", "a", "  "],
        "groundingChunks": [
            {"web": {"uri": "https://r.example/0", "title": "zero.org"}},
            {"web": {"uri": "https://r.example/1", "domain": "one.org"}},
            {"web": {"title": "nowhere.org"}},
            {"retrievedContext": {"uri": "gs://x"}},
        ],
        "groundingSupports": [
            {"segment": {"endIndex": 2}, "groundingChunkIndices": [0, 1, 2, 3, 4, -1, 0]},
            {"segment": {"endIndex": 2}, "groundingChunkIndices": [1]},  # said again
            {"segment": {"startIndex": 1, "endIndex": 2}},
            {"groundingChunkIndices": [0]},
        ],
    }
    said = read([{"text": "ab"}], grounding)
    assert said.items[0].sections[0].annotations == (
        Annotation("zero.org", "https://r.example/0", None, 0, 2, "ab"),
        Annotation("one.org", "https://r.example/1", None, 0, 2, "ab"),
    )
    assert said.web_search is True
    assert said.fan_out_queries == ("a", "b")
    assert cited_urls(said) == ("https://r.example/0", "https://r.example/1")
    direct = with_direct_urls(said, {"https://r.example/0": "https://zero.org/x"})
    assert [note.direct_url for note in direct.items[0].sections[0].annotations or ()] == ["https://zero.org/x", None]
    assert direct.items[0].sections[0].text == "ab"


def test_searches_without_pages() -> None:
    said = read([{"text": "ab"}], {"webSearchQueries": ["a"], "searchEntryPoint": {"renderedContent": "<b>"}})
    assert (said.items[0].sections[0].annotations, said.web_search, said.fan_out_queries) == ((), True, ("a",))


def test_allowed_to_search_and_did_not() -> None:
    said = read([{"text": "ab"}], {})
    assert (said.items[0].sections[0].annotations, said.web_search, said.fan_out_queries) == ((), False, None)


def test_not_allowed_to_search() -> None:
    said = read([{"text": "ab"}], {}, web_search=False)
    assert (said.items[0].sections[0].annotations, said.web_search, said.fan_out_queries) == (None, False, None)


@pytest.mark.parametrize("strange", [7, "x", [], {"groundingChunks": 5}, {"groundingSupports": [{"segment": []}]}])
def test_strange_sources_do_not_cost_the_answer(strange: object, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        said = read([{"text": "ab"}], strange)
    assert said.items[0].sections[0].annotations == ()
    assert "kept without them" in caplog.text


@pytest.mark.parametrize(
    "nothing", [None, {"groundingChunks": [None], "groundingSupports": [None], "webSearchQueries": None}]
)
def test_null_is_nothing(nothing: object) -> None:
    assert read([{"text": "ab"}], nothing).items[0].sections[0].annotations == ()


def test_suggestions_of_what_is_no_reply() -> None:
    assert search_suggestions(b"<html>") is None
    assert search_suggestions(b"{}") is None


# --- any text, any offsets ------------------------------------------------------------------------------

WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
WILD = st.text(st.sampled_from("aü√🚆é\u0301\u200d\n \U0010ffff"), max_size=12)


@given(st.lists(WORDS | WILD, min_size=1, max_size=4), st.data())
def test_the_words_google_means_are_the_annotations(parts: list[str], data: st.DataObject) -> None:
    """A segment of whole code points, wherever it lies: the annotation is just these words, at just that place."""
    number = data.draw(st.integers(0, len(parts) - 1))
    start = data.draw(st.integers(0, len(parts[number])))
    end = data.draw(st.integers(start, len(parts[number])))
    words = parts[number][start:end]
    with_words = data.draw(st.booleans())
    head = len(parts[number][:start].encode())
    segment = span(number, head, head + len(words.encode()), words if with_words else "")
    text = "".join(parts)
    if not text.strip():
        return
    found = notes(parts, segment)
    if not words:
        assert found == ()
        return
    [note] = found or ()
    before = sum(map(len, parts[:number]))
    assert (note.start_index, note.end_index, note.text) == (before + start, before + end, words)
    assert text[note.start_index : note.end_index] == note.text


@given(
    st.lists(WORDS | WILD, min_size=1, max_size=4),
    st.lists(
        st.tuples(st.integers(-2, 5), st.integers(-3, 60), st.integers(-3, 60), st.sampled_from(["", "a", "🚆", "ü√"])),
        max_size=6,
    ),
)
def test_whatever_google_says_the_text_is_what_it_points_at(
    parts: list[str], segments: list[tuple[int, int, int, str]]
) -> None:
    text = "".join(parts)
    if not text.strip():
        return
    for note in notes(parts, *(span(*one) for one in segments)) or ():
        assert 0 <= note.start_index < note.end_index <= len(text)
        assert text[note.start_index : note.end_index] == note.text != ""
