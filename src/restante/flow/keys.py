"""Keys: which projects of a provider may be called, known to all processes within seconds (contract §12.26).

A call whose key was rejected is not believed alone: one odd request must not shut a project. An unpaid question with
the same key decides, once for all calls in flight. A shut project is asked the same every minute, and opens by itself;
a new key in the file is a new project, open until it is found not to be. A project that nobody asks any more, since its
key was taken away, is forgotten.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence

from restante.core.answer import Failure
from restante.core.errors import OperatorError
from restante.core.limits import KEY_SHUT_SECONDS, KEY_WAIT_SECONDS
from restante.observing.current import nobody
from restante.providers.api_key import KEY_REJECTED
from restante.providers.provider import Keyed
from restante.store import pacing
from restante.store.database import Database
from restante.store.errors import DatabaseLost

log = logging.getLogger("restante.keys")

WHOLE_PROJECT = ""  # the model of a bucket that is a project


class Keys:
    """What this process knows of the projects. `on_change(provider)` when one opened or shut."""

    def __init__(
        self,
        db: Database,
        providers: Iterable[Keyed],
        on_change: Callable[[str], None],
        *,
        wait_seconds: float = KEY_WAIT_SECONDS,
    ) -> None:
        self._db = db
        self._providers = {provider.name: provider for provider in providers}
        self._on_change = on_change
        self._wait = wait_seconds
        self._shut: set[tuple[str, str]] = set()
        self._asked: dict[tuple[str, str], float] = {}  # when (monotonic) each project was last probed by us
        self._confirming: dict[tuple[str, str], asyncio.Task[bool]] = {}
        self._good: dict[str, tuple[str, ...]] = {}  # as of the last review
        self._faults: dict[str, str | None] = {}  # so that the log says each once, and once when it is over

    @property
    def providers(self) -> list[str]:
        """Those that have keys."""
        return list(self._providers)

    def projects(self, provider: str) -> tuple[str, ...]:
        """Those that may be called now."""
        return tuple(one for one in self._all(provider) if (provider, one) not in self._shut)

    def fault(self, provider: str) -> str | None:
        """Why the provider cannot be called at all now: `KEY_REJECTED`, or None when it can. A provider without keys
        always can."""
        if provider not in self._providers or self.projects(provider):
            return None
        return KEY_REJECTED

    def faults(self, providers: Sequence[str]) -> list[str]:
        """The faults of those providers that cannot be called now. What one alone serves is named by the log."""
        return [fault for provider in providers if (fault := self.fault(provider)) is not None]

    def counts(self, provider: str) -> tuple[int, int]:
        """How many projects may be called, and of how many (status, console)."""
        return len(self.projects(provider)), len(self._all(provider))

    def _all(self, provider: str) -> tuple[str, ...]:
        try:
            found = self._providers[provider].projects()
        except OperatorError as error:
            self._say(f"where the API keys of {provider} are", error.problem)
            return ()
        self._say(f"where the API keys of {provider} are", None)
        return found

    def _say(self, what: str, fault: str | None) -> None:
        if self._faults.get(what) != fault:
            self._faults[what] = fault
            if fault is None:
                log.warning("%s: all is well again", what)
            else:
                log.error("%s: %s", what, fault)

    async def rejected(self, provider: str, project: str) -> bool:
        """A call of the project was told that its key is rejected: is it so? Then nobody calls it any more."""
        if (provider, project) in self._shut:
            return True
        confirming = self._confirming.get((provider, project))
        if confirming is None:
            confirming = asyncio.create_task(self._confirm(provider, project), context=nobody())
            self._confirming[provider, project] = confirming
            confirming.add_done_callback(lambda _: self._confirming.pop((provider, project), None))
        return await asyncio.shield(confirming)

    async def _confirm(self, provider: str, project: str) -> bool:
        outcome = await self._probe(provider, project)
        return outcome is not None and outcome.doubts_key

    def know(self, shut: set[tuple[str, str]]) -> None:
        """What the database says is shut."""
        self._shut = shut
        self._review()

    def _review(self) -> None:
        """Say what changed."""
        for provider in self._providers:
            good, every = self.projects(provider), self._all(provider)
            if self._good.get(provider) == good:
                continue
            self._good[provider] = good
            if len(good) == len(every):
                self._say(f"API keys of {provider}", None)
            else:
                effect = "" if good else "; tasks wait for a good one, new ones are refused"
                fault = f"{len(every) - len(good)} of {len(every)} rejected{effect}"
                self._say(f"API keys of {provider}", fault)
            self._on_change(provider)

    async def look(self) -> None:
        """Probe the projects that nobody here knows yet, and those that are shut when it is time."""
        due = [
            (provider, project)
            for provider in self._providers
            for project in self._all(provider)
            if self._is_due((provider, project))
        ]
        await asyncio.gather(*(self._probe(provider, project) for provider, project in due))
        self._review()

    def _is_due(self, key: tuple[str, str]) -> bool:
        asked = self._asked.get(key)
        return asked is None or (key in self._shut and time.monotonic() - asked >= self._wait)

    async def _probe(self, provider: str, project: str) -> Failure | None:
        self._asked[provider, project] = time.monotonic()
        outcome = await self._providers[provider].probe(project)
        try:
            if outcome is None:
                await self._open(provider, project)
            elif outcome.doubts_key:
                await self._shut_down(provider, project)
        except DatabaseLost as error:
            log.warning("what %s says of its key is known to this process alone: %s", provider, error)
        return outcome

    async def _open(self, provider: str, project: str) -> None:
        if (provider, project) in self._shut:
            self._shut = self._shut - {(provider, project)}
            self._review()
            await pacing.lift(self._db, provider, project)

    async def _shut_down(self, provider: str, project: str) -> None:
        if (provider, project) not in self._shut:
            self._shut = self._shut | {(provider, project)}
            self._review()
        # At every look: as long as somebody has the key, it holds.
        await pacing.pause(self._db, provider, project, WHOLE_PROJECT, KEY_SHUT_SECONDS, KEY_REJECTED)
