"""Every row of the contract's sections 1 to 6 and 12, and of the official clients (10), one module a section."""

from __future__ import annotations

from tests.contract.rows import clients, codes, conventions, decisions, endpoints, limits, money, webhooks

ROWS = [
    *conventions.ROWS,
    *codes.ROWS,
    *endpoints.ROWS,
    *webhooks.ROWS,
    *limits.ROWS,
    *money.ROWS,
    *clients.ROWS,
    *decisions.ROWS,
]
