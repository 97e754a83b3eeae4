"""Pacing: which calls may start now, and with whose key (contract §12.26; design, "providers").

A bucket is a provider's project (the quota of one key) and model. Where a quota is known, calls of all processes are
counted in PostgreSQL by its clock, before their tasks are claimed; where none is, nothing is asked. A 429 pauses its
bucket for everybody, and each process has a window on how many of a bucket's calls are in flight. Nobody sleeps
holding a task: a lane without permits is not looked at until there may be some.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence

import msgspec

from restante.core.answer import Answer, Failure
from restante.core.errors import ProviderFailed
from restante.core.limits import (
    KEY_WAIT_SECONDS,
    LEARNED_SECONDS,
    LIVE_PERMIT_SECONDS,
    PACE_AHEAD_SECONDS,
    PACE_LATE_SECONDS,
    PACE_LOOK_SECONDS,
    PACING_LOOK_SECONDS,
    TOKENS_ESTIMATED,
    TOKENS_MEAN_SHARE,
    UNNAMED_PAUSE_SECONDS,
)
from restante.core.pacing import Quota, Window
from restante.flow.health import Counts
from restante.flow.keys import Keys
from restante.providers.api_key import KEY_REJECTED
from restante.providers.provider import Keyed, Paced, Provider
from restante.store import pacing
from restante.store.database import Database
from restante.store.errors import DatabaseLost
from restante.store.pacing import Wish

log = logging.getLogger("restante.pacing")

RATE_LIMITED = "rate_limit_exceeded"  # what live is told when there is no turn for it (contract §3.4)


class Permit(msgspec.Struct, frozen=True):
    """One call may start at `since` (monotonic), which `Pacer.turn` waits for. `tokens` were reserved for it."""

    project: str = ""
    tokens: float = 0.0
    since: float = 0.0


_FREE = Permit()


class _Bucket:
    """What this process knows of one project and model."""

    def __init__(self, project: str, concurrency: int) -> None:
        self.project = project
        self.window = Window(concurrency)
        self.in_flight = 0
        self.paused_until = 0.0  # monotonic, as all times here
        self.look_at = 0.0  # not before: the last look gave less than was wanted
        self.learned = Quota()
        self.quota = Quota()  # the operator's word before the provider's
        self.tokens_each = float(TOKENS_ESTIMATED)
        self.tokens_owed = 0.0  # used beyond what was reserved, not written yet
        self.late = 0  # calls that started late, not written yet

    def wish(self, most: int) -> Wish:
        """Up to so many of its calls."""
        call, token = self.quota.call_seconds, self.quota.token_seconds
        late, self.late = self.late, 0
        return Wish(self.project, most, call, None if token is None else token * self.tokens_each, late * (call or 0.0))

    def room(self, now: float) -> int:
        return 0 if now < max(self.paused_until, self.look_at) else self.window.room(self.in_flight)


class Pacer:
    """Gives permits for calls; one per process. Providers that are not `Paced` are always permitted, those that are
    `Keyed` while their key is good.

    `on_change` is called when there may be more permits than before, other than by a call's end. `concurrency`: calls
    that this process has in flight at the most, if that is less than the provider's own bound. `counts` hear how the
    calls of each provider ended."""

    def __init__(
        self,
        db: Database,
        providers: Sequence[Provider],
        *,
        on_change: Callable[[], None] = lambda: None,
        key_wait_seconds: float = KEY_WAIT_SECONDS,
        concurrency: int | None = None,
        counts: Sequence[Counts] = (),
    ) -> None:
        self._counts = {one.name: one for one in counts}
        self._db = db
        self._concurrency = concurrency
        self._providers: dict[str, Paced] = {one.name: one for one in providers if isinstance(one, Paced)}
        self._buckets: dict[tuple[str, str], dict[str, _Bucket]] = {}  # (provider, model) -> project -> bucket
        self._facts: dict[tuple[str, str, str], tuple[float, Quota]] = {}  # of the database: paused until, quota
        self.on_change = on_change
        keyed = [one for one in providers if isinstance(one, Keyed)]
        self.keys = Keys(db, keyed, lambda _: self.on_change(), wait_seconds=key_wait_seconds)

    # --- before a call ---------------------------------------------------------------------------------

    async def permits(self, provider: str, model: str, most: int, *, live: bool = False) -> list[Permit]:
        """Up to `most` calls that may start now or in a moment, soonest first. Each must have its `turn` and be
        `release`d, or be given `back`. Raises DatabaseLost."""
        if provider not in self._providers:
            return [self._unpaced(provider)] * (0 if self.keys.fault(provider) else most)
        now = time.monotonic()
        rooms = {one: room for one in self._open(provider, model) if (room := one.room(now)) > 0}
        if not rooms:
            return []
        if all(one.quota == Quota() for one in rooms):
            found = [Permit(one.project, 0.0, now) for one, calls in _spread(rooms, most) for _ in range(calls)]
        else:
            found = await self._reserve(provider, model, rooms, most, live=live)
        for permit in found:
            self._buckets[provider, model][permit.project].in_flight += 1
        return found

    def _unpaced(self, provider: str) -> Permit:
        """With the key that is there now, if there are any."""
        return Permit(next(iter(self.keys.projects(provider)), "")) if provider in self.keys.providers else _FREE

    async def turn(self, provider: str, model: str, permit: Permit) -> None:
        """Wait for the moment that a permit is for: half a second at the most, a second for a live call. A call that is
        late (this machine stalls, claiming took long) starts at once and is counted anew: together with those that
        start in time it would pass the quota."""
        if provider not in self._providers:
            return
        wait = permit.since - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
            wait = permit.since - time.monotonic()
        if wait < -PACE_LATE_SECONDS and permit.project in (known := self._buckets.get((provider, model), {})):
            known[permit.project].late += 1

    async def back(self, provider: str, model: str, unused: Sequence[Permit]) -> None:
        """Permits that nothing was found for. Raises DatabaseLost."""
        for permit in unused:
            self.release(provider, model, permit)
        for project in {permit.project for permit in unused}:
            one = self._buckets.get((provider, model), {}).get(project)
            if one is None or one.quota == Quota():
                continue
            mine = [permit for permit in unused if permit.project == project]
            calls = len(mine) * (one.quota.call_seconds or 0.0)
            tokens = sum(permit.tokens for permit in mine) * (one.quota.token_seconds or 0.0)
            await pacing.correct(self._db, provider, project, model, -calls, -tokens)

    async def one(self, provider: str, model: str) -> Permit | ProviderFailed:
        """A permit for a live call, waited for only a moment; or why there is none."""
        give_up = time.monotonic() + LIVE_PERMIT_SECONDS
        while True:
            if (fault := self.keys.fault(provider)) is not None:
                return ProviderFailed(fault)
            found = await self.permits(provider, model, 1, live=True)
            if found:
                return found[0]
            wait = max(PACE_LOOK_SECONDS, self.wait_seconds(provider, model))
            if time.monotonic() + wait > give_up:
                return ProviderFailed(RATE_LIMITED)
            await asyncio.sleep(wait)

    def paces(self, provider: str) -> bool:
        """Whether the provider's lanes wait for permits by themselves."""
        return provider in self._providers

    def wait_seconds(self, provider: str, model: str) -> float:
        """Until the lane is worth a look; a call that ends, or `on_change`, may make it so earlier."""
        if provider not in self._providers:
            return KEY_WAIT_SECONDS if self.keys.fault(provider) else 0.0
        now = time.monotonic()
        waits = [
            max(one.paused_until, one.look_at) - now
            for one in self._open(provider, model)
            if one.window.room(one.in_flight) > 0
        ]
        return max(0.0, min(waits, default=KEY_WAIT_SECONDS))

    def _open(self, provider: str, model: str) -> list[_Bucket]:
        """The buckets of the projects that may be called, made on first use."""
        buckets = self._buckets.setdefault((provider, model), {})
        projects = self.keys.projects(provider)
        for project in projects:
            if project not in buckets:
                buckets[project] = self._new(provider, model, project)
        return [buckets[project] for project in projects]

    def _new(self, provider: str, model: str, project: str) -> _Bucket:
        paced = self._providers[provider]
        one = _Bucket(project, min(paced.concurrency, self._concurrency or paced.concurrency))
        one.paused_until, one.learned = self._facts.get((provider, project, model), (0.0, Quota()))
        one.quota = paced.quota(model).before(one.learned)
        return one

    async def _reserve(
        self, provider: str, model: str, rooms: dict[_Bucket, int], most: int, *, live: bool
    ) -> list[Permit]:
        by_project = {one.project: one for one in rooms}
        wishes = [one.wish(min(room, most)) for one, room in rooms.items()]
        ahead = LIVE_PERMIT_SECONDS if live else PACE_AHEAD_SECONDS
        grants = await pacing.reserve(self._db, provider, model, most, wishes, ahead)
        now = time.monotonic()
        found = []
        for grant in grants:
            one = by_project[grant.project]
            apart = one.quota.call_seconds or 0.0
            found += [
                Permit(one.project, one.tokens_each if one.quota.tokens else 0.0, now + grant.first + nth * apart)
                for nth in range(grant.calls)
            ]
            # Less than was wanted of it, although others did not take its share: it is used up for the moment.
            if not live and grant.calls < min(rooms[one], most) and grant.seconds > 0:
                # Spread, or the worker that happens to look first would always be the one to get something.
                look = PACE_LOOK_SECONDS * (0.5 + random.random())  # noqa: S311
                one.look_at = now + max(look, grant.seconds)
        return sorted(found, key=lambda permit: permit.since)

    # --- after a call ----------------------------------------------------------------------------------

    def release(self, provider: str, model: str, permit: Permit) -> None:
        """A call is no longer in flight, however it ended."""
        one = self._buckets.get((provider, model), {}).get(permit.project)
        if one is not None:
            one.in_flight -= 1

    async def heard(self, provider: str, model: str, permit: Permit, outcome: Answer | Failure) -> Answer | Failure:
        """What the provider said, after a closer look: a key is rejected only if an unpaid question finds so too."""
        if provider in self._counts:
            self._counts[provider].heard(outcome)
        one = self._buckets.get((provider, model), {}).get(permit.project)
        if one is not None:
            await self._felt(provider, model, one, permit, outcome)
        if isinstance(outcome, Answer) or not outcome.doubts_key or provider not in self.keys.providers:
            return outcome
        if await self.keys.rejected(provider, permit.project):
            return Failure(reason=KEY_REJECTED, transient=True, retry_after=outcome.retry_after, waits=True)
        if outcome.waits:
            log.warning("%s takes the key and refuses a call of %s all the same", provider, model)
        return msgspec.structs.replace(outcome, waits=False)

    async def _felt(self, provider: str, model: str, one: _Bucket, permit: Permit, outcome: Answer | Failure) -> None:
        """What an outcome means for the calls to come."""
        if isinstance(outcome, Answer):
            one.window.answered()
            self._count(one, permit, outcome)
            return
        if outcome.strain is not None:
            one.window.refused(permit.since, time.monotonic())
        if outcome.strain == "quota":
            await self._pause(provider, model, one, outcome)

    def _count(self, one: _Bucket, permit: Permit, answer: Answer) -> None:
        if permit.tokens:
            one.tokens_owed += answer.input_tokens - permit.tokens
            one.tokens_each += (answer.input_tokens - one.tokens_each) * TOKENS_MEAN_SHARE
            one.tokens_each = max(1.0, one.tokens_each)

    async def _pause(self, provider: str, model: str, one: _Bucket, failure: Failure) -> None:
        """Nobody calls the bucket for as long as the provider says. Without a word of its, the window alone decides,
        down to one call at a time."""
        seconds = failure.retry_after or (UNNAMED_PAUSE_SECONDS if one.window.at_floor else 0.0)
        until = time.monotonic() + seconds
        learns = failure.quota != Quota() and failure.quota.before(one.learned) != one.learned
        if until < one.paused_until + PACE_LOOK_SECONDS and not learns:
            return  # one of many calls in flight that were all told the same
        one.paused_until = max(one.paused_until, until)
        if learns:
            self._learn(provider, model, one, failure.quota.before(one.learned))
        log.info("%s puts off %s for %.1f s: %s", provider, model, seconds, failure.reason)
        calls, tokens = failure.quota.calls, failure.quota.tokens
        try:
            await pacing.pause(self._db, provider, one.project, model, seconds, failure.reason, calls, tokens)
        except DatabaseLost as error:
            log.warning("the pause is known to this process alone: %s", error)

    def _learn(self, provider: str, model: str, one: _Bucket, learned: Quota) -> None:
        one.learned = learned
        own = self._providers[provider].quota(model)
        one.quota = own.before(learned)
        if own != Quota() and (learned.calls or own.calls or 0) < (own.calls or 0):
            log.warning(
                "%s allows %d calls of %s a minute, the setting says %d: correct it (RESTANTE_GEMINI_RPM)",
                provider,
                learned.calls,
                model,
                own.calls,
            )
        else:
            log.info("%s allows of %s a minute: %s", provider, model, learned)

    # --- what other processes know ---------------------------------------------------------------------

    async def begin(self) -> None:
        """Learn what is known, and ask whether the keys are good. Raises DatabaseLost."""
        if self.keys.providers:
            await self._refresh()
            await self.keys.look()

    async def keep(self) -> None:
        """Go on learning, until cancelled."""
        while self.keys.providers:
            await asyncio.sleep(PACING_LOOK_SECONDS)
            try:
                await self._refresh()
                await self._settle_tokens()
                await self.keys.look()
            except DatabaseLost as error:
                log.warning("pacing goes by what it knows: %s", error)
            except Exception:
                log.exception("pacing broke and is tried again; please report it")

    async def _refresh(self) -> None:
        rows = await pacing.known(self._db, self.keys.providers, LEARNED_SECONDS)
        now = time.monotonic()
        shut = {(row.provider, row.project) for row in rows if row.shut}
        self._facts = {
            (row.provider, row.project, row.model): (now + (row.seconds or 0.0), Quota(row.calls, row.tokens))
            for row in rows
            if row.model
        }
        for (provider, model), buckets in self._buckets.items():
            own = self._providers[provider].quota(model)
            for one in buckets.values():
                paused_until, one.learned = self._facts.get((provider, one.project, model), (0.0, one.learned))
                one.paused_until = max(one.paused_until, paused_until)
                one.quota = own.before(one.learned)
        self.keys.know(shut)

    async def _settle_tokens(self) -> None:
        """Write what calls used beyond the estimates."""
        for (provider, model), buckets in self._buckets.items():
            for one in buckets.values():
                owed, one.tokens_owed = one.tokens_owed, 0.0
                if owed and one.quota.token_seconds:
                    seconds = owed * one.quota.token_seconds
                    await pacing.correct(self._db, provider, one.project, model, 0.0, seconds)


def _spread(rooms: dict[_Bucket, int], most: int) -> list[tuple[_Bucket, int]]:
    """`most` calls over buckets that have no quota known: evenly, as far as their windows allow."""
    granted = []
    narrowest_first = sorted(rooms, key=lambda one: rooms[one])  # what one cannot take, the others share
    for position, one in enumerate(narrowest_first):
        calls = min(rooms[one], -(-most // (len(rooms) - position)))
        granted.append((one, calls))
        most -= calls
    return granted
