"""Google's own SDK against our emulator: it speaks Google's wire, and our adapter asks what the SDK would ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from google import genai
from google.genai import errors, types

from restante.core.answer import Answer
from restante.core.task import Message, Prompt
from restante.providers.gemini import GeminiProvider
from restante.providers.gemini_answer import search_suggestions
from restante.providers.provider import Call
from tests.emulators.gemini import GeminiEmulator, camel
from tests.emulators.grounding import SUGGESTIONS

# The SDK derives a class from aiohttp's session, which aiohttp discourages; that is between the two of them.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")


@asynccontextmanager
async def client(emulator: GeminiEmulator, version: str, key: str = "good-key") -> AsyncIterator[genai.Client]:
    options = types.HttpOptions(base_url=emulator.url, api_version=version, timeout=10_000)
    made = genai.Client(api_key=key, http_options=options)
    yield made
    await made.aio.aclose()
    made.close()


@pytest.fixture
async def sdk(emulator: GeminiEmulator) -> AsyncIterator[genai.Client]:
    async with client(emulator, "v1beta") as made:
        yield made


def text(role: str, said: str) -> types.Content:
    return types.Content(role=role, parts=[types.Part(text=said)])


async def test_our_question_is_the_sdks(sdk: genai.Client, gemini: GeminiProvider, emulator: GeminiEmulator) -> None:
    question = "which Alpine towns [[thoughts=hm]] [[usage=120,800,300]]"
    theirs = await sdk.aio.models.generate_content(
        model="gemini-2.5-flash",
        contents=[text("user", "Hi"), text("model", "Hello, where to?"), text("user", question)],
        config=types.GenerateContentConfig(
            system_instruction="be brief",
            max_output_tokens=300,
            temperature=0.7,
            top_p=0.5,
            thinking_config=types.ThinkingConfig(thinking_budget=0),
        ),
    )
    prompt = Prompt(
        user_prompt=question,
        model_name="gemini-2.5-flash",
        system_message="be brief",
        message_chain=(Message("user", "Hi"), Message("ai", "Hello, where to?")),
        max_output_tokens=300,
        temperature=0.7,
        top_p=0.5,
    )
    ours = await gemini.generate(Call(task_id="t-1", model="gemini-2.5-flash", prompt=prompt, seconds=10))

    by_sdk, by_us = emulator.requests
    assert by_us.path_qs == by_sdk.path_qs
    assert by_us.headers["x-goog-api-key"] == by_sdk.headers["x-goog-api-key"]
    assert by_us.body == comparable(by_sdk.body)

    assert isinstance(ours, Answer)
    assert theirs.usage_metadata is not None
    usage = theirs.usage_metadata
    assert ours.items[-1].sections[0].text == theirs.text
    assert ours.model_name == theirs.model_version
    assert ours.input_tokens == usage.prompt_token_count == 120
    assert ours.reasoning_tokens == usage.thoughts_token_count == 300
    assert ours.output_tokens == (usage.candidates_token_count or 0) + 300


def comparable(body: Any) -> Any:
    """The SDK names a role for the system instruction, which Google ignores, and writes some names in snake case and
    levels in either case, which Google takes alike."""
    body = camel(body)
    if "systemInstruction" in body:
        body["systemInstruction"].pop("role", None)
    return body


class Configuration(NamedTuple):
    """A task of a client's, and what a user of Google's SDK would write for it."""

    model: str
    task: dict[str, Any]
    thinking: dict[str, Any] | None
    search: bool = False


_OFF: dict[str, Any] = {"thinking_budget": 0}


def _budget(tokens: int) -> dict[str, Any]:
    return {"thinking_budget": tokens, "include_thoughts": True}


def _level(level: str, **more: Any) -> dict[str, Any]:
    return {"thinking_level": level, **more}


CHAIN = (Message("user", "Hi"), Message("ai", "Hello, where to?"))
ON = {"use_reasoning": True}
MEDIUM = _level("MEDIUM", include_thoughts=True)

CONFIGURATIONS = [
    Configuration("gemini-1.5-pro-002", {}, None),
    Configuration("gemini-2.0-flash", {}, None),
    Configuration("gemini-2.0-flash", {"web_search": True, **ON}, None, search=True),
    Configuration("gemini-2.5-flash", {}, _OFF),
    Configuration("gemini-2.5-flash", {"web_search": True}, _OFF, search=True),
    Configuration("gemini-2.5-flash", {"system_message": "be brief", "temperature": 0}, _OFF),
    Configuration("gemini-2.5-flash", {"message_chain": CHAIN, "top_p": 0.0, "max_output_tokens": 1}, _OFF),
    Configuration("gemini-2.5-flash", ON, _budget(1024)),
    Configuration("gemini-2.5-flash", ON | {"max_output_tokens": 4096, "web_search": True}, _budget(2048), search=True),
    Configuration("gemini-2.5-flash-lite", {}, _OFF),
    Configuration("gemini-2.5-flash-lite", ON | {"max_output_tokens": 1024}, _budget(512)),
    Configuration("gemini-2.5-pro", {}, _budget(1024)),
    Configuration("gemini-2.5-pro", ON | {"max_output_tokens": 1024, "web_search": True}, _budget(512), search=True),
    Configuration("gemini-3.1-pro-preview", {}, MEDIUM),
    Configuration("gemini-3.1-pro-preview", ON | {"web_search": True, "message_chain": CHAIN}, MEDIUM, search=True),
    Configuration("gemini-3.6-flash", {}, _level("MINIMAL")),
    Configuration("gemini-3.6-flash", {"message_chain": CHAIN}, _level("LOW")),
    Configuration("gemini-3.6-flash", ON, MEDIUM),
    Configuration("gemini-3.7-flash", {"web_search": True, "system_message": "Zürich 🚆"}, _level("LOW"), search=True),
    Configuration("gemini-3.7-flash", ON, MEDIUM),
    Configuration("gemini-flash-latest", {"web_search": True}, _level("LOW"), search=True),
    Configuration("gemini-flash-latest", ON | {"max_output_tokens": 4096}, MEDIUM),
]


@pytest.mark.parametrize("one", CONFIGURATIONS, ids=lambda one: f"{one.model}-{'-'.join(one.task) or 'plain'}")
async def test_a_body_is_the_sdks(
    one: Configuration, sdk: genai.Client, gemini: GeminiProvider, emulator: GeminiEmulator
) -> None:
    """The very body that the SDK sends for the same call; and Google, as emulated, takes it."""
    prompt = Prompt(user_prompt="which Alpine towns", model_name=one.model, **one.task)
    turns = [text("model" if turn.role == "ai" else "user", turn.message) for turn in prompt.message_chain]
    await sdk.aio.models.generate_content(
        model=one.model,
        contents=[*turns, text("user", prompt.user_prompt)],
        config=types.GenerateContentConfig(
            system_instruction=prompt.system_message,
            max_output_tokens=prompt.max_output_tokens,
            temperature=prompt.temperature,
            top_p=prompt.top_p,
            thinking_config=None if one.thinking is None else types.ThinkingConfig(**one.thinking),
            tools=[types.Tool(google_search=types.GoogleSearch())] if one.search else None,
        ),
    )
    ours = await gemini.generate(Call(task_id="t-1", model=one.model, prompt=prompt, seconds=10))
    assert isinstance(ours, Answer), ours
    by_sdk, by_us = emulator.requests
    assert by_us.path_qs == by_sdk.path_qs
    assert by_us.body == comparable(by_sdk.body)


async def test_the_sdk_reads_a_grounded_answer(sdk: genai.Client, gemini: GeminiProvider) -> None:
    """Its reading of Google's bytes is ours of code points: both cut the same words."""
    question = "q [[thoughts=hm]] [[parts=Zürich liegt |am See. 🚆 Bern nicht.]] [[search=zürich see||bern]]"
    question += " [[chunks=zh.ch|bern.ch]] [[cites=Zürich>0,1;🚆 Bern>1]] [[tools=70]]"
    theirs = await sdk.aio.models.generate_content(
        model="gemini-3.7-flash",
        contents=question,
        config=types.GenerateContentConfig(tools=[types.Tool(google_search=types.GoogleSearch())]),
    )
    prompt = Prompt(user_prompt=question, model_name="gemini-3.7-flash", web_search=True)
    ours = await gemini.generate(Call(task_id="t-1", model="gemini-3.7-flash", prompt=prompt, seconds=10))
    assert isinstance(ours, Answer)
    assert theirs.candidates is not None
    candidate = theirs.candidates[0]
    grounding, content = candidate.grounding_metadata, candidate.content
    assert grounding is not None and grounding.grounding_supports and grounding.grounding_chunks
    assert content is not None and content.parts is not None
    expected = []
    for support in grounding.grounding_supports:
        segment = support.segment
        assert segment is not None
        part = content.parts[segment.part_index or 0].text or ""
        words = part.encode()[segment.start_index or 0 : segment.end_index].decode()
        assert words == segment.text
        for index in support.grounding_chunk_indices or ():
            web = grounding.grounding_chunks[index].web
            assert web is not None
            expected.append((words, web.title, web.uri))
    [_, message] = ours.items
    [section] = message.sections
    assert [(note.text, note.title, note.url) for note in section.annotations or ()] == expected
    assert len(expected) == 3
    assert grounding.web_search_queries == ["zürich see", "", "bern"]
    assert ours.fan_out_queries == ("zürich see", "bern")
    assert grounding.search_entry_point is not None and ours.raw is not None
    assert search_suggestions(ours.raw) == grounding.search_entry_point.rendered_content == SUGGESTIONS
    assert theirs.usage_metadata is not None
    assert ours.input_tokens == theirs.usage_metadata.prompt_token_count
    assert theirs.usage_metadata.tool_use_prompt_token_count == 70


@pytest.mark.parametrize("version", ["v1", "v1beta"])
async def test_the_sdk_reads_a_thinking_answer(emulator: GeminiEmulator, version: str) -> None:
    async with client(emulator, version) as sdk:
        reply = await sdk.aio.models.generate_content(
            model="gemini-2.5-pro",
            contents="Zürich 🚆",
            config=types.GenerateContentConfig(thinking_config=types.ThinkingConfig(include_thoughts=True)),
        )
    assert reply.text == "Echo: Zürich 🚆"
    assert reply.response_id
    assert reply.candidates is not None
    candidate = reply.candidates[0]
    assert candidate.finish_reason is types.FinishReason.STOP
    assert candidate.content is not None
    assert candidate.content.parts is not None
    assert candidate.content.parts[0].thought is True


async def test_the_sdk_reads_a_blocked_prompt(sdk: genai.Client) -> None:
    reply = await sdk.aio.models.generate_content(model="gemini-2.5-flash", contents="q [[blocked=SAFETY]]")
    assert reply.prompt_feedback is not None
    assert reply.prompt_feedback.block_reason is types.BlockedReason.SAFETY
    assert not reply.candidates


async def test_the_sdk_reads_max_tokens_without_text(sdk: genai.Client) -> None:
    prompt = "q [[text=]] [[finish=MAX_TOKENS]] [[usage=10,0,1024]]"
    reply = await sdk.aio.models.generate_content(model="gemini-2.5-flash", contents=prompt)
    assert reply.text is None
    assert reply.candidates is not None
    assert reply.candidates[0].finish_reason is types.FinishReason.MAX_TOKENS


@pytest.mark.parametrize(
    ("directive", "kind", "code", "status"),
    [
        ("[[status=429]] [[retry=2s]]", errors.ClientError, 429, "RESOURCE_EXHAUSTED"),
        ("[[status=503]]", errors.ServerError, 503, "UNAVAILABLE"),
        ("[[status=400]]", errors.ClientError, 400, "INVALID_ARGUMENT"),
    ],
)
async def test_the_sdk_reads_the_errors(
    sdk: genai.Client, directive: str, kind: type[errors.APIError], code: int, status: str
) -> None:
    with pytest.raises(kind) as raised:
        await sdk.aio.models.generate_content(model="gemini-2.5-flash", contents=f"q {directive}")
    assert (raised.value.code, raised.value.status) == (code, status)


async def test_the_sdk_reads_a_rejected_key(emulator: GeminiEmulator) -> None:
    async with client(emulator, "v1beta", "bad-key") as sdk:
        with pytest.raises(errors.ClientError, match="API_KEY_INVALID"):
            await sdk.aio.models.generate_content(model="gemini-2.5-flash", contents="q")


async def test_the_sdk_lists_what_we_list(sdk: genai.Client, gemini: GeminiProvider, emulator: GeminiEmulator) -> None:
    emulator.page_size_max = 5
    listed = {model.name: model async for model in await sdk.aio.models.list()}
    assert len(listed) == len(emulator.rows)
    for model in await gemini.models():
        theirs = listed[f"models/{model.served}"]
        assert theirs.supported_actions is not None
        assert "generateContent" in theirs.supported_actions
        assert bool(theirs.thinking) == model.reasoning
