"""Tasks are claimed and models answer, one after the other and at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from restante.core.answer import Failure
from restante.core.errors import OK_CODE, ProviderFailed, TaskFailed
from restante.flow.settle import failed
from restante.store import deliveries, queue
from tests.model.base import COST, PICK, WHO
from tests.model.book import FINAL, Is, Task
from tests.model.posting import Posting
from tests.model.world import Api, Worker, answer


class Running(Posting):
    """Tasks are claimed and models answer, one after the other and at once."""

    async def _adopt(self, tokens: Sequence[int], most: int) -> list[Task]:
        """What claims took by the database's word, if it was theirs to take; those that are leased now."""
        could = self.book.claimable()
        rows = await self.db._on.fetch("select id, state, token, run_at = 'infinity' as waits from queue")
        seen = {str(row["id"]): row for row in rows}
        taken = [task for task in could if task.id not in seen or seen[task.id]["state"] != 0]
        assert min(1, len(could)) * bool(tokens) <= len(taken) <= most, f"{len(taken)} of {len(could)} for {most}"
        if len({task.live for task in could}) == 1 and tokens:
            assert len(taken) == min(most, len(could)), "a claim left what it could have had"
        leased = []
        for task in taken:
            row = seen.get(task.id)
            token = tokens[0] if row is None or row["token"] is None else row["token"]
            assert token in tokens
            code = self.book.claim(task, token)
            if code is not None:
                assert self.book.settle(task, token, code, 0, self.world.clock.now)
            elif task.state == Is.LEASED:
                leased.append(task)
        return leased

    def lives(self, worker: Worker) -> list[int]:
        return [worker.lease.token] if worker.lease.token in self.living else []

    def note_wasted(self) -> None:
        self.world.wasted |= {task.id: task.wasted for task in self.tasks}

    @rule(who=WHO, most=st.integers(1, 8))
    @precondition(lambda self: self.book.claimable())
    def claim(self, who: int, most: int) -> None:
        self.note_wasted()
        worker = self.workers[who]

        async def work() -> None:
            await worker.claim(most)
            leased = await self._adopt(self.lives(worker), most)
            before = {id(flight) for _, flight in self.flights}
            self.note_flights()
            asked = [flight.work for _, flight in self.flights if id(flight) not in before]
            assert sorted(map(str, asked)) == sorted(task.id for task in leased)

        self.run(work())

    @rule(most=st.integers(1, 3))
    @precondition(lambda self: self.book.claimable())
    def both_claim_at_once(self, most: int) -> None:
        self.note_wasted()

        async def work() -> None:
            tokens = [token for worker in self.workers for token in self.lives(worker)]
            await asyncio.gather(*(worker.claim(most) for worker in self.workers))
            could, before = len(self.book.claimable()), {id(flight) for _, flight in self.flights}
            leased = await self._adopt(tokens, len(tokens) * most) if tokens and could else []
            self.note_flights()
            asked = [flight for _, flight in self.flights if id(flight) not in before]
            assert sorted(str(one.work) for one in asked) == sorted(task.id for task in leased), "claimed twice"

        self.run(work())

    @rule(who=WHO, most=st.integers(1, 3))
    @precondition(lambda self: self.book.claimable() and not self.book.model_paused)
    def claim_and_lose_the_reply(self, who: int, most: int) -> None:
        """The claim is committed, and its process never hears of it."""
        worker = self.workers[who]

        async def work() -> None:
            if not self.lives(worker):
                return
            taken = await queue.claim(self.db, worker.lease.token, self.lane, most)
            worker.lease.doubt()
            could = [task for task in self.book.claimable() if not task.live]
            rows = await self.db._on.fetch("select id from queue where state = 1 and run_at = 'infinity'")
            waits = {str(row["id"]) for row in rows}
            picked = [task for task in could if task.id in waits or task.id in {one.id for one in taken}]
            assert len(picked) == min(most, len(could))
            for task in picked:
                self.book.claim(task, worker.lease.token)

        self.run(work())

    @rule(picks=st.lists(st.tuples(PICK, COST), min_size=1, max_size=4))
    @precondition(lambda self: self.calls(webhooks=False))
    def models_answer(self, picks: list[tuple[int, int]]) -> None:
        """At once; some of them may be late, or two of the same task."""
        chosen = {id(f): (f, cost) for pick, cost in picks for _, f in [self.pick(pick, self.calls(webhooks=False))]}
        ends = [(flight, cost, f"said {next(self.said)}") for flight, cost in chosen.values()]

        async def work() -> None:
            await self.ended(*((flight, answer(text, cost)) for flight, cost, text in ends))
            for flight, cost, text in ends:
                task = self.book.tasks[str(flight.work)]
                self.book.settle(task, flight.token, OK_CODE, cost, self.world.clock.now, text)

        self.run(work())

    @rule(pick=PICK)
    @precondition(lambda self: self.calls(webhooks=False))
    def a_model_refuses(self, pick: int) -> None:
        _, flight = self.pick(pick, self.calls(webhooks=False))
        self.run(self.ended((flight, Failure(reason="no"))))
        self.book.settle(self.book.tasks[str(flight.work)], flight.token, ProviderFailed.code, 0, self.world.clock.now)

    @rule(pick=PICK, costly=st.booleans())
    @precondition(lambda self: self.calls(webhooks=False))
    def a_model_puts_off(self, pick: int, costly: bool) -> None:
        process, flight = self.pick(pick, self.calls(webhooks=False))
        task = self.book.tasks[str(flight.work)]
        self.run(self.ended((flight, Failure(reason="later", transient=True, costly=costly))))
        if isinstance(process, Api):  # nobody waits with a live task
            self.book.settle(task, flight.token, ProviderFailed.code, 0, self.world.clock.now)
        else:
            self.book.put_off(task, flight.token, costly=costly, wasted=flight.before, now=self.world.clock.now)

    @rule()
    @precondition(lambda self: self.book.parked())
    def the_time_of_what_is_parked_comes(self) -> None:
        async def work() -> None:
            await self.db._on.execute("update queue set run_at = now() where state = 1 and run_at <> 'infinity'")
            await self.db._on.execute("update delivery set run_at = now() where state = 1")
            await queue.promote(self.db)
            await deliveries.promote(self.db)

        self.run(work())
        self.book.promote()

    @rule(pick=PICK, token=PICK)
    @precondition(lambda self: self.tasks)
    def a_settlement_comes_that_is_nobodys(self, pick: int, token: int) -> None:
        """Replayed, or under a lease that is not the task's: it changes nothing."""
        task = self.pick(pick, self.tasks)
        tokens = [one for one in (*self.living, 5) if one != task.token or task.state in FINAL]
        whose = self.pick(token, tokens)
        assert not self.run(self.workers[0].settler.settle(failed(whose, task.id, task.day, TaskFailed("replayed"))))
