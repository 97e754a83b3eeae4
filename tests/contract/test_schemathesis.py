"""schemathesis reads /openapi.json and calls each operation with what it makes of it, right and wrong (proof 6).

Bounded and seeded: the same calls each time. Not asked: that wrong input gets a 4xx (`negative_data_rejection`) and a
wrong method a 405 (`unsupported_method`), for the contract answers both with HTTP 200 and a task's code.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from restante.core.errors import UnknownField
from tests.support import Restante
from tests.web.calls import call

RATED = ("tasks-ready", "user-data", "appendix-errors", "status", "id-list", "errors")
CALLS = 25  # of an operation, in each mode
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.value))
def test_no_5xx_and_nothing_undocumented(restante: Restante, mode: GenerationMode) -> None:
    login, password = restante.account(f"schemathesis {mode.value}", credit_limit=None)
    # Else most calls of the slow endpoints would be answered by their rates, before anything is read.
    unlimited = [word for name in RATED for word in (f"--{name}", "0")]
    assert restante.run("account", "limit", login, *unlimited).returncode == 0
    logged = len(restante.process.log)
    schema = schemathesis.openapi.from_dict(_document(restante))
    seen: Counter[str] = Counter()
    codes: Counter[int] = Counter()
    operations: list[Any] = [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]
    assert len(operations) >= 6
    for operation in operations:
        if mode is GenerationMode.POSITIVE or _takes_something(operation):
            _try(operation, restante.url, (login, password), mode, seen, codes)
            assert seen[operation.label] >= 1
            if mode is GenerationMode.NEGATIVE and operation.body and operation.path.startswith("/v3/"):
                _unknown_field(operation, restante.url, (login, password), codes)
    assert len(codes) >= 3, codes  # tasks came to be, and were refused for several reasons
    assert not re.search(r"Traceback| ERROR |Exception", restante.process.log[logged:])
    assert restante.run("ledger", "audit").returncode == 0


def _document(restante: Restante) -> Any:
    """The served document, with the name of a model, which no generator could guess: other faults hide behind it."""
    document = asyncio.run(call("GET", f"{restante.url}/openapi.json")).json
    for name in ("PostedTask", "LivePostedTask"):
        document["components"]["schemas"][name]["properties"]["model_name"]["enum"] = ["gemini-2.5-flash"]
    return document


def _takes_something(operation: Any) -> bool:
    return bool(operation.body or operation.path_parameters)


def _unknown_field(operation: Any, url: str, credentials: tuple[str, str], codes: Counter[int]) -> None:
    """The documented example with a field that nobody knows: a generator breaks other fields first, and hides it."""
    sent = operation.definition.raw["requestBody"]["content"]["application/json"]["example"]
    case = operation.Case(body=[{**one, "no_such_field": 1} for one in sent], media_type="application/json")
    response = case.call(base_url=url, auth=credentials, timeout=30)
    case.validate_response(response, checks=CHECKS)
    said = [task["status_code"] for task in response.json()["tasks"]]
    assert said == [UnknownField.code], (operation.label, response.text)
    codes.update(said)


def _try(
    operation: Any,
    url: str,
    credentials: tuple[str, str],
    mode: GenerationMode,
    seen: Counter[str],
    codes: Counter[int],
) -> None:
    """Call one operation with up to CALLS cases; fails with the smallest case that breaks a promise."""

    @settings(
        max_examples=CALLS, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def conforms(case: Any) -> None:
        seen[operation.label] += 1
        response = case.call(base_url=url, auth=credentials, timeout=30)
        case.validate_response(response, checks=CHECKS)
        codes.update(task["status_code"] for task in response.json().get("tasks") or ())

    conforms()
