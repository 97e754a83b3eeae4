"""A process whose clock is far from the database's writes nothing by it: others would forget it at a wrong time."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from starlette.requests import Request

from restante.config import load
from restante.core.limits import CLOCK_APART_SECONDS
from restante.core.money import Nano
from restante.core.task import Model, Prompt
from restante.flow import accounts
from restante.flow.accept import Acceptor, Judged, Waker
from restante.flow.end import cancel
from restante.flow.erase import erase
from restante.flow.expire import keep_days
from restante.flow.lease import Lease
from restante.flow.live import Live
from restante.flow.settle import Settler
from restante.store.database import Database
from restante.store.errors import WrongClock
from restante.web.health import Health
from restante.web.wire import postback
from restante.wiring import background, database, utc_now
from tests.flow.conftest import Clock, Shop, until
from tests.flow.test_run import Odd, finished, working
from tests.flow.test_settle import success
from tests.support import COMMAND, differences, environment

MODEL = Model(name="gemini-2.5-flash", served="gemini-2.5-flash", provider="scripted")
SOME = timedelta(minutes=1)
BOUND = timedelta(seconds=CLOCK_APART_SECONDS)


class Host:
    """A host whose clock was right when its process started."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self.db, self.clock = db, clock


@pytest.fixture
async def host(dsn: str) -> AsyncIterator[Host]:
    clock = Clock()
    db = Database(dsn, connections=3, clock=clock)
    await db.open()
    await db.compare_clocks()
    yield Host(db, clock)
    await db.close()


wrong = pytest.mark.parametrize(
    "ahead",
    [datetime(1970, 1, 1, tzinfo=UTC) - utc_now(), timedelta(days=-40), -BOUND - SOME, BOUND + SOME, timedelta(365)],
    ids=["no battery", "an old snapshot", "almost yesterday", "almost tomorrow", "a year ahead"],
)


async def days(db: Database) -> list[str]:
    return [row["name"] for row in await db.rows("old_days", "task", date.max)]


@wrong
async def test_nothing_is_taken_in_by_it(shop: Shop, db: Database, host: Host, ahead: timedelta) -> None:
    [posted] = await shop.post("before")
    before = await days(db)
    host.clock.offset = ahead
    acceptor = Acceptor(host.db, Waker(host.db), host.clock)
    orders = [Judged(MODEL, None, b'{"user_prompt":"hi"}')]
    with pytest.raises(WrongClock, match=f"here it is {host.clock():%Y-%m-%d}.* and in the database {utc_now():%Y-%m}"):
        await acceptor.accept(shop.id, orders)
    lease = Lease(host.db, "an api", 60.0)
    await lease.begin()
    live = Live(host.db, lease, [], shop.settler, host.clock)
    _, outcome, cost = await live.ask(shop.id, MODEL, Prompt(user_prompt="hi", model_name=MODEL.name))
    await lease.end()
    assert (getattr(outcome, "code", None), cost) == (50000, 0)
    with pytest.raises(WrongClock):
        await accounts.top_up(host.db, "shop", Nano(10**9), host.clock())
    with pytest.raises(WrongClock):
        await accounts.open_account(host.db, "other", None, balance=Nano(10**9), credit_limit=Nano(0), now=host.clock())
    with pytest.raises(WrongClock):
        await cancel(host.db, host.clock(), postback, account_id=shop.id, ids=[posted])
    with pytest.raises(WrongClock):
        await erase(host.db, "shop", host.clock())
    with background(keep_days(host.db, host.clock)):
        assert await shop.post("what others take in goes on")
    assert await days(db) == before
    assert (await shop.collector.task_get(shop.id, posted)).code == 40602
    assert not await differences(db)
    host.clock.offset = timedelta()  # somebody set it right: at once
    assert (await acceptor.accept(shop.id, orders))[1] == [None]


async def test_what_is_being_answered_waits_until_it_is_right(
    shop: Shop, db: Database, host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    """By a wrong one its listing would be over before anybody looks, and it would be settled long ago."""
    [task_id] = await shop.post("hi")
    token = await shop.lease()
    await shop.claim(token)
    host.clock.offset = timedelta(days=-4)
    settling = asyncio.create_task(Settler(host.db, host.clock).settle(success(token, task_id)))
    await until(lambda: "1 answers are kept" in caplog.text)
    assert "set them right (NTP)" in caplog.text and not settling.done()
    host.clock.offset = timedelta()
    async with asyncio.timeout(30):
        assert await settling
    assert [one.id for one in await shop.collector.ready(shop.id)] == [task_id]
    assert (await shop.collector.task_get(shop.id, task_id)).code == 20000


async def test_a_worker_claims_nothing_by_it(shop: Shop, host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.clock.offset = timedelta(days=3)
    provider = Odd()
    provider.go_on.set()
    on_host = Shop(host.db, shop.id)
    async with working(on_host, provider) as runner:
        [task_id] = await shop.post("hi")
        runner.wake()
        await until(lambda: "no tasks are claimed until the database is back: the clocks are apart" in caplog.text)
        assert provider.calls == []
        host.clock.offset = timedelta()
        runner.wake()
        assert (await finished(shop, task_id))[0] == 20000


async def test_readyz_says_it(host: Host) -> None:
    health = Health(host.db, list)

    async def said() -> object:
        return msgspec.json.decode((await health.readyz(Request({"type": "http"}))).body)

    assert await said() == {"ok": True}
    host.clock.offset = timedelta(days=2)
    assert await said() == {
        "ok": True, "reasons": ["this host's clock and the database's are apart: no new tasks are taken"],
    }  # fmt: skip


async def test_a_clock_of_the_database_that_was_set_is_seen_at_the_next_look(host: Host) -> None:
    """As when both were wrong together, and only one was set right."""
    host.db._database_zero -= 3 * 86_400  # type: ignore[operator]
    await host.db.in_time()
    assert not host.db.clocks_apart


@pytest.mark.parametrize("off", [-25, 1])
async def test_a_process_with_a_wrong_clock_does_not_start(dsn: str, tmp_path: Path, off: int) -> None:
    """Though there are partitions of its day."""
    env = environment(tmp_path, DATABASE_URL=dsn, PROVIDER="scripted", FAULTS=f"clock={off * 86_400}")
    done = await asyncio.to_thread(
        subprocess.run, [*COMMAND, "api"], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "This host and its database disagree about the time: the clocks are apart" in done.stderr
    assert "set them right (NTP)" in done.stderr
    assert "Traceback" not in done.stderr


async def test_commands_with_a_wrong_clock_look_and_take_no_money(
    dsn: str, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator needs them now."""
    monkeypatch.setattr("restante.wiring.utc_now", lambda: utc_now() - timedelta(days=400))
    installation = load({"RESTANTE_DATABASE_URL": dsn, "RESTANTE_DATA_DIR": str(tmp_path)})
    async with database(installation) as db:
        assert "nothing can be written by this host's time: the clocks are apart" in caplog.text
        assert (await accounts.find(db, "shop")).balance == 10 * 10**9
        assert not await differences(db)
        with pytest.raises(WrongClock):
            await accounts.top_up(db, "shop", Nano(10**9), utc_now() - timedelta(days=400))
    assert (await shop.account()).balance == 10 * 10**9
