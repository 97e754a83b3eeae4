"""Writes docs/api.md from the operations that are served: `python -m tests.docs.api > docs/api.md`."""

from __future__ import annotations

import re
from typing import Any

from restante.core.allowance import Allowance
from restante.web.openapi import document
from tests.web.test_openapi import operations

_HEAD = """# API

Every endpoint that restante serves, generated from the list that the server itself is made of. A running restante
describes them field by field: `/docs` is a page to read, `/openapi.json` the same as OpenAPI 3.1, both without a
password and without anything from elsewhere.

- Everything under `/v3` and `/restante` needs HTTP Basic: an account's login and API password.
- Under `/v3` the answers are those of the original, and HTTP is 200 even where tasks fail: look at the `status_code` of
  the envelope and of each of its tasks ([conformance](conformance.md)). A path there takes `.ai` and `.xml` behind it.
- Under `/restante/v1` are endpoints of our own: plain JSON and HTTP codes.
- Rates are per account and calendar minute; each is a [setting](settings.md), and an account may have its own.
"""

_FOOT = """
## Without an account

| | |
|---|---|
| `GET /healthz` | 200 while the process lives |
| `GET /readyz` | 200 when tasks can be taken and answered, else 503; `reasons` says why not |
| `GET /docs`, `GET /openapi.json` | this, field by field |
| `GET /metrics` | for Prometheus, with a token or the operator's password ([Watch it](observability.md)) |
"""


def render() -> str:
    """The page's text."""
    allowance = Allowance()
    described: dict[str, Any] = document(operations(), allowance)
    text = _HEAD
    group = ""
    for one in operations():
        if one.group != group:
            group = one.group
            text += f"\n## {group[0].upper()}{group[1:]}\n\n| | | calls a minute |\n|---|---|--:|\n"
        summary = described["paths"][one.path][one.method.lower()]["summary"]
        rate = allowance.rate(one.rate) if one.rate else 0
        text += f"| `{one.method} {one.path}` | **{summary}.** {_brief(one.description)} | {rate or '–'} |\n"
    return text + _FOOT


def _brief(description: str) -> str:
    """The first paragraph, as a table's cell."""
    return re.sub(r"\s+", " ", description.strip().split("\n\n")[0]).replace("|", r"\|")


if __name__ == "__main__":
    print(render(), end="")
