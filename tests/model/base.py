"""What the rules of the machine stand on: a database and processes for each example, and the look after each step.

The rules are in posting.py, running.py, leasing.py and leaving.py, each a class on top of the one before."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import asyncpg
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant

from restante.flow import accounts
from restante.store import queue
from restante.store.database import Database
from tests.databases import dsn_of
from tests.model.book import Account, Book, Task
from tests.model.compare import differ, tables
from tests.model.world import MODEL, Api, Flight, Worker, World
from tests.support import differences, open_account

T = TypeVar("T")
_numbers = itertools.count()

PICK = st.integers(0, 1_000)  # one of what there is, by its place
WHO = st.integers(0, 1)  # which worker
WHOSE = st.integers(0, 2)  # which account
COST = st.sampled_from([0, 1, 9_000_000, 10_000_000, 35_000_000])  # of a call, nano-dollars; a hold covers 10,000,000
TASKS = st.lists(
    st.fixed_dictionaries(
        {"model_name": st.just(MODEL.name), "user_prompt": st.sampled_from(["a", "b", "c", 5])},  # the judge refuses 5
        optional={"pingback_url": st.just("http://127.0.0.1:1/$id"), "postback_url": st.just("http://127.0.0.1:2/$id")},
    ),
    min_size=1, max_size=4,
)  # fmt: skip
KEY = st.sampled_from([None, None, "key 1", "key 2"])


class House:
    """What the examples of a test share: an event loop, and a database that each finds empty."""

    def __init__(self, server: str, template: str, day: datetime) -> None:
        self.day = day
        self.loop = asyncio.Runner()
        self._server, self._template = server, template
        self._name = f"model_{next(_numbers)}"
        self.loop.run(self._open())

    async def _open(self) -> None:
        admin = await asyncpg.connect(self._server)
        await admin.execute(f"create database {self._name} template {self._template}")
        await admin.execute(f"alter database {self._name} set synchronous_commit = off")
        await admin.close()
        self.db = Database(dsn_of(self._server, self._name), connections=3)
        await self.db.open()
        await self.db.migrate()

    async def empty(self) -> None:
        """As a new installation: no row that anybody wrote, the days of today. Calls that still wait are cut off."""
        running = [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self.db._on.execute(_EMPTY)
        await self.db.prepare_days(self.day.date())

    async def _close(self) -> None:
        await self.empty()
        await self.db.close()
        admin = await asyncpg.connect(self._server)
        await admin.execute(f"drop database {self._name} with (force)")
        await admin.close()

    def close(self) -> None:
        self.loop.run(self._close())
        self.loop.close()


# Rows of the ledger are kept by triggers, days in the future only cost time.
_EMPTY = """
begin; set local session_replication_role = replica;
delete from account; delete from transfer; delete from task; delete from task_request; delete from answer;
delete from answer_raw; delete from queue; delete from ready; delete from ready_mark; delete from delivery;
delete from attempt; delete from worker; delete from turn; delete from lane where id <> 0; delete from idempotency;
delete from fingerprint; delete from webhook_secret;
do $$ declare late regclass; begin
    for late in select c.oid from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where c.relkind = 'r' and right(c.relname, 8) > to_char(now() + interval '9 days', 'YYYYMMDD')
    loop execute format('drop table %s', late); end loop;
end $$;
commit;
"""


class Base(RuleBasedStateMachine):
    """One example. `house` is the test's."""

    house: House

    def __init__(self) -> None:
        super().__init__()
        self.loop, self.db, self.day = self.house.loop, self.house.db, self.house.day
        self.book = Book()
        self.flights: list[tuple[Worker | Api, Flight]] = []
        self.keys: dict[tuple[int, str], tuple[bytes, Any, datetime]] = {}
        self.living: dict[int, bool] = {}  # leases by token; False: ran out, and nobody saw it yet
        self.said = itertools.count()

    # --- the world's beginning and end -----------------------------------------------------------------

    def run(self, work: Awaitable[T]) -> T:
        async def one() -> T:
            return await work

        return self.loop.run(one())

    @initialize()
    def begin(self) -> None:
        self.run(self._begin())
        self.something_is_there()

    def something_is_there(self) -> None:
        """Tasks to begin with, so that few steps are about nothing."""

    async def _begin(self) -> None:
        await self.house.empty()
        self.world = World(self.db, self.day)
        limits: Sequence[tuple[str, str, int | None, int, int, int]] = (
            # login, dollars, how far below zero, duplicates an hour, a day's cap, live at once
            ("poor", "0.035", 0, 0, 0, 0),
            ("bounded", "1", 20_000_000, 2, 60_000_000, 1),
            ("metered", "0", None, 0, 0, 0),
        )
        for login, usd, limit, duplicates, cap, live in limits:
            await open_account(self.db, login, usd, None if limit is None else str(limit / 10**9))
            number = (await accounts.find(self.db, login)).id
            account = self.book.accounts[number] = Account(number, login, limit, duplicates, cap, live)
            self.book.top_up(account, round(float(usd) * 10**9))
        self.lane = await queue.ensure_lane(self.db, MODEL.provider, "", MODEL.served)
        self.workers = [await self.world.worker(f"worker {number}") for number in range(2)]
        self.api = await self.world.api()
        self.living = {one.lease.token: True for one in self.processes}

    # --- after each step -------------------------------------------------------------------------------

    @invariant()
    def the_book_and_the_database_agree(self) -> None:
        if hasattr(self, "api"):
            self.run(self._compare())

    async def _compare(self) -> None:
        assert not (found := differ(self.book, await tables(self.db))), found
        now = self.world.clock.now
        for account in self.book.accounts.values():
            listed = [one.id for one in await self.world.collector.ready(account.id)]
            assert sorted(listed) == sorted(self.book.ready(account, now)), f"tasks_ready of {account.login}"
        assert not (found := await differences(self.db)), found

    # --- what rules are made of ------------------------------------------------------------------------

    def account(self, whose: int) -> Account:
        return list(self.book.accounts.values())[whose]

    def pick(self, pick: int, of: Sequence[T]) -> T:
        return of[pick % len(of)]

    @property
    def processes(self) -> list[Worker | Api]:
        return [*self.workers, self.api]

    @property
    def tasks(self) -> list[Task]:
        return list(self.book.tasks.values())

    def note_flights(self) -> None:
        """Calls and webhooks that began; those that were cut off are forgotten."""
        known = {id(flight) for _, flight in self.flights}
        for one in self.processes:
            mine = one.calling + (one.sending if isinstance(one, Worker) else [])
            self.flights += [(one, flight) for flight in mine if id(flight) not in known]
        self.flights = [(one, flight) for one, flight in self.flights if not flight.run.done()]

    def calls(self, *, webhooks: bool) -> list[tuple[Worker | Api, Flight]]:
        return [(one, flight) for one, flight in self.flights if isinstance(flight.work, tuple) == webhooks]

    async def ended(self, *ends: tuple[Flight, Any]) -> None:
        """Let these calls end so, all at once, and wait for what follows."""
        for flight, end in ends:
            flight.ends.set_result(end)
        await asyncio.gather(*(flight.run for flight, _ in ends))
        self.note_flights()
