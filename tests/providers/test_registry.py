"""The names that may be posted, and what they stand for."""

from __future__ import annotations

import pytest

from restante.core.answer import Answer, Failure
from restante.core.errors import OperatorError
from restante.core.task import Model
from restante.providers.provider import Call
from restante.providers.registry import STATIC_MODELS, Catalogue, embedded_models, plain_models, scripted_models


class Listing:
    """A provider that only lists."""

    name = "gemini"
    concurrency = 1

    def __init__(self, models: tuple[Model, ...]) -> None:
        self.answer: tuple[Model, ...] | OperatorError = models

    async def models(self) -> tuple[Model, ...]:
        if isinstance(self.answer, OperatorError):
            raise self.answer
        return self.answer

    async def generate(self, call: Call) -> Answer | Failure:
        raise NotImplementedError

    async def close(self) -> None: ...


def test_the_documented_names_are_known() -> None:
    names = [name for name, _ in STATIC_MODELS]
    assert len(names) == len(set(names))
    assert {"gemini-2.5-flash", "gemini-2.5-pro", "gemini-2.5-flash-lite", "gemini-1.5-pro-002"} <= set(names)
    assert dict(STATIC_MODELS)["gemini-1.5-pro"] == "gemini-1.5-pro-002"
    assert {served for _, served in STATIC_MODELS} <= set(names)  # a version is a row of its own


def test_newest_first() -> None:
    versions = [float(name.split("-")[1]) for name, _ in STATIC_MODELS]
    assert versions == sorted(versions, reverse=True)


def test_scripted_models_can_do_everything() -> None:
    by_name = {model.name: model for model in scripted_models()}
    assert all(model.web_search and model.reasoning for model in by_name.values())
    assert by_name["gemini-1.5-pro"].served == "gemini-1.5-pro-002"
    assert {name for name, model in by_name.items() if model.reasoning_forced} == {
        "gemini-3.1-pro-preview", "gemini-2.5-pro", "gemini-1.5-pro", "gemini-1.5-pro-002",
    }  # fmt: skip


def test_embedded_models_keep_the_pro_rule_only() -> None:
    models = embedded_models()
    assert {model.served for model in models} == {"smollm2-135m-instruct"}
    assert not any(model.web_search or model.reasoning for model in models)
    assert [(m.name, m.reasoning_forced) for m in models] == [(m.name, m.reasoning_forced) for m in scripted_models()]


async def test_the_catalogue_finds_exact_names() -> None:
    catalogue = Catalogue([Listing(scripted_models())])
    assert catalogue.listed() == plain_models(), "the well-known names, before the provider was asked"
    await catalogue.refresh()
    assert catalogue.listed() == scripted_models()
    found = catalogue.find("gemini-1.5-pro")
    assert found is not None
    assert found.served == "gemini-1.5-pro-002"
    assert catalogue.find("Gemini-1.5-pro") is None


async def test_a_failed_refresh_keeps_the_last_list() -> None:
    provider = Listing((Model(name="a", served="a", provider="gemini"),))
    catalogue = Catalogue([provider])
    await catalogue.refresh()
    provider.answer = OperatorError("no list")
    with pytest.raises(OperatorError):
        await catalogue.refresh()
    assert catalogue.find("a") is not None
    provider.answer = (Model(name="b", served="b", provider="gemini"),)
    await catalogue.refresh()
    assert (catalogue.find("a"), len(catalogue.listed())) == (None, 1)
