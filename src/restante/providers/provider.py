"""The Provider protocol: a language model, whoever runs it, behind four names.

Implementations: restante.providers.gemini, .openai_compatible, .embedded, .scripted. How to add one: CONTRIBUTING.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from restante.core.answer import Answer, Failure
from restante.core.task import Model, Prompt


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One question to a provider. `model` is a `Model.served` name of that provider; `seconds` how long it may take."""

    task_id: str
    model: str
    prompt: Prompt
    seconds: float


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
