"""Batches of real processes against the emulator: half the price, whatever is killed or goes wrong on the way.

Google bills what it executes: `executed` counts a batch's calls by task, `direct` the calls made one by one.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from restante.core.money import parse_usd
from restante.core.pricing import STANDARD_FEE
from tests.chaos.processes import House, eventually, house
from tests.emulators.batches import EXPIRES, FAILS, HALF_FAILS, HANGS, Gate
from tests.emulators.gemini import Fault, GeminiEmulator
from tests.gemini.conftest import settings
from tests.support import Process, task

MODELS = ("gemini-2.5-flash", "gemini-2.5-flash-lite", "gemini-2.5-pro", "gemini-3.6-flash")
USAGE = "[[usage=120,800,300]]"  # gemini-2.5-flash: $0.002786, in a batch $0.001393


class Post:
    """An installation whose batches take a minute at the most: what waits a day elsewhere, waits seconds here."""

    def __init__(self, home: House, google: GeminiEmulator) -> None:
        self.home, self.google = home, google
        self._workers = 0
        up = home.start("up", "up", "--provider", "gemini", "--workers", "0")
        home.url = up.wait_for(r"up at (http://\S+)")[1]
        self.first_request = len(google.requests)

    def worker(self) -> Process:
        self._workers += 1
        process = self.home.start(f"worker{self._workers}", "worker", "--provider", "gemini")
        process.wait_for("the worker serves", log=True)
        return process

    def run(self, *arguments: str) -> str:
        self._workers += 1
        process = self.home.start(f"command{self._workers}", *arguments)
        assert process.wait() == 0, process.log
        return process.stdout

    def seen(self) -> int:
        """Requests that Google had since the start."""
        return len(self.google.requests) - self.first_request

    def direct(self) -> Counter[str]:
        """Direct calls by their questions."""
        calls = [one for one in list(self.google.requests)[self.first_request :] if ":generateContent" in one.path_qs]
        return Counter(call.body["contents"][-1]["parts"][-1]["text"] for call in calls)

    def collect(self, ids: list[str], seconds: float = 90.0) -> dict[str, Any]:
        """All answers; the money adds up to them."""
        self.home.settled(seconds)
        answers = self.home.collect(ids)
        assert {entry["status_code"] for entry in answers.values()} == {20000}, answers
        prices = [entry["result"][0]["money_spent"] for entry in answers.values()]
        spent = sum(parse_usd(f"{price:.9f}") + STANDARD_FEE for price in prices)
        self.home.assert_adds_up(ids, spent)
        return answers


@pytest.fixture
def post(tmp_path: Path, google: GeminiEmulator, request: pytest.FixtureRequest) -> Iterator[Post]:
    late = getattr(request, "param", 40.0)  # seconds
    batches = google.batches
    batches.__init__(batches._run, batches._url)  # type: ignore[misc]
    quick = {"GEMINI_BATCH": "after:0.02", "GEMINI_BATCH_HOURS": str(late / 3_600), "LEASE_SECONDS": "1"}
    with house(tmp_path, **settings(google), **quick) as home:
        yield Post(home, google)
        for gate in batches.gates.values():
            gate.opened.set()


def test_tokens_at_half_the_price_and_searches_at_all_of_it(post: Post) -> None:
    plain, searched = post.home.post([task(f"plain {USAGE}"), task(f"searched {USAGE}", web_search=True)])
    worker = post.worker()
    answers = post.collect([plain, searched])
    assert answers[plain]["result"][0]["money_spent"] == 0.001393
    assert answers[searched]["result"][0]["money_spent"] == 0.036393  # $0.035 of it is the search
    assert post.google.batches.executed == {plain: 1, searched: 1} and not post.direct()
    saved = post.run("ledger", "receipt", "operator", plain)
    assert "batch saved\t0.001393" in saved and "charged\t0.001593" in saved
    [row] = post.run("batch", "list").splitlines()
    assert row.split("\t")[1:8] == ["gemini-2.5-flash", "over: SUCCEEDED", "2", "2", "0", "0", "0.002786"]
    assert post.run("task", "raw", plain, "--url", post.home.url).startswith('{"modelVersion"')

    live = post.home.http(lambda http: http.post([task(f"now {USAGE}")], "live"))["tasks"][0]
    assert live["result"][0]["money_spent"] == 0.002786, "live never waits for a batch"
    assert worker.stop() == 0, worker.log


@pytest.mark.long
@pytest.mark.parametrize("point", ["upload", "create", "made"])
def test_killed_while_a_batch_is_asked_for(post: Post, point: str) -> None:
    gate = post.google.batches.gates[point] = Gate()
    ids = post.home.post([task(f"question {number} {USAGE}") for number in range(101)])  # too many to go inline
    first = post.worker()
    assert gate.reached.wait(30), first.log
    first.signal(signal.SIGKILL)
    first.wait()
    gate.opened.set()  # what was on its way to Google is done, though nobody hears of it
    second = post.worker()
    post.collect(ids)
    batches = post.google.batches
    assert batches.executed == dict.fromkeys(ids, 1) and not post.direct()
    assert len(batches.made) == 1
    eventually("Google to be told to forget it", lambda: batches.made[0].deleted)
    assert ("was made after all" in second.log) == (point != "upload"), second.log


@pytest.mark.long
def test_a_batch_that_nobody_saw_made_and_was_not_is_asked_for_again(post: Post) -> None:
    post.google.batches.refusals.append(Fault(500).response())
    post.google.batches.refusals.append(Fault(429).response())
    ids = post.home.post([task(f"question {number} {USAGE}") for number in range(3)])
    worker = post.worker()
    post.collect(ids)
    assert post.google.batches.executed == dict.fromkeys(ids, 1) and not post.direct()
    assert "it is asked for again" in worker.log and "is put off" in worker.log


@pytest.mark.long
@pytest.mark.parametrize("post", [15.0], indirect=True)
def test_what_a_batch_does_not_answer_is_called_directly(post: Post) -> None:
    fates = [EXPIRES, FAILS, HALF_FAILS, HANGS]
    post.google.batches.fates.extend(fates)
    tasks = [task(f"question {n} {USAGE}", model_name=model) for model in MODELS for n in range(8)]
    ids = post.home.post(tasks)
    lost = post.home.post([task(f"lost {USAGE} [[lost]]", model_name=MODELS[0])])
    worker = post.worker()
    answers = post.collect(ids + lost)
    executed, direct = post.google.batches.executed, post.direct()
    fell = {one for one in ids if one not in executed}
    assert sum(executed.values()) + sum(direct.values()) >= len(ids)
    assert sorted(direct.values()) and sum(direct[f"question {n} {USAGE}"] for n in range(8)) == len(fell)
    assert all(executed[one] == 1 for one in ids if one not in fell)
    assert len([one for one in ids if one in executed]) == 4 + 4, "half of the half, half of the one that was late"
    halves = [one for one in ids if one in executed and answers[one]["result"][0]["model_name"] == MODELS[0]]
    assert all(answers[one]["result"][0]["money_spent"] == 0.001393 for one in halves)
    assert "is late" in worker.log


def test_cancelling_takes_tasks_out_of_their_batch(post: Post) -> None:
    post.google.batches.takes = 3_600.0
    kept, left = post.home.post([task(f"kept {USAGE}"), task(f"left {USAGE}", tag="leaves")])
    worker = post.worker()
    eventually("the batch", lambda: bool(post.google.batches.made))
    assert post.run("task", "cancel", "--tag", "leaves", "--url", post.home.url).strip() == left
    post.google.batches.made[0].ends_at = 0.0
    post.home.settled()
    answers = post.home.collect([kept, left])
    assert (answers[kept]["status_code"], answers[left]["status_code"]) == (20000, 40103), answers
    assert answers[left]["cost"] == 0
    assert post.google.batches.executed == {kept: 1, left: 1}, "Google was not asked to leave one out"
    post.home.audit()
    assert worker.stop() == 0


def storm(post: Post, count: int, seed: int) -> None:
    """Proof 6: a worker killed at three random moments; one batch expires, one half fails."""
    chance = random.Random(seed)
    post.google.batches.fates.extend(chance.sample([EXPIRES, HALF_FAILS, HALF_FAILS, HALF_FAILS][:2], 2))
    post.google.batches.takes = 1.0
    tasks = [
        task(f"question {model} {number} {USAGE}", model_name=model) for model in MODELS for number in range(count // 4)
    ]
    ids = post.home.post(tasks)
    for _ in range(3):
        worker = post.worker()
        until = post.seen() + chance.randint(2, 24)
        eventually("the moment", lambda: post.seen() >= until or worker.popen.poll() is not None)  # noqa: B023
        worker.signal(signal.SIGKILL)
        worker.wait()
    last = post.worker()
    answers = post.collect(ids)
    executed, direct = post.google.batches.executed, post.direct()
    assert set(executed.values()) == {1}, "no batch was made twice"
    fell = [one for one in ids if one not in executed]
    assert count // 4 <= len(fell) <= count * 3 // 4, "those of the batch that expired and half of another"
    questions = dict(zip(ids, (one["user_prompt"] for one in tasks), strict=True))
    assert direct.keys() == {questions[one] for one in fell}, "what a batch answered is called by nobody else"
    rows = post.home.sql("select id::text as id, charged, batch_saved from task")
    by_batch = {row["id"] for row in rows if row["batch_saved"] is not None}
    assert by_batch == set(executed)
    assert all(row["charged"] - STANDARD_FEE == row["batch_saved"] > 0 for row in rows if row["id"] in by_batch)
    [saved] = post.home.sql("select sum(saved) as saved, sum(answered) as answered from batch")
    assert (saved["saved"], saved["answered"]) == (sum(row["batch_saved"] or 0 for row in rows), len(executed))
    assert len(answers) == count and last.stop() == 0


def test_storm(post: Post) -> None:
    storm(post, 120, seed=1)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_storm_of_a_thousand(post: Post, seed: int) -> None:
    storm(post, 1_000, seed)
