"""Two API nodes behind PgBouncer, three workers, a primary with a synchronous standby: hosts are lost under load.

Each host is a network namespace. What is proven: every task that was answered with 20100 is answered, settled once, its
webhook came, the ledger adds up. How long each loss is felt is printed (`pytest -s`).
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from restante.core.pricing import STANDARD_FEE
from tests.chaos.processes import eventually
from tests.cluster import network as net
from tests.cluster import servers
from tests.cluster.load import Answered, Load, collect
from tests.cluster.network import HERE, Network
from tests.cluster.servers import POOLER_PORT, PORT, Postgres, Server, pgbouncer
from tests.support import OPERATOR, Process, environment

VIRTUAL = f"{net.NETWORK}.10"  # the primary's address as PgBouncer knows it: it moves
API_PORT = 8000
LEASE_SECONDS = 5

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(why := net.missing() or servers.missing()), reason=str(why)),
]


class Cluster:
    """All hosts, and restante's processes on theirs."""

    def __init__(self, directory: Path, network: Network, receiver: str) -> None:
        self.network = network
        self._directory = directory
        self.primary = Postgres(network, directory, "db1", 11)
        self.primary.start()
        self.primary.create_database()
        network.give("db1", VIRTUAL)
        self.standby = Postgres(network, directory, "db2", 12, copy_of=self.primary)
        self.standby.start()
        pooler = network.add("pool", 20)
        line = f"restante = host={VIRTUAL} port={PORT}"
        self.pooler: Server = pgbouncer(
            network.on("pool", servers.USER), servers.directory_of(directory, "pool"), pooler, line
        )
        # Now, not before there is one; and not in a file that the standby has a copy of.
        self.primary.sql("alter system set synchronous_standby_names = 'ANY 1 (*)'")
        self.primary.sql("select pg_reload_conf()")
        synchronous = "select count(*) from pg_stat_replication where sync_state = 'quorum'"
        eventually("a synchronous standby", lambda: self.primary.sql(synchronous) == "1")
        self.through = f"postgresql://restante@{pooler}:{POOLER_PORT}/restante"
        self.direct = f"postgresql://restante@{self.primary.address}:{PORT},{self.standby.address}:{PORT}/restante"
        self.settings = {"LEASE_SECONDS": str(LEASE_SECONDS), "PROVIDER": "scripted", "SCRIPTED_LATENCY": "0.25"}
        self.settings |= {"WEBHOOK_ALLOW": HERE, "RATE_TASK_POST": "0"}
        self.addresses = {
            name: network.add(name, number)
            for name, number in (("api1", 31), ("api2", 32), ("worker1", 41), ("worker2", 42), ("worker3", 43))
        }
        self.receiver = receiver
        self.processes: dict[str, Process] = {}
        self.worker("worker1")  # migrates, on its direct connection
        self.api("api1")
        self.api("api2")
        self.worker("worker2")
        self.worker("worker3")

    def start(self, host: str, *command: str, dsn: str, name: str = "") -> Process:
        """A restante command on a host."""
        number = len(list(self._directory.glob("*.err")))
        env = environment(self._directory / "none", DATABASE_URL=dsn, **self.settings)
        made = Process(list(command), env, self._directory, f"{name or host}-{number}", self.network.on(host))
        self.processes[name or host] = made
        return made

    def api(self, host: str) -> None:
        """`restante api` through PgBouncer, answering."""
        made = self.start(host, "api", "--host", self.addresses[host], "--port", str(API_PORT), dsn=self.through)
        made.wait_for("API is up")

    def worker(self, host: str) -> None:
        """`restante worker`, directly at whichever database takes writes."""
        self.start(host, "worker", dsn=self.direct).wait_for("the worker serves", log=True)

    @property
    def urls(self) -> list[str]:
        return [f"http://{self.addresses[host]}:{API_PORT}" for host in ("api1", "api2")]

    def close(self) -> None:
        for one in self.processes.values():
            one.kill()
        if hasattr(self, "pooler"):
            self.pooler.kill()
        for database in (getattr(self, "standby", None), getattr(self, "primary", None)):
            if database is not None:
                database.stop()
        self.network.close()


@pytest.fixture
def receiver() -> Iterator[tuple[str, Callable[[], set[str]]]]:
    """A client's webhook server on this host: its URL, and the ids of the tasks it was told of."""
    directory = Path(tempfile.mkdtemp(prefix="cluster-hooks-"))
    file = directory / "hits"
    command = [sys.executable, "-m", "tests.chaos.receiver", str(file), "0.0.0.0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())

        def told() -> set[str]:
            return {msgspec.json.decode(line)["path"].partition("id=")[2] for line in file.read_bytes().splitlines()}

        try:
            yield f"http://{HERE}:{port}/", told
        finally:
            process.kill()
            shutil.rmtree(directory)


@pytest.fixture
def cluster(receiver: tuple[str, Callable[[], set[str]]]) -> Iterator[Cluster]:
    directory = Path(tempfile.mkdtemp(prefix="cluster-"))
    directory.chmod(0o755)
    network = Network()
    made = Cluster.__new__(Cluster)
    made.network, made.processes = network, {}
    try:
        made.__init__(directory, network, receiver[0])  # type: ignore[misc]  # so that a half-made one is cleared away
        yield made
    finally:
        made.close()
        shutil.rmtree(directory)


async def settled_after(database: Postgres, ids: list[str], moment: float) -> float:
    """Wait until one of these tasks is settled; seconds since the moment."""
    asked = f"select count(*) from transfer where kind = 3 and task_id = any ('{{{','.join(ids)}}}'::uuid[])"
    while await asyncio.to_thread(database.sql, asked) == "0":
        await asyncio.sleep(0.05)
    return time.monotonic() - moment


async def lose_a_worker(cluster: Cluster) -> None:
    """Its cable is pulled; it comes back long after its lease has ended."""
    cluster.network.cut("worker1")
    pid = cluster.processes["worker1"].popen.pid
    held = f"select count(*) from queue q join worker w using (token) where w.name like '% {pid}'"
    before = await asyncio.to_thread(cluster.primary.sql, held)
    cut = time.monotonic()
    while await asyncio.to_thread(cluster.primary.sql, f"select count(*) from worker where name like '% {pid}'") != "0":
        await asyncio.sleep(0.1)
    print(f"\nworker cut off: its {before} tasks went to others after {time.monotonic() - cut:.1f} s", end="")
    print(f" (a lease of {LEASE_SECONDS} s)")
    cluster.network.mend("worker1")


async def lose_an_api(cluster: Cluster, load: Load) -> None:
    """SIGKILL, and started again."""
    cluster.processes["api1"].kill()
    print(f"API node killed: the next POST was accepted after {await load.accepted_after(time.monotonic()):.2f} s")
    await asyncio.to_thread(cluster.api, "api1")


async def lose_the_primary(cluster: Cluster, load: Load, *, silently: bool) -> None:
    """It dies and is fenced: by SIGKILL, whose resets its clients hear, or `silently`, as when its machine loses power.
    Then the standby is promoted, and the address that PgBouncer knows moves to it."""
    if silently:
        cluster.network.cut("db1")
        cluster.primary.kill()
    else:
        cluster.primary.kill()
        cluster.network.cut("db1")
    lost = time.monotonic()
    print(f"primary lost{' without a word' if silently else ''}, {len(load.accepted)} tasks accepted so far")
    took = await asyncio.to_thread(cluster.standby.promote)
    cluster.network.give("db2", VIRTUAL)
    promoted = time.monotonic()
    print(f"standby promoted in {took:.2f} s; after the loss {promoted - lost:.2f} s: its address is moved,", end=" ")
    print(f"{await load.accepted_after(promoted) + promoted - lost:.2f} s: a POST accepted,", end=" ")
    fresh = [one.id for one in load.accepted if one.at >= promoted]
    print(f"{await settled_after(cluster.standby, fresh, lost):.2f} s: one of its tasks settled")


async def drive(cluster: Cluster, load: Load, *, silently: bool) -> None:
    """The load, and one loss after the other."""
    running = asyncio.create_task(load.run())
    try:
        await asyncio.sleep(5)  # the load's own time, as below
        await lose_a_worker(cluster)
        await asyncio.sleep(3)
        await lose_an_api(cluster, load)
        await asyncio.sleep(3)
        await lose_the_primary(cluster, load, silently=silently)
        await asyncio.sleep(10)
        load.stop()
        await running
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def assert_adds_up(database: Postgres, accepted: list[Answered]) -> None:
    """Each of these tasks, all that there are, is settled once; the money is right."""
    ids = sorted(one.id for one in accepted)
    assert database.sql("select count(*), count(distinct id) from task where state = 1") == f"{len(ids)}|{len(ids)}"
    assert database.sql("select task_id from transfer where kind = 3 order by 1").splitlines() == ids
    assert database.sql("select id from task order by 1").splitlines() == ids
    assert database.sql("select count(*) from queue") == "0"
    spent = len(ids) * int(STANDARD_FEE)
    assert database.sql("select held, spent from account") == f"0|{spent}"


def audit(cluster: Cluster, host: str, dsn: str) -> None:
    """`restante ledger audit` finds nothing."""
    done = cluster.start(host, "ledger", "audit", dsn=dsn, name="audit")
    assert done.wait() == 0, done.stdout + done.log
    assert "no difference" in done.stdout


@pytest.mark.parametrize("silently", [False, True], ids=["killed", "vanished"])
def test_nothing_is_lost_with_a_worker_an_api_node_and_the_primary(
    cluster: Cluster, receiver: tuple[str, Callable[[], set[str]]], *, silently: bool
) -> None:
    top_up = cluster.start("api1", "account", "top-up", OPERATOR[0], "1000", dsn=cluster.direct, name="top-up")
    assert top_up.wait() == 0, top_up.log
    # Reports read from the standby, which migrates nothing; nobody serves from there.
    replica = f"postgresql://restante@{cluster.standby.address}:{PORT}/restante"
    audit(cluster, "api2", replica)
    listing = cluster.start("api2", "account", "list", dsn=replica, name="list")
    assert listing.wait() == 0 and OPERATOR[0] in listing.stdout, listing.log
    refused = cluster.start("api2", "api", dsn=replica, name="refused")
    assert refused.wait() == 1 and "standby" in refused.log

    load = Load(cluster.urls, OPERATOR, cluster.receiver)
    asyncio.run(drive(cluster, load, silently=silently))

    assert len(load.accepted) > 1_000
    found = asyncio.run(collect(cluster.urls[1], OPERATOR, [one.id for one in load.accepted], 60))
    assert set(found.values()) == {20000}
    print(f"{len(found)} tasks accepted and answered, {load.repeated} POSTs repeated with their key")
    told = {one.id for one in load.accepted if one.told}
    eventually("all pingbacks", lambda: told <= receiver[1]())
    assert_adds_up(cluster.standby, load.accepted)
    audit(cluster, "api2", cluster.direct)
    for name, process in cluster.processes.items():
        if name.startswith(("api", "worker")):
            assert process.popen.poll() is None, process.log
            process.signal(signal.SIGTERM)
            assert process.wait(30) == 0, process.log
