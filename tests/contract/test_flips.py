"""Issue 3, proof 1: change each documented field of recorded answers, one at a time: the checkers notice every one.

What a field may be changed into without being noticed is not skipped but counted: only the values that the contract
leaves free (shape.Free: times, ids, versions, token counts), and only for others of the same form.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract import recorded_rest
from tests.contract.recorded import Recorded, record
from tests.contract.shape import Free, Wrong, check
from tests.support import Restante


@pytest.fixture(scope="module")
def recorded(restante: Restante) -> dict[str, Recorded]:
    """One answer of every kind, fresh from the server."""
    return record(restante) | recorded_rest.record(restante)


@pytest.mark.contract(
    "1.4 cost string or bool",
    '1.4 status_code as 20000.0 or "20000"; token counts as 1.0; start_index as float',
    "1.4 web_search as 0/1",
    "1.4 time as number",
    "1.4 non-string in path",
    "1.4 data as list",
    "1.4 fan_out_queries as string, or list of objects",
    "1.4 an element of items null",
    "1.4 an element of items without the key type",
    "3.7 price",
    "3.8 rows",
    "3.9 rows",
    "3.10 the answer",
    "3.10 unknown ids",
    "3.11 rows",
    "3.12 rows",
    "12.13 id_list cost",
    "12.21 in id_list",
    "6 cost at id_list after refund",
    "4 failure",
    "1.4 user_data price entries as object instead of list of {cost_type,cost}",
)
def test_recorded_answers_are_what_the_contract_says(recorded: dict[str, Recorded]) -> None:
    """In every value, type and order of keys."""
    assert len(recorded) == 24
    for name, (answer, spec) in recorded.items():
        check(answer, spec, name)


#: The fields that somewhere hold a value of the server's own choosing. Their form is checked and flipped all the same.
FREE = {
    *("version", "time", "id"),  # §1, §5.4
    *("datetime", "date_posted", "datetime_posted", "datetime_done"),  # moments
    *("input_tokens", "output_tokens", "reasoning_tokens"),  # §3.3
    *("live", "task_post", "tasks_ready", "task_get", "models", "errors", "id_list", "user_data", "status"),  # §3.7
    *("total", "total_ai_optimization", "value"),  # §3.7: calls of a day and a minute; status: §3.9 as well
    "http_time",  # §3.12
}

Place = tuple[Any, ...]


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Every value within an answer, from the outside in."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield from places(child, (*at, key))


def found(value: Any, at: Place) -> Any:
    for key in at:
        value = value[key]
    return value


def wrong_types(value: Any) -> list[Any]:
    """Values of other types that a lenient reader would take for this one, and some that none would."""
    if isinstance(value, bool):
        return [int(value), str(value).lower()]
    if isinstance(value, int):
        return [float(value), str(value), bool(value)]
    if isinstance(value, float):
        return [str(value), int(value), [value]]
    if isinstance(value, str):
        return [7, [value], {}]
    if isinstance(value, list):
        return [{}, "x", dict(enumerate(value)), tuple(value)]
    if isinstance(value, dict):
        return [[], "x", [value]]
    return [0, "", [], {}, False]  # of null


def other_values(value: Any) -> list[Any]:
    """Other values of the same type."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value - 1, -1 - value]
    if isinstance(value, float):
        return [value * 2, -value, value + 1e-9]
    if isinstance(value, str):
        return [value + "x", " " + value, "", value.swapcase() + "\n"]
    if isinstance(value, list):
        return [value + value[:1] if value else [None], [None], value[:-1] if value else [{}]]
    if isinstance(value, dict):
        return [{**value, "more": None}, {}] if value else [{"more": None}]
    return []


def flips(answer: Any, at: Place) -> Iterator[tuple[str, Any]]:
    """The answer with the value at this place changed in one way after the other."""
    value = found(answer, at)
    for kind, changed in [
        *([("null", None)] if value is not None else []),
        *(("another type", one) for one in wrong_types(value)),
        *(("another value", one) for one in other_values(value)),
    ]:
        yield f"{kind} {changed!r}", put(answer, at, changed)
    if not at:
        return
    removed = copy.deepcopy(answer)
    del found(removed, at[:-1])[at[-1]]
    yield "removed", removed
    around = found(answer, at[:-1])
    if isinstance(around, dict) and len(around) > 1 and at[-1] != list(around)[-1]:
        moved = copy.deepcopy(answer)
        inside = found(moved, at[:-1])
        inside[at[-1]] = inside.pop(at[-1])
        yield "moved to the end", moved


def put(answer: Any, at: Place, changed: Any) -> Any:
    if not at:
        return changed
    flipped = copy.deepcopy(answer)
    found(flipped, at[:-1])[at[-1]] = changed
    return flipped


def passes(answer: Any, spec: Any) -> bool:
    try:
        check(answer, spec)
    except Wrong:
        return False
    return True


def spec_at(spec: Any, at: Place) -> Any:
    """The specification of a place; what is free is free as a whole."""
    for key in at:
        if isinstance(spec, Free):
            return spec
        spec = spec[key]
    return spec


def test_every_flip_is_noticed(recorded: dict[str, Recorded]) -> None:
    """A flip that passes fails here, unless it is another value of the same form in a place that the contract frees."""
    tried, free, unnoticed = 0, 0, []
    for name, (answer, spec) in recorded.items():
        for at in places(answer):
            for kind, flipped in flips(answer, at):
                tried += 1
                if not passes(flipped, spec):
                    continue
                if isinstance(spec_at(spec, at), Free) and "another value" in kind:
                    free += 1  # e.g. one token more
                else:
                    unnoticed.append((name, at, kind))
    print(f"{tried} flips of {len(recorded)} answers, {free} of them free by contract")
    assert not unnoticed
    assert tried > 5_000
    assert free < tried / 50


def test_what_is_free_is_free(recorded: dict[str, Recorded]) -> None:
    """The list of free places is no excuse: each takes another value of its form, and is one of these."""
    seen = set()
    for name, (answer, spec) in recorded.items():
        for at in places(answer):
            one = spec_at(spec, at)
            if isinstance(one, Free):
                assert passes(put(answer, at, one.another(found(answer, at))), spec), (name, at)
                seen.add(at[-1])
    assert seen == FREE
