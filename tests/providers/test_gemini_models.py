"""Which Gemini models may be posted: the rules, and asking Google for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from restante.core.errors import OperatorError
from restante.core.limits import GEMINI_MODELS_RETRY_SECONDS, GEMINI_MODELS_SECONDS
from restante.providers import gemini as gemini_module
from restante.providers.gemini import GeminiProvider
from restante.providers.gemini_models import text_models
from restante.providers.gemini_wire import ListedModel
from tests.emulators.gemini import Fault, GeminiEmulator

EMULATED = [
    "gemini-flash-latest",
    "gemini-3.7-flash",
    "gemini-3.6-flash",
    "gemini-3.1-pro-preview",
    "gemini-2.5-pro",
    "gemini-2.5-flash",
    "gemini-2.5-flash-lite",
    "gemini-2.0-flash",
    "gemini-2.0-flash-001",
    "gemini-1.5-pro",
    "gemini-1.5-pro-002",
    "gemini-1.5-pro-001",
]


class Clock:
    """Seconds that pass when told to."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def timed(emulator: GeminiEmulator, clock: Clock) -> AsyncIterator[GeminiProvider]:
    provider = GeminiProvider(lambda: "good-key", emulator.url, clock=clock)
    yield provider
    await provider.close()


def rows(*names: str) -> list[ListedModel]:
    return [ListedModel(name=f"models/{name}", supported_generation_methods=("generateContent",)) for name in names]


def names(*listed: str) -> list[str]:
    return [model.name for model in text_models(rows(*listed))]


def test_an_alias_is_served_by_the_newest_version() -> None:
    models = {model.name: model.served for model in text_models(rows("gemini-1.5-pro-002", "gemini-1.5-pro-001"))}
    assert models == {
        "gemini-1.5-pro": "gemini-1.5-pro-002",
        "gemini-1.5-pro-002": "gemini-1.5-pro-002",
        "gemini-1.5-pro-001": "gemini-1.5-pro-001",
    }


def test_a_base_name_that_google_lists_is_googles() -> None:
    models = {model.name: model.served for model in text_models(rows("gemini-2.0-flash", "gemini-2.0-flash-001"))}
    assert models["gemini-2.0-flash"] == "gemini-2.0-flash"


def test_a_preview_makes_no_alias() -> None:
    assert names("gemini-3-pro-preview") == ["gemini-3-pro-preview"]


def test_newest_first() -> None:
    expected = [
        "gemini-pro-latest", "gemini-flash-latest", "gemini-10-flash", "gemini-4-argon", "gemini-3.10-flash",
        "gemini-3.9-pro", "gemini-3.9-flash", "gemini-3.9-flash-lite", "gemini-3-pro-preview", "gemini-2.0-flash",
        "gemini-2.0-flash-002", "gemini-2.0-flash-001", "gemini-exp-1206",
    ]  # fmt: skip
    assert names(*sorted(expected)) == expected


async def test_asking(gemini: GeminiProvider, emulator: GeminiEmulator) -> None:
    models = {model.name: model for model in await gemini.models()}
    assert list(models) == EMULATED
    assert {name for name, model in models.items() if not model.web_search} == {
        "gemini-1.5-pro",
        "gemini-1.5-pro-001",
        "gemini-1.5-pro-002",
    }
    assert {name for name, model in models.items() if model.reasoning_forced} == {
        "gemini-3.1-pro-preview", "gemini-2.5-pro", "gemini-1.5-pro", "gemini-1.5-pro-002", "gemini-1.5-pro-001",
    }  # fmt: skip
    assert models["gemini-2.5-flash-lite"].reasoning
    assert not models["gemini-2.0-flash"].reasoning
    assert models["gemini-1.5-pro"].served == "gemini-1.5-pro-002"
    assert [sent.path_qs for sent in emulator.requests] == ["/v1beta/models?pageSize=1000"]


async def test_pages(gemini: GeminiProvider, emulator: GeminiEmulator) -> None:
    emulator.page_size_max = 5
    assert [model.name for model in await gemini.models()] == EMULATED
    assert len(emulator.requests) == 4


async def test_pages_without_end(
    gemini: GeminiProvider, emulator: GeminiEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gemini_module, "MODELS_PAGES", 2)
    emulator.page_size_max = 5
    assert 0 < len(await gemini.models()) < len(EMULATED)
    assert len(emulator.requests) == 2


async def test_the_list_is_kept_for_an_hour(timed: GeminiProvider, emulator: GeminiEmulator, clock: Clock) -> None:
    first = await timed.models()
    clock.now += GEMINI_MODELS_SECONDS - 1
    assert await timed.models() is first
    assert len(emulator.requests) == 1
    clock.now += 2
    emulator.rows = emulator.rows[:6]
    assert len(await timed.models()) < len(first)
    assert len(emulator.requests) == 2


async def test_those_who_wait_share_one_question(gemini: GeminiProvider, emulator: GeminiEmulator) -> None:
    lists = await asyncio.gather(*(gemini.models() for _ in range(20)))
    assert len({id(models) for models in lists}) == 1
    assert len(emulator.requests) == 1


async def test_the_last_good_list_stays(timed: GeminiProvider, emulator: GeminiEmulator, clock: Clock) -> None:
    first = await timed.models()
    clock.now += GEMINI_MODELS_SECONDS
    emulator.list_faults.append(Fault(503))
    assert await timed.models() is first
    assert await timed.models() is first  # and Google is not asked at every call
    assert len(emulator.requests) == 2
    clock.now += GEMINI_MODELS_RETRY_SECONDS
    assert await timed.models() is not first
    assert len(emulator.requests) == 3


async def test_an_emptied_list_is_a_failure(timed: GeminiProvider, emulator: GeminiEmulator, clock: Clock) -> None:
    first = await timed.models()
    clock.now += GEMINI_MODELS_SECONDS
    emulator.rows = ()
    assert await timed.models() is first


async def test_a_first_failure_is_the_operators(gemini: GeminiProvider, emulator: GeminiEmulator) -> None:
    emulator.list_faults.append(Fault(503))
    with pytest.raises(OperatorError, match="overloaded"):
        await gemini.models()
    emulator.keys = frozenset()
    with pytest.raises(OperatorError, match=r"API key rejected\.\nCheck GEMINI_API_KEY"):
        await gemini.models()
    emulator.keys = None
    assert [model.name for model in await gemini.models()] == EMULATED
