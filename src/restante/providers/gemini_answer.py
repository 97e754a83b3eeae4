"""What a reply of Gemini's says: text, thoughts, citations, searches; or why it says nothing. No I/O.

Citations are the delicate part. Google's offsets are UTF-8 bytes within one part of the content (google-genai 3.4,
types.Segment), a start of zero is left out, and both with Gemini 3 and in batches supports come that point nowhere and
searches that name no page. Ours are code points into the section's text, and what cannot be placed is left out: an
annotation's `text` is always the section's own `text[start_index:end_index]` (contract §12.12).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Final, Literal

import msgspec

from restante.core.answer import Annotation, Answer, Failure, Item, Section
from restante.providers.gemini_wire import Candidate, Part, Reply, Usage, word
from restante.providers.provider import NO_JSON

log = logging.getLogger("restante.gemini")

#: The model or a filter of Google's will not say it; asking again would not change that.
_BLOCKING: Final = frozenset(
    {
        "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR",
        "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
    }
)  # fmt: skip


class _Lenient(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """Camel case on the wire; null and missing are the same."""


class _Web(_Lenient, frozen=True):
    uri: str | None = None
    title: str | None = None
    domain: str | None = None


class _Chunk(_Lenient, frozen=True):
    web: _Web | None = None


class _Segment(_Lenient, frozen=True):
    start_index: int | None = None
    end_index: int | None = None
    part_index: int | None = None
    text: str | None = None


class _Support(_Lenient, frozen=True):
    segment: _Segment | None = None
    grounding_chunk_indices: tuple[int, ...] | None = None


class _EntryPoint(_Lenient, frozen=True):
    rendered_content: str | None = None


class Grounding(_Lenient, frozen=True):
    """groundingMetadata: what was searched for, the pages found, and which words rest on which of them."""

    web_search_queries: tuple[str | None, ...] | None = None
    grounding_chunks: tuple[_Chunk | None, ...] | None = None
    grounding_supports: tuple[_Support | None, ...] | None = None
    search_entry_point: _EntryPoint | None = None

    @property
    def queries(self) -> tuple[str, ...]:
        """The queries, each once, in their order. Gemini 3 lists empty ones too, which it does not bill."""
        return tuple(dict.fromkeys(query for query in self.web_search_queries or () if query and query.strip()))


class _BilledCall(_Lenient, frozen=True):
    tool: str = ""
    successful_tool_call_count: int = 0


_groundings: Final = msgspec.json.Decoder(Grounding)
_billed: Final = msgspec.json.Decoder(tuple[_BilledCall, ...])
_replies: Final = msgspec.json.Decoder(Reply)

_NO_GROUNDING: Final = Grounding()


def answer_of(reply: Reply, asked: str, *, web_search: bool = False) -> Answer | Failure:
    """The answer in a reply, without its price; `asked` is the model's name should the reply not tell it, `web_search`
    whether it was allowed to search.

    Text counts, whatever ended it: it was paid for. Without text:
    blocked → final; MAX_TOKENS → an answer all the same, the thinking used up the budget and the provider bills it
    (contract §3.6: then only a reasoning item, or nothing); STOP and anything else → transient, since Gemini is
    known to return nothing now and then and to answer the same question a moment later.
    """
    if not reply.candidates:
        if reply.prompt_feedback.block_reason:
            return Failure(reason=f"blocked: {word(reply.prompt_feedback.block_reason)}")
        return Failure(reason="empty answer", transient=True)
    candidate = reply.candidates[0]
    grounding = grounding_of(candidate)
    text = "".join(part.text for part in candidate.content.parts if not part.thought)
    thoughts = tuple(part.text for part in candidate.content.parts if part.thought and part.text.strip())
    items = [Item("reasoning", tuple(map(Section, thoughts)))] if thoughts else []
    if text.strip():
        notes = citations(candidate.content.parts, grounding) if web_search else None
        items.append(Item("message", (Section(text, notes),)))
    elif candidate.finish_reason in _BLOCKING:
        return Failure(reason=f"blocked: {word(candidate.finish_reason)}")
    elif candidate.finish_reason != "MAX_TOKENS":
        return Failure(reason="empty answer", transient=True)
    usage = reply.usage_metadata or Usage()
    return Answer(
        model_name=reply.model_version.removeprefix("models/") or asked,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.thoughts_token_count,
        items=tuple(items),
        web_search=web_search and (_searched(grounding) or billed_searches(usage) > 0),
        fan_out_queries=grounding.queries or None,
    )


def grounding_of(candidate: Candidate) -> Grounding:
    """The candidate's grounding; nothing when it has none, or none that can be read."""
    raw = bytes(candidate.grounding_metadata)
    if not raw or raw == b"null":
        return _NO_GROUNDING
    try:
        return _groundings.decode(raw)
    except NO_JSON as error:
        log.warning("the sources of an answer cannot be read, it is kept without them: %s", error)
        return _NO_GROUNDING


def billed_searches(usage: Usage) -> int:
    """How many searches Google says it billed (usageMetadata.billedToolCalls, seen since July 2026, undocumented); 0
    when it says nothing."""
    raw = bytes(usage.billed_tool_calls)
    if not raw or raw == b"null":
        return 0
    try:
        calls = _billed.decode(raw)
    except NO_JSON:
        return 0
    return sum(max(0, one.successful_tool_call_count) for one in calls if one.tool.startswith("GOOGLE_SEARCH"))


def search_suggestions(raw: bytes) -> str | None:
    """The HTML that Google wants shown beside a grounded answer (searchEntryPoint.renderedContent) of a raw reply;
    None when there is none."""
    try:
        reply = _replies.decode(raw)
    except NO_JSON:
        return None
    entries = (grounding_of(candidate).search_entry_point for candidate in reply.candidates)
    return next((entry.rendered_content for entry in entries if entry and entry.rendered_content), None)


def _searched(grounding: Grounding) -> bool:
    return bool(grounding.queries or grounding.grounding_chunks)


# --- citations ------------------------------------------------------------------------------------------


def citations(parts: tuple[Part, ...], grounding: Grounding) -> tuple[Annotation, ...]:
    """One annotation for each page that a stretch of the text rests on, in Google's order, each once. `text` of all is
    the parts that are no thoughts, joined."""
    text = "".join(part.text for part in parts if not part.thought)
    chunks = grounding.grounding_chunks or ()
    found: dict[Annotation, None] = {}
    for support in grounding.grounding_supports or ():
        span = _place(support.segment, parts, text) if support is not None and support.segment is not None else None
        if support is None or span is None:
            continue
        start, end = span
        for index in support.grounding_chunk_indices or ():
            web = getattr(chunks[index], "web", None) if 0 <= index < len(chunks) else None
            if web is not None and web.uri:
                title = web.title or web.domain or ""
                found[Annotation(title, web.uri, None, start, end, text[start:end])] = None
    return tuple(found)


def _place(segment: _Segment, parts: tuple[Part, ...], text: str) -> tuple[int, int] | None:
    """Where a segment lies in the text, in code points; None: nowhere.

    Read as documented: bytes of the part it names. Where Google also says which words it means, these decide: models
    have been seen to count the parts without the thoughts, the whole text as one, or code points. A segment that
    matches in no reading is looked for by its words, if these stand in the text once.
    """
    start, end = segment.start_index or 0, segment.end_index or 0
    words = segment.text or ""
    first: tuple[int, int] | None = None
    if 0 <= start < end:
        for reading, span in _readings(start, end, segment.part_index or 0, parts, text):
            if span is None:
                continue
            if words and text[span[0] : span[1]] == words:
                return span
            if first is None and reading == "documented":
                first = span
    if words and text.count(words) == 1:
        at = text.index(words)
        return at, at + len(words)
    # The documented reading is believed without its words, and where these are cut inside a code point; else none is.
    if first is None or not words:
        return first
    slice_, words = text[first[0] : first[1]], words.strip("\ufffd")
    return first if words and (words in slice_ or slice_ in words) else None


Reading = Literal["documented", "without thoughts", "whole", "code points"]


def _readings(
    start: int, end: int, index: int, parts: tuple[Part, ...], text: str
) -> Iterator[tuple[Reading, tuple[int, int] | None]]:
    spoken = [part for part in parts if not part.thought]
    if 0 <= index < len(parts) and not parts[index].thought:
        yield "documented", _within(spoken, parts[index], start, end)
    if 0 <= index < len(spoken):
        yield "without thoughts", _within(spoken, spoken[index], start, end)
    yield "whole", _code_points(text, start, end)
    yield "code points", (start, end) if end <= len(text) else None


def _within(spoken: list[Part], part: Part, start: int, end: int) -> tuple[int, int] | None:
    """A part's bytes as code points of the joined text."""
    span = _code_points(part.text, start, end)
    if span is None:
        return None
    before = 0
    for one in spoken:
        if one is part:
            break
        before += len(one.text)
    return before + span[0], before + span[1]


def _code_points(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Byte offsets as code points. One inside a code point takes the whole of it in; beyond the text is nowhere."""
    data = text.encode("utf-8", "surrogatepass")
    if not 0 <= start < end <= len(data):
        return None
    while start and data[start] & 0xC0 == 0x80:
        start -= 1
    while end < len(data) and data[end] & 0xC0 == 0x80:
        end += 1
    begin = len(data[:start].decode("utf-8", "surrogatepass"))
    return begin, begin + len(data[start:end].decode("utf-8", "surrogatepass"))


def with_direct_urls(answer: Answer, resolved: Mapping[str, str | None]) -> Answer:
    """The answer with each annotation's `direct_url`, where it is known."""
    return msgspec.structs.replace(
        answer,
        items=tuple(
            item
            if item.type != "message"
            else Item(item.type, tuple(Section(one.text, _direct(one.annotations, resolved)) for one in item.sections))
            for item in answer.items
        ),
    )


def _direct(notes: tuple[Annotation, ...] | None, resolved: Mapping[str, str | None]) -> tuple[Annotation, ...] | None:
    if notes is None:
        return None
    return tuple(msgspec.structs.replace(note, direct_url=resolved.get(note.url)) for note in notes)


def cited_urls(answer: Answer) -> tuple[str, ...]:
    """The URLs that the answer's annotations name, each once, in their order."""
    notes = (note for item in answer.items for section in item.sections for note in section.annotations or ())
    return tuple(dict.fromkeys(note.url for note in notes))
