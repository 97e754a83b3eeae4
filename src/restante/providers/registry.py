"""Which model names may be posted: the names known without asking anybody, and the catalogue of all providers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from restante.core.errors import OperatorError
from restante.core.limits import CATALOGUE_SECONDS
from restante.core.pricing import FREE, ListPrice
from restante.core.task import Model, always_reasons
from restante.providers.gemini_traits import traits
from restante.providers.provider import Priced, Provider

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
        Model(
            name=name,
            served=served,
            provider="scripted",
            web_search=True,
            reasoning=True,
            reasoning_forced=always_reasons(name),
        )
        for name, served in STATIC_MODELS
    )


def embedded_models() -> tuple[Model, ...]:
    """Every static name, answered by the demonstration model: no web search, no reasoning.

    The Pro names keep `reasoning_forced` although nothing reasons: a request that Gemini would refuse for its
    max_output_tokens is refused offline too.
    """
    return tuple(
        Model(name=name, served=EMBEDDED_MODEL, provider="embedded", reasoning_forced=always_reasons(name))
        for name, _served in STATIC_MODELS
    )


def plain_models() -> tuple[Model, ...]:
    """Every static name, served by itself: what Gemini is believed to serve until it could be asked."""
    return tuple(
        Model(
            name=name,
            served=served,
            provider="gemini",
            web_search=traits(served).searches,
            reasoning=traits(served).thinks,
            reasoning_forced=always_reasons(name),
        )
        for name, served in STATIC_MODELS
    )


class Catalogue:
    """The names that may be posted, of all providers together, as of the last `refresh`; before the first, for Gemini
    the static ones. Each row knows its provider.

    A later provider's name replaces an earlier one's, and a renamed name any: the operator said so, and whoever would
    have answered to it otherwise never does.
    """

    def __init__(self, providers: Sequence[Provider], renamed: Mapping[str, str] | None = None) -> None:
        """`renamed`: a posted name and the listed one that answers in its place (restante.providers.models_map)."""
        self._providers = providers
        self._renamed = renamed or {}
        self._lists = [plain_models() if provider.name == "gemini" else () for provider in providers]
        self._astray: frozenset[str] = frozenset()  # renamed names whose target nobody serves
        self._compose()

    def _compose(self) -> None:
        rows: dict[str, Model] = {}
        for listed in self._lists:
            for model in listed:
                rows.pop(model.name, None)  # its new place is at the end
                rows[model.name] = model
        targets = {old: rows.get(new) for old, new in self._renamed.items()}
        for old, target in targets.items():
            rows.pop(old, None)
            if target is not None:
                forced = target.reasoning_forced or always_reasons(old)
                rows[old] = msgspec.structs.replace(target, name=old, reasoning_forced=forced)
        self._by_name = rows
        self._listed = tuple(rows.values())
        self._targets = targets

    def _warn(self) -> None:
        astray = frozenset(old for old, target in self._targets.items() if target is None)
        for old in sorted(astray - self._astray):
            log.warning("model %r is refused: it is mapped onto %r, which nobody serves", old, self._renamed[old])
        self._astray = astray

    async def begin(self) -> None:
        """Ask for the first time. A provider that is away does not keep the API from starting: answers wait here to
        be collected, and tasks may be posted to the names known without asking."""
        try:
            await self.refresh()
        except OperatorError as error:
            log.error("the models could not be listed, the well-known names are offered: %s", error.problem)

    async def keep_fresh(self) -> None:
        """Ask again every minute, until cancelled; a provider knows how long its own list is good."""
        while True:
            await asyncio.sleep(CATALOGUE_SECONDS)
            with contextlib.suppress(OperatorError):  # the provider has logged it, the last list stays
                await self.refresh()

    async def refresh(self) -> None:
        """Ask all providers. The last list of one that cannot say stays; its OperatorError goes to the caller, once
        the others are heard."""
        answers = await asyncio.gather(
            *(provider.models() for provider in self._providers), return_exceptions=True
        )  # none leaves the others unheard
        for position, answer in enumerate(answers):
            if not isinstance(answer, BaseException):
                self._lists[position] = answer
        self._compose()
        self._warn()
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    def find(self, name: str) -> Model | None:
        """The model a posted `model_name` stands for; None when there is none (40501). Names are exact."""
        return self._by_name.get(name)

    def siblings(self, model: Model) -> list[Model]:
        """All names that the same model of the same provider answers to, this one among them."""
        return [one for one in self._listed if (one.provider, one.served) == (model.provider, model.served)]

    def price(self, model: Model) -> ListPrice | None:
        """What the model's provider takes for it; None: nobody knows, and answers are charged nothing."""
        provider = next(one for one in self._providers if one.name == model.provider)
        return provider.list_price(model.served) if isinstance(provider, Priced) else FREE

    def listed(self) -> tuple[Model, ...]:
        """All of them: Gemini's, newest first, aliases and versions both (contract §12.23), then those of the map."""
        return self._listed
