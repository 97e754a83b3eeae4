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


# --- several providers, renamed names ------------------------------------------------------------------


class Another(Listing):
    name = "workshop"


FLASH = Model(name="gemini-3.6-flash", served="gemini-3.6-flash", provider="gemini", web_search=True)
PRO = Model(name="gemini-3.1-pro", served="gemini-3.1-pro-001", provider="gemini", reasoning_forced=True)
LLAMA = Model(name="llama", served="llama3.1:8b", provider="workshop")


async def test_the_catalogue_is_the_union_and_each_row_knows_its_provider() -> None:
    catalogue = Catalogue([Listing((FLASH, PRO)), Another((LLAMA,))], {"old": "llama", "gemini-1.5-pro": FLASH.name})
    await catalogue.refresh()
    assert [(row.name, row.served, row.provider) for row in catalogue.listed()] == [
        ("gemini-3.6-flash", "gemini-3.6-flash", "gemini"),
        ("gemini-3.1-pro", "gemini-3.1-pro-001", "gemini"),
        ("llama", "llama3.1:8b", "workshop"),
        ("old", "llama3.1:8b", "workshop"),
        ("gemini-1.5-pro", "gemini-3.6-flash", "gemini"),
    ]
    old_pro = catalogue.find("gemini-1.5-pro")
    assert old_pro is not None
    assert (old_pro.web_search, old_pro.reasoning_forced) == (True, True), "the new one's gifts, the old one's rule"


async def test_a_mapped_name_goes_before_the_providers_own_and_never_falls_back_to_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mine = Model(name=FLASH.name, served="mine", provider="workshop")
    workshop = Another((mine, LLAMA))
    catalogue = Catalogue([Listing((FLASH, PRO)), workshop], {PRO.name: "llama"})
    await catalogue.refresh()
    assert [(row.name, row.provider) for row in catalogue.listed()] == [
        ("gemini-3.6-flash", "workshop"), ("llama", "workshop"), ("gemini-3.1-pro", "workshop"),
    ]  # fmt: skip
    assert "refused" not in caplog.text

    workshop.answer = (mine,)
    for _ in range(2):
        await catalogue.refresh()
    assert catalogue.find(PRO.name) is None
    assert caplog.text.count("'gemini-3.1-pro' is refused: it is mapped onto 'llama', which nobody serves") == 1


async def test_a_provider_that_is_away_keeps_its_names_and_the_others_theirs() -> None:
    gemini, workshop = Listing((FLASH,)), Another((LLAMA,))
    catalogue = Catalogue([gemini, workshop])
    gemini.answer = OperatorError("away")
    with pytest.raises(OperatorError):
        await catalogue.refresh()
    assert catalogue.listed() == (*plain_models(), LLAMA)
    gemini.answer = (FLASH,)
    workshop.answer = ()
    await catalogue.refresh()
    assert catalogue.listed() == (FLASH,)
