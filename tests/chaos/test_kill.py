"""Nothing lost, nothing settled twice, whatever is killed: workers, `restante up`, PostgreSQL, all of it at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from restante.core.pricing import STANDARD_FEE
from tests.chaos.processes import House, assert_gone, eventually, family, house, kill, lives, postmaster, workers
from tests.support import Http, open_account, task
from tests.support import look as look_with_pool


def priced(count: int, first: int = 1, directives: str = "") -> tuple[list[dict[str, Any]], int]:
    """Tasks that cost 1, 2, 3 ... nano-dollars beyond the fee, so that no two charges can be taken for each other;
    and what they cost together."""
    costs = range(first, first + count)
    tasks = [task(f"question {cost} [[cost={cost / 1e9:.9f}]] {directives}") for cost in costs]
    return tasks, sum(costs) + count * STANDARD_FEE


def account(of: House, login: str) -> tuple[str, str]:
    """A prepaid account with ten dollars."""
    return look_with_pool(of.data_dir, lambda db: open_account(db, login, "10"))


def calls(log: Path) -> Counter[tuple[int, str]]:
    """Calls of the scripted provider: (pid, task) -> how many."""
    lines = [msgspec.json.decode(line) for line in log.read_bytes().splitlines()] if log.exists() else []
    return Counter((line["pid"], line["task_id"]) for line in lines)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """`restante up --workers 0`; each test starts workers of its own and stops them."""
    directory = tmp_path_factory.mktemp("kill")
    settings = {"SCRIPTED_LATENCY": "2", "SCRIPTED_LOG": str(directory / "calls"), "LEASE_SECONDS": "2"}
    with house(directory, **settings) as made:
        up = made.up(workers=0)
        yield made
        assert up.stop() == 0, up.log
        assert_gone(made.data_dir)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path, LEASE_SECONDS="2") as made:
        yield made


@pytest.mark.long
def test_another_worker_takes_over_what_a_killed_one_held(shared: House) -> None:
    who = account(shared, "killed-worker")
    first, second = shared.worker("killed"), shared.worker("heir")
    second.signal(signal.SIGSTOP)  # so that the first one claims all of them
    tasks, spent = priced(200)
    ids = shared.post(tasks, who)
    shared.holds(first, 200)
    first.kill()
    second.signal(signal.SIGCONT)
    shared.settled()

    made = calls(shared.directory / "calls")
    assert {made[first.popen.pid, one] for one in ids} == {1}, "the first worker held and called all 200"
    assert {made[second.popen.pid, one] for one in ids} == {1}
    answers = shared.collect(ids, credentials=who)
    assert {entry["status_code"] for entry in answers.values()} == {20000}
    assert len({entry["result"][0]["items"][0]["sections"][0]["text"] for entry in answers.values()}) == 200
    assert shared.http(lambda http: http.get("tasks_ready"), who)["tasks"][0]["result"] in (None, [])
    assert "leases ended without a word" in second.log and "; 200 tasks, 0 deliveries are ready again" in second.log
    assert second.stop() == 0, second.log
    shared.assert_adds_up(ids, spent, who[0])


@pytest.mark.long
def test_a_worker_that_slept_through_its_lease_changes_nothing(shared: House) -> None:
    who = account(shared, "sleeper")
    sleeper = shared.worker("sleeper")
    tasks, spent = priced(100)
    ids = shared.post(tasks, who)
    shared.holds(sleeper, 100)
    sleeper.signal(signal.SIGSTOP)
    other = shared.worker("other")
    shared.settled()
    before = shared.sql("select * from transfer where kind = 3 order by task_id")
    assert other.stop() == 0, other.log

    sleeper.signal(signal.SIGCONT)
    sleeper.wait_for("late answer changed nothing|the lease ended before its heartbeat", log=True)
    sleeper.wait_for("the lease ended before its heartbeat", log=True)
    more, spent_more = priced(5, 1, "[[latency=0]]")
    ids += shared.post(more, who)
    shared.settled()
    after = shared.sql("select * from transfer where kind = 3 order by task_id")
    assert [row for row in after if str(row["task_id"]) not in ids[100:]] == before
    assert {calls(shared.directory / "calls")[sleeper.popen.pid, one] for one in ids[100:]} == {1}
    assert sleeper.stop() == 0, sleeper.log
    assert "Traceback" not in sleeper.log
    shared.assert_adds_up(ids, spent + spent_more, who[0])


def test_sigterm_drains_and_an_impatient_one_gives_back(shared: House) -> None:
    who = account(shared, "drained")
    patient = shared.worker("patient")
    tasks, spent = priced(30)
    ids = shared.post(tasks, who)
    shared.holds(patient, 30)
    assert patient.stop() == 0, patient.log
    rows = shared.sql("select state, attempts from task where id = any ($1::uuid[])", ids)
    assert Counter(tuple(row) for row in rows) == {(1, 1): 30}, "every call in flight was settled"

    hurried = shared.worker("hurried", DRAIN_SECONDS="0")
    tasks, more = priced(30)
    ids += shared.post(tasks, who)
    shared.holds(hurried, 30)
    assert hurried.stop() == 0, hurried.log
    rows = shared.sql("select state, token, lost, attempts from queue")
    assert Counter(tuple(row) for row in rows) == {(0, None, 0, 1): 30}, "given back, and not counted as lost"

    heir = shared.worker("next", SCRIPTED_LATENCY="0")
    shared.settled()
    assert heir.stop() == 0, heir.log
    shared.assert_adds_up(ids, spent + more, who[0])


@pytest.mark.long
def test_everything_is_killed_and_started_again(alone: House) -> None:
    alone.up(workers=2, SCRIPTED_LATENCY="2")
    tasks, spent = priced(200)
    ids = alone.post(tasks)
    alone.until("select count(*) = 200 from queue where token is not null")
    all_of_it = family(alone.data_dir)
    assert len(all_of_it) > 8, all_of_it  # up, two workers, the postmaster and its children
    kill(all_of_it)
    eventually("the end of all", lambda: not any(map(lives, all_of_it)), 15)

    again = alone.up("again", workers=2, SCRIPTED_LATENCY="2")
    alone.settled()
    answers = alone.collect(ids)
    assert {entry["status_code"] for entry in answers.values()} == {20000}
    alone.assert_adds_up(ids, spent)
    assert again.stop() == 0, again.log
    assert_gone(alone.data_dir, all_of_it)


@pytest.mark.long
def test_postgresql_killed_under_load_comes_back_by_itself(alone: House) -> None:
    up = alone.up(workers=1)
    quick, spent = priced(250, 1, "[[latency=0.1]]")
    slow, more = priced(150, 251, "[[latency=1.5]]")
    ids = alone.post([*slow, *quick])
    alone.until("select count(*) > 20 from task where state = 1")
    first = postmaster(alone.data_dir)
    os.kill(first.pid, signal.SIGKILL)

    async def ask(http: Http) -> set[int]:
        """What the API says meanwhile."""
        said = set()
        async with asyncio.timeout(60):
            while True:
                status, answer = await http.send("GET", "tasks_ready")
                said.add(answer["status_code"])
                if answer["status_code"] == 20000 and not lives(first):
                    return said
                assert status in (200, 500), (status, answer)

    assert alone.http(ask) <= {20000, 50000}
    answers = alone.collect(ids)  # not look(): that would start the server itself
    assert {entry["status_code"] for entry in answers.values()} == {20000}
    assert lives(postmaster(alone.data_dir)) and postmaster(alone.data_dir) != first
    alone.assert_adds_up(ids, spent + more)
    assert up.stop() == 0, up.log
    assert "Exception in ASGI" not in up.log and "a background loop broke" not in up.log
    assert_gone(alone.data_dir)


def test_up_replaces_a_killed_worker_and_a_killed_up_leaves_nothing(alone: House) -> None:
    up = alone.up(workers=1)
    up.wait_for("the worker serves", log=True)
    [worker] = workers(alone.data_dir)
    os.kill(worker.pid, signal.SIGKILL)
    up.wait_for(r"a worker ended \(exit code -9\)", log=True)
    up.wait_for(r"(?s)the worker serves.*the worker serves", log=True)
    tasks, spent = priced(20, 1, "[[latency=1]]")
    ids = alone.post(tasks)
    alone.until("select count(*) = 20 from queue where token is not null")
    everything = family(alone.data_dir)
    up.kill()
    assert_gone(alone.data_dir, everything, 40)
    assert "draining: 20 calls" in up.log, up.log
    assert {row["attempts"] for row in alone.sql("select attempts from task")} == {1}
    alone.assert_adds_up(ids, spent)
    assert_gone(alone.data_dir)


@pytest.mark.long
def test_postgresql_killed_again_and_again(alone: House) -> None:
    """Its main process or one connection's, each killed five times amid claims, settlements and calls put off."""
    up = alone.up(workers=2)
    ids: list[str] = []
    spent = 0
    for turn in range(10):
        tasks, cost = priced(100, 1 + 100 * turn, "[[latency=0.2]]" if turn % 3 else "[[fail_times=1]]")
        ids += alone.post(tasks)
        spent += cost
        alone.until("select count(*) > 10 from queue where token is not null or state = 1")
        server = postmaster(alone.data_dir)
        backends = sorted(one for one in family(alone.data_dir) if "postgres: restante restante" in one.command)
        victim = server if turn % 2 else backends[turn % len(backends)]
        os.kill(victim.pid, signal.SIGKILL)

        async def answers(http: Http) -> None:
            async with asyncio.timeout(60):
                while (await http.send("GET", "tasks_ready"))[1]["status_code"] != 20000:
                    await asyncio.sleep(0.05)

        eventually("its end", lambda: not lives(victim))  # noqa: B023
        alone.http(answers)
    found = alone.collect(ids, 100)
    assert {entry["status_code"] for entry in found.values()} == {20000}
    alone.assert_adds_up(ids, spent)
    assert up.stop() == 0, up.log
    assert "Exception in ASGI" not in up.log and "a background loop broke" not in up.log
    assert_gone(alone.data_dir)


@pytest.mark.long
def test_a_database_that_hangs_longer_than_a_lease_costs_no_call(shared: House) -> None:
    """Nobody's heart could be heard: whoever looks first must not take the others for dead."""
    who = account(shared, "hanging")
    each = [shared.worker(f"hanging{number}", CONCURRENCY="50") for number in range(3)]
    tasks, spent = priced(150, 1, "[[latency=6]]")
    ids = shared.post(tasks, who)
    for one in each:
        shared.holds(one, 50)
    main = postmaster(shared.data_dir)
    backends = [main, *(one for one in family(shared.data_dir) if one.command.startswith("postgres: "))]
    assert len(backends) > 6
    for backend in backends:
        os.kill(backend.pid, signal.SIGSTOP)
    time.sleep(3.5)  # longer than a lease: that is what is tested
    for backend in backends:
        with contextlib.suppress(ProcessLookupError):
            os.kill(backend.pid, signal.SIGCONT)
    shared.settled()
    made = calls(shared.directory / "calls")
    assert Counter(task_id for _, task_id in made.elements() if task_id in ids) == dict.fromkeys(ids, 1)
    for one in each:
        assert one.stop() == 0, one.log
        assert "the lease ended before its heartbeat" not in one.log
    shared.assert_adds_up(ids, spent, who[0])
