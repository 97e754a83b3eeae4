"""The Provider protocol: a language model, whoever runs it, behind four names.

Implementations: restante.providers.gemini, .openai_compatible, .embedded, .scripted. How to add one: CONTRIBUTING.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final, Protocol, runtime_checkable

import msgspec

from restante.core.answer import Answer, Failure
from restante.core.money import Nano
from restante.core.pacing import Quota
from restante.core.pricing import ListPrice
from restante.core.task import Model, Prompt

#: What reading a reply raises that is no JSON, of another shape, or nested so deeply that the stack ends first.
NO_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One question to a provider. `model` is a `Model.served` name of that provider; `seconds` how long it may take;
    `project` one of those that a `Keyed` provider has, "" for any."""

    task_id: str
    model: str
    prompt: Prompt
    seconds: float
    project: str = ""


class Provider(Protocol):
    """What flow/run and flow/live need of a provider. Instances are shared by all calls of a process."""

    #: The name that queue rows carry (their lane), so that a worker claims only what it can serve.
    name: str

    #: Calls in flight that make sense in one process. More are not claimed.
    concurrency: int

    async def models(self) -> tuple[Model, ...]:
        """The names that may be posted, newest first. Raises OperatorError when the list cannot be had at all."""
        ...

    async def generate(self, call: Call) -> Answer | Failure:
        """Ask. Every fault of the provider, its time-outs included, is a returned `Failure`; nothing is raised
        but CancelledError. The call makes one attempt: trying again is queue work (a transient failure)."""
        ...

    async def close(self) -> None:
        """Give back what the provider holds: connections, child processes. Called once, at the end."""
        ...


@runtime_checkable
class Keyed(Provider, Protocol):
    """A provider with keys that are somebody else's: restante.flow.keys tells all processes when one of them may not be
    called (contract §12.26). `generate` says so by `Failure.doubts_key`."""

    def projects(self) -> tuple[str, ...]:
        """The projects that there are keys for now, named without giving a key away. Raises OperatorError when the
        keys cannot be had."""
        ...

    async def probe(self, project: str) -> Failure | None:
        """Ask something unpaid with the project's key: None when it is taken, a Failure that `doubts_key` when it is
        not, any other when that cannot be told now. Raises nothing but CancelledError."""
        ...


@runtime_checkable
class Paced(Keyed, Protocol):
    """A provider with quotas too: restante.flow.pacing spreads its calls over projects (the quotas of its keys).
    `generate` says that one is used up by `Failure.strain`."""

    def quota(self, model: str) -> Quota:
        """What the operator says that each project may have of the model."""
        ...


@runtime_checkable
class Priced(Provider, Protocol):
    """A provider that takes money."""

    def list_price(self, served: str) -> ListPrice | None:
        """What it takes for a model that answers as `served`; None: nobody knows, and answers are charged nothing."""
        ...


class Sent(msgspec.Struct, frozen=True):
    """A batch as its provider knows it. `over`: nothing more will come of it; then `output` is what it brought, for
    `Batching.results` to read, and empty when it brought nothing; `stopped`: before all of it was done (cancelled,
    failed, expired). `word` is the provider's own for where it stands."""

    name: str
    word: str = ""
    over: bool = False
    stopped: bool = False
    output: bytes = b""


class Batching(Protocol):
    """A provider that answers many calls of one model later, at a lower price: restante.flow.batch. Nothing raises but
    CancelledError; what is said of `Failure` in `Provider.generate` holds here too."""

    name: str

    def item(self, call: Call) -> bytes:
        """A call as it stands in a batch, named by its task's id."""
        ...

    def inline(self, items: Sequence[bytes]) -> bool:
        """Whether so much goes without an upload."""
        ...

    async def upload(self, project: str, name: str, items: Sequence[bytes]) -> str | Failure:
        """Store the calls with the provider; its name of them."""
        ...

    async def create(
        self, project: str, model: str, name: str, *, items: Sequence[bytes], file: str, seconds: float
    ) -> Sent | Failure:
        """Ask for a batch of these calls, or of those uploaded (`file`), to be found by our `name`."""
        ...

    def refused(self, failure: Failure) -> bool:
        """Whether a failed `create` has certainly made nothing."""
        ...

    async def find(self, project: str, name: str) -> Sequence[Sent] | Failure:
        """The batches of our `name`; those that were made of it by mistake too."""
        ...

    async def look(self, project: str, remote: str) -> Sent | Failure: ...

    def results(self, project: str, output: bytes) -> AsyncIterator[tuple[str, bytes | Failure] | Failure]:
        """What the calls brought, by their tasks' ids. A `Failure` alone ends it early: the rest cannot be read now."""
        ...

    async def answer(self, call: Call, body: bytes) -> tuple[Answer | Failure, Nano]:
        """What a result says, and what a direct call would have cost more."""
        ...

    async def cancel(self, project: str, remote: str) -> Failure | None:
        """Stop the batch, as far as it goes; a Failure when it may run on. What it brought until then is kept."""
        ...

    async def delete(self, project: str, remote: str, file: str) -> None:
        """Have the provider forget a batch that is over and the calls uploaded for it, as far as it goes."""
        ...
