"""The monkey: a real restante under load, and everything that can be killed, frozen, cut or lied to is, by a seed.

    python -m tests.chaos.monkey --seed 1 --kills 1000 --crashes 100 --write docs/reliability.md
    python -m tests.chaos.monkey --seed 2 --minutes 2 --database-url postgresql://... --database-crash 'COMMAND'

At the end every task that was answered with 20100 is answered once, charged once and fetched; the ledger adds up; and
the provider was asked no more often than once a task, and once more for each task that was leased to a process at the
moment when it was killed, frozen past its lease or cut off.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from tests.chaos import tally as tallies
from tests.chaos.crowd import Crowd
from tests.chaos.tally import Tally
from tests.chaos.test_webhooks import client
from tests.chaos.troupe import CUT_SECONDS, LEASE_SECONDS, Database, Member, Troupe
from tests.chaos.verdict import judge
from tests.support import OPERATOR, environment

#: How often each is done, of all that is done.
WEIGHTS = {
    "worker killed": 72.0,
    "API killed": 4.0,
    "up killed": 1.5,
    "worker frozen": 5.0,
    "worker cut off": 4.0,
    "PostgreSQL killed": 4.0,
    "PostgreSQL stopped": 4.0,
    "connections ended": 3.0,
    "receiver broken": 1.0,
    "power cut": 0.4,
}
SETTLED_SECONDS = 120.0  # for everything to settle after the last fault


class Plan(NamedTuple):
    """What is wanted of a run. It ends when there were so many kills and crashes, or when the time is over."""

    seed: int
    kills: int = 1_000
    crashes: int = 100
    minutes: float = 60.0
    workers: int = 6
    apis: int = 2
    ups: int = 1
    outstanding: int = 150  # tasks in the queue
    database_url: str | None = None
    database_crash: str | None = None


class Monkey:
    """One run."""

    def __init__(self, plan: Plan, directory: Path, hooks: Any) -> None:
        self.plan, self.directory, self.hooks = plan, directory, hooks
        self.chance = random.Random(f"monkey {plan.seed}")
        self.tally = Tally()
        self.log = directory / "calls"
        self.database = Database(directory / "data", plan.database_url, plan.database_crash)
        settings = {
            "LEASE_SECONDS": str(LEASE_SECONDS), "PROVIDER": "scripted", "SCRIPTED_LOG": str(self.log),
            "LIMITS": "relaxed", "CONCURRENCY": "12", "WEBHOOK_ALLOW": "127.0.0.1", "DATABASE_CONNECTIONS": "5",
            "DRAIN_SECONDS": "5",
        }  # fmt: skip
        if plan.database_url is not None:
            settings["DATABASE_URL"] = plan.database_url
        self.env = environment(directory / "data", **settings)
        self.troupe = Troupe(directory, self.env, self.database, self.chance)
        self.crowd = Crowd(lambda: self.troupe.urls, OPERATOR, hooks.url, plan.outstanding, plan.seed)
        self.began = time.monotonic()
        self.ending: set[asyncio.Task[None]] = set()  # faults that last

    async def run(self) -> None:
        """The load, the keeper, the monkey; then peace, until all is settled."""
        self.troupe.wanted = {"up": self.plan.ups, "api": self.plan.apis, "worker": self.plan.workers}
        first = "up" if self.plan.ups else "api"
        self.troupe.start(first)  # makes the operator's account, alone
        await self._first()
        await self.troupe.ready()
        self.began = time.monotonic()
        async with asyncio.TaskGroup() as work:
            load = work.create_task(self.crowd.run())
            keeper = work.create_task(self._keep())
            await self._torment()
            await self._peace(load)
            keeper.cancel()

    async def _first(self) -> None:
        async with asyncio.timeout(60):
            while not all(one.ready for one in self.troupe.members):
                for one in self.troupe.members:
                    one.look()
                    assert one.alive, one.process.log
                await asyncio.sleep(0.05)

    async def _keep(self) -> None:
        """Start whoever is missing, and see what has settled."""
        said = 0.0
        while True:
            self.troupe.look()
            wanted = self.tally.open()
            ids = [one for one in wanted if len(one) == 36]
            hooks = [int(one[5:]) for one in wanted if one.startswith("hook ")]
            rows = await self.database.rows("select id::text from queue where id = any ($1::uuid[])", ids)
            left = {row["id"] for row in rows} | self.crowd.open()
            rows = await self.database.rows("select id from delivery where id = any ($1) and state < 3", hooks)
            self.tally.look(left | {f"hook {row['id']}" for row in rows})
            [row] = await self.database.rows("select count(*) as n from queue")
            self.crowd.queued = row["n"]
            if time.monotonic() - said > 15:
                said = time.monotonic()
                self.say(row["n"])
            await asyncio.sleep(0.15)  # what other processes commit sends no event

    def say(self, queued: int) -> None:
        """How far it is."""
        tally = self.tally
        print(
            f"{time.monotonic() - self.began:6.0f} s: {tally.count(*tallies.KILLS)} kills"
            f" ({tally.with_work:.0%} with leased work), {tally.count(*tallies.CRASHES)} crashes,"
            f" {len(tally.faults)} faults; {len(self.crowd.accepted)} tasks accepted,"
            f" {len(self.crowd.fetched)} fetched, {queued} queued, {len(self.crowd.wrong)} wrong",
            flush=True,
        )

    # --- faults -----------------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        enough = self.tally.count(*tallies.KILLS) >= self.plan.kills
        crashed = self.tally.count(*tallies.CRASHES) >= self.plan.crashes or not self.database.breakable
        return (enough and crashed) or time.monotonic() - self.began > self.plan.minutes * 60

    async def _torment(self) -> None:
        await asyncio.sleep(2)  # the load's own time
        kind = self._choose()
        while not self.done:
            if await self._able() and await self._do(kind):
                kind = self._choose()
                await asyncio.sleep(self.chance.uniform(0.1, 0.6))
            else:
                await asyncio.sleep(0.05)
        for lasting in list(self.ending):
            await lasting

    async def _able(self) -> bool:
        """Whether there is enough to break: a machine that only starts processes proves nothing."""
        return len(self.troupe.of("worker")) > self.plan.workers // 2 and bool(self.troupe.of("api"))

    def _choose(self) -> str:
        weights = dict(WEIGHTS)
        if self.tally.count(*tallies.KILLS) >= self.plan.kills:  # only crashes are missing
            weights = dict.fromkeys(("PostgreSQL killed", "PostgreSQL stopped"), 1.0)
        if not self.database.breakable:
            for kind in tallies.CRASHES:
                weights.pop(kind, None)
        elif self.database.embedded is None:
            weights.pop("power cut", None)
        return self.chance.choices(list(weights), list(weights.values()))[0]

    async def _do(self, kind: str) -> bool:
        match kind:
            case "worker killed":
                return await self._kill_worker()
            case "API killed" | "up killed":
                return await self._kill_node("api" if kind == "API killed" else "up", kind)
            case "worker frozen":
                return await self._lasting("worker", self._freeze)
            case "worker cut off":
                return await self._lasting("worker", self._cut)
            case "PostgreSQL killed" | "PostgreSQL stopped":
                return await self._crash(kind)
            case "connections ended":
                return await self._end_connections()
            case "receiver broken":
                return self._lasts(self._break_receiver())
            case _:
                return await self._power_cut()

    async def _laden(self) -> tuple[Member, list[str]] | None:
        """A worker that has leased work, stopped, so that what it holds is what it holds."""
        held = await self.troupe.held()
        laden = [one for one in self.troupe.of("worker") if held.get(one.pid)]
        if not laden:
            return None
        victim = self.chance.choice(laden)
        return victim, await self.troupe.stop(victim)

    async def _kill_worker(self) -> bool:
        found = await self._laden()
        if found is None:
            return False
        victim, held = found
        self.tally.add("worker killed", held, leased=bool(held), repeats=True)
        self.troupe.end(victim)
        return True

    async def _kill_node(self, node: str, kind: str) -> bool:
        victims = self.troupe.of(node)
        if not victims:
            return False
        victim = self.chance.choice(victims)
        held = await self.troupe.stop(victim)
        self.tally.add(kind, {*held, *self.crowd.open(victim.url)}, leased=bool(held))
        self.troupe.end(victim)
        return True

    def _lasts(self, fault: Any) -> bool:
        task = asyncio.create_task(fault)
        self.ending.add(task)
        task.add_done_callback(self.ending.discard)
        return True

    async def _lasting(self, kind: str, fault: Any) -> bool:
        found = await self._laden()
        if found is None:
            return False
        victim, held = found
        victim.busy = True
        self.troupe.struck.add(victim.pid)
        return self._lasts(fault(victim, held))

    async def _freeze(self, victim: Member, held: list[str]) -> None:
        self.tally.add("worker frozen", held, leased=True, repeats=True)
        await asyncio.sleep(LEASE_SECONDS + self.chance.uniform(0.8, 2.0))
        victim.process.signal(signal.SIGCONT)
        victim.busy = False

    async def _cut(self, victim: Member, held: list[str]) -> None:
        self.tally.add("worker cut off", held, leased=True, repeats=True)
        victim.process.signal(signal.SIGUSR1)
        victim.process.signal(signal.SIGCONT)
        await asyncio.sleep(CUT_SECONDS + 0.5)
        victim.busy = False

    async def _crash(self, kind: str) -> bool:
        held = await self.troupe.held()
        self.tally.add(kind, {*(one for ids in held.values() for one in ids), *self.crowd.open()})
        await self.database.crash(signal.SIGKILL if kind == "PostgreSQL killed" else signal.SIGQUIT)
        return True

    async def _end_connections(self) -> bool:
        held = await self.troupe.held()
        self.tally.add("connections ended", {*(one for ids in held.values() for one in ids), *self.crowd.open()})
        await self.database.rows(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
            " and pid <> pg_backend_pid() and backend_type = 'client backend' and (state <> 'idle' or random() < 0.5)"
        )
        return True

    async def _power_cut(self) -> bool:
        held = await self.troupe.stop_all()  # else they go on claiming until the last of them is killed
        if held is None:
            return False
        everything = {one for ids in held.values() for one in ids}
        fault = self.tally.add("power cut", {*everything, *self.crowd.open()}, leased=True)
        self.tally.may_repeat.update(one for one in fault.in_flight if one in everything)
        self.tally.leased += len(everything)
        await asyncio.to_thread(self.troupe.power_cut)
        await self.database.close()
        if self.database.embedded is not None:
            await asyncio.to_thread(self.database.embedded.ensure_running)
        return True

    async def _break_receiver(self) -> None:
        self.hooks.answers(self.chance.choice(("500", "hang", "close")))
        at = time.monotonic()
        await asyncio.sleep(self.chance.uniform(1, 3))
        rows = await self.database.rows("select id from delivery where state < 3")
        self.tally.add("receiver broken", {f"hook {row['id']}" for row in rows}).at = at
        self.hooks.answers("200")

    # --- the end ----------------------------------------------------------------------------------------

    async def _peace(self, load: asyncio.Task[None]) -> None:
        """No more faults: everything settles, every webhook comes, every answer is fetched."""
        self.hooks.answers("200")
        await self.troupe.ready()
        print(f"{time.monotonic() - self.began:6.0f} s: peace", flush=True)
        self.crowd.stop()
        async with asyncio.timeout(SETTLED_SECONDS):
            await load
            while (await self.database.rows("select count(*) as n from queue"))[0]["n"]:
                await asyncio.sleep(0.1)
            while (await self.database.rows("select count(*) as n from delivery where state < 3"))[0]["n"]:
                # Their next attempts would be in minutes and hours (contract §4).
                await self.database.rows("update delivery set run_at = now() where state = 1 and run_at > now()")
                await asyncio.sleep(0.2)
        await asyncio.sleep(0.3)  # the keeper's last look
        await self.crowd.fetch_again(sorted(self.crowd.fetched)[:: max(1, len(self.crowd.fetched) // 300)])


def play(plan: Plan, directory: Path) -> tuple[str, list[str], Tally]:
    """A whole run: what it says of itself, in Markdown; what is wrong (nothing, if all is well); what was done."""
    with client(directory) as hooks:
        monkey = Monkey(plan, directory, hooks)
        monkey.database.start()
        try:
            return *asyncio.run(_played(monkey)), monkey.tally
        finally:
            monkey.troupe.kill()
            monkey.database.stop()


async def _played(monkey: Monkey) -> tuple[str, list[str]]:
    playing = asyncio.current_task()
    assert playing is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, playing.cancel)
    try:
        await monkey.run()
        return await judge(monkey)
    finally:
        for one in monkey.troupe.members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGCONT)
        await monkey.database.close()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind in get_type_hints(Plan).items():
        default = Plan._field_defaults.get(name)
        convert = kind if kind in (int, float) else str
        parser.add_argument(f"--{name.replace('_', '-')}", type=convert, default=default, required=name == "seed")
    parser.add_argument("--write", type=Path, help="put the table into this page")
    parser.add_argument("--keep", type=Path, help="keep the processes' logs in this directory")
    given = parser.parse_args(arguments)
    plan = Plan(**{name: getattr(given, name) for name in Plan._fields})
    with contextlib.ExitStack() as stack:
        if given.keep is None:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="monkey-")))
        else:
            directory = given.keep
            directory.mkdir(parents=True)
        directory.chmod(0o755)
        text, wrong, _ = play(plan, directory)
        print(text)
        for one in wrong:
            print(f"WRONG: {one}")
        if given.write is not None and not wrong:
            tallies.write(given.write, text)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
