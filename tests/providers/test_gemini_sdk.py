"""Google's own SDK against our emulator: it speaks Google's wire, and our adapter asks what the SDK would ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google import genai
from google.genai import errors, types

from restante.core.answer import Answer
from restante.core.task import Message, Prompt
from restante.providers.gemini import GeminiProvider
from restante.providers.provider import Call
from tests.emulators.gemini import GeminiEmulator

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
            system_instruction="be brief", max_output_tokens=300, temperature=0.7, top_p=0.5
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
    """The SDK names a role for the system instruction, which Google ignores, and may send an empty tool config."""
    body["systemInstruction"].pop("role", None)
    return body


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
