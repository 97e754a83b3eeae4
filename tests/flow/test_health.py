"""Health: what figures mean, and that they are read from what really waits (contract §3.9)."""

from __future__ import annotations

import asyncio
import secrets

import msgspec
import pytest

from restante.core.answer import Answer, Failure
from restante.core.errors import InternalError, LiveTimeout, ProviderFailed
from restante.core.limits import STATUS_CALLS_SECONDS, STATUS_QUEUE_SECONDS, STATUS_WEBHOOK_SECONDS
from restante.core.task import Model, Prompt
from restante.flow.health import Counts, Health, Status, judge, look, together, worst
from restante.flow.lease import Lease
from restante.flow.live import Live
from restante.flow.pacing import Pacer
from restante.flow.settle import failed
from restante.providers.api_key import KEY_REJECTED, REJECTED
from restante.providers.provider import Call
from restante.providers.registry import scripted_models
from restante.providers.scripted import ScriptedProvider
from restante.store import queue
from restante.store.database import Database
from restante.store.deliveries import Kind, Owed
from restante.store.health import Processes
from tests.flow.conftest import Shop, until
from tests.flow.test_run import working
from tests.support import differences, open_account

WELL = Health(Status.OK, Status.OK, Status.OK, Status.OK)


def call(prompt: str, seconds: float = 60.0) -> Call:
    asked = Prompt(user_prompt=prompt, model_name="gemini-2.5-flash")
    return Call(task_id="a task", model="gemini-2.5-flash", prompt=asked, seconds=seconds)


def processes(**said: float) -> Processes:
    one_worker = {"workers": 1, "serving": 1, "calls": 0, "failed": 0, "rejected_at": 0.0, "taken_at": 0.0}
    return msgspec.convert(one_worker | said, Processes)


def test_the_worst_of_them() -> None:
    assert worst([]) == worst([Status.OK]) == "ok"
    assert worst([Status.WEBHOOK_DELAY, Status.MAJOR_OUTAGE, Status.LONG_EXECUTION_TIME]) == "major_outage"
    assert worst([Status.LONG_EXECUTION_TIME, Status.PARTIAL_OUTAGE]) == "partial_outage"


@pytest.mark.parametrize(
    ("said", "task_post", "live"),
    [
        ({"calls": 9, "failed": 9}, "ok", "ok"),
        ({"calls": 10, "failed": 5}, "ok", "ok"),
        ({"calls": 10, "failed": 6}, "partial_outage", "partial_outage"),
        ({"serving": 0}, "major_outage", "ok"),
        ({"rejected_at": 2, "taken_at": 1}, "major_outage", "major_outage"),
        ({"rejected_at": 1, "taken_at": 2}, "ok", "ok"),
    ],
)
def test_what_the_provider_makes_of_it(said: dict[str, float], task_post: str, live: str) -> None:
    found = judge(processes(**said), None, None)
    assert (found.task_post, found.live, found.task_get, found.webhooks) == (task_post, live, "ok", "ok")


async def test_a_provider_that_takes_none_of_its_keys_is_out_although_nobody_calls_it(db: Database) -> None:
    """Contract §12.26. What its calls said of its keys before does not count: they may be good by now."""
    assert judge(processes(), None, None, shut=True).live == "major_outage"
    counts = Counts("gemini")
    counts.heard(REJECTED)
    assert msgspec.json.decode(counts.report())["rejected_at"] == 0
    names = ["gemini", "workshop"]
    assert (await look(db, names, lambda asked: [one for one in asked if one == "gemini"])).live == "partial_outage"
    assert (await look(db, names, lambda asked: asked)).live == "major_outage"
    assert (await look(db, names)).live == "ok"


def test_what_waiting_makes_of_it() -> None:
    bounds = (STATUS_QUEUE_SECONDS, STATUS_WEBHOOK_SECONDS)
    assert judge(processes(), None, None) == judge(processes(), *bounds) == WELL
    late = judge(processes(), bounds[0] + 1, bounds[1] + 1)
    assert (late.task_post, late.webhooks) == ("long_execution_time", "webhook_delay")
    assert judge(processes(workers=0, serving=0), None, None).webhooks == "major_outage"


async def test_calls_are_counted_for_five_minutes() -> None:
    """The provider's faults are failures, a prompt's own are not."""
    now = 0.0
    counts, provider = Counts("scripted", lambda: now, lambda: 1_000.0 + now), ScriptedProvider(scripted_models())

    def report() -> tuple[int, int, float, float]:
        said = msgspec.json.decode(counts.report())
        return said["calls"], said["failed"], said["rejected_at"], said["taken_at"]

    assert report() == (0, 0, 0, 0)
    for prompt in ("hi", "[[blocked=SAFETY]]", "[[fail=wrong_prompt]]", "[[fail=overloaded]]"):
        counts.heard(await provider.generate(call(prompt)))
    assert report() == (4, 1, 0, 1_000)
    now = 250.0
    counts.heard(await provider.generate(call(f"[[fail={KEY_REJECTED}]]")))
    assert report() == (5, 2, 1_250, 1_000)
    now = STATUS_CALLS_SECONDS + 10
    assert report() == (1, 1, 1_250, 1_000)


async def test_a_provider_that_breaks_or_hangs_has_failed(shop: Shop, db: Database) -> None:
    """In the queue and live, and however it is said to the client."""

    class Broken(ScriptedProvider):
        async def generate(self, call: Call) -> Answer | Failure:
            if call.prompt.user_prompt == "breaks":
                raise ValueError("a bug")
            await asyncio.Event().wait()
            raise AssertionError

    provider, counts = Broken(scripted_models()), Counts("scripted")
    pacer = Pacer(db, [provider], counts=[counts])
    lease = Lease(db, "a process", 60)
    await lease.begin()
    asking = Live(db, lease, [provider], shop.settler, shop.clock, seconds=0.05, pacer=pacer)
    model = Model(name="gemini-2.5-flash", served="gemini-2.5-flash", provider="scripted")
    for prompt in ("breaks", "hangs"):
        _, outcome, _ = await asking.ask(shop.id, model, Prompt(user_prompt=prompt, model_name="gemini-2.5-flash"))
        assert isinstance(outcome, InternalError if prompt == "breaks" else LiveTimeout)
    await lease.end()
    await shop.post("breaks")
    async with working(shop, provider, pacer=pacer) as runner:
        await until(lambda: msgspec.json.decode(counts.report())["calls"] == 3 and runner.in_flight == 0)
    assert msgspec.json.decode(counts.report())["failed"] == 3
    assert not await differences(db)


async def beat(db: Database, *prompts: str, claims: bool = False) -> Lease:
    """A process whose first heartbeat told how these calls ended."""
    counts, provider = Counts("scripted"), ScriptedProvider(scripted_models())
    lease = Lease(db, "a process", 60, counts=[counts], claims=claims)
    await lease._register()
    for prompt in prompts:
        counts.heard(await provider.generate(call(prompt)))
    await lease._beat_once()
    return lease


async def test_the_figures_of_all_processes(db: Database) -> None:
    """A worker and two API processes: none alone has ten calls. Those that died, or ask another provider, count not."""
    await queue.register(db, secrets.randbits(63), "of another provider", 60, providers=["gemini"], claims=True)
    assert await look(db, ["scripted"]) == Health(Status.MAJOR_OUTAGE, Status.OK, Status.OK, Status.OK)
    worker = await beat(db, *["[[fail=overloaded]]"] * 3, claims=True)
    await beat(db, *["[[fail=overloaded]]"] * 3)
    assert await look(db, ["scripted"]) == WELL
    await beat(db, *["hi"] * 4)
    assert (await look(db, ["scripted"])).task_post == "partial_outage"
    last = await beat(db, "hi", f"[[fail={KEY_REJECTED}]]")
    assert (await look(db, ["scripted"])).live == "major_outage"
    await beat(db, "hi", "hi")
    assert (await look(db, ["scripted"])).live == "ok", "7 of 14 failed: not more than half"
    await db._pool.execute("update worker set expires_at = now() where token = any ($1)", [worker.token, last.token])
    assert (await look(db, ["scripted"])).task_post == "major_outage"


def test_an_outage_is_major_only_if_it_is_every_providers() -> None:
    down = Health(Status.MAJOR_OUTAGE, Status.OK, Status.MAJOR_OUTAGE, Status.MAJOR_OUTAGE)
    assert together([WELL]) == together([WELL, WELL]) == WELL
    assert together([down]) == together([down, down]) == down
    assert together([WELL, msgspec.structs.replace(down, webhooks=Status.OK)]) == Health(
        Status.PARTIAL_OUTAGE, Status.OK, Status.PARTIAL_OUTAGE, Status.OK
    )


async def test_each_provider_of_a_process_is_counted_by_itself(db: Database) -> None:
    scripted, workshop = Counts("scripted"), Counts("workshop")
    answers = ScriptedProvider(scripted_models()).generate
    lease = Lease(db, "a process", 60, counts=[scripted, workshop], claims=True)
    await lease._register()
    for _ in range(10):
        workshop.heard(await answers(call("[[fail=overloaded]]")))
    scripted.heard(await answers(call(f"[[fail={KEY_REJECTED}]]")))
    await lease._beat_once()
    assert (await look(db, ["workshop"])).live == "partial_outage"
    assert (await look(db, ["scripted"])).live == "major_outage"
    assert (await look(db, ["scripted", "workshop"])).live == "partial_outage"
    scripted.heard(await answers(call("hi")))
    await lease._beat_once()
    assert (await look(db, ["scripted"])) == WELL
    assert (await look(db, ["scripted", "elsewhere"])).task_post == "partial_outage", "nobody serves elsewhere"


async def test_how_long_the_oldest_task_waits(db: Database, shop: Shop) -> None:
    """The oldest one counts, wherever its turn stands; neither running nor parked ones do."""
    await beat(db, claims=True)
    await shop.post("running", "parked", "waiting", "waiting too")
    token = await shop.lease()
    _, parked = await shop.claim(token, 2)
    assert await queue.park(db, token, parked.id, 3_600, tried=False)
    late = "update queue set posted_at = now() - make_interval(secs => $1) where state = $2"
    for state in (1, 2):
        await db._pool.execute(late, STATUS_QUEUE_SECONDS + 5, state)
    assert await look(db, ["scripted"]) == WELL
    await db._pool.execute(f"{late} and turn = (select max(turn) from queue)", STATUS_QUEUE_SECONDS + 5, 0)
    assert (await look(db, ["scripted"])).task_post == "long_execution_time"
    assert (await look(db, ["gemini"])).task_post == "major_outage", (
        "waiting for another provider than the one asked of"
    )


async def test_how_long_the_oldest_webhook_waits(db: Database, shop: Shop) -> None:
    """A first attempt that is owed for more than a minute, unless its account owes."""
    await beat(db, claims=True)
    await open_account(db, "other", "1")
    [task_id] = await shop.post("hi")
    token = await shop.lease()
    [claimed] = await shop.claim(token)
    owed = (Owed(Kind.PINGBACK, "h:1", "http://h:1/"), Owed(Kind.POSTBACK, "i:1", "http://i:1/", b"{}"))
    settlement = failed(token, task_id, claimed.day, ProviderFailed("why"))
    assert await shop.settler.settle(msgspec.structs.replace(settlement, owed=owed))
    assert await look(db, ["scripted"]) == WELL
    old = "update delivery set created_at = now() - make_interval(secs => $1), attempts = $2 where host = $3"
    await db._pool.execute(old, STATUS_WEBHOOK_SECONDS + 5, 1, "h:1")
    assert await look(db, ["scripted"]) == WELL, "tried before: when it became ready again is not known"
    await db._pool.execute(old, STATUS_WEBHOOK_SECONDS + 5, 0, "i:1")
    assert (await look(db, ["scripted"])).webhooks == "webhook_delay"
    owes = "update account set balance = balance + $1, funded = funded + $1 where login = 'shop'"
    await db._pool.execute(owes, -20_000_000_000)
    assert await look(db, ["scripted"]) == WELL
    await db._pool.execute(owes, 20_000_000_000)
    assert not await differences(db)
