"""RESTANTE_FAULTS: what it says, who may use it, and that nothing of it is there without it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from datetime import timedelta

import pytest

from restante import faults
from restante.config import load
from restante.core.errors import OperatorError
from restante.faults import Point, Struck
from restante.store.connecting import Connection, Connector
from restante.store.database import Database, statement
from restante.store.errors import DatabaseLost
from restante.store.interrupted import Interrupted
from restante.wiring import arm_faults, utc_now

SCRIPTED = load({"RESTANTE_PROVIDER": "scripted"})


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults.disarm()


def strikes(point: Point, times: int) -> list[int]:
    """Which of so many times it fails."""
    struck = []
    for number in range(1, times + 1):
        try:
            faults.reach(point)
        except Struck:
            struck.append(number)
    return struck


def test_it_strikes_once_at_the_nth_time() -> None:
    faults.arm("webhook.sent=fail:3, call.answered=fail:1")
    assert strikes(Point.WEBHOOK_SENT, 10) == [3]
    assert strikes(Point.CALL_ANSWERED, 10) == [1]
    assert strikes(Point.LIVE_ANSWERED, 10) == []


def test_a_seed_replays_a_share_of_the_times() -> None:
    seen = []
    for seed in (7, 7, 8):
        faults.arm(f"webhook.sent=fail:0.1:{seed}")
        seen.append(strikes(Point.WEBHOOK_SENT, 1_000))
    assert seen[0] == seen[1] != seen[2]
    assert 60 < len(seen[0]) < 140


def test_to_die_is_sigkill_and_to_hang_is_sigstop(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    faults.arm("settle.sent=die:1, claim.sent=hang:1")
    faults.reach(Point.SETTLE_SENT)
    faults.reach(Point.CLAIM_SENT)
    assert sent == [(os.getpid(), signal.SIGKILL), (os.getpid(), signal.SIGSTOP)]


@pytest.mark.parametrize(
    "text",
    ["nowhere=die:1", "settle.sent=explode:1", "settle.sent=die:0", "settle.sent=die:2:1", "settle.sent", "clock=x"],
)
def test_what_it_does_not_understand_is_named(text: str) -> None:
    with pytest.raises(OperatorError, match=faults.VARIABLE):
        faults.arm(text)


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"RESTANTE_PROVIDER": "scripted"}, False),
        ({"RESTANTE_PROVIDER": "scripted", "RESTANTE_MODELS": "old=new"}, True),
        ({"RESTANTE_OFFLINE": "1"}, True),
        ({"GEMINI_API_KEY": "a key"}, True),
        ({"GEMINI_API_KEY": "a key", "RESTANTE_GEMINI_BASE_URL": "https://proxy.example.com"}, True),
        ({"GEMINI_API_KEY": "a key", "RESTANTE_GEMINI_BASE_URL": "http://127.0.0.1:8080"}, False),
    ],
)
def test_it_is_refused_where_a_call_could_cost_money(settings: dict[str, str], *, refused: bool) -> None:
    armed = {faults.VARIABLE: "settle.sent=die:1"}
    if refused:
        with pytest.raises(OperatorError, match="for tests"):
            arm_faults(load(settings), armed)
    else:
        arm_faults(load(settings), armed)
    assert faults.active is not refused


async def test_without_it_nothing_of_it_is_there(dsn: str) -> None:
    arm_faults(SCRIPTED, {})
    assert not faults.active and abs((utc_now() - utc_now()).total_seconds()) < 1
    plain = Database(dsn)
    assert type(plain._connect) is Connector and plain._connect.kind is Connection


def test_a_clock_may_be_wrong() -> None:
    right = utc_now()
    faults.arm("clock=-90")
    assert timedelta(seconds=-91) < utc_now() - right < timedelta(seconds=-89)


@pytest.mark.parametrize("point", ["settle.sent", "settle.committed"])
async def test_a_statement_that_fails_was_made_and_its_reply_is_lost(dsn: str, point: str) -> None:
    faults.arm(f"{point}=fail:1")
    db = Database(dsn, connections=1)
    assert db._connect.kind is Interrupted
    Interrupted.steps = {statement("ensure_lane"): faults.STEPS["settle"]}  # any that is seen afterwards
    await db.open()
    try:
        await db.rows("unserved_lanes", ["live"])
        with pytest.raises(DatabaseLost, match="broke at"):
            await db.rows("ensure_lane", "scripted", "", "a-model")
        known = await db.rows("ensure_lane", "scripted", "", "a-model")
        assert len(known) == 1
    finally:
        await db.close()
