"""What is easily wrong about figures: medians, ratios of pairs, which targets are met, what the page says."""

from __future__ import annotations

import pytest
from bench.__main__ import MEASURES
from bench.book import Taken, page
from bench.report import Goal, Round, Row, cpu, medians, missing, percentile, targets, verdict

from bench import peers


def row(*figures: float, goals: list[Goal] | None = None, name: str = "a row") -> Row:
    rounds = [Round(figure=one, tasks=100, cpu={"API": 0.001}, fdatasync_ms=0.1, others=0.0) for one in figures]
    return Row(name=name, unit="tasks/s", rounds=rounds, goals=goals or [])


def test_a_ratio_is_the_median_of_the_rounds_that_ran_beside_each_other() -> None:
    """Not the ratio of medians, which would be 2.0: the machine was slow for everybody in the third round."""
    assert medians(row(100, 200, 30), row(50, 200, 10)) == 2.0
    assert medians(row(100, 200, 30), row(50, 100, 30)) == 2.0
    assert medians(row(10, 40, 300), row(10, 10, 100)) == 3.0


def test_rows_of_different_lengths_have_no_ratio() -> None:
    with pytest.raises(ValueError, match="zip"):
        medians(row(1, 2), row(1))


@pytest.mark.parametrize(
    ("goals", "said"),
    [
        ([], ""),
        ([Goal(bound=20)], "yes"),
        ([Goal(bound=21)], "no"),
        ([Goal(bound=19, at_most=True)], "no"),
        ([Goal(bound=20), Goal(what="p99", bound=5, at_most=True, measured=5.1)], "no: p99"),
        ([Goal(bound=20), Goal(what="p99", bound=5, at_most=True, measured=4.9)], "yes"),
        ([Goal(bound=30), Goal(what="times Celery", bound=3, measured=2.0)], "no: the figure, times Celery"),
    ],
)
def test_which_targets_are_met(goals: list[Goal], said: str) -> None:
    assert verdict(row(10, 20, 30, goals=goals)) == said


def test_what_was_not_measured_meets_nothing() -> None:
    gone = missing("  Celery", "celery cannot be installed\nand much more")
    gone.goals = [Goal(bound=0)]
    assert verdict(gone) == ""
    assert gone.note == "not measured: celery cannot be installed"
    assert cpu(gone) == ""


def test_cpu_is_per_task_over_all_rounds() -> None:
    assert cpu(row(1, 2)) == "API 10"


def test_percentiles_are_figures_that_were_met() -> None:
    assert percentile([float(n) for n in range(1, 101)], 95) == 96
    assert percentile([7.0], 95) == 7


def test_the_page_shows_targets_verdicts_and_what_is_missing() -> None:
    fast = row(10, 30, 20, goals=[Goal(bound=25)], name="end to end")
    taken = Taken(name="queues", rows=[fast, missing("  Celery", "no registry")], at="now", machine="2 cores", cut=True)
    text = page([taken], ["queues"])
    assert "| end to end | ≥ 25.00 | 20.00 tasks/s | no |  | 10.00 30.00 20.00 |" in text
    assert "| &ensp;Celery |  | not measured: no registry |  |  |  |" in text
    assert "not to be quoted" in text
    assert "![queues](benchmarks/queues.png)" in text
    assert targets(fast) == ">= 25.00"


def test_no_peer_is_installed_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("RESTANTE_BENCH_CACHE", str(tmp_path))
    with pytest.raises(peers.Missing, match="--peers installs it"):
        peers.python("celery")


def test_make_bench_is_the_first_three() -> None:
    assert [name for name, one in MEASURES.items() if one.first] == ["accept", "end-to-end", "start"]
