"""Each fault point, struck in each way, in real processes: all is answered once, charged once; the audit is clean.

A victim is a worker or an API node with RESTANTE_FAULTS. One that dies or hangs is stood in for by another; one that
hangs goes on after that, and must change nothing; one that fails mends itself.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest

from restante.core.pricing import LIVE_FEE
from restante.faults import Kind, Point
from restante.web.wire import FAMILY
from tests.chaos.processes import House, assert_gone, eventually, house
from tests.chaos.test_kill import account, priced
from tests.chaos.test_webhooks import Client, client
from tests.support import Process, task

#: What CI has time for: one of each family, and each way. All of it: `make test-long`.
QUICK = {
    (Point.CALL_ANSWERED, Kind.DIE),
    (Point.SETTLE_SENT, Kind.FAIL),
    (Point.WEBHOOK_SENT, Kind.HANG),
}
WORKERS = [
    Point.CLAIM_SENT, Point.CLAIM_COMMITTED, Point.CALL_ANSWERED, Point.SETTLE_SENT, Point.SETTLE_COMMITTED,
    Point.PARK_SENT, Point.PARK_COMMITTED, Point.WEBHOOK_CLAIM_SENT, Point.WEBHOOK_CLAIM_COMMITTED, Point.WEBHOOK_SENT,
    Point.WEBHOOK_RECORD_SENT, Point.WEBHOOK_RECORD_COMMITTED, Point.REAP_SENT, Point.REAP_COMMITTED,
]  # fmt: skip
ACCEPTING = [Point.ACCEPT_SENT, Point.ACCEPT_COMMITTED]
LIVE = [Point.LIVE_SENT, Point.LIVE_COMMITTED, Point.LIVE_ANSWERED]
COLLECTING = [Point.COLLECT_SENT, Point.COLLECT_COMMITTED]
BATCHES = [Point.BATCH_WRITE_SENT, Point.BATCH_WRITE_COMMITTED, Point.BATCH_MADE]  # tests/gemini/test_batch_faults.py


def cases(points: list[Point]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("point", "kind"),
        [
            pytest.param(point, kind, marks=() if (point, kind) in QUICK else pytest.mark.long)
            for point in points
            for kind in Kind
        ],
        ids=str,
    )


def test_every_point_is_among_these() -> None:
    assert sorted(WORKERS + ACCEPTING + LIVE + COLLECTING + BATCHES) == sorted(Point)


class Place(NamedTuple):
    """An installation without workers, and the receiver of its webhooks."""

    home: House
    receiver: Client


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("faults")
    settings = {"LEASE_SECONDS": "1", "WEBHOOK_ALLOW": "127.0.0.1", "LIMITS": "relaxed", "LOG_LEVEL": "info"}
    with client(directory) as receiver, house(directory, **settings) as home:
        up = home.up(workers=0)
        yield Place(home, receiver)
        assert up.stop() == 0, up.log
        assert_gone(home.data_dir)


def frozen(process: Process) -> bool:
    fields = Path(f"/proc/{process.popen.pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0] == "T"


def struck(victim: Process, point: Point, kind: Kind) -> None:
    """Wait until it was, at that very point."""
    eventually(f"{kind} at {point}", lambda: f"fault: {kind} at {point}," in victim.log)
    match kind:
        case Kind.DIE:
            assert victim.wait() == -signal.SIGKILL, victim.log
        case Kind.HANG:
            eventually("its stop", lambda: frozen(victim))
        case Kind.FAIL:
            pass


def the_end(victim: Process, kind: Kind, helpers: list[Process]) -> None:
    """Whoever lives ends as told, without a word of a mistake that is not the one it was told to make."""
    if kind != Kind.DIE:
        victim.signal(signal.SIGCONT)
        assert victim.stop() == 0, victim.log
        assert "a background loop broke" not in victim.log, victim.log
    for helper in helpers:
        assert helper.stop() == 0, helper.log
        assert "Traceback" not in helper.log, helper.log


@cases(WORKERS)
def test_a_worker_is_struck(place: Place, point: Point, kind: Kind) -> None:
    home, receiver = place
    who = account(home, f"{point}-{kind}")
    latency = 1.5 if "reap" in point else 0.2
    tasks, spent = priced(12, 1, f"[[latency={latency}]]" + ("[[fail_times=1]]" if "park" in point else ""))
    hooks = receiver.url + "/$id"
    for one in tasks[:6]:
        one |= {"postback_url": hooks}
    ids = home.post(tasks, who)
    if "reap" in point:  # somebody has to be dead
        dead = home.worker(f"{point}-{kind}-dead")
        home.until("select count(*) > 0 from queue where token is not null")
        dead.kill()
    nth = 2 if point in (Point.CALL_ANSWERED, Point.WEBHOOK_SENT) else 1
    victim = home.start(
        f"{point}-{kind}", "worker", "--provider", "scripted", FAULTS=f"{point}={kind}:{nth}",
    )  # fmt: skip
    struck(victim, point, kind)
    helpers = [] if kind == Kind.FAIL else [home.worker(f"{point}-{kind}-heir")]
    home.settled()
    home.until("select count(*) = 0 from delivery where state < 3")
    if kind == Kind.HANG:
        before = home.sql("select * from transfer order by made_at, task_id")
        victim.signal(signal.SIGCONT)
        home.until("select count(*) = 2 from worker where claims")  # it has a new lease: the late answers are over
        assert home.sql("select * from transfer order by made_at, task_id") == before
    assert {entry["status_code"] for entry in home.collect(ids, credentials=who).values()} == {20000}
    came = [hit for hit in receiver.hits() if hit["path"][1:] in ids]
    assert {hit["headers"]["webhook-id"] for hit in came} == {f"{one}-postback" for one in ids[:6]}
    if "webhook" not in point:
        assert len(came) <= 6 + (kind != Kind.FAIL) * 6
    the_end(victim, kind, helpers)
    home.assert_adds_up(ids, spent, who[0])


async def asked(url: str, who: tuple[str, str], path: str, body: Any, key: str = "") -> Any:
    """What the node says within two seconds; None: nothing."""
    headers = {"Authorization": aiohttp.encode_basic_auth(*who)} | ({"Idempotency-Key": key} if key else {})
    method = "GET" if body is None else "POST"
    data = None if body is None else msgspec.json.encode(body)
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as session,
            session.request(method, f"{url}{FAMILY}/{path}", data=data, headers=headers) as response,
        ):
            return msgspec.json.decode(await response.read())
    except (aiohttp.ClientError, TimeoutError):
        return None


class Nodes:
    """A victim among API nodes, beside the one that lives, and a worker."""

    def __init__(self, place: Place, point: Point, kind: Kind, more: str = "") -> None:
        self.home, self.kind, self.point = place.home, kind, point
        name = f"{point}-{kind}{more}"
        self.who = account(self.home, name)
        self.worker = self.home.worker(f"{name}-worker")
        self.victim = self.home.start(name, "api", "--provider", "scripted", FAULTS=f"{point}={kind}:1")
        self.there = self.victim.wait_for(r"API is up at (http://\S+)")[1]

    def ask(self, path: str, body: Any, key: str = "", *, there: bool = False) -> Any:
        return asyncio.run(asked(self.there if there else self.home.url, self.who, path, body, key))

    def struck(self) -> None:
        struck(self.victim, self.point, self.kind)

    def end(self) -> None:
        the_end(self.victim, self.kind, [self.worker])


@cases(ACCEPTING)
@pytest.mark.parametrize("key", ["", "a key"], ids=["bare", "keyed"])
def test_a_node_that_accepts_is_struck(place: Place, point: Point, kind: Kind, key: str) -> None:
    """Repeated with its key a POST is accepted once. Without one it may be accepted twice: each then is a task."""
    nodes = Nodes(place, point, kind, "-keyed" if key else "-bare")
    tasks, spent = priced(5)
    first = nodes.ask("task_post", tasks, key, there=True)
    nodes.struck()
    ids = [one["id"] for one in (first or {}).get("tasks") or []]
    if key or not ids:
        again = nodes.ask("task_post", tasks, key)
        repeated = [one["id"] for one in again["tasks"]]
        assert {one["status_code"] for one in again["tasks"]} == {20100}
        assert not ids or ids == repeated
        ids = repeated
    if kind == Kind.HANG:
        nodes.victim.signal(signal.SIGCONT)
    nodes.home.settled()
    assert {entry["status_code"] for entry in nodes.home.collect(ids, credentials=nodes.who).values()} == {20000}
    everything = nodes.home.sql(
        "select t.id::text as id from task t join account a on a.id = t.account_id where a.login = $1", nodes.who[0]
    )
    every_id = [row["id"] for row in everything]
    assert set(ids) <= set(every_id)
    assert len(every_id) == len(ids) if key else len(every_id) in (5, 10)
    nodes.end()
    nodes.home.assert_adds_up(every_id, spent * (len(every_id) // 5), nodes.who[0])


@cases(LIVE)
def test_a_node_with_a_live_task_is_struck(place: Place, point: Point, kind: Kind) -> None:
    """Nobody repeats it: either its client has the answer and pays, or nobody has it and the money is back."""
    nodes = Nodes(place, point, kind)
    said = nodes.ask("live", [task("now [[cost=0.5]]")], there=True)
    nodes.struck()
    home = nodes.home
    if kind == Kind.HANG:
        home.until("select count(*) = 0 from worker where name like '% ' || $1::text", str(nodes.victim.popen.pid))
        nodes.victim.signal(signal.SIGCONT)
    home.settled()
    home.until("select held = 0 from account where login = $1", nodes.who[0])
    rows = home.sql(
        "select t.state, t.code, t.charged from task t join account a on a.id = t.account_id where a.login = $1",
        nodes.who[0],
    )
    answered = bool(said) and [one["status_code"] for one in said["tasks"] or []] == [20000]
    price = 500_000_000 + int(LIVE_FEE)
    assert {(row["state"], row["charged"]) for row in rows} <= {(1, price), (2, 0)}, rows
    assert len(rows) <= 1
    if answered:
        assert [row["charged"] for row in rows] == [price]
    else:
        assert not any(row["charged"] for row in rows), "nobody got the answer"
    nodes.end()
    home.audit()


@cases(COLLECTING)
def test_a_node_that_collects_is_struck(place: Place, point: Point, kind: Kind) -> None:
    nodes = Nodes(place, point, kind)
    tasks, spent = priced(3)
    ids = nodes.home.post(tasks, nodes.who)
    nodes.home.settled()
    nodes.ask(f"task_get/{ids[0]}", None, there=True)
    nodes.struck()
    answers = nodes.home.collect(ids, credentials=nodes.who)
    assert {entry["status_code"] for entry in answers.values()} == {20000}
    nodes.end()
    assert nodes.ask("tasks_ready", None)["tasks"][0]["result"] in (None, [])
    nodes.home.assert_adds_up(ids, spent, nodes.who[0])
