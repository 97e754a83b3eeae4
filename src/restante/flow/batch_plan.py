"""When batches are gathered, looked at, late and given up."""

from __future__ import annotations

import msgspec

from restante.core.limits import (
    BATCH_DOUBT_SECONDS,
    BATCH_LOOK_SECONDS,
    BATCH_MAKING_SECONDS,
    BATCH_POLL_SECONDS,
    BATCH_SPARE_SECONDS,
    BATCH_TASKS,
)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """When what happens, in seconds; `plan` makes it. `gather` None: no new batches, those on their way go on."""

    gather: float | None
    late: float  # from a batch's making to its deadline
    spare: float = BATCH_SPARE_SECONDS
    poll: tuple[float, ...] = BATCH_POLL_SECONDS
    doubt: float = BATCH_DOUBT_SECONDS
    making: float = BATCH_MAKING_SECONDS
    look: float = BATCH_LOOK_SECONDS
    full: int = BATCH_TASKS


def plan(gather: float | None, late: float) -> Plan:
    """The plan for batches that may take `late` seconds: with a short time for the whole, its parts are shorter too."""
    return Plan(
        gather=gather,
        late=late,
        spare=min(BATCH_SPARE_SECONDS, late / 2),
        poll=tuple(min(seconds, late / 100) for seconds in BATCH_POLL_SECONDS),
        doubt=min(BATCH_DOUBT_SECONDS, late / 10),
        making=min(BATCH_MAKING_SECONDS, late / 2),
        look=min(BATCH_LOOK_SECONDS, late / 100),
    )
