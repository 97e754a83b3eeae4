"""The scripted provider does what its directives say, the same way every time."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from restante.core.answer import Answer, Failure
from restante.core.money import nano
from restante.core.task import Message, Prompt
from restante.providers import scripted
from restante.providers.provider import Call, Provider
from restante.providers.registry import scripted_models
from restante.providers.scripted import ScriptedProvider


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    provider = ScriptedProvider(scripted_models())
    yield provider
    await provider.close()


def call(
    user_prompt: str, task_id: str = "t-1", model: str = "gemini-2.5-flash", seconds: float = 60.0, **prompt: Any
) -> Call:
    asked = Prompt(user_prompt=user_prompt, model_name=model, **prompt)
    return Call(task_id=task_id, model=model, prompt=asked, seconds=seconds)


async def answer(provider: ScriptedProvider, *args: Any, **kwargs: Any) -> Answer:
    outcome = await provider.generate(call(*args, **kwargs))
    assert isinstance(outcome, Answer), outcome
    return outcome


async def failure(provider: ScriptedProvider, *args: Any, **kwargs: Any) -> Failure:
    outcome = await provider.generate(call(*args, **kwargs))
    assert isinstance(outcome, Failure), outcome
    return outcome


def text(answer: Answer) -> str:
    return answer.items[-1].sections[0].text


async def test_it_is_a_provider(provider: ScriptedProvider) -> None:
    protocol: Provider = provider
    assert (protocol.name, protocol.concurrency) == ("scripted", 10_000)
    assert await protocol.models() == scripted_models()


async def test_the_text_depends_on_the_prompt_alone(provider: ScriptedProvider) -> None:
    first = await answer(provider, "which Alpine towns")
    again = await answer(ScriptedProvider(()), "which Alpine towns", task_id="t-2", temperature=0.1)
    other = await answer(provider, "which Alpine lakes")
    assert first == again
    assert text(first).startswith("Scripted answer to: which Alpine towns\n\n")
    assert text(first).split("\n\n")[1] != text(other).split("\n\n")[1]


async def test_a_plain_answer(provider: ScriptedProvider) -> None:
    plain = await answer(
        provider, "one two three", system_message="be brief", message_chain=(Message("user", "hi there you"),)
    )
    assert plain.model_name == "gemini-2.5-flash"
    assert plain.input_tokens == 3 + 2 + 3
    assert plain.output_tokens == 3 + 3 + scripted.WORDS_DEFAULT
    assert (plain.reasoning_tokens, plain.money_spent) == (0, 0)
    assert (plain.web_search, plain.fan_out_queries) == (False, None)
    assert [item.type for item in plain.items] == ["message"]
    assert plain.items[0].sections[0].annotations is None


async def test_directives_are_not_part_of_the_question(provider: ScriptedProvider) -> None:
    said = await answer(provider, "which [[cost=0.02]] towns [[tokens_in=120]][[tokens_out=1100]]")
    assert text(said).startswith("Scripted answer to: which towns\n\n")
    assert said.money_spent == nano(Decimal("0.02"))
    assert (said.input_tokens, said.output_tokens) == (120, 1100)


@pytest.mark.parametrize("words", [0, 1, 5000])
async def test_words(provider: ScriptedProvider, words: int) -> None:
    said = text(await answer(provider, f"[[words={words}]] q"))
    assert len(said.split()) == len(["Scripted", "answer", "to:", "q"]) + words


@pytest.mark.parametrize("how", ["directive", "prompt", "pro"])
async def test_reasoning_stands_before_the_message(provider: ScriptedProvider, how: str) -> None:
    match how:
        case "directive":
            said = await answer(provider, "q [[reasoning]]")
        case "prompt":
            said = await answer(provider, "q", use_reasoning=True)
        case _:
            said = await answer(provider, "q", model="gemini-2.5-pro")
    assert [item.type for item in said.items] == ["reasoning", "message"]
    assert said.items[0].sections[0].text == "Scripted reasoning about: q"
    assert said.reasoning_tokens == 4
    assert said.output_tokens == 4 + 4 + scripted.WORDS_DEFAULT  # the reasoning is part of the output


@pytest.mark.contract("12.12 annotations")
async def test_web_search_annotates_in_code_points(provider: ScriptedProvider) -> None:
    said = await answer(provider, "trains in Zürich 🚆", web_search=True)
    section = said.items[0].sections[0]
    assert said.web_search
    assert said.fan_out_queries
    assert section.annotations is not None
    assert len(section.annotations) == 2
    for note in section.annotations:
        assert section.text[note.start_index : note.end_index] == note.text
        assert len(note.text.encode()) > len(note.text)
        assert note.direct_url is not None


async def test_search_none_leaves_an_empty_list(provider: ScriptedProvider) -> None:
    said = await answer(provider, "q [[search=none]]", web_search=True)
    assert said.items[0].sections[0].annotations == ()
    assert (said.web_search, said.fan_out_queries) == (False, None)


async def test_search_unasked(provider: ScriptedProvider) -> None:
    said = await answer(provider, "q [[search]]")
    assert said.web_search
    assert said.items[0].sections[0].annotations


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("[[fail=rate_limit_exceeded]]", Failure(reason="rate_limit_exceeded", transient=True)),
        ("[[fail=overloaded]][[retry_after=2.5]]", Failure(reason="overloaded", transient=True, retry_after=2.5)),
        ("[[fail=invalid argument]]", Failure(reason="invalid argument")),
        ("[[blocked=SAFETY]]", Failure(reason="blocked: SAFETY")),
    ],
)
async def test_failures(provider: ScriptedProvider, prompt: str, expected: Failure) -> None:
    assert await failure(provider, prompt) == expected


@pytest.mark.parametrize(
    "directive",
    [
        "[[latencey=1]]", "[[latency=soon]]", "[[latency=nan]]", "[[latency=-1]]", "[[latency=1e9]]", "[[fail]]",
        "[[fail=]]", "[[words=-1]]", "[[words=200001]]", "[[words=many]]", "[[cost=-1]]", "[[cost=dear]]",
        "[[tokens_in=1.5]]", "[[reasoning=yes]]", "[[search=maybe]]", "[[]]",
    ],
)  # fmt: skip
async def test_a_bad_directive_is_named(provider: ScriptedProvider, directive: str) -> None:
    assert await failure(provider, f"q {directive}") == Failure(reason=f"bad directive: {directive}")


async def test_fail_times_counts_each_task(provider: ScriptedProvider) -> None:
    prompt = "q [[fail_times=2]]"
    for task_id in ("t-1", "t-2"):
        for _ in range(2):
            assert await failure(provider, prompt, task_id) == Failure(reason="overloaded", transient=True)
        await answer(provider, prompt, task_id)
    named = await failure(provider, "q [[fail_times=1]][[fail=rate_limit_exceeded]]", "t-3")
    assert named == Failure(reason="rate_limit_exceeded", transient=True)


async def test_fail_times_forgets_the_oldest_task(provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted, "TASKS_REMEMBERED", 2)
    for task_id in ("t-1", "t-2", "t-3"):
        await failure(provider, "q [[fail_times=1]]", task_id)
    await answer(provider, "q [[fail_times=1]]", "t-2")
    await failure(provider, "q [[fail_times=1]]", "t-1")  # forgotten: counted from the start


async def test_latency(provider: ScriptedProvider) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await answer(provider, "q [[latency=0.05]]")
    assert loop.time() - began >= 0.05


async def test_latency_beyond_the_call_is_a_timeout(provider: ScriptedProvider) -> None:
    late = await failure(provider, "q [[latency=3600]]", seconds=0.01)
    assert late == Failure(reason="timeout", transient=True)


async def test_the_providers_own_latency() -> None:
    slow = ScriptedProvider((), latency_seconds=3600)
    assert await failure(slow, "q", seconds=0.01) == Failure(reason="timeout", transient=True)
    await answer(slow, "q [[latency=0]]", seconds=0.01)


async def test_the_log_counts_calls_of_several_processes(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    one, two = ScriptedProvider((), log=log), ScriptedProvider((), log=log)
    await answer(one, "q", "t-1")
    await failure(two, "q [[nonsense]]", "t-2", model="m")
    await answer(one, "q", "t-3")
    await one.close()
    await two.close()
    assert [json.loads(line) for line in log.read_text().splitlines()] == [
        {"task_id": "t-1", "model": "gemini-2.5-flash", "pid": os.getpid()},
        {"task_id": "t-2", "model": "m", "pid": os.getpid()},
        {"task_id": "t-3", "model": "gemini-2.5-flash", "pid": os.getpid()},
    ]
