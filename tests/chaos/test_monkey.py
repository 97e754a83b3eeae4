"""The monkey's run (tests/chaos/monkey.py): a slice of it in CI, all of it in `make test-long`.

MONKEY_SEED, MONKEY_KILLS, MONKEY_CRASHES and MONKEY_MINUTES change either.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.monkey import Plan, play
from tests.chaos.processes import assert_gone
from tests.chaos.tally import CRASHES, KILLS, Fault, Tally, write


def plan(request: pytest.FixtureRequest, **of: Any) -> Plan:
    """As the environment and the command line say."""
    for name, kind in (("seed", int), ("kills", int), ("crashes", int), ("minutes", float)):
        if told := os.environ.get(f"MONKEY_{name.upper()}"):
            of[name] = kind(told)
    option = request.config.getoption
    return Plan(database_url=option("--database-url"), database_crash=option("--database-crash"), **of)


def run(made: Plan, directory: Path) -> Tally:
    text, wrong, tally = play(made, directory)
    print(text)
    assert not wrong, "\n".join([f"seed {made.seed}", *wrong, text])
    assert_gone(directory / "data")
    return tally


@pytest.mark.timeout(240)
def test_a_slice(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    done = run(plan(request, seed=6, kills=6, crashes=1, minutes=0.3, workers=3, ups=0, outstanding=60), tmp_path)
    assert done.count(*KILLS) > 0


@pytest.mark.long
@pytest.mark.timeout(5_400)
def test_a_thousand_kills_and_a_hundred_crashes(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    made = plan(request, seed=1, minutes=75.0)
    done = run(made, tmp_path)
    assert done.count(*KILLS) >= made.kills and done.with_work >= 0.9
    assert done.count(*CRASHES) >= made.crashes or made.database_url is not None


def test_the_table_counts_what_was_lost_and_when_all_was_settled(tmp_path: Path) -> None:
    """Of the judge itself: it must be able to say no."""
    tally = Tally()
    first = tally.add("worker killed", {"a", "b"}, leased=True, repeats=True)
    tally.add("worker killed", (), leased=False)
    assert (tally.count("worker killed"), tally.with_work, tally.leased) == (2, 0.5, 2)
    tally.look({"b", "c"})
    assert tally.open() == {"b"}
    tally.look({"c"})
    assert not tally.open()
    first.recovered = 1.25
    table = tally.table(lost={"b", "z"}, twice={"a"})
    assert "| `kill -9` of a worker | 2 | 2 | 1 | 1 | 1.2 s | 1.2 s |" in table
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- the monkey's table begins -->\nold\n<!-- the monkey's table ends -->\nbelow\n")
    write(page, "new\n")
    write(page, table)
    assert "old" not in page.read_text() and "new" not in page.read_text() and table in page.read_text()
    assert page.read_text().startswith("above\n") and page.read_text().endswith("below\n")
    assert Fault("power cut", ()).recovered == 0.0
