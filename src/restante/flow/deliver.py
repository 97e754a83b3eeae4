"""Deliver: webhooks owed are claimed, sent many at a time, and recorded in group commits (contract §4, §12.18-20).

Deliveries are queue work like tasks: durable, leased by the worker's token, taken over when it dies. What a delivery
interrupted by anything leaves is its row as it was, so that it is made again under the same `webhook-id`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import heapq
import logging
import random
import secrets
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec

from restante import faults
from restante.core.errors import OK_MESSAGE
from restante.core.limits import (
    BROKEN_SECONDS,
    DELIVERIES_PER_HOST,
    DELIVERIES_UNRECORDED,
    DELIVERY_ACCOUNT_SHARE,
    DELIVERY_CONCURRENCY,
    DELIVERY_PAIRS,
    DELIVERY_RETRY_SECONDS,
    HANGING_AFTER,
    POLL_SECONDS,
)
from restante.flow import observed
from restante.flow.collect import Fetched
from restante.flow.group import Groups, stored
from restante.flow.lease import Lease
from restante.observing import current
from restante.store import deliveries
from restante.store.books_deliveries import WebhookShown
from restante.store.database import Database
from restante.store.deliveries import Attempt, Kind, Leased, Owed, Waiting
from restante.store.errors import DatabaseLost
from restante.store.queue import Settlement
from restante.webhooks.breaker import Breaker
from restante.webhooks.sender import Outcome, Sender
from restante.webhooks.signature import SECRET_BYTES, sign
from restante.webhooks.target import target

log = logging.getLogger("restante.deliver")

#: Writes what task_get will say of a task by its id: the body of a postback, before compression.
Envelope = Callable[[Fetched, str], bytes]

_GZIP = 16 + zlib.MAX_WBITS
_NOWHERE = ("", 0)  # before the first (host, account) pair


class Wanted(msgspec.Struct, frozen=True):
    """What a task's request says of webhooks; its other fields are passed over."""

    pingback_url: str | None = None
    postback_url: str | None = None
    tag: str | None = None


def owed(request: bytes, task_id: str, envelope: Callable[[], bytes]) -> tuple[Owed, ...]:
    """The webhooks that a task's settlement owes. `envelope` makes what task_get will say; it is packed once, here."""
    wanted = msgspec.json.decode(request, type=Wanted)
    found = []
    if wanted.pingback_url is not None:
        found.append(Owed(Kind.PINGBACK, *target(wanted.pingback_url, task_id, wanted.tag)))
    if wanted.postback_url is not None:
        body = gzip.compress(envelope(), 1, mtime=0)
        found.append(Owed(Kind.POSTBACK, *target(wanted.postback_url, task_id, wanted.tag), body))
    return tuple(found)


def with_webhooks(settlement: Settlement, request: bytes | None, envelope: Envelope) -> Settlement:
    """The settlement with the webhooks that it owes; none for a live task, which has no stored request."""
    if request is None:
        return settlement
    said = Fetched(settlement.code, settlement.message or OK_MESSAGE, request, settlement.result)
    hooks = owed(request, settlement.id, lambda: envelope(said, settlement.id))
    return msgspec.structs.replace(settlement, owed=hooks) if hooks else settlement


def webhook_id(delivery: Leased | WebhookShown) -> str:
    """A delivery's id as its receiver sees it: the same on every attempt, another's nowhere."""
    return f"{delivery.task_id}-{delivery.kind.name.lower()}"


def next_pause(attempts: int, chance: float) -> float | None:
    """Seconds from the n-th failed attempt to the next; `chance` in 0..1 spreads it by ±20 %. None: it was the last."""
    if attempts > len(DELIVERY_RETRY_SECONDS):
        return None
    return DELIVERY_RETRY_SECONDS[attempts - 1] * (0.8 + 0.4 * chance)


def allot(
    waiting: Sequence[Waiting],
    free: int,
    by_host: Counter[str],
    by_account: Counter[int],
    room: Callable[[str], int],
    per_account: int,
) -> list[tuple[str, int, int]]:
    """How many deliveries of each (host, account) to claim: slot by slot to the account with the fewest in flight, of
    its hosts to the one with the fewest, to none beyond its `room`, to no account beyond `per_account`. The counters
    say what is in flight already."""
    flight, accounts = Counter(by_host), Counter(by_account)
    hosts: dict[int, list[str]] = defaultdict(list)
    for pair in waiting:
        if not pair.owes:
            hosts[pair.account_id].append(pair.host)
    # The random second keeps equal accounts from being served in the order of their numbers.
    heap = [(accounts[one], random.random(), one) for one in hosts]  # noqa: S311
    heapq.heapify(heap)
    queues = {one: [(flight[host], random.random(), host) for host in of] for one, of in hosts.items()}  # noqa: S311
    for queue in queues.values():
        heapq.heapify(queue)
    rooms = {pair.host: room(pair.host) for pair in waiting}
    given: Counter[tuple[str, int]] = Counter()
    while free > 0 and heap:
        _, chance, account = heapq.heappop(heap)
        queue = queues[account]
        while queue and flight[queue[0][2]] >= rooms[queue[0][2]]:
            heapq.heappop(queue)
        if not queue or accounts[account] >= per_account:
            continue
        host = queue[0][2]
        flight[host] += 1
        accounts[account] += 1
        given[host, account] += 1
        free -= 1
        heapq.heapreplace(queue, (flight[host], queue[0][1], host))
        heapq.heappush(heap, (accounts[account], chance, account))
    return [(host, account, most) for (host, account), most in given.items()]


class Deliverer:
    """The delivering half of a worker process, on the worker's lease."""

    def __init__(
        self,
        db: Database,
        lease: Lease,
        sender: Sender,
        clock: Callable[[], datetime],
        *,
        concurrency: int = DELIVERY_CONCURRENCY,
        per_host: int = DELIVERIES_PER_HOST,
    ) -> None:
        self._db = db
        self._lease = lease
        self._sender = sender
        self._clock = clock
        self._concurrency = concurrency
        self._per_host = per_host
        self._breaker = Breaker()
        self._wake = asyncio.Event()
        self._after = _NOWHERE
        self._running: dict[asyncio.Task[None], tuple[int, Leased]] = {}
        # Of them, those under way: a host is spared while it answers, not while its answer is written down.
        self._sending: dict[asyncio.Task[None] | None, Leased] = {}
        self._groups: Groups[int, Attempt, bool] = Groups(self._record)  # by token

    @property
    def in_flight(self) -> int:
        """Deliveries this worker holds now."""
        return len(self._running)

    def wake(self) -> None:
        """There may be something to deliver: a settlement owes it, or an attempt ended."""
        self._wake.set()

    def abandon(self, token: int) -> None:
        """The lease of this token ended: its deliveries are others' now."""
        for task, (held_by, _) in self._running.items():
            if held_by == token:
                task.cancel()

    async def run(self) -> None:
        """Claim and start deliveries until cancelled; those started go on."""
        while True:
            self._wake.clear()
            try:
                more = await self._round()
            except DatabaseLost as error:
                log.warning("no webhooks are claimed until the database is back: %s", error)
                self._lease.doubt()
                await self._db.revive()
                more = False
            except Exception:  # whatever it was: webhooks must not stop for ever while the worker goes on
                log.exception("claiming webhooks broke and is tried again; please report it")
                self._lease.doubt()
                await asyncio.sleep(BROKEN_SECONDS)
                more = False
            if not more:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._wake.wait()

    async def drain(self, seconds: float) -> None:
        """Let attempts in flight end; cancel what has not after `seconds`. Their lease's end gives them back."""
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    async def _round(self) -> bool:
        """One look and one claim; whether to look again at once."""
        free = self._concurrency - len(self._sending)
        if free <= 0 or len(self._running) >= self._concurrency + DELIVERIES_UNRECORDED:
            return False
        await self._db.in_time()
        waiting = await deliveries.waiting(self._db, self._after)
        partial = len(waiting) == DELIVERY_PAIRS
        again = partial or (not waiting and self._after != _NOWHERE)
        self._after = (waiting[-1].host, waiting[-1].account_id) if partial else _NOWHERE
        by_host = Counter(one.host for one in self._sending.values())
        by_account = Counter(one.account_id for one in self._sending.values())
        wanted = allot(
            waiting, free, by_host, by_account,
            lambda host: self._breaker.room(host, self._per_host), max(1, self._concurrency // DELIVERY_ACCOUNT_SHARE),
        )  # fmt: skip
        return bool(wanted and await self._claim(wanted)) or again

    async def _claim(self, wanted: Sequence[tuple[str, int, int]]) -> int:
        async with self._lease.claiming:
            token = self._lease.token
            claimed = await self._db.settled(lambda: deliveries.claim(self._db, token, wanted))
            for one in claimed:
                self._lease.hold(token, one.id)
        if not claimed:
            return 0
        # From here on each is held: whatever happens next, it is started or given back.
        accounts = {one.account_id for one in claimed}
        try:
            live = await deliveries.secrets(self._db, {one: secrets.token_bytes(SECRET_BYTES) for one in accounts})
        except BaseException:
            for one in claimed:
                self._lease.drop(token, one.id, doubtful=True)
            raise
        for one in claimed:
            task = asyncio.create_task(self._deliver(token, one, live[one.account_id]))
            self._running[task] = (token, one)
            self._sending[task] = one
            task.add_done_callback(self._ended)
        return len(claimed)

    def _ended(self, task: asyncio.Task[None]) -> None:
        token, delivery = self._running.pop(task)
        self._sending.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("delivery %d broke; it goes back to the queue", delivery.id, exc_info=error)
        self._lease.drop(token, delivery.id, doubtful=error is not None)
        self.wake()

    async def _deliver(self, token: int, delivery: Leased, live: Sequence[bytes]) -> None:
        current.task.set(delivery.task_id)
        made_at, began = self._clock(), observed.now()
        # The last attempt of the schedule is made in any case.
        if next_pause(delivery.attempts + 1, 0.5) is None or not self._breaker.gives_up(delivery.host):
            outcome = await self._attempt(delivery, live, made_at)
            faults.reach(faults.Point.WEBHOOK_SENT)
        else:
            why = f"not tried: {delivery.host} let its last {HANGING_AFTER} attempts hang"
            outcome = Outcome(0, error=why, unsent="not_tried")
        del self._sending[asyncio.current_task()]
        self.wake()
        pause = None
        if outcome.error is not None:
            pause = next_pause(delivery.attempts + 1, random.random())  # noqa: S311
            then = "given up" if pause is None else f"next attempt in {pause:.0f} s"
            log.info("%s to %s: %s; %s", webhook_id(delivery), delivery.host, outcome.error, then)
        observed.attempted(delivery, outcome, began, last=outcome.error is not None and pause is None)
        attempt = Attempt(
            delivery.id, made_at, outcome.milliseconds, outcome.status, outcome.reply, outcome.error, pause,
            delivery.attempts,
        )  # fmt: skip
        if not await self._groups.submit(token, attempt):
            log.warning(
                "%s was sent after its lease had ended: another sends it again, with this id", webhook_id(delivery)
            )

    async def _attempt(self, delivery: Leased, live: Sequence[bytes], made_at: datetime) -> Outcome:
        hung = None
        self._breaker.began(delivery.host)
        try:
            # In one call: what gzip.decompress does costs three times as much (measured). We wrote it, one member.
            plain = b"" if delivery.body is None else zlib.decompress(delivery.body, _GZIP)
            headers = sign(live, webhook_id(delivery), int(made_at.timestamp()), plain)
            outcome = await self._sender.send(delivery.url, headers, delivery.body)
            hung = outcome.hung
            return outcome
        except Exception as error:  # a bug of ours must not make a delivery come back at once, for ever
            log.exception("delivery %d could not be made", delivery.id)
            return Outcome(0, error=f"internal error: {type(error).__name__}", unsent="broken")
        finally:
            self._breaker.ended(delivery.host, hung=hung)

    async def _record(self, token: int, members: Sequence[Attempt]) -> Sequence[bool]:
        async def write(again: bool) -> Sequence[bool]:
            now = self._clock()
            recorded = await self._db.settled(
                lambda: deliveries.record(self._db, token, now, members),
                now.date(),
            )
            # Repeated after a lost reply: what is not leased any more was recorded then.
            return [again or one.delivery_id in recorded for one in members]

        return await stored(
            self._db,
            write,
            lambda error: log.warning("%d attempts are kept until the database is back: %s", len(members), error),
        )
