"""What became of everything after the monkey: in the database, at the provider, at the receiver, in the logs."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from restante.core.errors import ProviderFailed
from restante.core.limits import LOST_LEASES_MAX
from restante.core.task import Function
from tests.chaos import tally as tallies
from tests.support import OPERATOR, Process

if TYPE_CHECKING:
    from tests.chaos.monkey import Monkey

_BAD_LINE = r"Traceback|CRITICAL|broke|Exception in ASGI|not settled as it ended"


async def judge(monkey: Monkey) -> tuple[str, list[str]]:
    """The run in Markdown, and what is wrong with it."""
    wrong = list(monkey.crowd.wrong)
    lost, twice = await _money(monkey, wrong)
    said = await _calls(monkey, wrong)
    lost |= await _webhooks(monkey, wrong)
    reaped = _reaped(monkey, wrong)
    wrong += await monkey.troupe.retire()
    await asyncio.to_thread(_audit, monkey, wrong)
    wrong += monkey.troupe.said(_BAD_LINE)[:20]
    text = monkey.tally.table(lost, twice) + "\n" + _words(monkey, said) + reaped
    return text, wrong


async def _money(monkey: Monkey, wrong: list[str]) -> tuple[set[str], set[str]]:
    """Each task ended once and cost what it costs; tasks that did not end, and tasks that were paid twice."""
    rows = await monkey.database.rows(
        "select t.id::text as id, t.function, t.state, t.code, t.charged,"
        " (select count(*) from transfer f where f.hold_day = t.day and f.task_id = t.id and f.kind = 3) as settled"
        " from task t join account a on a.id = t.account_id where a.login = $1",
        OPERATOR[0],
    )
    found = {row["id"]: row for row in rows}
    crowd = monkey.crowd
    lost = {one for one in crowd.accepted if one not in found or found[one]["state"] == 0}
    lost |= {one for one in crowd.accepted if one not in crowd.fetched}
    twice = {one for one, row in found.items() if row["settled"] > 1}
    for one, wanted in crowd.accepted.items():
        row = found.get(one)
        # More than so many lost leases: it may be the task that kills its workers, and is given up (design, Data 5).
        poison = one in crowd.given_up and monkey.tally.may_repeat[one] > LOST_LEASES_MAX
        end = (2, ProviderFailed.code, 0, 1) if poison else (1, 20000, wanted.cost, 1)
        if row is None or (row["state"], row["code"], row["charged"], row["settled"]) != end:
            wrong.append(f"task {one}: {row and dict(row)}, it should cost {wanted.cost}")
    for one, cost in crowd.live.items():
        row = found.get(one)
        ended = row and (row["charged"], row["settled"])
        if ended != ((cost, 1) if cost is not None else (0, 1)) and not (row is None and cost is None):
            wrong.append(f"live task {one}: {row and dict(row)}, its client heard of {cost}")
    for one, row in found.items():
        if row["state"] == 0 or row["settled"] != 1:
            wrong.append(f"task {one} has not ended once: {dict(row)}")
        if row["function"] == Function.TASK_POST and one not in crowd.accepted:
            wrong.append(f"task {one} is there, and nobody was told 20100")
    [account] = await monkey.database.rows("select * from account where login = $1", OPERATOR[0])
    spent = sum(row["charged"] for row in rows)
    if (account["held"], account["spent"], account["balance"]) != (0, spent, account["funded"] - spent):
        wrong.append(f"the account does not add up: {dict(account)}, the tasks cost {spent}")
    return lost, twice


async def _calls(monkey: Monkey, wrong: list[str]) -> str:
    """The provider's own record: how often it was asked."""
    made = tallies.calls(monkey.log)
    may = monkey.tally.may_repeat
    beyond = {one: calls for one, calls in made.items() if calls > 1 + may[one]}
    for one, calls in list(beyond.items())[:20]:
        wrong.append(f"the provider was asked {calls} times for {one}, {1 + may[one]} at the most were expected")
    if len(beyond) > 20:
        wrong.append(f"and so for {len(beyond) - 20} more")
    total, tasks = sum(made.values()), len(made)
    if total > tasks + monkey.tally.leased:
        wrong.append(f"{total} provider calls > {tasks} tasks + {monkey.tally.leased} leased to who was struck")
    for pid_calls in _by_clock(monkey):
        fault = monkey.tally.add("clock wrong", pid_calls)
        fault.recovered = None
    for tasks_cut, seconds in monkey.crowd.cuts:
        fault = monkey.tally.add("client hung up", {f"task {one}" for one in range(tasks_cut)})
        fault.recovered = seconds
    return (
        f"Provider calls: {total:,}, for {tasks:,} tasks; {monkey.tally.leased:,} were leased to a worker at the moment"
        f" when it was killed, frozen past its lease or cut off, {total - tasks:,} were called again."
    )


def _by_clock(monkey: Monkey) -> list[set[str]]:
    """What processes with wrong clocks asked for."""
    clocks = monkey.troupe.clocks
    asked: dict[int, set[str]] = {pid: set() for pid in clocks}
    for pid, task_id in tallies.callers(monkey.log):
        if pid in asked:
            asked[pid].add(task_id)
    return list(asked.values())


async def _webhooks(monkey: Monkey, wrong: list[str]) -> set[str]:
    """Each that was ordered came, under one id; those that did not."""
    lost = set()
    came: dict[tuple[str, str], set[str]] = {}
    for hit in monkey.hooks.hits():
        kind = "postback" if hit["method"] == "POST" else "pingback"
        came.setdefault((hit["path"][1:], kind), set()).add(hit["headers"]["webhook-id"])
    for one, wanted in monkey.crowd.accepted.items():
        if wanted.told and came.get((one, wanted.told)) != {f"{one}-{wanted.told}"}:
            wrong.append(f"the {wanted.told} of {one} came as {came.get((one, wanted.told))}")
    for row in await monkey.database.rows("select id, task_id, state, attempts from delivery where state <> 3"):
        wrong.append(f"a webhook was not brought: {dict(row)}")
        lost.add(f"hook {row['id']}")
    return lost


def _reaped(monkey: Monkey, wrong: list[str]) -> str:
    """Whose leases others ended, and that something had been done to each of them."""
    names = Counter[int]()
    for line in monkey.troupe.said("leases ended without a word"):
        names.update(int(pid) for pid in re.findall(r"(?:worker|api) \S+ (\d+)", line))
    struck = monkey.troupe.struck
    innocent = sorted(pid for pid in names if pid not in struck)
    if innocent:
        wrong.append(f"leases of processes that nothing had been done to were ended: {innocent}")
    which = f"all but {len(innocent)}" if innocent else "each"
    return f" {sum(names.values()):,} leases were ended by others, {which} of a process that had been struck.\n"


def _words(monkey: Monkey, said: str) -> str:
    plan, crowd, tally = monkey.plan, monkey.crowd, monkey.tally
    kills = tally.count(*tallies.KILLS)
    return (
        f"Seed {plan.seed}, {plan.workers} workers, {plan.apis} API nodes, {plan.ups} `restante up`,"
        f" {(time.monotonic() - monkey.began) / 60:.1f} minutes: {kills:,} kills, {tally.with_work:.1%} of them with"
        f" leased work, {tally.count(*tallies.CRASHES)} database crashes. {len(crowd.accepted):,} tasks were answered"
        f" with 20100 and {len(crowd.live):,} live calls answered; {crowd.repeated:,} POSTs were repeated with their"
        f" key. {said} {len(crowd.given_up):,} tasks were struck more than {LOST_LEASES_MAX} times, and given up and"
        " refunded."
    )


def _audit(monkey: Monkey, wrong: list[str]) -> None:
    """`restante ledger audit` finds nothing."""
    env: dict[str, Any] = monkey.env
    audit = Process(["ledger", "audit"], env, monkey.directory, "audit")
    if audit.wait(120) != 0 or "no difference" not in audit.stdout:
        wrong.append(f"the audit: {audit.stdout}{audit.log}")
