"""Processes freeze, die, leave and come back."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from restante.flow.lease import reap
from tests.model.base import WHO
from tests.model.book import Hook, Task
from tests.model.running import Running
from tests.model.world import Worker


class Leasing(Running):
    """Processes freeze, die, leave and come back."""

    @rule(who=st.integers(0, 2))
    def a_lease_runs_out(self, who: int) -> None:
        """Of a process that is frozen or cut off; what it runs goes on."""
        token = self.processes[who].lease.token
        if token in self.living:
            self.living[token] = False
            self.run(
                self.db._on.execute("update worker set expires_at = now() - interval '1 s' where token = $1", token)
            )

    @rule(who=st.integers(0, 2))
    def a_process_dies(self, who: int) -> None:
        """Another begins in its place; what it had asked may still answer, late."""
        token = self.processes[who].lease.token

        async def work() -> None:
            if token in self.living:
                self.living[token] = False
                await self.db._on.execute(
                    "update worker set expires_at = now() - interval '1 s' where token = $1", token
                )
            if who == 2:
                self.api = await self.world.api()
            else:
                self.workers[who] = await self.world.worker(f"worker {who} again")
            self.living[self.processes[who].lease.token] = True

        self.run(work())

    @rule()
    @precondition(lambda self: not all(self.living.values()))
    def the_dead_are_reaped(self) -> None:
        self.run(reap(self.db))
        for token in [token for token, lives in self.living.items() if not lives]:
            del self.living[token]
            self.book.free(token, lost=True)

    @rule(who=WHO)
    @precondition(lambda self: any(self.beats_for_something(one) for one in self.workers))
    def a_heart_beats(self, who: int) -> None:
        worker, token = self.workers[who], self.workers[who].lease.token
        doubtful = worker.lease._doubtful
        self.run(worker.beat())
        self.note_flights()
        if token in self.living:
            self.living[token] = True
            mine = [flight.work for process, flight in self.flights if process is worker and flight.token == token]
            known: list[Task | Hook] = [
                self.book.hooks[one] for one in mine if isinstance(one, tuple) and one in self.book.hooks
            ]
            known += [self.book.tasks[one] for one in mine if isinstance(one, str)]
            if doubtful:
                self.book.free(token, lost=True, but=known)
        else:
            self.living[worker.lease.token] = True

    def beats_for_something(self, worker: Worker) -> bool:
        """Whether a heartbeat changes anything: the lease ran out, was ended, or is in doubt."""
        return not self.living.get(worker.lease.token) or worker.lease._doubtful

    @rule(who=WHO)
    def a_worker_leaves(self, who: int) -> None:
        worker, token = self.workers[who], self.workers[who].lease.token

        async def work() -> None:
            await worker.leave()
            self.note_flights()
            self.workers[who] = await self.world.worker(f"worker {who} anew")
            self.living[self.workers[who].lease.token] = True

        self.run(work())
        if self.living.pop(token, None) is not None:
            self.book.free(token, lost=False)
