"""What leaves: webhooks, answers, listings, money and time."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from restante.core.errors import OK_CODE
from restante.core.limits import DEADLINE_SECONDS, READY_SECONDS
from restante.core.money import Nano
from restante.flow import accounts, expire
from restante.flow.end import cancel
from restante.flow.end import expire as end_late
from restante.flow.erase import erase
from restante.flow.pause import pause_account, pause_model
from restante.store import deliveries
from restante.store.accounts import By
from restante.store.deliveries import Attempt
from restante.web.wire import postback
from restante.webhooks.sender import Outcome
from tests.model.base import PICK, WHO, WHOSE
from tests.model.book import ATTEMPTS, DEADLINE, FINAL, RESULT_DAYS, Account, Is, Task
from tests.model.leasing import Leasing
from tests.model.world import MODEL, Flight, answer

TAKEN = Outcome(1, 200, b"")
REFUSED = Outcome(1, 500, b"no", "HTTP 500")


class Machine(Leasing):
    """All rules together."""

    # --- webhooks --------------------------------------------------------------------------------------

    @rule(who=WHO)
    @precondition(lambda self: self.book.deliverable())
    def webhooks_go_out(self, who: int) -> None:
        worker = self.workers[who]
        self.run(worker.deliver())
        before = {id(flight) for _, flight in self.flights}
        self.note_flights()
        sent = [flight.work for _, flight in self.flights if id(flight) not in before]
        could = self.book.deliverable() if self.lives(worker) else []
        assert sorted(map(str, sent)) == sorted(str((hook.task.id, hook.kind)) for hook in could)
        for hook in could:
            hook.state, hook.token = Is.LEASED, worker.lease.token

    def received(self, flight: Flight, ok: bool) -> None:
        """The book hears how a webhook was taken."""
        assert isinstance(flight.work, tuple)
        hook = self.book.hooks.get(flight.work)
        if hook is not None:
            self.book.record(hook, flight.token, before=flight.before, ok=ok, now=self.world.clock.now)

    @rule(picks=st.lists(st.tuples(PICK, st.booleans()), min_size=1, max_size=3))
    @precondition(lambda self: self.calls(webhooks=True))
    def receivers_answer(self, picks: list[tuple[int, bool]]) -> None:
        chosen = {id(f): (f, ok) for pick, ok in picks for _, f in [self.pick(pick, self.calls(webhooks=True))]}
        self.run(self.ended(*((flight, TAKEN if ok else REFUSED) for flight, ok in chosen.values())))
        for flight, ok in chosen.values():
            self.received(flight, ok)

    @rule(who=WHO, ok=st.booleans())
    @precondition(lambda self: self.book.deliverable())
    def a_receiver_is_asked_until_the_schedule_ends(self, who: int, ok: bool) -> None:
        """All webhooks fail nine times; then they succeed, or are given up."""
        for number in range(ATTEMPTS):
            if self.book.deliverable():
                self.webhooks_go_out(who)
            mine = [flight for _, flight in self.calls(webhooks=True)]
            if not mine:
                return
            last = ok and number == ATTEMPTS - 1
            self.run(self.ended(*((flight, TAKEN if last else REFUSED) for flight in mine)))
            for flight in mine:
                self.received(flight, last)
            self.the_time_of_what_is_parked_comes()

    @rule(pick=PICK, token=PICK)
    @precondition(lambda self: self.book.hooks)
    def an_attempt_is_recorded_that_is_nobodys(self, pick: int, token: int) -> None:
        """Replayed, or under a lease that is not the webhook's: it changes nothing."""
        hook = self.pick(pick, list(self.book.hooks.values()))
        tokens = [one for one in (*self.living, 5) if one != hook.token]

        async def work() -> None:
            number = await self.db._on.fetchval(
                "select id from delivery where task_id = $1 and kind = $2", hook.task.id, hook.kind
            )
            again = Attempt(number, self.world.clock(), 1, 500, b"", "replayed", 5.0)
            assert await deliveries.record(self.db, self.pick(token, tokens), self.world.clock(), [again]) == set()

        self.run(work())

    @rule(picks=st.lists(PICK, min_size=1, max_size=3), whose=WHOSE)
    @precondition(lambda self: self.tasks)
    def webhooks_are_asked_for_again(self, picks: list[int], whose: int) -> None:
        account = self.account(whose)
        tasks = [self.pick(pick, self.tasks) for pick in picks]
        said = self.run(self.world.resender.resend(account.id, [task.id for task in tasks]))
        told = {task.id: self.book.resend(task, account) for task in {task.id: task for task in tasks}.values()}
        assert [one.code for one in said] == [told[task.id] for task in tasks]

    # --- collecting ------------------------------------------------------------------------------------

    async def collected(self, task: Task, account: Account) -> None:
        said = await self.world.collector.task_get(account.id, task.id)
        assert said.code == self.book.get(task, account)
        assert said.code != OK_CODE or (said.result is not None and f'"{task.said}"'.encode() in said.result)

    @rule(pick=PICK, whose=st.integers(0, 5), times=st.integers(1, 2))
    @precondition(lambda self: self.tasks)
    def a_task_is_collected(self, pick: int, whose: int, times: int) -> None:
        """By its own account, most of the time; by two connections at once; and again, which says the same."""
        task = self.pick(pick, self.tasks)
        account = task.account if whose > 2 else self.account(whose)

        async def work() -> None:
            await asyncio.gather(*(self.collected(task, account) for _ in range(times)))

        self.run(work())

    @rule(whose=WHOSE)
    @precondition(lambda self: any(task.listed_at for task in self.tasks))
    def what_is_listed_is_collected(self, whose: int) -> None:
        """As clients do. What may stay are tasks whose answers are over: their webhooks were owed for that long."""
        account = self.account(whose)

        async def work() -> None:
            for one in await self.world.collector.ready(account.id):
                await self.collected(self.book.tasks[one.id], account)
            left = [self.book.tasks[one.id] for one in await self.world.collector.ready(account.id)]
            assert not any(task.kept for task in left)

        self.run(work())

    @rule(pick=PICK)
    @precondition(lambda self: self.calls(webhooks=True))
    def a_task_is_collected_while_its_webhook_fails(self, pick: int) -> None:
        _, flight = self.pick(pick, self.calls(webhooks=True))
        task = self.book.tasks[flight.work[0]]

        async def work() -> None:
            got, _ = await asyncio.gather(
                self.world.collector.task_get(task.account.id, task.id), self.ended((flight, REFUSED))
            )
            # In whatever order: it is listed only if it could not be handed out.
            code = self.book.get(task, task.account)
            assert got.code == code
            self.received(flight, ok=False)

        self.run(work())

    # --- money and words -------------------------------------------------------------------------------

    @rule(whose=WHOSE, amount=st.sampled_from([10_200_000, 50_000_000, 500_000_000, -20_000_000]))
    def money_comes_or_is_taken_back(self, whose: int, amount: int) -> None:
        account = self.account(whose)
        self.book.top_up(account, amount)
        assert self.run(accounts.top_up(self.db, account.login, Nano(amount), self.world.clock())) == account.balance

    @rule(whose=WHOSE, by=st.sampled_from(["owner", "operator"]))
    def an_account_is_paused(self, whose: int, by: By) -> None:
        account = self.account(whose)
        self.book.pause(account, by)
        assert self.run(pause_account(self.db, account.login, paused=True, by=by))

    @rule(whose=WHOSE, by=st.sampled_from(["owner", "operator"]))
    def an_account_is_resumed(self, whose: int, by: By) -> None:
        account = self.account(whose)
        assert self.run(pause_account(self.db, account.login, paused=False, by=by)) == self.book.resume(account, by)

    @rule(paused=st.booleans())
    def the_model_is_paused_or_resumed(self, paused: bool) -> None:
        self.book.model_paused = paused
        self.run(pause_model(self.db, MODEL, paused=paused))

    @rule(whose=WHOSE, pick=PICK, all_of_them=st.booleans())
    @precondition(lambda self: self.tasks)
    def tasks_are_cancelled(self, whose: int, pick: int, all_of_them: bool) -> None:
        account = self.account(whose)
        chosen = self.tasks if all_of_them else [self.pick(pick, self.tasks)]
        ids = None if all_of_them else [chosen[0].id]
        ended = self.run(cancel(self.db, self.world.clock(), postback, account_id=account.id, ids=ids))
        mine = [task for task in chosen if task.account is account]
        assert sorted(ended) == sorted(self.book.end(mine, self.world.clock.now))

    @rule(who=WHO)
    @precondition(lambda self: self.book.claimable() and not self.book.model_paused)
    def tasks_are_cancelled_while_they_are_claimed(self, who: int) -> None:
        """Each is one's or the other's."""
        self.note_wasted()
        worker = self.workers[who]

        async def work() -> None:
            waiting = [task for task in self.tasks if task.state not in (*FINAL, Is.LEASED) and not task.live]
            could = [task for task in self.book.claimable() if task.account.runs and not task.live]
            ended, _ = await asyncio.gather(
                cancel(self.db, self.world.clock(), postback, ids=[task.id for task in could]), worker.claim(20)
            )
            rest = [task for task in waiting if task.id in ended]
            assert sorted(self.book.end(rest, self.world.clock.now)) == sorted(ended)
            await self._adopt(self.lives(worker), 20)
            self.note_flights()

        self.run(work())

    @rule(whose=WHOSE)
    @precondition(lambda self: len(self.tasks) > 10)
    def an_account_is_erased(self, whose: int) -> None:
        """Whatever runs for it; what is said then is late."""
        account = self.account(whose)
        erased = self.run(erase(self.db, account.login, self.world.clock()))
        assert erased.cancelled == self.book.erase(account, self.world.clock.now)
        self.keys = {key: kept for key, kept in self.keys.items() if key[0] != account.id}

    # --- time ------------------------------------------------------------------------------------------

    @rule(hours=st.sampled_from([1, 25, 73, 25 * 35]))
    @precondition(lambda self: self.world.clock.now - self.day < timedelta(days=120))
    def time_passes(self, hours: int) -> None:
        """A step of it never meets the very end of a deadline: its hours add up to none."""
        self.world.clock.now += timedelta(hours=hours, minutes=1)
        self.run(self.db.prepare_days(self.world.clock.now.date()))

    @rule()
    @precondition(lambda self: self.world.clock.now - self.day > timedelta(days=1))
    def the_deadline_is_looked_at(self) -> None:
        late = [task for task in self.tasks if task.posted_at < self.world.clock.now - DEADLINE]
        ended = self.run(end_late(self.db, self.world.clock, postback, DEADLINE_SECONDS))
        assert len(self.book.end(late, self.world.clock.now)) == ended

    @rule()
    @precondition(lambda self: self.world.clock.now - self.day > timedelta(days=1))
    def what_is_over_is_forgotten(self) -> None:
        self.run(
            expire.forget(
                self.db, self.world.clock(), ready_seconds=READY_SECONDS, result_days=RESULT_DAYS, task_days=186,
                error_days=7,
            )
        )  # fmt: skip
        self.book.forget(self.world.clock.now)

    @rule(who=WHO)
    def everything_comes_to_its_end(self, who: int) -> None:
        """Nothing is stuck: with money, time and a worker all that was accepted becomes final."""
        for account in self.book.accounts.values():
            self.an_account_is_resumed(list(self.book.accounts.values()).index(account), "operator")
            if account.owes:
                self.money_comes_or_is_taken_back(list(self.book.accounts).index(account.id), -account.balance)
        self.the_model_is_paused_or_resumed(paused=False)
        for process in range(3):
            self.a_process_dies(process)
        self.the_dead_are_reaped()
        self.the_time_of_what_is_parked_comes()
        while self.book.claimable():
            self.claim(who, 20)
            mine = [flight for process, flight in self.calls(webhooks=False) if process is self.workers[who]]
            self.run(self.ended(*((flight, answer("at last", 0)) for flight in mine)))
            for flight in mine:
                self.book.settle(
                    self.book.tasks[str(flight.work)], flight.token, OK_CODE, 0, self.world.clock.now, "at last"
                )
        assert all(task.state in FINAL for task in self.tasks)
        assert all(account.held == 0 for account in self.book.accounts.values())
