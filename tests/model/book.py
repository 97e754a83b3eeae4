"""What restante promises, said once more in plain Python: accounts, tasks, webhooks, and what each verb does to them.

No database, no clock of its own, nothing at the same time. tests/model/test_machine.py does to this what it does to the
real flows, and both must say the same after each step. What the flows are free to choose (which tasks a claim takes) is
told to the book, which says whether it was theirs to choose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum

from restante.core.errors import (
    CREATED_CODE,
    OK_CODE,
    AccountPaused,
    CapReached,
    DuplicatesPerHour,
    ForeignTask,
    InsufficientFunds,
    InternalError,
    InvalidField,
    ModelPaused,
    OtherFunction,
    PaymentRequired,
    ProviderFailed,
    ResultsExpired,
    TaskFailed,
    TaskHanded,
    TaskInQueue,
    TaskNotFound,
    TooManyAtOnce,
)
from restante.core.limits import COSTLY_TRIES_MAX, LOST_LEASES_MAX
from restante.core.pricing import LIVE_FEE, LIVE_HOLD, STANDARD_FEE, STANDARD_HOLD

ATTEMPTS = 10  # of a webhook: one at once and nine on the schedule (contract §12.19)
LISTED = timedelta(days=3)
DEADLINE = timedelta(hours=72)
RESULT_DAYS = 34


class Is(StrEnum):
    """Where a task or a webhook stands."""

    READY = "ready"
    PARKED = "parked"  # until its time has come
    WAITING = "waiting"  # for money, or until its account is resumed
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"


FINAL = (Is.DONE, Is.FAILED)


@dataclass
class Account:
    id: int
    login: str
    limit: int | None  # how far below zero; None: metered
    duplicates: int = 0  # an hour; 0: any
    cap: int = 0  # a day; 0: any
    live_at_once: int = 0
    balance: int = 0
    held: int = 0
    spent: int = 0
    funded: int = 0
    paused_by: str | None = None

    @property
    def owes(self) -> bool:
        """Below its limit: its tasks wait, its answers are withheld."""
        return self.limit is not None and self.balance < -self.limit

    @property
    def runs(self) -> bool:
        return not self.owes and self.paused_by is None


@dataclass
class Task:
    id: str
    account: Account
    day: date
    posted_at: datetime
    hold: int
    live: bool
    hooks: tuple[int, ...] = ()  # kinds: 1 pingback, 2 postback
    state: Is = Is.READY
    token: int | None = None
    lost: int = 0
    tries: int = 0
    wasted: int = 0
    charged: int | None = None
    code: int | None = None
    listed_at: datetime | None = None  # in tasks_ready since
    kept: bool = True  # its request and answer
    said: str = ""  # by the model


@dataclass
class Hook:
    task: Task
    kind: int
    state: Is = Is.READY
    token: int | None = None
    attempts: int = 0
    collected: bool = False


@dataclass
class Book:
    accounts: dict[int, Account] = field(default_factory=dict)
    tasks: dict[str, Task] = field(default_factory=dict)
    hooks: dict[tuple[str, int], Hook] = field(default_factory=dict)
    posted: Counter[tuple[int, str, datetime]] = field(default_factory=Counter)  # by prompt and hour
    model_paused: bool = False

    # --- money -----------------------------------------------------------------------------------------

    def top_up(self, account: Account, amount: int) -> None:
        account.balance += amount
        account.funded += amount
        self._wake(account)

    def _wake(self, account: Account) -> None:
        for task in self.tasks.values():
            if task.account is account and task.state == Is.WAITING and account.runs:
                task.state = Is.READY

    def pause(self, account: Account, by: str) -> None:
        if account.paused_by != "operator":
            account.paused_by = by

    def resume(self, account: Account, by: str) -> bool:
        """Whether it may be resumed by this word."""
        if account.paused_by == "operator" and by == "owner":
            return False
        account.paused_by = None
        self._wake(account)
        return True

    def spent_on(self, account: Account, day: date) -> int:
        """What an account's tasks of a day cost: charges of final ones, holds of the others."""
        mine = (task for task in self.tasks.values() if task.account is account and task.day == day)
        return sum(task.hold if task.charged is None else task.charged for task in mine)

    def _room(self, account: Account, day: date) -> tuple[float, float]:
        funds = float("inf") if account.limit is None else account.balance + account.limit
        return funds, account.cap - self.spent_on(account, day) if account.cap else float("inf")

    # --- in --------------------------------------------------------------------------------------------

    def fates(self, account: Account, prompts: Sequence[str], now: datetime) -> list[int | None]:
        """Codes of refusal of the judged tasks of one POST; None: accepted. Duplicates first, then caps and funds,
        which end with the first that they do not cover."""
        hour = now.replace(minute=0, second=0, microsecond=0)
        here: Counter[str] = Counter()
        funds, cap = self._room(account, now.date())
        found: list[int | None] = []
        over: int | None = None
        for prompt in prompts:
            if account.duplicates and self.posted[account.id, prompt, hour] + here[prompt] >= account.duplicates:
                found.append(DuplicatesPerHour.code)
                continue
            here[prompt] += 1
            if over is None and min(funds, cap) < STANDARD_HOLD:
                over = (CapReached if cap < STANDARD_HOLD else InsufficientFunds).code
            found.append(over)
            funds, cap = funds - STANDARD_HOLD, cap - STANDARD_HOLD
        return found

    def live_fate(self, account: Account, prompt: str, now: datetime) -> int | None:
        """The code that a live task is refused with; None: it is held."""
        hour = now.replace(minute=0, second=0, microsecond=0)
        funds, cap = self._room(account, now.date())
        at_work = sum(t.live and t.account is account and t.state == Is.LEASED for t in self.tasks.values())
        if account.duplicates and self.posted[account.id, prompt, hour] >= account.duplicates:
            return DuplicatesPerHour.code
        if account.paused_by is not None:
            return AccountPaused.code
        if self.model_paused:
            return ModelPaused.code
        if account.live_at_once and at_work >= account.live_at_once:
            return TooManyAtOnce.code
        if cap < LIVE_HOLD:
            return CapReached.code
        return InsufficientFunds.code if funds < LIVE_HOLD else None

    def accept(
        self, account: Account, ids: Iterable[tuple[str, str, tuple[int, ...]]], now: datetime, token: int | None = None
    ) -> None:
        """Tasks (id, prompt, webhooks) come in; live ones (`token`) are leased at once."""
        hour = now.replace(minute=0, second=0, microsecond=0)
        for task_id, prompt, hooks in ids:
            live = token is not None
            hold = LIVE_HOLD if live else STANDARD_HOLD
            task = Task(task_id, account, now.date(), now, hold, live, hooks, Is.LEASED if live else Is.READY, token)
            self.tasks[task_id] = task
            account.balance -= hold
            account.held += hold
            self.posted[account.id, prompt, hour] += 1

    # --- run -------------------------------------------------------------------------------------------

    def claimable(self) -> list[Task]:
        """What a claim may take."""
        return [task for task in self.tasks.values() if task.state == Is.READY and (task.live or not self.model_paused)]

    def claim(self, task: Task, token: int) -> int | None:
        """A task that a claim took; the code that it ends with at once, if it does."""
        assert task in self.claimable(), f"{task} was not to be had"
        if not task.live and not task.account.runs:
            task.state = Is.WAITING
            return None
        task.state, task.token = Is.LEASED, token
        if task.live:
            return InternalError.code  # whoever asked is gone
        return ProviderFailed.code if task.lost > LOST_LEASES_MAX else None

    def settle(self, task: Task, token: int, code: int, cost: int, now: datetime, said: str = "") -> bool:
        """An end comes under a lease. False: that is not the task's, and nothing changes."""
        if task.state != Is.LEASED or task.token != token:
            return False
        task.charged = cost + (LIVE_FEE if task.live else STANDARD_FEE) if code == OK_CODE else 0
        task.state, task.token, task.code, task.said = (Is.DONE if code == OK_CODE else Is.FAILED), None, code, said
        account = task.account
        account.balance += task.hold - task.charged
        account.held -= task.hold
        account.spent += task.charged
        if not task.live:
            task.listed_at = None if 2 in task.hooks else now
            for kind in task.hooks:
                self.hooks[task.id, kind] = Hook(task, kind)
        return True

    def put_off(self, task: Task, token: int, *, costly: bool, wasted: int, now: datetime) -> None:
        """The provider says: later. `wasted` calls of the task were paid for when it was claimed."""
        if costly and wasted + 1 >= COSTLY_TRIES_MAX:
            self.settle(task, token, ProviderFailed.code, 0, now)
        elif task.state == Is.LEASED and task.token == token:
            task.state, task.token = Is.PARKED, None
            task.tries += 1
            task.wasted += costly

    def free(self, token: int, *, lost: bool, but: Iterable[Task | Hook] = ()) -> None:
        """What a lease holds is ready again."""
        kept = list(but)
        for task in self.tasks.values():
            if task.state == Is.LEASED and task.token == token and task not in kept:
                task.state, task.token = Is.READY, None
                task.lost += lost
        for hook in self.hooks.values():
            if hook.state == Is.LEASED and hook.token == token and hook not in kept:
                hook.state, hook.token = Is.READY, None

    def parked(self) -> list[Task | Hook]:
        """What waits for its time."""
        every: list[Task | Hook] = [*self.tasks.values(), *self.hooks.values()]
        return [one for one in every if one.state == Is.PARKED]

    def promote(self) -> None:
        """The time of all that is parked has come."""
        for one in self.parked():
            one.state = Is.READY

    def end(self, tasks: Iterable[Task], now: datetime) -> list[str]:
        """Cancelled or past the deadline: what waits fails, what runs goes on."""
        ended = []
        for task in tasks:
            if task.state in (Is.READY, Is.PARKED, Is.WAITING) and not task.live:
                task.state, task.token = Is.LEASED, -1
                assert self.settle(task, -1, TaskFailed.code, 0, now)
                ended.append(task.id)
        return ended

    # --- out -------------------------------------------------------------------------------------------

    def deliverable(self) -> list[Hook]:
        return [hook for hook in self.hooks.values() if hook.state == Is.READY and not hook.task.account.owes]

    def record(self, hook: Hook, token: int, *, before: int, ok: bool, now: datetime) -> bool:
        """An attempt ended under a lease, `before` it so many were recorded."""
        if hook.state != Is.LEASED or hook.token != token:
            return False
        anew = hook.attempts < before  # it was resent meanwhile
        hook.attempts += 1
        hook.token = None
        if ok:
            hook.state = Is.DONE
            if hook.kind == 2:
                hook.task.listed_at = None
            return True
        hook.state = Is.PARKED if anew or before + 1 < ATTEMPTS else Is.FAILED
        if hook.kind == 2 and hook.attempts == 1 and not hook.collected:
            hook.task.listed_at = hook.task.listed_at or now
        return True

    def resend(self, task: Task, account: Account) -> int:
        """The code that a client is told who asks for a task's webhooks again."""
        if task.account is not account:
            return ForeignTask.code
        if task.live:
            return OtherFunction.code
        if task.state not in FINAL:
            return (TaskHanded if task.state == Is.LEASED else TaskInQueue).code
        if not task.kept:
            return ResultsExpired.code
        if not task.hooks:
            return InvalidField.code
        mine = [hook for hook in self.hooks.values() if hook.task is task]
        for hook in mine:
            hook.attempts = 0
            hook.state = Is.LEASED if hook.state == Is.LEASED else Is.READY
        return CREATED_CODE if mine else ResultsExpired.code

    def get(self, task: Task, account: Account) -> int:
        """What task_get says; a final task that is handed out is listed no more."""
        if task.account is not account:
            return ForeignTask.code
        if task.live:
            return TaskNotFound.code
        if task.state not in FINAL:
            return (TaskHanded if task.state == Is.LEASED else TaskInQueue).code
        if not task.kept:
            return ResultsExpired.code
        if account.owes:
            return PaymentRequired.code
        task.listed_at = None
        if (task.id, 2) in self.hooks:
            self.hooks[task.id, 2].collected = True
        assert task.code is not None
        return task.code

    def ready(self, account: Account, now: datetime) -> set[str]:
        """tasks_ready."""
        return {
            task.id
            for task in self.tasks.values()
            if task.account is account
            and not account.owes
            and task.listed_at is not None
            and task.listed_at >= now - LISTED
        }

    def erase(self, account: Account, now: datetime) -> int:
        """An account's texts are forgotten; how many tasks were ended for it, owing nothing."""
        ended = 0
        for task in self.tasks.values():
            if task.account is account:
                if task.state not in FINAL:
                    task.state, task.token = Is.LEASED, -1
                    ended += self.settle(task, -1, TaskFailed.code, 0, now)
                task.kept, task.listed_at = False, None
        self.hooks = {key: hook for key, hook in self.hooks.items() if hook.task.account is not account}
        return ended

    def forget(self, now: datetime) -> None:
        """What is over is forgotten: listings, ended webhooks, the answers of days without open tasks."""
        before = now.date() - timedelta(days=RESULT_DAYS)
        open_days = {task.day for task in self.tasks.values() if task.state not in FINAL}
        for task in self.tasks.values():
            if task.listed_at is not None and task.listed_at < now - LISTED:
                task.listed_at = None
            if task.day < before and task.day not in open_days:
                task.kept = False
        for key, hook in list(self.hooks.items()):
            if hook.task.day < before and hook.state in FINAL:
                del self.hooks[key]
