"""Which model names may be posted: the names known without asking anybody, and the catalogue of a provider."""

from __future__ import annotations

from typing import Final

from restante.core.task import Model
from restante.providers.provider import Provider

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


def is_pro(name: str) -> bool:
    """Pro models always reason, and need max_output_tokens for it (contract §3.1, `use_reasoning`)."""
    return "-pro" in name


def scripted_models() -> tuple[Model, ...]:
    """Every static name, able to do everything: what the scripted provider is given."""
    return tuple(
        Model(name=name, served=served, web_search=True, reasoning=True, reasoning_forced=is_pro(name))
        for name, served in STATIC_MODELS
    )


def embedded_models() -> tuple[Model, ...]:
    """Every static name, answered by the demonstration model: no web search, no reasoning.

    The Pro names keep `reasoning_forced` although nothing reasons: a request that Gemini would refuse for its
    max_output_tokens is refused offline too.
    """
    return tuple(
        Model(name=name, served=EMBEDDED_MODEL, reasoning_forced=is_pro(name)) for name, _served in STATIC_MODELS
    )


class Catalogue:
    """The names a provider's models go by, as of the last `refresh`; empty before the first."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._listed: tuple[Model, ...] = ()
        self._by_name: dict[str, Model] = {}

    async def refresh(self) -> None:
        """Ask the provider. When it cannot say, the last list stays and its OperatorError goes to the caller."""
        listed = await self._provider.models()
        self._by_name = {model.name: model for model in listed}
        self._listed = listed

    def find(self, name: str) -> Model | None:
        """The model a posted `model_name` stands for; None when there is none (40501). Names are exact."""
        return self._by_name.get(name)

    def listed(self) -> tuple[Model, ...]:
        """All of them, newest first, aliases and versions both (contract §12.23)."""
        return self._listed
