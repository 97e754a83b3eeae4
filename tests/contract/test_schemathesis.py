"""schemathesis reads /openapi.json and calls every operation with what it makes of it, right and wrong (issue 3, proof 6).

Bounded and seeded: the same calls each time. Not asked: that wrong input is refused with a 4xx (`negative_data_rejection`)
and that wrong methods get a 405 (`unsupported_method`), for the contract answers both with HTTP 200 and a task's code.
"""

from __future__ import annotations

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

from tests.support import Restante
from tests.web.calls import Shop

pytestmark = pytest.mark.usefixtures("quiet_log")

CALLS = 60  # of an operation, in each mode
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_no_5xx_and_nothing_undocumented(restante: Restante, visitor: Shop, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{restante.url}/openapi.json")
    seen: Counter[str] = Counter()
    operations = [result.ok() for result in schema.get_all_operations()]
    for operation in operations:
        _try(operation, restante.url, visitor, mode, seen)
    # What takes nothing cannot be sent anything wrong.
    expected = {one.label for one in operations if mode is GenerationMode.POSITIVE or one.body or one.path_parameters}
    assert expected <= set(seen)
    assert min(seen[label] for label in expected) >= 1


def _try(operation: Any, url: str, visitor: Shop, mode: GenerationMode, seen: Counter[str]) -> None:
    """Call one operation with up to CALLS cases; fails with the smallest case that breaks a promise."""

    @settings(
        max_examples=CALLS, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def conforms(case: Any) -> None:
        seen[operation.label] += 1
        response = case.call(base_url=url, auth=visitor.credentials, timeout=30)
        case.validate_response(response, checks=CHECKS)

    conforms()
