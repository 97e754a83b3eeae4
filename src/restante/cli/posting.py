"""A run of `restante task post`: posts what is left to post, waits for what was accepted, and can be ended anywhere."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Task as Bar
from rich.text import Text

from restante.cli.common import err
from restante.cli.journal import Journal, Run, Send
from restante.cli.prompts import Prompt
from restante.cli.text import say, visible
from restante.client import Client, Entry
from restante.client.calls import FAMILY, batches
from restante.core import errors
from restante.core.errors import OperatorError
from restante.core.limits import IDEMPOTENCY_HOURS, RESUME_SPARE_SECONDS
from restante.core.money import show_usd

_KEPT_SECONDS: Final = IDEMPOTENCY_HOURS * 3_600.0  # an Idempotency-Key, where the server does not say

#: A POST of which all is refused for money is the last: the next would be, too.
_NO_MONEY: Final = frozenset({errors.InsufficientFunds.code, errors.CapReached.code})


def run_of(prompts: Sequence[Prompt], url: str, login: str) -> Run:
    """What makes a run the same: its tasks in their order, the server and the account."""
    digest = hashlib.blake2b(digest_size=20)
    for prompt in prompts:
        digest.update(msgspec.json.encode(prompt.task) + b"\n")
    return Run(uuid.uuid4().hex, digest.hexdigest(), len(prompts), url.rstrip("/"), login)


def kept_seconds(document: Mapping[str, Any]) -> float:
    """How long an Idempotency-Key has its first answer on a server, by what its OpenAPI document says."""
    try:
        parameters = document["paths"][f"{FAMILY}/task_post"]["post"]["parameters"]
        [key] = [one["schema"] for one in parameters if one.get("name") == "Idempotency-Key"]
        return float(key["x-kept-seconds"])
    except (KeyError, TypeError, ValueError):
        return _KEPT_SECONDS


class Posting:
    """One run over an open journal. `kept`: seconds that the server knows an Idempotency-Key. `repost`: what was being
    posted before that is posted anew."""

    def __init__(
        self,
        client: Client,
        journal: Journal,
        prompts: Sequence[Prompt],
        *,
        kept: float | None = None,
        repost: bool = False,
    ) -> None:
        self._client = client
        kept = _KEPT_SECONDS if kept is None else kept
        self._resumes = max(kept - RESUME_SPARE_SECONDS, kept / 2)
        self._journal = journal
        self._prompts = prompts
        self._repost = repost
        self.stopped = ""  # why not all was posted

    async def post(self) -> None:
        """Post what is left, up to 100 tasks a call. Raises ClientError and OperatorError."""
        journal = self._journal
        unsure = list(journal.unsure.values())
        with _bar("posting", len(self._prompts)) as advance:
            advance(len(self._prompts) - len(journal.left()) - sum(len(send.tasks) for send in unsure), 0)
            for send in unsure:
                if time.time() - send.at > self._resumes:
                    self._too_late(send)
                else:
                    advance(len(await self._send(send)), 0)
            left = journal.left()
            start = 0
            for batch in batches(self._prompts[task].task for task in left):
                entries = await self._send(journal.send(left[start : start + len(batch)], time.time()))
                start += len(batch)
                advance(len(entries), 0)
                if all(entry.status_code in _NO_MONEY for entry in entries):
                    self.stopped = entries[0].status_message
                    return

    async def _send(self, send: Send) -> list[Entry]:
        entries = await self._client.post_batch([self._prompts[task].task for task in send.tasks], key=send.key)
        self._journal.sent(send, entries)
        return entries

    def _too_late(self, send: Send) -> None:
        """A key has its first answer for a day, or as the server says; later, posting again might buy again."""
        if self._repost:
            self._journal.forget(send)
            return
        at = datetime.fromtimestamp(send.at, UTC)
        raise OperatorError(
            f"{len(send.tasks)} prompts were being posted when the run was killed at {at:%Y-%m-%d %H:%M} UTC, "
            "longer ago than the server remembers: whether they were accepted cannot be told any more.",
            f"`restante task list --since {at:%Y-%m-%dT%H:%M}` shows what was; --repost posts these {len(send.tasks)} "
            "again.",
        )

    async def wait(self) -> None:
        """Wait for all that was accepted. Raises ClientError."""
        journal = self._journal
        places = {task_id: task for task, task_id in journal.ids.items()}
        with _bar("answers", len(places) + len(journal.answered)) as advance:
            advance(len(journal.answered), journal.charged)
            async for entry in self._client.answers(list(places)):
                journal.end(places[entry.id], entry)
                advance(1, journal.charged)


class _Rate(TextColumn):
    """How many a second, and what they have cost so far."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Bar) -> Text:
        rate = f"{task.speed:,.1f}/s" if task.speed else "-/s"
        cost = task.fields.get("cost")
        return Text(rate + (f"  ${show_usd(cost)}" if cost else ""))


@contextmanager
def _bar(what: str, total: int) -> Iterator[Any]:
    """A progress bar on a terminal; nothing elsewhere."""
    columns = (TextColumn(f"{what:<8}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        bar: TaskID = progress.add_task("", total=total)

        def advance(more: int, cost: int) -> None:
            progress.update(bar, advance=more, cost=cost)

        yield advance


def tell(journal: Journal, prompts: Sequence[Prompt], *, waited: bool, seconds: float, stopped: str) -> None:
    """What came of it, in a line or a few, on standard error."""
    left = len(journal.left())
    failed = left - _never_posted(journal)
    if waited:
        parts = [f"{len(journal.answered):,} of {len(prompts):,} answered", f"${show_usd(journal.charged)} charged"]
    else:
        parts = [f"{len(journal.ids) + len(journal.answered):,} of {len(prompts):,} posted"]
    parts += [f"{failed:,} failed"] * bool(failed) + [f"{left - failed:,} not posted"] * (left > failed)
    parts += [f"{len(journal.lost):,} cannot be fetched any more"] * bool(journal.lost)
    say(", ".join(parts) + f", in {seconds:,.1f} s")
    if stopped:
        say(f"posting ended early: {visible(stopped)} Top up, then run the same command again.")
    if left and journal.path is not None:
        say(
            f"run the same command again to post {left:,} of them anew: failures cost nothing, and what is answered is "
            f"not paid for again (state: {journal.path}; --new forgets it)"
        )


def _never_posted(journal: Journal) -> int:
    return sum(1 for task in journal.left() if task not in journal.failed)


def tell_how_to_go_on(journal: Journal, prompts: Sequence[Prompt], why: str) -> None:
    """After Ctrl-C, and where the server was away for too long."""
    posted = len(journal.ids) + len(journal.answered) + len(journal.lost)
    say(f"{why}: {posted:,} of {len(prompts):,} posted, {len(journal.answered):,} answered")
    if journal.path is not None:
        say(f"run the same command again: it goes on, and pays for nothing twice (state: {journal.path})")
        return
    if journal.ids:
        say("these are posted and paid for, `restante task get ID` fetches them:")
        for task_id in journal.ids.values():
            say(f"  {task_id}")
    if journal.unsure:
        say("some were just being posted: `restante task list` shows whether they were accepted")


def state_path(source: str, state: Path | None) -> Path | None:
    """Where a run's state is kept: as said, else beside the input; of standard input nowhere."""
    if state is not None:
        return state
    return None if source == "-" else Path(source + ".restante")
