"""Which model names may be posted: the names known without asking anybody, and the catalogue of a provider."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from restante.core.errors import OperatorError
from restante.core.limits import CATALOGUE_SECONDS
from restante.core.task import Model, always_reasons
from restante.providers.gemini_traits import traits
from restante.providers.provider import Provider

log = logging.getLogger("restante.models")

#: What the embedded demonstration model calls itself in an answer.
EMBEDDED_MODEL: Final = "smollm2-135m-instruct"

#: Gemini names and the version each stands for, newest first (contract §7): those of the documentation and its
#: examples, and those Google named as current in August 2026. The demonstration model and the scripted provider
#: answer to them; what the real Gemini serves is asked of Google (restante.providers.gemini).
STATIC_MODELS: Final[tuple[tuple[str, str], ...]] = (
    ("gemini-3.7-flash", "gemini-3.7-flash"),
    ("gemini-3.6-flash", "gemini-3.6-flash"),
    ("gemini-3.5-flash", "gemini-3.5-flash"),
    ("gemini-3.5-flash-lite", "gemini-3.5-flash-lite"),
    ("gemini-3.1-pro-preview", "gemini-3.1-pro-preview"),
    ("gemini-3.1-flash-lite", "gemini-3.1-flash-lite"),
    ("gemini-2.5-pro", "gemini-2.5-pro"),
    ("gemini-2.5-flash", "gemini-2.5-flash"),
    ("gemini-2.5-flash-lite", "gemini-2.5-flash-lite"),
    ("gemini-2.0-flash", "gemini-2.0-flash"),
    ("gemini-1.5-pro", "gemini-1.5-pro-002"),
    ("gemini-1.5-pro-002", "gemini-1.5-pro-002"),
)


def scripted_models() -> tuple[Model, ...]:
    """Every static name, able to do everything: what the scripted provider is given."""
    return tuple(
        Model(name=name, served=served, web_search=True, reasoning=True, reasoning_forced=always_reasons(name))
        for name, served in STATIC_MODELS
    )


def embedded_models() -> tuple[Model, ...]:
    """Every static name, answered by the demonstration model: no web search, no reasoning.

    The Pro names keep `reasoning_forced` although nothing reasons: a request that Gemini would refuse for its
    max_output_tokens is refused offline too.
    """
    return tuple(
        Model(name=name, served=EMBEDDED_MODEL, reasoning_forced=always_reasons(name))
        for name, _served in STATIC_MODELS
    )


def plain_models() -> tuple[Model, ...]:
    """Every static name, served by itself: what Gemini is believed to serve until it could be asked."""
    return tuple(
        Model(
            name=name,
            served=served,
            web_search=traits(served).searches,
            reasoning=traits(served).thinks,
            reasoning_forced=always_reasons(name),
        )
        for name, served in STATIC_MODELS
    )


class Catalogue:
    """The names a provider's models go by, as of the last `refresh`; the static ones before the first."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._keep(plain_models())

    def _keep(self, listed: tuple[Model, ...]) -> None:
        self._listed = listed
        self._by_name = {model.name: model for model in listed}

    async def begin(self) -> None:
        """Ask for the first time. A provider that is away does not keep the API from starting: answers wait here to
        be collected, and tasks may be posted to the names known without asking."""
        try:
            await self.refresh()
        except OperatorError as error:
            log.error("the models could not be listed, the well-known names are offered: %s", error.problem)

    async def keep_fresh(self) -> None:
        """Ask again every minute, until cancelled; the provider knows how long its own list is good."""
        while True:
            await asyncio.sleep(CATALOGUE_SECONDS)
            with contextlib.suppress(OperatorError):  # the provider has logged it, the last list stays
                await self.refresh()

    async def refresh(self) -> None:
        """Ask the provider. When it cannot say, the last list stays and its OperatorError goes to the caller."""
        self._keep(await self._provider.models())

    def find(self, name: str) -> Model | None:
        """The model a posted `model_name` stands for; None when there is none (40501). Names are exact."""
        return self._by_name.get(name)

    def listed(self) -> tuple[Model, ...]:
        """All of them, newest first, aliases and versions both (contract §12.23)."""
        return self._listed
