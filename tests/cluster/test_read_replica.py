"""The console's pages from a real standby: what they show, how old it is, and what happens when it is not there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from restante.config import load
from restante.core.limits import STANDBY_BEHIND_SECONDS
from restante.doctor import server as doctor
from restante.doctor.finding import Level, Patient
from restante.flow.reading import Reads, StandbyReads
from restante.flow.verdict import audit
from restante.store.database import Database, Session
from restante.store.standby import Standby
from restante.web.wire import FAMILY
from restante.wiring import utc_now
from tests.chaos.processes import eventually
from tests.cluster import network, servers
from tests.cluster.network import Network
from tests.cluster.servers import PORT, Postgres
from tests.console.person import Person, person
from tests.console.walking import CHROMIUM, Walker, chromium
from tests.console.walking import WITHOUT as NO_CHROMIUM
from tests.support import OPERATOR, Http, Process, environment, task

pytestmark = pytest.mark.skipif(bool(why := network.missing() or servers.missing()), reason=str(why))

WITHOUT, AGAIN = "read from the primary until", "read from the standby again"
SECONDS = 30.0  # far beyond what anything here takes


class Pair:
    """A primary, its standby, and an API that was started while the standby was not."""

    def __init__(self, directory: Path, hosts: Network) -> None:
        self.primary = Postgres(hosts, directory, "db1", 11)
        self.primary.start()
        self.primary.create_database()
        self.standby = Postgres(hosts, directory, "db2", 12, copy_of=self.primary)  # before there is a schema
        self.primary_dsn, self.standby_dsn = (
            f"postgresql://restante@{one.address}:{PORT}/restante" for one in (self.primary, self.standby)
        )
        settings = {"DATABASE_URL": self.primary_dsn, "READ_DATABASE_URL": self.standby_dsn, "PROVIDER": "scripted"}
        self.api = Process(["api", "--port", "0"], environment(directory / "none", **settings), directory, "api")
        self.url = self.api.wait_for(r"API is up at (http://\S+)")[1]
        self.api.wait_for(WITHOUT, log=True)
        self.standby.start()
        eventually("a schema", lambda: self.standby.sql("select to_regclass('account')") != "")

    @property
    def found(self) -> bool:
        """Whether the API reads from the standby, as its log says."""
        return self.api.log.rfind(AGAIN) > self.api.log.rfind(WITHOUT)

    def behind(self) -> None:
        """Have the standby show the past, from now on."""
        self.standby.sql("select pg_wal_replay_pause()")

    def on(self) -> None:
        self.standby.sql("select pg_wal_replay_resume()")

    def signal(self, number: int) -> None:
        """To every process of the standby."""
        assert self.standby.server is not None
        pid = self.standby.server.popen.pid
        found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True)
        for one in [pid, *map(int, found.stdout.split())]:
            os.kill(one, number)

    def close(self) -> None:
        if hasattr(self, "api"):
            self.api.kill()
        for one in (getattr(self, "standby", None), getattr(self, "primary", None)):
            if one is not None:
                one.kill()


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    directory = Path(tempfile.mkdtemp(prefix="replica-"))
    directory.chmod(0o755)
    hosts, made = Network(), Pair.__new__(Pair)
    try:
        made.__init__(directory, hosts)  # type: ignore[misc]  # so that what began is ended when it fails
        yield made
    finally:
        made.close()
        hosts.close()
        shutil.rmtree(directory)


@pytest.fixture
async def operator(pair: Pair) -> AsyncIterator[Person]:
    """At a console that reads from the standby."""
    async with person(pair.url, OPERATOR) as somebody, asyncio.timeout(SECONDS):
        while not pair.found:  # it is asked when somebody reads
            await somebody.json("/overview.json")
            await asyncio.sleep(0.05)
        yield somebody


@pytest.fixture
async def both(pair: Pair) -> AsyncIterator[tuple[Database, Standby]]:
    """The primary, and the standby as an API has it, connected."""
    db = Database(pair.primary_dsn, connections=3)
    await db.open()
    standby = Standby(pair.standby_dsn, db, again=0.1)
    await until(lambda: standby.ask() is not None)
    yield db, standby
    await standby.close()
    await db.close()


async def until(condition: Callable[[], Any]) -> None:
    """Look until it is so: no event comes from other processes."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


async def until_page(operator: Person, path: str, condition: Callable[[Any], Any]) -> Any:
    async with asyncio.timeout(SECONDS):
        while not condition(found := await operator.json(path)):
            await asyncio.sleep(0.05)
    return found


async def test_an_api_starts_without_its_standby_and_finds_it(pair: Pair, operator: Person) -> None:
    """Pages were read before it was there, see `operator`."""
    before, found, _ = pair.api.log.partition(AGAIN)
    assert found and before.count(WITHOUT) == 1, "not one line a page"


async def test_pages_are_of_the_standby_and_say_how_old_they_are(pair: Pair, operator: Person) -> None:
    """What is only looked at is the past while replay is paused, and says so; what an act leads to is the present."""
    pair.behind()
    try:
        [account] = (await operator.json("/accounts"))["accounts"]
        here, before = f"/accounts/{account['id']}", account["balance"]
        form = (await operator.read(here)).form(f"/console{here}/top-up")
        led_to = await operator.confirmed(form, amount="7")
        assert "balance is $107" in led_to.words and "As of" not in led_to.words
        [account] = (await operator.json("/accounts"))["accounts"]
        assert account["balance"] == before + 7 * 10**9, "accounts are of the primary"
        old = await until_page(operator, "/overview.json", lambda found: "as_of" in found)
        assert old["money"]["balance"] == before, "the overview is of the standby"
        page = await operator.read("/")
        assert "behind: read from a standby" in page.words and "As of" in page.words
        assert (await operator.json("/ledger"))["totals"]["funded"] == before
        async with operator._session.get(f"{pair.url}/console/ledger.csv") as answer:
            assert "7.00" in await answer.text(), "a file cannot say how old it is"
        async with Http(pair.url + FAMILY, OPERATOR) as http:
            posted = (await http.post([task("a new one")]))["tasks"][0]["id"]
        assert (await operator.json(f"/tasks/{posted}"))["state"] == "queued", "too new for the standby"
        assert posted not in {one["id"] for one in (await operator.json("/tasks"))["tasks"]}
        assert posted in {one["id"] for one in (await operator.json("/tasks?deed=1"))["tasks"]}
    finally:
        pair.on()
    new = await until_page(operator, "/overview.json", lambda found: found["money"]["balance"] > before)
    assert "as_of" not in new
    assert "As of" not in (await operator.read("/")).words


async def test_a_killed_standby_costs_no_page_and_is_found_again(pair: Pair, operator: Person) -> None:
    asked, missed = pair.api.log.count(AGAIN), pair.api.log.count(WITHOUT)
    paths = ("/overview.json", "/tasks", "/deliveries", "/ledger", "/models")
    reading = asyncio.create_task(_read_on(operator, paths))
    await asyncio.sleep(0.2)  # the more pages are under way, the better
    await asyncio.to_thread(pair.standby.kill)
    await until(lambda: pair.api.log.count(WITHOUT) > missed)
    await asyncio.to_thread(pair.standby.start)
    await until(lambda: pair.api.log.count(AGAIN) > asked)
    assert not reading.done(), reading.exception()
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading
    assert pair.api.log.count(WITHOUT) == missed + 1 and "Traceback" not in pair.api.log
    pair.behind()
    await until_page(operator, "/overview.json", lambda found: "as_of" in found)
    pair.on()


async def _read_on(operator: Person, paths: tuple[str, ...]) -> None:
    while True:
        await asyncio.gather(*(operator.json(path) for path in paths))


@pytest.mark.long
@pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)
def test_an_open_page_says_by_itself_that_it_grows_old(pair: Pair) -> None:
    """Nothing changes on a standby that stands still, so that nothing but its age can nudge the page."""
    with chromium() as browser:
        walker = Walker(browser, pair.url)
        walker.log_in(*OPERATOR)
        while not pair.found:
            walker.open("/")
        said = walker.open("/").locator("#as-of")
        said.wait_for(state="hidden")
        walker.page.wait_for_timeout(1_500)  # the first look tells nothing new
        pair.behind()
        try:
            pair.primary.sql("select pg_logical_emit_message(true, 'restante', '')")
            said.wait_for(state="visible")
            assert "behind: read from a standby" in said.inner_text()
        finally:
            pair.on()
        said.wait_for(state="hidden")
        assert not walker.complaints


async def test_a_silent_standby_is_not_waited_for(pair: Pair, both: tuple[Database, Standby]) -> None:
    """It takes connections and says nothing, as a machine does whose disk hangs."""
    db, standby = both
    reads = StandbyReads(Reads(db), standby, patience=0.2)
    assert (await reads.dated(_one)).behind is not None
    pair.signal(signal.SIGSTOP)
    try:
        found = await asyncio.wait_for(reads.dated(_one), SECONDS)  # by the connection that there is
        assert found == (1, None) and standby.ask() is None
        assert await asyncio.gather(*(reads.dated(_one) for _ in range(9))) == [(1, None)] * 9
    finally:
        pair.signal(signal.SIGCONT)
    await until(lambda: standby.ask() is not None)
    assert (await reads.dated(_one)).behind is not None


async def test_what_recovery_takes_away_is_read_from_the_primary(pair: Pair, both: tuple[Database, Standby]) -> None:
    db, standby = both
    reads = StandbyReads(Reads(db), standby)
    pair.standby.sql("alter system set max_standby_streaming_delay = 0")
    pair.standby.sql("select pg_reload_conf()")
    seen: list[bool] = []
    begun = asyncio.Event()

    async def work(tx: Session) -> int:
        """A snapshot of what is then vacuumed away."""
        at_standby: bool = await tx._on.fetchval("select pg_is_in_recovery()")
        seen.append(at_standby)
        await tx._on.fetchval("select count(*) from account")
        if at_standby:
            begun.set()
            await tx._on.fetchval("select pg_sleep(60)")
            raise AssertionError("it was not cut off")
        return 42

    looking = asyncio.create_task(reads.dated(work))
    await asyncio.wait_for(begun.wait(), SECONDS)
    await asyncio.sleep(0.1)  # the statement is under way
    await db._pool.execute("update account set balance = balance")
    await db._pool.execute("vacuum account")
    looked = await asyncio.wait_for(looking, SECONDS)
    assert looked == (42, None) and seen == [True, False]
    assert standby.ask() is not None, "the standby is well"
    pair.standby.sql("alter system reset max_standby_streaming_delay")
    pair.standby.sql("select pg_reload_conf()")


async def test_the_audit_reads_the_standby_and_writes_to_the_primary(both: tuple[Database, Standby]) -> None:
    db, standby = both
    at = standby.ask()
    assert at is not None
    found = await audit(db, utc_now, whole=True, standby=at)
    assert found.totals.transfers and not found.differences
    at.abort()
    again = await audit(db, utc_now, whole=True, standby=at)
    assert again.totals.accounts == found.totals.accounts and not again.differences


async def test_a_primary_is_told_and_a_stranger_refused(
    pair: Pair, both: tuple[Database, Standby], caplog: pytest.LogCaptureFixture
) -> None:
    db, _ = both
    mistaken = Standby(pair.primary_dsn, db, again=0.1)
    await until(lambda: mistaken.ask() is not None)
    assert (await StandbyReads(Reads(db), mistaken).dated(_one)).behind is None
    assert caplog.text.count("names the primary") == 1
    await mistaken.close()
    several = Standby(f"postgresql://restante@{pair.primary.address},{pair.standby.address}/restante", db, again=0.1)
    await until(lambda: several.ask() is not None)
    assert (await StandbyReads(Reads(db), several).dated(_one)).behind is not None, "of several hosts the standby"
    await several.close()
    for dsn, words in (
        (f"postgresql://restante@{pair.standby.address}/postgres", "does not have this installation's database"),
        (f"postgresql://restante@{pair.standby.address}:1/restante", "cannot be reached"),
        ("postgresql://restante@:x/restante", "RESTANTE_READ_DATABASE_URL cannot be used"),
    ):
        caplog.clear()
        stranger = Standby(dsn, db, again=0.05)
        for _ in range(10):
            assert stranger.ask() is None
            await asyncio.sleep(0.02)
        await until(lambda: words in caplog.text)  # noqa: B023
        assert len(caplog.records) == 1, caplog.text
        await stranger.close()


async def _one(tx: Session) -> int:
    return 1


async def test_the_doctor_says_how_far_behind(pair: Pair, both: tuple[Database, Standby]) -> None:
    db, _ = both
    for dsn, level, words in (
        (pair.standby_dsn, Level.OK, "not behind"),
        (pair.primary_dsn, Level.WARNING, "names the primary"),
        (f"postgresql://restante@{pair.standby.address}:1/restante", Level.WARNING, "cannot be reached"),
    ):
        [found] = await doctor.standby(_patient(db, RESTANTE_READ_DATABASE_URL=dsn))
        assert found.level is level and words in found.said, found
    [found] = doctor.judge_standby(STANDBY_BEHIND_SECONDS + 9)
    assert found.level is Level.WARNING and "12 s behind" in found.said and found.remedy
    [found] = await doctor.standby(_patient(db))
    assert found.level is Level.OK and "primary" in found.said


def _patient(db: Database, **environ: str) -> Patient:
    return Patient(load(environ), environ, utc_now(), db)
