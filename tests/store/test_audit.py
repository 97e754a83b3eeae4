"""Every promise that the audit checks (docs/invariants.md): it finds nothing in a scene with all there is, and names
the promise once a row was tampered with, past the constraints where there are any."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta

import asyncpg
import msgspec
import pytest

from restante.core.errors import ProviderFailed
from restante.flow import accounts
from restante.flow.settle import failed
from restante.store import audit, deliveries, queue
from restante.store.database import Database, Session
from restante.store.deliveries import Attempt, Kind, Owed
from restante.wiring import utc_now
from tests.flow.conftest import Shop, parsed
from tests.flow.test_settle import success
from tests.support import differences, open_account

pytestmark = pytest.mark.breaks_invariants

#: Names of the scene's tasks: queued, leased, failed; answered: listed (with a pingback), delivered (a postback); live.
Scene = Mapping[str, str]


@pytest.fixture
async def scene(db: Database) -> AsyncIterator[Scene]:
    """Tasks of every kind, made by the flows; the audit finds nothing."""
    await open_account(db, "shop", "10")
    await open_account(db, "another", "1")
    shop = Shop(db, (await accounts.find(db, "shop")).id)
    token = await shop.lease()
    listed, delivered, broken, leased = await shop.post("a", "b", "c", "d")
    assert len(await shop.claim(token)) == 4
    hooks = (Owed(Kind.PINGBACK, "h:1", "http://h:1/"), Owed(Kind.POSTBACK, "h:1", "http://h:1/", b"gzip"))
    for task_id, hook in ((listed, hooks[0]), (delivered, hooks[1])):
        assert await shop.settler.settle(msgspec.structs.replace(success(token, task_id), owed=(hook,)))
    day = parsed(broken).posted_on(utc_now().date())
    assert day is not None
    assert await shop.settler.settle(failed(token, broken, day, ProviderFailed("overloaded")))
    made = await deliveries.claim(db, token, [("h:1", shop.id, 10)])
    done = [Attempt(one.id, utc_now(), 1, 200, b"", None, None) for one in made if one.kind == Kind.POSTBACK]
    assert len(await deliveries.record(db, token, utc_now(), done)) == 1
    [queued] = await shop.post("e")
    live = f"{queued[:13]}-0612-0000-000000000001"
    held = await queue.hold_live(db, token, utc_now(), [queue.LiveOrder(live, shop.id, 5)])
    assert held is not None and held.held == {live}
    assert not await differences(db)
    yield {
        "listed": listed, "delivered": delivered, "failed": broken, "leased": leased, "queued": queued, "live": live,
    }  # fmt: skip


FREE = "set local session_replication_role = replica; "  # triggers rest
LOOSE = "alter table task drop constraint failed_task_is_free; " + FREE
HOLD = (
    "insert into transfer select hold_day, gen_random_uuid(), 2, account_id, -1, 1, 0, 0, now() from transfer limit 1"
)
NOBODYS = FREE + "update transfer set task_id = gen_random_uuid() where kind = 3 and task_id = '{failed}'"
MORE = FREE + "update transfer set held = held + 1, balance = balance - 1 where task_id = '{failed}'"

TAMPERED = [
    # The ledger.
    ("I1", "alter table transfer drop constraint transfer_adds_up; " + FREE + "update transfer set funded = 0", "I1"),
    ("I2", "alter table account drop constraint account_adds_up; update account set balance = 5", "I2: account 1"),
    ("I2", "update account set balance = balance + 1, funded = funded + 1", "I2: account 1 (shop)"),
    ("I2", "update account set balance = balance + 5, held = held - 5 where id = 1", "I2: account 1 (shop)"),
    ("I2", FREE + "delete from transfer where kind = 1", "I2: account 1 (shop)"),
    ("I2", "insert into transfer values (current_date, gen_random_uuid(), 1, 9, 5, 0, 0, 5, now())", "account None"),
    ("I2", "update account set today_posted = 1 where id = 1", "spent 1 posted and 5 live"),
    ("I2", "update account set today = null, today_posted = 0, today_live = 0 where id = 1", "say 20800000 and 5"),
    ("I3", HOLD, "I3: "),
    ("I3", FREE + "delete from transfer where kind = 3 and task_id = '{failed}'", "I3: final, and not resolved"),
    ("I3", FREE + "update transfer set task_id = '{queued}' where kind = 3 and task_id = '{failed}'", "and not final"),
    ("I3", NOBODYS, "I3: resolved, and no task"),
    ("I3", MORE, "I3: resolved as another"),
    ("I3", "update task set held = 1 where id = '{queued}'", "I3: "),
    ("I3", LOOSE + "update task set charged = 7 where id = '{failed}'", "I3: resolved as another"),
    (
        "I4", LOOSE + "update task set charged = 7 where id = '{failed}';"
        " update transfer set spent = 7, balance = balance - 7 where kind = 3 and task_id = '{failed}'",
        "I4: failed, and charged",
    ),
    ("I5", "alter table transfer disable trigger transfer_is_append_only", "I5: the table transfer "),
    ("I5", "drop trigger transfer_is_kept on transfer", "I5: the table transfer "),
    # The life of a task.
    ("I6", "delete from queue where id = '{queued}'", "I6: neither final nor in the queue"),
    ("I6", "update queue set held = 1 where id = '{queued}'", "I6: queued as another"),
    ("I6", "update queue set lane = 0 where id = '{queued}'", "I6: queued as another"),
    ("I6", "update queue set id = gen_random_uuid() where id = '{queued}'", "I6: in the queue, and no task"),
    (
        "I6", "insert into queue (id, day, account_id, lane, turn, state, held, posted_at)"
        " select id, day, account_id, 1, 1, 0, held, posted_at from task where id = '{listed}'",
        "I6: in the queue, and final",
    ),
    ("I6", "delete from task_request where id = '{queued}'", "I6: unfinished, and what it asks is lost"),
    ("I7", "alter table task disable trigger task_ends_once", "I7: the table task "),
    ("I7", FREE + "update task set code = 50301 where id = '{listed}'", "I7: its state and its code differ"),
    ("I8", "delete from answer where id = '{listed}'", "I8: its answer or its request is lost"),
    ("I8", "delete from task_request where id = '{failed}'", "I8: its answer or its request is lost"),
    ("I8", "update answer set code = 40103 where id = '{failed}'", "I8: its answer is another"),
    ("I8", "update answer set id = gen_random_uuid() where id = '{failed}'", "I8: an answer, and no task"),
    ("I8", "update answer set id = '{queued}' where id = '{failed}'", "I8: answered, and not final"),
    ("I8", "update answer set id = '{live}' where id = '{failed}'", "I8: kept, although it is live"),
    # Listed, owed, leased.
    ("I9", "update ready set id = gen_random_uuid() where id = '{listed}'", "I9: listed, and no task"),
    ("I9", "update ready set id = '{queued}' where id = '{listed}'", "I9: listed, and not final"),
    ("I9", "update ready set account_id = 2 where id = '{listed}'", "I9: listed to another account"),
    ("I9", "update ready set seq = 1000 where id = '{listed}'", "I9: listed at a place where collecting"),
    (
        "I9", "insert into ready select account_id, 1, seq, task_id, posted_at, tag, now() from delivery"
        " where task_id = '{delivered}'",
        "I9: listed, although its postback was delivered",
    ),
    ("I10", "update delivery set task_id = gen_random_uuid() where task_id = '{listed}'", "and no task"),
    ("I10", "update delivery set task_id = '{queued}' where task_id = '{listed}'", "I10: a webhook, and not final"),
    ("I10", "update delivery set task_id = '{live}' where task_id = '{listed}'", "I10: a webhook, "),
    ("I10", "update delivery set account_id = 2 where task_id = '{listed}'", "I10: a webhook of another account"),
    ("I10", "update delivery set seq = 1000 where task_id = '{listed}'", "I10: its webhook would list it where"),
    ("I11", "delete from worker", "I11: leased to nobody"),
    ("I11", "delete from worker", "I11: its webhook is leased to nobody"),
    ("I11", "update queue set batch = 7 where id = '{leased}'", "I11: in a batch, and not waiting for it"),
]  # fmt: skip


async def test_whatever_is_tampered_with_is_named(db: Database, dsn: str, scene: Scene) -> None:
    """Each in a transaction of its own, which the audit looks into and which is rolled back."""
    connection = await asyncpg.connect(dsn)
    unnamed = []
    for number, tamper, found in TAMPERED:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(tamper.format(**scene))
        said = await differences(Session(connection))
        await transaction.rollback()
        named = [one for one in said if found in one]
        if not any(one.startswith(f"{number}: ") for one in named):
            unnamed.append((number, tamper, found, said))
    await connection.close()
    assert not unnamed
    assert not await differences(db)


@pytest.mark.parametrize(
    "change",
    [
        "update transfer set balance = 0",
        "delete from transfer",
        "truncate transfer",
        "truncate {partition}",
        "update task set code = 50000, charged = 0, state = 2 where id = '{listed}'",
        "update task set charged = charged + 1 where id = '{listed}'",
        "update task set state = 0, code = null, charged = null, settled_at = null where id = '{failed}'",
    ],
)
async def test_the_ledger_and_what_is_final_are_not_changed(db: Database, dsn: str, scene: Scene, change: str) -> None:
    connection = await asyncpg.connect(dsn)
    with pytest.raises(asyncpg.RestrictViolationError, match=r"never updated or deleted|stays as it ended"):
        await connection.execute(change.format(partition=f"transfer_{utc_now():%Y%m%d}", **scene))
    await connection.close()
    assert not await differences(db)


async def test_a_day_made_later_protects_its_transfers_too(db: Database, dsn: str) -> None:
    later = utc_now().date() + timedelta(days=30)
    await db.prepare_days(later)
    connection = await asyncpg.connect(dsn)
    with pytest.raises(asyncpg.RestrictViolationError):
        await connection.execute(f"truncate transfer_{later:%Y%m%d}")
    await connection.close()
    assert not await differences(db)


async def test_parts_of_a_day_are_looked_at_one_by_one(db: Database, dsn: str) -> None:
    """Small parts find what one large part finds, each once."""
    await open_account(db, "shop", "10")
    shop = Shop(db, (await accounts.find(db, "shop")).id)
    start = utc_now().replace(hour=12, minute=0)
    ids = []
    for minute in range(6):
        shop.clock.offset = start + timedelta(minutes=minute) - utc_now()
        ids += await shop.post("a", "b", "c")
    connection = await asyncpg.connect(dsn)
    for task_id in (ids[0], ids[7], ids[17]):
        await connection.execute("delete from queue where id = $1", task_id)
    await connection.close()
    for part in (1, 4, 1_000):
        said = [one async for one in audit.day(db, start.date(), part)]
        assert [sum(task_id in one for one in said) for task_id in ids] == [int(at in (0, 7, 17)) for at in range(18)]
    said = [one async for one in audit.queue(db, 4)]
    assert said == []
    await db._on.execute("update queue set token = 5, state = 2")
    assert len([one async for one in audit.queue(db, 4)]) == 15


async def test_days_whose_answers_are_over_are_visited_when_asked_for(db: Database, dsn: str, scene: Scene) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("update task set held = 1 where id = $1", scene["queued"])
    assert [one async for one in accounts.audit(db, full=False)]
    await connection.execute(f"drop table answer_{utc_now():%Y%m%d}")
    await connection.close()
    assert not [one async for one in accounts.audit(db, full=False) if "tasks hold" in one]
    assert [one async for one in accounts.audit(db) if "tasks hold" in one]
