"""The console on a database with 1,000,000 tasks: what its pages take of the server, and a walk through them.

Figures are printed: `pytest tests/console/test_million.py -s`. What must hold is issue 7's: p95 below 150 ms.
"""

from __future__ import annotations

import asyncio
import re
import statistics
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from bench import loading
from restante.flow import accounts
from restante.store import queue
from restante.store.database import Database
from restante.store.embedded_postgres import EmbeddedPostgres
from restante.wiring import utc_now
from tests.console.rehearsal import rehearse
from tests.console.visiting import visitor
from tests.console.walking import CHROMIUM, WITHOUT, Walker, chromium
from tests.support import OPERATOR, Restante, open_account

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

TASKS: Final = 1_000_000
DAYS: Final = 5  # four past ones and today
QUEUED: Final = 50_000
CALLS: Final = 20  # of each page
P95_MS: Final = 150.0
_DURATION: Final = re.compile(r"dur=([0-9.]+)")


async def _load(dsn: str) -> list[str]:
    """The tasks of three accounts; the logins."""
    db = Database(dsn)
    await db.open()
    opened = [(await open_account(db, f"tracker-{n}@example.org", "100000"))[0] for n in range(3)]
    numbers = [(await accounts.find(db, login)).id for login in opened]
    lane = await queue.ensure_lane(db, "nobody", "", "gemini-2.5-flash")  # which nobody serves: they stay
    now = utc_now()
    for back in range(DAYS - 1, -1, -1):
        await db.prepare_days(now.date() - timedelta(days=back))
    await db.close()
    connection = await asyncpg.connect(dsn)
    try:
        each = (TASKS - QUEUED) // DAYS
        await connection.execute(f"alter table task alter lane set default {lane}")
        for back in range(DAYS - 1, 0, -1):
            await loading.finished(connection, numbers, now.date() - timedelta(days=back), each, uncollected=each // 10)
        passed = max(60.0, (now - now.replace(hour=0, minute=0, second=0)).total_seconds())
        await loading.finished(connection, numbers, now.date(), each, uncollected=each // 10, seconds=passed)
        await loading.queued(connection, numbers, now.date(), QUEUED, [lane], first=each, seconds=passed)
        await connection.execute("alter table task alter lane drop default")
        await loading.settled_down(connection)
    finally:
        await connection.close()
    return opened


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Restante, list[str], dict[str, str]]]:
    """A restante with such a past, the logins of its accounts, and a rehearsal's tasks on top."""
    up = Restante(tmp_path_factory.mktemp("million"), "--provider", "scripted")
    try:
        with EmbeddedPostgres(up.data_dir) as server:
            logins = asyncio.run(_load(server.dsn))
        yield up, logins, asyncio.run(rehearse(up.family, OPERATOR))
        assert up.stop() == 0
    finally:
        up.process.kill()


def _pages(logins: list[str], ids: dict[str, str]) -> dict[str, str]:
    each = (TASKS - QUEUED) // DAYS
    return {
        "overview": "/",
        "overview of an account": f"/?account={logins[0]}",
        "tasks": "/tasks",
        "tasks of an account": f"/tasks?account={logins[1]}",
        "tasks, done": "/tasks?state=done",
        "tasks, failed (rare)": "/tasks?state=failed",
        "tasks, queued": "/tasks?state=queued",
        "tasks, running": "/tasks?state=running",
        "tasks by a tag of today": f"/tasks?tag=t{each // 2}",
        "tasks by a tag that nobody has": "/tasks?tag=nobody",
        "tasks by model": "/tasks?model=gemini-2.5-flash",
        "tasks by a model of an account": f"/tasks?model=gemini-2.5-flash&account={logins[2]}&time=7d",
        "tasks, live (rare)": "/tasks?kind=live",
        "task": f"/tasks/{ids['searched']}",
        "task, retried": f"/tasks/{ids['retried']}",
    }


async def test_what_pages_take(million: tuple[Restante, list[str], dict[str, str]]) -> None:
    up, logins, ids = million
    pages = _pages(logins, ids)
    everything: list[float] = []
    browser = await visitor(up.url)
    async with browser:
        for name, path in pages.items():
            took = []
            for _ in range(CALLS):
                answered = await browser.get(path)
                assert answered.status == 200, (path, answered)
                found = _DURATION.search(answered.headers["Server-Timing"])
                assert found is not None
                took.append(float(found[1]))
            everything += took
            print(f"{name:32} median {statistics.median(took):7.1f} ms, p95 {_p95(took):7.1f} ms")
        deep, where = [], "/tasks.json"
        for _ in range(CALLS):  # page after page
            answered = await browser.get(where)
            deep.append(float(_DURATION.search(answered.headers["Server-Timing"])[1]))  # type: ignore[index]
            where = answered.json["older"].removeprefix("/console").replace("/tasks", "/tasks.json", 1)
        print(f"{'tasks, page after page':32} median {statistics.median(deep):7.1f} ms, p95 {_p95(deep):7.1f} ms")
    print(f"{'all':32} median {statistics.median(everything):7.1f} ms, p95 {_p95(everything + deep):7.1f} ms")
    assert _p95(everything + deep) < P95_MS


def _p95(values: list[float]) -> float:
    return sorted(values)[int(0.95 * (len(values) - 1))]


@pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT)
def test_the_walk(million: tuple[Restante, list[str], dict[str, str]], tmp_path: Path) -> None:
    up, logins, ids = million
    with chromium() as browser:
        walker = Walker(browser, up.url)
        walker.log_in(*OPERATOR)
        for path in _pages(logins, ids).values():
            walker.open(path)
            assert not walker.barriers(), path
        assert walker.complaints == []
        walker.close()
