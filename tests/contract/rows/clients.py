"""The official clients (§10)."""

from __future__ import annotations

from tests.contract.row import SEEN, Row

ROWS = [
    Row(
        "10.1 PyPI dataforseo-client",
        SEEN,
        "every gemini_llm_responses method works with another host",
    ),
    Row(
        "10.2 npm dataforseo-client",
        SEEN,
        "every geminiLlmResponses method works with another base URL",
    ),
]
