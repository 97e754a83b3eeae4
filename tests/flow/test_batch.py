"""The batcher's looks one by one, against the emulator: what it makes of a queue, and of what Google says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from itertools import count

import pytest

from restante.core.answer import Answer, Failure
from restante.core.limits import BATCH_HOURS, BATCH_POLL_SECONDS
from restante.core.money import Nano
from restante.core.task import Model
from restante.flow import batch as batch_module
from restante.flow.batch_plan import plan
from restante.flow.end import expire
from restante.flow.erase import erase
from restante.flow.lease import Lease
from restante.flow.pause import pause_account, pause_model
from restante.providers.gemini_batch import GeminiBatches
from restante.providers.provider import Call, Sent
from restante.store import batches, queue
from restante.store.batches import Stage
from restante.web.wire import answer_result, postback
from tests.emulators.batches import HANGS
from tests.emulators.gemini import Fault
from tests.flow.batching import USAGE, Office, opened
from tests.flow.conftest import Shop
from tests.support import open_account


@pytest.fixture
async def office(shop: Shop) -> AsyncIterator[Office]:
    async with opened(shop) as made:
        yield made


def test_a_short_time_for_the_whole_shortens_its_parts() -> None:
    usual, short = plan(60.0, BATCH_HOURS * 3_600), plan(60.0, 60.0)
    assert usual.poll == BATCH_POLL_SECONDS and usual.doubt == 120
    assert max(short.poll) < 1 and short.doubt == 6 and short.spare == 30


async def test_tasks_gather_until_one_has_waited_or_the_batch_is_full(office: Office) -> None:
    await office.shop.post("first")
    assert not await queue.waiting_lanes(office.db, ["gemini"])
    patient = office.batcher(gather=60.0, full=3)
    assert await patient.gather() == 0, "nobody waited for a minute"
    await office.shop.post("second", "third", "fourth")
    assert await patient.gather() == 1
    assert await office.batcher(gather=None).gather() == 0, "off: no new ones"
    assert await office.batcher().gather() == 1, "the fourth waited long enough for this one"
    assert [one.tasks for one in await office.known()] == [1, 3]
    await office.looks(office.batcher())
    assert [(one.state, one.answered, one.outcome) for one in await office.known()] == [
        (Stage.OVER, 1, "SUCCEEDED"), (Stage.OVER, 3, "SUCCEEDED"),
    ]  # fmt: skip


async def test_what_is_paused_is_gathered_by_nobody(office: Office) -> None:
    """Contract §12.30: a batch is asked for no paused account's tasks, and for none of a paused model."""
    ids = await office.shop.post("one", "two")
    model = Model(name="gemini-2.5-flash", served="gemini-2.5-flash", provider="gemini")
    for paused, made in ((True, 0), (False, 1)):
        await pause_account(office.db, "shop", paused=paused, by="operator")
        assert await office.batcher().gather() == made
    await office.looks(office.batcher())
    assert [one.answered for one in await office.known()] == [2]
    assert [(await office.shop.collector.task_get(office.shop.id, one)).code for one in ids] == [20000] * 2
    await office.shop.post("three")
    for paused, made in ((True, 0), (False, 1)):
        await pause_model(office.db, model, paused=paused)
        assert await office.batcher().gather() == made


async def test_no_batch_outlives_an_accounts_own_deadline(office: Office) -> None:
    """§12.25. A batch takes up to a day: whose tasks have less time is called directly."""
    await office.shop.post("hi")
    limits = "update account set limits = jsonb_build_object('deadline_hours', $1::int)"
    for hours, made in ((26, 0), (48, 1)):
        await office.db._pool.execute(limits, hours)
        assert await office.batcher(late=26 * 3_600.0).gather() == made


async def test_erasing_takes_tasks_out_of_their_batch(office: Office) -> None:
    ids = await office.shop.post("gathered", "asked for")
    assert await office.batcher(full=1).gather() == 1
    erased = await erase(office.db, "shop", office.shop.clock())
    assert (erased.cancelled, erased.tasks) == (2, 2)
    await office.looks(office.batcher())
    assert [one.answered for one in await office.known()] == [0]
    assert [(await office.shop.collector.task_get(office.shop.id, one)).code for one in ids] == [40403] * 2


async def test_what_nobody_gathers_is_called_directly(office: Office) -> None:
    await office.shop.post("hi")
    await office.db.rows("promote", 100)
    assert not await queue.waiting_lanes(office.db, ["gemini"])
    async with office.db.transaction() as tx:
        await tx._on.execute("update queue set run_at = now()")
    assert await queue.promote(office.db)
    [lane] = await queue.waiting_lanes(office.db, ["gemini"])
    token = office.lease.token
    [claimed] = await queue.claim(office.db, token, lane.id, 9)
    await queue.park(office.db, token, claimed.id, 60.0)
    assert await office.batcher().gather() == 0, "it left the gathering for good, parked again or not"


async def test_debtors_are_in_no_batch(office: Office) -> None:
    await office.shop.post("hi")
    async with office.db.transaction() as tx:
        await tx._on.execute("update account set balance = balance - 20000000000, funded = funded - 20000000000")
    assert await office.batcher().gather() == 0
    async with office.db.transaction() as tx:
        await tx._on.execute("update account set balance = balance + 20000000000, funded = funded + 20000000000")
    assert await office.batcher().gather() == 1


async def test_more_than_a_batch_holds_gathers_for_the_next(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "BATCH_BYTES", 700)
    ids = await office.shop.post(*(f"{number} {USAGE}" for number in range(5)))
    batcher = office.batcher()
    while await batcher.gather():
        pass
    await office.looks(batcher)
    assert sum(one.tasks for one in await office.known()) == 5 and len(await office.known()) > 1
    assert office.google.batches.executed == dict.fromkeys(ids, 1)


async def test_a_batch_made_twice_by_mistake_is_cancelled_once(office: Office) -> None:
    """The first making hung for longer than any doubt and worked all the same."""
    await office.shop.post(f"hi {USAGE}")
    office.google.batches.refusals.append(Fault(500).response())
    batcher = office.batcher()
    await batcher.gather()
    [unsure] = await office.known()
    assert unsure.state == Stage.ASKED
    assert await office.batcher(doubt=0.0).step(), "not found: it will be asked for again"
    office.google.batches.takes = 60.0
    assert await batcher.step(), "asked for again"
    [first] = office.google.batches.made
    first.name = "batches/ours"
    async with office.db.transaction() as tx:
        await tx._on.execute("update batch set remote = 'batches/ours'")
    office.google.batches.made.append(
        type(first)("batches/twin", first.display_name, first.model, first.items, False, HANGS, 1e18)
    )
    assert await batcher.step()
    assert [one.state for one in office.google.batches.made] == ["RUNNING", "CANCELLED"]


async def test_a_refused_batch_leaves_its_tasks_to_direct_calls(office: Office) -> None:
    await office.shop.post("hi", "ho")
    office.google.batches.refusals.append(Fault(400).response())
    await office.batcher().gather()
    [one] = await office.known()
    assert (one.state, one.outcome, one.fell_back) == (Stage.OVER, "invalid argument", 2)
    assert await queue.waiting_lanes(office.db, ["gemini"])


async def test_what_no_call_would_answer_fails_and_costs_nothing(office: Office) -> None:
    good, blocked, invalid = await office.shop.post(
        f"good {USAGE}", f"blocked {USAGE} [[blocked=SAFETY]]", f"invalid {USAGE} [[status=3]]"
    )
    batcher = office.batcher()
    await batcher.gather()
    await office.looks(batcher)
    [one] = await office.known()
    assert (one.answered, one.failed, one.fell_back, one.saved) == (1, 1, 1, 1_393_000)
    assert (await office.shop.account()).spent == 1_393_000 + 200_000
    assert await queue.ends(office.db, office.shop.clock().date(), [good, blocked, invalid]) == {
        good: (20000, 1_593_000), blocked: (50301, 0),
    }  # fmt: skip
    [lane] = await queue.waiting_lanes(office.db, ["gemini"])
    claimed = await queue.claim(office.db, office.lease.token, lane.id, 9)
    assert [one.id for one in claimed] == [invalid], "what a batch refused, a direct call may answer"


async def test_a_result_that_breaks_us_leaves_the_others_alone(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    await office.shop.post(f"good {USAGE}", f"odd {USAGE}")
    answer = office.provider.batch_answer

    async def odd(call: Call, body: bytes) -> tuple[Answer | Failure, Nano]:
        if "odd" in call.prompt.user_prompt:
            raise ValueError("a bug")
        return await answer(call, body)

    monkeypatch.setattr(office.provider, "batch_answer", odd)
    batcher = office.batcher()
    await batcher.gather()
    await office.looks(batcher)
    [one] = await office.known()
    assert (one.state, one.answered, one.fell_back) == (Stage.OVER, 1, 1)


async def test_a_late_word_of_a_batch_changes_nothing(office: Office) -> None:
    """The promoter was faster: its task is called directly, and settled by that alone."""
    [task_id] = await office.shop.post(f"hi {USAGE}")
    batcher = office.batcher()
    await batcher.gather()
    async with office.db.transaction() as tx:
        await tx._on.execute("update queue set run_at = now()")
    assert await queue.promote(office.db)
    await office.looks(batcher)
    assert office.google.batches.executed == {task_id: 1}
    assert (await office.shop.account()).spent == 0
    [lane] = await queue.waiting_lanes(office.db, ["gemini"])
    assert [one.id for one in await queue.claim(office.db, office.lease.token, lane.id, 9)] == [task_id]


async def test_the_deadline_ends_tasks_in_a_batch(office: Office) -> None:
    await office.shop.post("hi")
    await office.batcher().gather()
    assert await expire(office.db, office.shop.clock, postback, -1.0) == 1
    await office.looks(office.batcher())
    [one] = await office.known()
    assert (one.state, one.answered) == (Stage.OVER, 0)
    assert (await office.shop.account()).held == 0


async def test_another_worker_leaves_a_batch_alone_while_its_own_lives(office: Office) -> None:
    await office.shop.post("hi")
    async with office.db.transaction() as tx:  # as if in the middle of a look
        await batches.gather(
            tx, office.lease.token, (await batches.gatherable(tx, ["gemini"], 0.0, 9, 9, within=120.0))[0], "p", "n",
            9, seconds=60.0, spare=60.0,
        )  # fmt: skip
    other = await office.shop.lease()
    assert await batches.take(office.db, other, ["gemini"]) is None
    await office.lease.end()
    taken = await batches.take(office.db, other, ["gemini"])
    assert taken is not None and taken.state == Stage.GATHERED
    assert not await batches.write(office.db, office.lease.token, taken), "it is another's now"


async def test_a_batch_that_became_anothers_keeps_its_tasks_and_its_remote(office: Office) -> None:
    """A worker that was frozen and declared dead gives up what another looks after by now."""
    await office.shop.post(f"one {USAGE}", f"two {USAGE}")
    frozen, lease = office.batcher(), office.lease
    office.lease = Lease(office.db, "another", 60)
    await office.lease.begin()
    other = office.batcher()

    class Frozen(GeminiBatches):
        def inline(self, items: Sequence[bytes]) -> bool:
            return False

        async def upload(self, project: str, name: str, items: Sequence[bytes]) -> str | Failure:
            await lease.end()
            assert await other.step(), "another takes it and has it made"
            return Failure(reason="invalid argument")

    frozen._provider = Frozen(office.provider)
    await frozen.gather()
    [one] = await office.known()
    assert (one.state, one.fell_back) == (Stage.RUNNING, 0)
    await office.looks(other)
    [one] = await office.known()
    assert (one.state, one.answered) == (Stage.OVER, 2)


async def test_a_page_that_breaks_us_leaves_the_others_alone(office: Office) -> None:
    """Written, not read: the one whose answer cannot be put into words is called directly."""
    await office.shop.post(f"good {USAGE}", f"odd {USAGE}")
    batcher = office.batcher()
    times = count(1)

    def odd(answer: Answer, at: datetime) -> bytes:
        if next(times) == 1:
            raise ValueError("a bug")
        return answer_result(answer, at)

    batcher._render = odd
    await batcher.gather()
    await office.looks(batcher)
    [one] = await office.known()
    assert (one.state, one.answered, one.fell_back) == (Stage.OVER, 1, 1)


async def test_a_late_batch_is_cancelled_until_that_works(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs on when its tasks are called directly is paid for twice."""
    office.google.batches.takes = 3_600.0
    await office.shop.post("hi")
    batcher = office.batcher()
    await batcher.gather()
    cancel, asked = batcher._provider.cancel, count(1)

    async def lost(project: str, remote: str) -> Failure | None:
        return Failure(reason="overloaded", transient=True) if next(asked) < 3 else await cancel(project, remote)

    monkeypatch.setattr(batcher._provider, "cancel", lost)
    for outcome, state in ((None, "RUNNING"), (None, "RUNNING"), ("late", "CANCELLED")):
        await office.db._pool.execute("update batch set deadline = now() - interval '1 second', look_at = now()")
        assert await batcher.step()
        assert ([one.outcome for one in await office.known()], office.google.batches.made[0].state) == (
            [outcome], state,
        )  # fmt: skip
    await office.db._pool.execute("update batch set look_at = now()")
    await office.looks(batcher)
    [one] = await office.known()
    assert (one.state, one.answered, next(asked)) == (Stage.OVER, 1, 4), "what it did until then is read"


async def test_what_no_batch_may_take_makes_none_due(office: Office) -> None:
    """Else an old task of one account, paused or of a short deadline, sends everybody's youngest off one by one."""
    await office.shop.post("old")
    await pause_account(office.db, "shop", paused=True, by="operator")
    await office.db._pool.execute("update queue set posted_at = posted_at - interval '2 hours'")
    await open_account(office.db, "another")
    office.shop.id = await office.db._pool.fetchval("select id from account where login = 'another'")
    await office.shop.post("young")
    assert await office.batcher(gather=3_600.0).gather() == 0
    assert await office.batcher(gather=3_600.0, full=2).gather() == 0, "nor does it fill one"
    await pause_account(office.db, "shop", paused=False, by="operator")
    assert await office.batcher(gather=3_600.0).gather() == 1


async def test_what_is_paused_after_gathering_is_not_asked_for(office: Office) -> None:
    """Contract §12.30: until the batch is asked for, a pause holds; a paused account's tasks leave the others."""
    model = Model(name="gemini-2.5-flash", served="gemini-2.5-flash", provider="gemini")
    await office.shop.post(f"paused {USAGE}")
    first = office.shop.id
    await open_account(office.db, "another")
    office.shop.id = await office.db._pool.fetchval("select id from account where login = 'another'")
    [other] = await office.shop.post(f"other {USAGE}")
    office.shop.id = first
    office.google.batches.refusals.append(Fault(429).response())
    batcher = office.batcher()
    await batcher.gather()
    await pause_model(office.db, model, paused=True)
    await office.looks(batcher, 3)
    [one] = await office.known()
    assert (one.state, one.outcome) == (Stage.GATHERED, "its model is paused")
    await pause_model(office.db, model, paused=False)
    await pause_account(office.db, "shop", paused=True, by="operator")
    await office.db._pool.execute("update batch set look_at = now()")
    await office.looks(batcher)
    [one] = await office.known()
    assert (one.state, one.answered, one.fell_back) == (Stage.OVER, 1, 1)
    assert office.google.batches.executed == {other: 1}


async def test_a_batch_made_after_it_became_anothers_is_cancelled(office: Office) -> None:
    """A worker freezes between writing that it asks and asking; another asks again; then it thaws."""
    office.google.batches.takes = 3_600.0
    await office.shop.post("hi")
    frozen, lease = office.batcher(), office.lease
    office.lease = Lease(office.db, "another", 60)
    await office.lease.begin()

    class Frozen(GeminiBatches):
        async def create(
            self, project: str, model: str, name: str, *, items: Sequence[bytes], file: str, seconds: float
        ) -> Sent | Failure:
            await lease.end()
            await office.db._pool.execute("update batch set look_at = now()")
            assert await office.batcher(doubt=0.0).step(), "not found: it will be asked for again"
            assert await office.batcher().step(), "asked for again"
            return await super().create(project, model, name, items=items, file=file, seconds=seconds)

    frozen._provider = Frozen(office.provider)
    await frozen.gather()
    assert [one.state for one in office.google.batches.made] == ["RUNNING", "CANCELLED"]
    [one] = await office.known()
    assert (one.state, one.remote) == (Stage.RUNNING, office.google.batches.made[0].name)


async def test_what_gathers_does_not_wait_for_all_that_is_due(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """While there is always a batch to look at, new ones are made."""
    office.google.batches.takes = 3_600.0
    await office.shop.post("first")
    batcher = office.batcher()
    await batcher.gather()
    step, looked = batcher.step, asyncio.Event()

    async def busy() -> bool:
        await office.db._pool.execute("update batch set look_at = now() where state = 2")
        if not looked.is_set():
            looked.set()
            await office.shop.post("second")
        return await step()

    monkeypatch.setattr(batcher, "step", busy)
    running = asyncio.create_task(batcher.run())
    try:
        async with asyncio.timeout(30):
            while len(await office.known()) < 2:
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
