"""schemathesis reads /openapi.json and calls each operation with what it makes of it, right and wrong (proof 6).

Bounded and seeded: the same calls each time. Not asked: that wrong input gets a 4xx (`negative_data_rejection`) and a
wrong method a 405 (`unsupported_method`), for the contract answers both with HTTP 200 and a task's code.
"""

from __future__ import annotations

import asyncio
import copy
import re
from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import run_state_machine_as_test
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
CALLS_LONG = 400
# Which calls follow from others: what a task_post answered is asked for, cancelled, sent again.
_POSTED = "$response.body#/tasks/0/id"
FOLLOWS: dict[str, tuple[str, dict[str, Any]]] = {
    "get": ("task_get", {"parameters": {"task_id": _POSTED}}),
    "resend": ("webhook_resend", {"requestBody": [{"id": _POSTED}]}),
}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.value))
@pytest.mark.parametrize(
    "calls", [CALLS, pytest.param(CALLS_LONG, marks=[pytest.mark.long, pytest.mark.timeout(1_800)])]
)
def test_no_5xx_and_nothing_undocumented(restante: Restante, mode: GenerationMode, calls: int) -> None:
    login, password = restante.account(f"schemathesis {mode.value} {calls}", credit_limit=None)
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
            _try(operation, restante.url, (login, password), mode, seen, codes, calls)
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
    calls: int,
) -> None:
    """Call one operation with up to so many cases; fails with the smallest case that breaks a promise."""

    @settings(
        max_examples=calls, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def conforms(case: Any) -> None:
        seen[operation.label] += 1
        response = case.call(base_url=url, auth=credentials, timeout=30)
        case.validate_response(response, checks=CHECKS)
        codes.update(task["status_code"] for task in response.json().get("tasks") or ())

    conforms()


@pytest.mark.parametrize("runs", [6, pytest.param(300, marks=[pytest.mark.long, pytest.mark.timeout(1_800)])])
def test_calls_that_follow_from_others(restante: Restante, runs: int) -> None:
    """Stateful: tasks are posted, and the ids in the answers are what is asked for and sent again."""
    login, password = restante.account(f"schemathesis stateful {runs}", credit_limit=None)
    unlimited = [word for name in RATED for word in (f"--{name}", "0")]
    assert restante.run("account", "limit", login, *unlimited).returncode == 0
    logged = len(restante.process.log)
    codes: Counter[tuple[str, int]] = Counter()

    class Calls(schemathesis.openapi.from_dict(_linked(_document(restante))).as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"base_url": restante.url, "auth": (login, password), "timeout": 30}

        def validate_response(self, response: Any, case: Any, **_: Any) -> None:
            case.validate_response(response, checks=CHECKS)
            for task in response.json().get("tasks") or ():
                codes[case.operation.label.rsplit("/", 1)[-1], task["status_code"]] += 1

    run_state_machine_as_test(
        Calls,
        settings=settings(
            max_examples=runs,
            stateful_step_count=6,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert {name for name, _ in codes} >= {"task_post", "{task_id}", "webhook_resend"}, codes
    assert not re.search(r"Traceback| ERROR |Exception", restante.process.log[logged:])
    assert restante.run("ledger", "audit").returncode == 0


def _linked(document: Any) -> Any:
    """The document with links from task_post to the calls that take its ids."""
    linked = copy.deepcopy(document)
    ids = {
        one["operationId"]: one for path in linked["paths"].values() for one in path.values() if "operationId" in one
    }
    ids["task_post"]["responses"]["200"]["links"] = {
        name: {"operationId": operation, **given} for name, (operation, given) in FOLLOWS.items()
    }
    return linked
