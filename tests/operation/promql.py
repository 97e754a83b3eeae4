"""What an expression of Prometheus names: metrics, and the labels that it asks of them. No evaluation, only names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'')
_NAME: Final = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_SELECTOR: Final = re.compile(rf"({_NAME})\s*\{{([^}}]*)\}}")
_MATCHER: Final = re.compile(rf"\s*({_NAME})\s*(=~|!~|!=|=)\s*(\S+)\s*")
_GROUPING: Final = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_WORDS: Final = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "inf", "nan"}


class Names(NamedTuple):
    """Metrics -> the labels that are matched, with the values asked for; and the labels that are grouped by."""

    metrics: Mapping[str, Mapping[str, str]]
    grouped: frozenset[str]


def names(expression: str) -> Names:
    """What an expression names. Raises ValueError for a matcher that cannot be read."""
    texts: list[str] = []

    def keep(found: re.Match[str]) -> str:
        texts.append(found[0][1:-1])
        return f"#{len(texts) - 1}"

    left = _STRING.sub(keep, expression)
    metrics: dict[str, dict[str, str]] = {}
    for name, matchers in _SELECTOR.findall(left):
        labels = metrics.setdefault(name, {})
        for matcher in filter(None, matchers.split(",")):
            found = _MATCHER.fullmatch(matcher)
            if found is None:
                raise ValueError(f"{matcher!r} in {expression!r}")
            labels[found[1]] = texts[int(found[3][1:])] if found[2] == "=" else ""
    grouped = {label.strip() for _, labels in _GROUPING.findall(left) for label in labels.split(",")} - {""}
    bare = _GROUPING.sub(" ", _SELECTOR.sub(" ", left))
    bare = re.sub(r"\[[^\]]*\]|#\d+|\$\w+", " ", bare)  # ranges, strings, variables
    for found in re.finditer(rf"(?<![0-9.])({_NAME})\s*(\(?)", bare):
        if not found[2] and found[1].lower() not in _WORDS:
            metrics.setdefault(found[1], {})
    return Names(metrics, frozenset(grouped))
