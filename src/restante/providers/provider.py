"""The Provider protocol: a language model, whoever runs it, behind four names.

Implementations: restante.providers.gemini, .embedded, .scripted. How to add one: CONTRIBUTING.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec

from restante.core.answer import Answer, Failure
from restante.core.pacing import Quota
from restante.core.task import Model, Prompt


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One question to a provider. `model` is a `Model.served` name of that provider; `seconds` how long it may take;
    `project` one of those that a `Paced` provider has, "" for any."""

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
class Paced(Provider, Protocol):
    """A provider with quotas and keys that are somebody else's: restante.flow.pacing spreads its calls over projects
    (the quotas of its keys), and tells all processes when one of them may not be called.

    `generate` says so by `Failure.strain` and by `Failure.waits` (a rejected key)."""

    def projects(self) -> tuple[str, ...]:
        """The projects that there are keys for now, named without giving a key away. Raises OperatorError when the
        keys cannot be had."""
        ...

    def quota(self, model: str) -> Quota:
        """What the operator says that each project may have of the model."""
        ...

    async def probe(self, project: str) -> Failure | None:
        """Ask something unpaid with the project's key: None when it is taken. Raises nothing but CancelledError."""
        ...
