"""Many calls in flight in one worker process: what they take in time and memory (issue 4, proof 4)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.chaos.processes import House, assert_gone, house
from tests.support import task

SECONDS = 3.0  # that each call takes


@pytest.fixture
def google() -> Iterator[str]:
    """The emulator in a process of its own, as Google is; its URL."""
    command = [sys.executable, "-m", "tests.emulators.gemini", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().rpartition(" at ")[2].strip()
    finally:
        process.terminate()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def pss(pid: int) -> float:
    """A process's own share of the memory it uses, in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1_024


async def _peak(pid: int, done: asyncio.Event) -> float:
    most = 0.0
    while not done.is_set():
        most = max(most, await asyncio.to_thread(pss, pid))
        await asyncio.sleep(0.1)  # a measure is taken, not an event awaited
    return most


def fly(made: House, google: str, tasks: int) -> tuple[float, int, float]:
    """So many tasks through one worker: the seconds from the first start to the last settlement, how many Google saw at
    once, and the worker's memory at its highest, in MB."""
    made.env |= {
        "GEMINI_API_KEY": "a-key", "RESTANTE_GEMINI_BASE_URL": google, "RESTANTE_CONCURRENCY": str(tasks),
    }  # fmt: skip
    up = made.start("up", "up", "--workers", "0")
    made.url = up.wait_for(r"up at (http://\S+)")[1]
    made.post([task(f"question {number} [[slow={SECONDS}]] [[text=An answer.]]") for number in range(tasks)])
    worker = made.start("worker", "worker")
    worker.wait_for("the worker serves", log=True)

    async def measure() -> tuple[float, float, int]:
        done = asyncio.Event()
        peak = asyncio.create_task(_peak(worker.popen.pid, done))
        await asyncio.to_thread(made.settled, 60.0)
        done.set()
        async with aiohttp.ClientSession() as session, session.get(f"{google}/emulator") as response:
            flight = await response.json()
        return await peak, flight["first_at"], flight["most"]

    memory, first_at, most = asyncio.run(measure())
    [row] = made.sql(
        "select extract(epoch from max(settled_at))::float8 as last, count(*) filter (where code = 20000) as answered"
        " from task"
    )
    assert row["answered"] == tasks
    made.audit()
    assert worker.stop() == 0
    assert up.stop() == 0
    assert_gone(made.data_dir)
    print(f"{tasks} tasks: {row['last'] - first_at:.2f} s, {most} at once, {memory:.0f} MB")
    return row["last"] - first_at, most, memory


def test_two_hundred_at_once(tmp_path: Path, google: str) -> None:
    with house(tmp_path) as made:
        took, most, memory = fly(made, google, 200)
    assert most == 200
    assert took < 10 * SECONDS  # one after the other they would take 600 s
    assert memory < 250


@pytest.mark.long
def test_two_thousand_at_once(tmp_path: Path, google: str) -> None:
    with house(tmp_path) as made:
        took, most, memory = fly(made, google, 2_000)
    assert most == 2_000
    assert took < 1.5 * SECONDS
    assert memory < 250
