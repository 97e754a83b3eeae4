"""A worker struck between a batch's steps: Google executes each call once, and each task is settled once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from restante.faults import Kind, Point
from tests.chaos.processes import house
from tests.chaos.test_faults import BATCHES, struck
from tests.emulators.gemini import GeminiEmulator
from tests.gemini.conftest import settings
from tests.gemini.test_batch import USAGE, Post
from tests.support import task

#: Writes of one batch: that it is asked for, that it runs, and a look or two.
STRUCK = [(Point.BATCH_MADE, 1)] + [(point, nth) for point in BATCHES[:2] for nth in (1, 2, 3)]


@pytest.fixture
def post(tmp_path: Path, google: GeminiEmulator) -> Iterator[Post]:
    batches = google.batches
    batches.__init__(batches._run, batches._url)  # type: ignore[misc]
    quick = {"GEMINI_BATCH": "after:0.02", "GEMINI_BATCH_HOURS": str(40 / 3_600), "LEASE_SECONDS": "1"}
    with house(tmp_path, **settings(google), **quick) as home:
        yield Post(home, google)


@pytest.mark.long
@pytest.mark.parametrize("kind", list(Kind), ids=str)
@pytest.mark.parametrize(("point", "nth"), STRUCK, ids=str)
def test_a_worker_is_struck_at_a_batch(post: Post, point: Point, nth: int, kind: Kind) -> None:
    ids = post.home.post([task(f"question {number} {USAGE}") for number in range(101)])  # too many to go inline
    victim = post.home.start("victim", "worker", "--provider", "gemini", FAULTS=f"{point}={kind}:{nth}")
    struck(victim, point, kind)
    heir = None if kind == Kind.FAIL else post.worker()
    post.collect(ids)
    batches = post.google.batches
    assert batches.executed == dict.fromkeys(ids, 1) and not post.direct()
    assert len(batches.made) == 1
    if kind != Kind.DIE:
        victim.signal(signal.SIGCONT)
        assert victim.stop() == 0, victim.log
    assert heir is None or heir.stop() == 0
