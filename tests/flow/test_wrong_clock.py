"""A process whose clock is days from the database's takes nothing in: its days would be forgotten at a wrong time."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from restante.core.money import Nano
from restante.core.task import Model, Prompt
from restante.flow import accounts
from restante.flow.accept import Acceptor, Judged, Waker
from restante.flow.expire import keep_days
from restante.flow.lease import Lease
from restante.flow.live import Live
from restante.store.database import Database
from restante.store.errors import WrongClock
from restante.wiring import utc_now
from tests.flow.conftest import Shop
from tests.support import COMMAND, differences, environment

MODEL = Model(name="gemini-2.5-flash", served="gemini-2.5-flash", provider="scripted")
WRONG = {
    "no battery": lambda: datetime(1970, 1, 1, 0, 0, 7, tzinfo=UTC),
    "an old snapshot": lambda: utc_now() - timedelta(days=200),
    "a year ahead": lambda: utc_now() + timedelta(days=365),
}
wrong = pytest.mark.parametrize("clock", WRONG.values(), ids=WRONG.keys())


async def days(db: Database) -> list[str]:
    return [row["name"] for row in await db.rows("old_days", "task", date.max)]


@wrong
async def test_nothing_is_accepted_by_it(shop: Shop, db: Database, clock: Callable[[], datetime]) -> None:
    before = await days(db)
    acceptor = Acceptor(db, Waker(db), clock)
    with pytest.raises(WrongClock, match=f"date is {clock().date()}"):
        await acceptor.accept(shop.id, [Judged(MODEL, None, b'{"user_prompt":"hi"}')])
    lease = Lease(db, "an api", 60.0)
    await lease.begin()
    _, outcome, cost = await Live(db, lease, [], shop.settler, clock).ask(
        shop.id, MODEL, Prompt(user_prompt="hi", model_name=MODEL.name)
    )
    await lease.end()
    assert (getattr(outcome, "code", None), cost) == (50000, 0)
    with pytest.raises(WrongClock):
        await accounts.top_up(db, "shop", Nano(10**9), clock())
    assert await days(db) == before
    assert (await shop.account()).balance == 10 * 10**9
    assert not await differences(db)
    assert await shop.post("what others take in goes on")


@wrong
async def test_it_prepares_no_days(
    db: Database, clock: Callable[[], datetime], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def once(_: float, db: Database, work: Callable[[], Awaitable[None]]) -> None:
        await work()

    monkeypatch.setattr("restante.flow.expire._every", once)
    before = await days(db)
    with pytest.raises(WrongClock):
        await keep_days(db, clock)
    assert await days(db) == before


async def test_days_that_have_tasks_get_what_they_lack(db: Database) -> None:
    """What settles an old task stands under the task's day, however long ago that is."""
    old = utc_now().date() - timedelta(days=40)
    await db.prepare_days(old)
    await db._on.execute(f"drop table transfer_{old:%Y%m%d}")
    await db.prepare_today(old, or_kept=True)
    assert await db._on.fetchval("select to_regclass($1) is not null", f"transfer_{old:%Y%m%d}")
    with pytest.raises(WrongClock):
        await db.prepare_today(old)


@pytest.mark.parametrize("off", [-25, 25])
async def test_a_process_with_a_wrong_clock_does_not_start(dsn: str, tmp_path: Path, off: int) -> None:
    """Though there are partitions of its day, which would leave in five days."""
    env = environment(tmp_path, DATABASE_URL=dsn, PROVIDER="scripted", FAULTS=f"clock={off * 86_400}")
    done = await asyncio.to_thread(
        subprocess.run, [*COMMAND, "api"], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "The clocks are days apart: this host's date is" in done.stderr
    assert "Set both hosts' clocks right (NTP)" in done.stderr
    assert "Traceback" not in done.stderr
