"""Fault points: named places at which a test has this process die, hang or fail. In production none is armed.

    RESTANTE_FAULTS="settle.sent=die:3, webhook.sent=fail:0.01:7, cut=3, clock=-90"

POINT=KIND:NTH strikes once, when the point is reached for the n-th time; POINT=KIND:SHARE:SEED strikes that share of
the times, the same ones with the same seed. What the kinds do is said at `Kind`. Further words:

    cut=SECONDS    on SIGUSR1 this process loses all its database connections and gets none for so long
    clock=SECONDS  its clock is wrong by so much

Production never sets the variable, and where a call could cost money it is refused (`wiring.arm_faults`). What a point
that is not armed costs: the call of a function that finds nothing to do (0.16 us measured), beside a provider's call, a
webhook or a batch; statements are watched by a class of connections (store/interrupted.py) that nobody else makes.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Mapping
from datetime import timedelta
from enum import Enum, StrEnum
from typing import Final, NamedTuple

from restante.core.errors import OperatorError, RestanteError

VARIABLE: Final = "RESTANTE_FAULTS"


class Kind(StrEnum):
    """What happens at a point. The process itself does it, so that it happens there and nowhere else."""

    DIE = "die"  # SIGKILL
    HANG = "hang"  # SIGSTOP, all threads of it, until somebody continues it
    FAIL = "fail"  # an error: at a statement its connection breaks, elsewhere a bug of ours raises `Struck`


class Point(StrEnum):
    """Every fault point. `sent`: a statement is on its way, or its transaction's commit, and the reply is not read;
    `committed`: the reply is read, and nobody else knows of it yet."""

    ACCEPT_SENT = "accept.sent"
    ACCEPT_COMMITTED = "accept.committed"  # and the client has no 20100
    CLAIM_SENT = "claim.sent"
    CLAIM_COMMITTED = "claim.committed"  # and no call has begun
    CALL_ANSWERED = "call.answered"  # the provider has, and nothing is settled
    SETTLE_SENT = "settle.sent"  # in the middle of a group commit
    SETTLE_COMMITTED = "settle.committed"
    PARK_SENT = "park.sent"  # a task is put off
    PARK_COMMITTED = "park.committed"
    LIVE_SENT = "live.sent"
    LIVE_COMMITTED = "live.committed"  # held, and no call has begun
    LIVE_ANSWERED = "live.answered"  # the provider has, and nothing is settled
    COLLECT_SENT = "collect.sent"
    COLLECT_COMMITTED = "collect.committed"  # off tasks_ready, and the client has no answer
    WEBHOOK_CLAIM_SENT = "webhook.claim.sent"
    WEBHOOK_CLAIM_COMMITTED = "webhook.claim.committed"  # and nothing is sent
    WEBHOOK_SENT = "webhook.sent"  # and not recorded
    WEBHOOK_RECORD_SENT = "webhook.record.sent"
    WEBHOOK_RECORD_COMMITTED = "webhook.record.committed"
    REAP_SENT = "reap.sent"  # a dead worker's tasks are given back
    REAP_COMMITTED = "reap.committed"
    BATCH_WRITE_SENT = "batch.write.sent"  # where a batch stands; that it will be asked for is the first
    BATCH_WRITE_COMMITTED = "batch.write.committed"
    BATCH_MADE = "batch.made"  # the provider has it, and that is not recorded


class Step(NamedTuple):
    """A statement's two points."""

    sent: Point
    committed: Point


#: By the statement's name in store/sql.
STEPS: Final[Mapping[str, Step]] = {
    "accept": Step(Point.ACCEPT_SENT, Point.ACCEPT_COMMITTED),
    "claim": Step(Point.CLAIM_SENT, Point.CLAIM_COMMITTED),
    "settle": Step(Point.SETTLE_SENT, Point.SETTLE_COMMITTED),
    "park": Step(Point.PARK_SENT, Point.PARK_COMMITTED),
    "hold_live": Step(Point.LIVE_SENT, Point.LIVE_COMMITTED),
    "collect": Step(Point.COLLECT_SENT, Point.COLLECT_COMMITTED),
    "claim_deliveries": Step(Point.WEBHOOK_CLAIM_SENT, Point.WEBHOOK_CLAIM_COMMITTED),
    "record_attempts": Step(Point.WEBHOOK_RECORD_SENT, Point.WEBHOOK_RECORD_COMMITTED),
    "free_leases": Step(Point.REAP_SENT, Point.REAP_COMMITTED),
    "write_batch": Step(Point.BATCH_WRITE_SENT, Point.BATCH_WRITE_COMMITTED),
}


class Struck(RestanteError):
    """A point failed as it was told to."""


class _Word(Enum):
    CUT = "cut"
    CLOCK = "clock"


class _Trigger:
    """When a point strikes, and how."""

    def __init__(self, kind: Kind, nth: int, share: float, seed: int) -> None:
        self._kind = kind
        self._nth = nth  # 0: by its share
        self._share = share
        self._random = random.Random(seed)  # noqa: S311 (to be replayed)
        self._reached = 0

    def reach(self, point: Point) -> None:
        self._reached += 1
        strikes = self._reached == self._nth if self._nth else self._random.random() < self._share
        if not strikes:
            return
        os.write(sys.stderr.fileno(), f"fault: {self._kind} at {point}, reached {self._reached} times\n".encode())
        match self._kind:
            case Kind.DIE:
                os.kill(os.getpid(), signal.SIGKILL)
            case Kind.HANG:
                os.kill(os.getpid(), signal.SIGSTOP)
            case Kind.FAIL:
                raise Struck(point)


_armed: dict[Point, _Trigger] = {}

#: Whether any of this is asked for.
active = False
#: How wrong this process's clock is.
skew = timedelta(0)
#: Seconds that a cut lasts; 0: SIGUSR1 is not listened to.
cut_seconds = 0.0


def reach(point: Point) -> None:
    """Say that the process is at this point. Raises Struck where it was told to fail."""
    if _armed and point in _armed:
        _armed[point].reach(point)


def arm(text: str) -> None:
    """Read RESTANTE_FAULTS. Raises OperatorError for what it does not understand."""
    global active, skew, cut_seconds
    for word in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = word.partition("=")
        try:
            if name == _Word.CLOCK.value:
                skew = timedelta(seconds=float(value))
            elif name == _Word.CUT.value:
                cut_seconds = float(value)
            else:
                _armed[Point(name)] = _trigger(value)
        except (ValueError, OverflowError):
            raise OperatorError(
                f"{VARIABLE} cannot be used: {word!r}.",
                "It is POINT=KIND:NTH or POINT=KIND:SHARE:SEED with die, hang or fail; cut=SECONDS; clock=SECONDS.",
            ) from None
        active = True


def disarm() -> None:
    """Forget everything that was armed."""
    global active, skew, cut_seconds
    _armed.clear()
    active, skew, cut_seconds = False, timedelta(0), 0.0


def _trigger(text: str) -> _Trigger:
    kind, how, *seed = text.split(":")
    if not seed:
        if int(how) < 1:
            raise ValueError(text)
        return _Trigger(Kind(kind), int(how), 0.0, 0)
    [number] = seed
    if not 0 < float(how) <= 1:
        raise ValueError(text)
    return _Trigger(Kind(kind), 0, float(how), int(number))
