"""The emulated Gemini's thinking and searching: what Google refuses of them, and what it says of its sources.

Which model takes which thinking level or budget is copied from Google's tables (docs.cloud.google.com, "Thinking",
November 2026), not from our adapter, which is what is tested.
"""

from __future__ import annotations

import re
from typing import Any, Final

Json = dict[str, Any]

_ALL: Final = ("MINIMAL", "LOW", "MEDIUM", "HIGH")
_NOT_MINIMAL: Final = _ALL[1:]
_LEVELS: Final = {
    "gemini-3.8-flash": _NOT_MINIMAL,
    "gemini-3.7-flash": _NOT_MINIMAL,
    "gemini-3.6-flash": _ALL,
    "gemini-3.5-flash-lite": _ALL,
    "gemini-3.5-flash": _ALL,
    "gemini-3.1-pro-preview": _NOT_MINIMAL,
    "gemini-3.1-flash-lite": _ALL,
    "gemini-3-flash-preview": _ALL,
    "gemini-flash-latest": _NOT_MINIMAL,
}
_BUDGETS: Final = {
    "gemini-2.5-pro": (128, 32_768),
    "gemini-2.5-flash": (1, 24_576),
    "gemini-2.5-flash-lite": (512, 24_576),
}
_NO_SEARCH: Final = ("gemini-1.5-", "gemini-2.0-flash-lite")

REDIRECTS: Final = "/grounding-api-redirect/"

#: What Google sends beside a grounded answer, to be shown as it is.
SUGGESTIONS: Final = '<style>.chip{color:#000}</style><div class="container"><a class="chip">alpine towns</a></div>'


def objection(model: str, body: Json) -> str:
    """Google's word on a request that this model does not take; "" when it does."""
    thinking = body.get("generationConfig", {}).get("thinkingConfig") or {}
    level, budget = thinking.get("thinkingLevel"), thinking.get("thinkingBudget")
    if level is not None and budget is not None:
        return "You can only set only one of thinking budget and thinking level."
    if thinking and model not in _LEVELS and model not in _BUDGETS:
        return "Unable to submit request because thinking is not supported by this model."
    if level is not None:
        if model not in _LEVELS:
            return "Thinking level is not supported for this model."
        if level.upper() not in _LEVELS[model]:
            return f"Thinking level {level} is not supported for this model. Please retry with other thinking level."
        if level.upper() == "MINIMAL" and len(body["contents"]) > 1:
            return "Function call or earlier turn is missing a thought_signature."
    if budget is not None:
        if model not in _BUDGETS:
            return "Request contains an invalid argument."  # "intermittent", says Google; here always
        least, most = _BUDGETS[model]
        if budget == 0 and "-pro" in model:
            return "Budget 0 is invalid. This model only works in thinking mode."
        if budget not in (0, -1) and not least <= budget <= most:
            return f"The thinking budget {budget} is invalid. Please choose a value between {least} and {most}."
    for tool in body.get("tools", []):
        if set(tool) != {"googleSearch"} or tool["googleSearch"] != {}:
            return f"Invalid JSON payload received. Unknown name \"{next(iter(tool), '')}\" at 'tools[0]'."
        if model.startswith(_NO_SEARCH):
            return "Search Grounding is not supported."
    return ""


def thinks_aloud(model: str, body: Json) -> bool:
    """Whether the reply holds thoughts: asked for, and not turned off."""
    thinking = body.get("generationConfig", {}).get("thinkingConfig") or {}
    return (
        bool(thinking.get("includeThoughts"))
        and thinking.get("thinkingBudget") != 0
        and not model.startswith(("gemini-1.", "gemini-2.0"))
    )


def metadata(parts: list[Json], said: dict[str, str], question: str, base: str) -> Json:
    """groundingMetadata of an answer. `parts` are all of the content, thoughts included.

    By directives: [[search=a|b]] the queries; [[chunks=x.org|y.org]] the pages, cited by redirects that lead to
    https://www.x.org/page-0 and so on; [[cites=words>0,1;more words>1]] supports of these words; [[spans=5:9:1>0;:4>0]]
    supports start:end:part in bytes, without words; [[quotes=5:9:1>0>words]] the same with any words.
    Without any the whole first part rests on one page.
    """
    queries = said.get("search", question).split("|") if said.get("search", question) else []
    titles = said["chunks"].split("|") if said.get("chunks") else ["example.org"] if "chunks" not in said else []
    found: Json = {}
    if queries:
        found["webSearchQueries"] = queries
        found["searchEntryPoint"] = {"renderedContent": SUGGESTIONS}
    if titles:
        found["groundingChunks"] = [
            {"web": {"uri": f"{base}{REDIRECTS}{title}/{number}", "title": title}}
            for number, title in enumerate(titles)
        ]
    supports = [_words(one, parts) for one in said.get("cites", "").split(";") if one]
    supports += [_span(one) for key in ("spans", "quotes") for one in said.get(key, "").split(";") if one]
    spoken = [number for number, part in enumerate(parts) if not part.get("thought")]
    if titles and spoken and not {"cites", "spans", "quotes"} & said.keys():
        text = parts[spoken[0]]["text"]
        supports = [_support(0, len(text.encode()), spoken[0], [0], text)]
    if supports:
        found["groundingSupports"] = supports
    return found


def _support(start: int, end: int, part: int, chunks: list[int], words: str) -> Json:
    """What is zero is left out, as everywhere in Google's JSON."""
    segment = {"startIndex": start, "endIndex": end, "partIndex": part, "text": words}
    return {
        "segment": {name: value for name, value in segment.items() if value},
        "groundingChunkIndices": chunks,
        "confidenceScores": [0.9] * len(chunks),
    }


def _words(directive: str, parts: list[Json]) -> Json:
    words, _, chunks = directive.partition(">")
    numbers = [int(number) for number in chunks.split(",")]
    for index, part in enumerate(parts):
        at = -1 if part.get("thought") else part["text"].encode().find(words.encode())
        if at >= 0:
            return _support(at, at + len(words.encode()), index, numbers, words)
    raise ValueError(f"{words!r} stands in no part")


def _span(directive: str) -> Json:
    where, chunks, *words = directive.split(">")
    start, end, part = (int(number or 0) for number in (where + "::").split(":")[:3])
    return _support(start, end, part, [int(number) for number in chunks.split(",")], words[0] if words else "")


def location(path: str) -> str | None:
    """Where a redirect leads; None when there is no such one. A page named `relative...` leads to a path."""
    match = re.fullmatch(re.escape(REDIRECTS) + r"([^/]+)/([0-9]+)", path)
    if match is None or match[1].startswith("gone"):
        return None
    if match[1].startswith("relative"):
        return "/elsewhere"
    if match[1].startswith("script"):
        return "javascript:alert(1)"
    return f"https://www.{match[1]}/page-{match[2]}"
