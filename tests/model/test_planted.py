"""The machine finds bugs: each of these is planted in what runs, one at a time, and found within a bounded number of
examples. What the machine cannot find it does not guard."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from restante.core.money import Nano
from restante.core.pricing import STANDARD_HOLD, charge
from restante.flow import settle
from restante.store import database
from tests.model.leaving import Machine
from tests.model.test_model import COMMON

EXAMPLES = 300  # it stops at the first that finds it; which one that is changes with the code
Plant = Callable[[pytest.MonkeyPatch], None]


def statement(name: str, *changes: tuple[str, str]) -> Plant:
    """Another SQL statement than the one that was meant."""
    text = database.statement(name)
    for meant, planted in changes:
        assert meant in text, f"{name}.sql does not say {meant!r} any more"
        text = text.replace(meant, planted)

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        meant = database.statement
        monkeypatch.setattr(database, "statement", lambda asked: text if asked == name else meant(asked))

    return plant


def no_refund(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the model did not use of the hold is kept."""
    monkeypatch.setattr(settle, "charge", lambda fee, spent: Nano(max(charge(fee, spent), STANDARD_HOLD)))


PLANTED: Sequence[tuple[str, Plant]] = (
    ("the rest of a hold is not refunded", no_refund),
    (
        "a lease that ended settles",
        statement(
            "settle",
            ("where q.id = i.id and q.token = $1 limit 1", "where q.id = i.id and q.state = 2 limit 1"),
            ("where q.ctid = i.tid and q.token = $1 and q.day", "where q.ctid = i.tid and q.day"),
        ),
    ),
    (
        "a task with a pingback is not listed",
        statement("settle", ("(select id from owed where kind = 2)", "(select id from owed)")),
    ),
    (
        "a fetched task is listed by a late failure",
        statement("record_attempts", ("attempts = 1 and not collected\n    on", "attempts = 1\n    on")),
    ),
    (
        "a late listing does not lower the mark",
        statement(
            "record_attempts",
            ("set seq = least(m.seq, (select l.seq from late l where l.account_id = m.account_id)), ", "set "),
        ),
    ),
    ("a top-up wakes a paused account's tasks", statement("wake_paid", (" and not paused)", ")"))),
    ("webhooks of the dead stay leased", statement("free_deliveries", ("token = any ($1)", "false"))),
    ("a debtor is handed the answer", statement("collect", ("(c.balance < -c.credit_limit) is true", "false"))),
    (
        "a resend during an attempt is lost",
        statement(
            "record_attempts", ("when d.attempts < i.before then 1 when i.pause is null", "when i.pause is null")
        ),
    ),
    ("cancelling ends what runs", statement("take", ("q.state in (0, 1) and", "q.state in (0, 1, 2) and"))),
)


@pytest.mark.long
@pytest.mark.timeout(1_800)
@pytest.mark.breaks_invariants
@pytest.mark.parametrize(("what", "plant"), PLANTED, ids=[what for what, _ in PLANTED])
def test_a_planted_bug_is_found(
    machine: type[Machine], monkeypatch: pytest.MonkeyPatch, what: str, plant: Plant
) -> None:
    plant(monkeypatch)
    once = settings(
        COMMON, max_examples=EXAMPLES, phases=[Phase.generate], derandomize=True, report_multiple_bugs=False
    )
    with pytest.raises(Exception, match=r".") as found:
        run_state_machine_as_test(machine, settings=once)
    monkeypatch.undo()
    assert not isinstance(found.value, OSError), found.value
