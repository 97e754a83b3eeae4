"""The OpenAI-compatible provider against a server that misbehaves on demand. With a real one: tests/operation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from aiohttp import web

from restante.core.answer import Answer, Failure, Item, Section
from restante.core.errors import OperatorError
from restante.core.limits import PROVIDER_REPLY_BYTES
from restante.core.money import Nano
from restante.core.task import Message, Model, Prompt
from restante.providers.api_key import WITHDRAWN, api_key_source
from restante.providers.models_map import Offer, Server
from restante.providers.openai_compatible import OpenAICompatibleProvider
from restante.providers.openai_wire import answer_of, read_completion
from restante.providers.provider import Call, Keyed, Paced, Provider
from tests.emulators.openai import OpenAIEmulator, completion, reply

SECRET = "sk-secret-123"


def offer(name: str = "mine", served: str = "some-model", **changes: Any) -> Offer:
    fields: dict[str, Any] = {
        "reasoning": False,
        "price_input": Decimal("0.15"),
        "price_output": Decimal("0.60"),
    } | changes
    return Offer(name=name, served=served, **fields)


def call(*, seconds: float = 20.0, model: str = "some-model", **fields: Any) -> Call:
    prompt = Prompt(user_prompt="What is it?", model_name="mine", **fields)
    return Call(task_id="t", model=model, prompt=prompt, seconds=seconds)


@asynccontextmanager
async def provider_of(
    emulator: OpenAIEmulator, *offers: Offer, key: Callable[[], str] | None = None, **changes: Any
) -> AsyncIterator[OpenAICompatibleProvider]:
    fields: dict[str, Any] = {"url": emulator.url, "concurrency": 4, "direct": False, "lists_models": True} | changes
    server = Server(name="workshop", key=key, offers=offers or (offer(),), **fields)
    provider = OpenAICompatibleProvider(server)
    yield provider
    await provider.close()


@pytest.fixture
async def emulator() -> AsyncIterator[OpenAIEmulator]:
    async with OpenAIEmulator() as emulator:
        yield emulator


async def test_what_is_sent_and_what_is_made_of_the_answer(emulator: OpenAIEmulator) -> None:
    async with provider_of(emulator, key=lambda: SECRET) as made:
        provider: Provider = made
        answer = await provider.generate(
            call(
                system_message="Be brief.",
                message_chain=(Message("user", "Hi."), Message("ai", "Hello.")),
                max_output_tokens=64,
                temperature=0.5,
                top_p=0.8,
            )
        )
    [(path, headers, body)] = emulator.heard
    assert (path, headers["Authorization"]) == ("/v1/chat/completions", f"Bearer {SECRET}")
    assert body == {
        "model": "some-model",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi."},
            {"role": "assistant", "content": "Hello."},
            {"role": "user", "content": "What is it?"},
        ],
        "max_tokens": 64,
        "temperature": 0.5,
        "top_p": 0.8,
    }
    assert answer == Answer(
        model_name="some-model",
        input_tokens=12,
        output_tokens=5,
        items=Answer.message("Hello."),
        money_spent=Nano(4_800),  # 12 × $0.15 + 5 × $0.60 a million = $0.0000048
    )


async def test_without_a_key_and_a_system_message_none_is_sent(emulator: OpenAIEmulator) -> None:
    async with provider_of(emulator) as provider:
        assert isinstance(await provider.generate(call()), Answer)
    [(_, headers, body)] = emulator.heard
    assert "Authorization" not in headers
    assert [message["role"] for message in body["messages"]] == ["user"]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_thoughts_are_an_item_of_their_own_and_part_of_the_output(emulator: OpenAIEmulator, field: str) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 90, "completion_tokens_details": {"reasoning_tokens": 70}}
    emulator.script.append(reply(completion("Four.", usage=usage, **{field: "Two and two…"})))
    async with provider_of(emulator) as provider:
        answer = await provider.generate(call())
    assert isinstance(answer, Answer)
    assert answer.items == (Item("reasoning", (Section("Two and two…"),)), Item("message", (Section("Four."),)))
    assert (answer.output_tokens, answer.reasoning_tokens) == (90, 70)
    assert answer.money_spent == 3 * 150 + 90 * 600


def answered(body: dict[str, Any]) -> Answer | Failure:
    import msgspec

    read = read_completion(msgspec.json.encode(body))
    assert read is not None
    return answer_of(read, "m")


def test_odd_replies() -> None:
    later = Failure(reason="empty answer", transient=True, costly=True)
    assert answered(completion(None)) == later
    assert answered(completion(" \n")) == later
    assert answered(completion() | {"choices": []}) == later
    assert answered(completion(None, "content_filter")) == Failure(reason="blocked: content_filter")
    assert answered(completion(None, refusal="I cannot.")) == Failure(reason="blocked: refusal")
    spent = answered(completion("", "length", reasoning_content="Hmm"))
    assert isinstance(spent, Answer)
    assert [item.type for item in spent.items] == ["reasoning"]
    for usage in (None, {"prompt_tokens": -1, "completion_tokens": -2, "completion_tokens_details": None}):
        bare = answered(completion("Hi", usage=usage))
        assert isinstance(bare, Answer)
        assert (bare.input_tokens, bare.output_tokens, bare.reasoning_tokens) == (0, 0, 0)
    greedy = {"prompt_tokens": 1, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 9}}
    most = answered(completion("Hi", usage=greedy))
    assert isinstance(most, Answer)
    assert most.reasoning_tokens == 2


STRAINS: dict[int, Literal["overloaded", "quota"]] = {429: "quota", 503: "overloaded", 529: "overloaded"}
REJECTED = Failure(reason="API key rejected", transient=True, waits=True, doubts_key=True)
CONTEXT = {"type": "exceed_context_size_error", "n_prompt_tokens": 9_001, "n_ctx": 8_192, "message": "too long"}


@pytest.mark.parametrize(
    ("status", "body", "headers", "failure"),
    [
        (401, b"", {}, REJECTED),
        (
            402,
            {"error": {"message": "Insufficient Balance"}},
            {},
            Failure(reason="no credit", transient=True, waits=True),
        ),
        (403, {"error": "no"}, {}, Failure(reason="refused", transient=True, costly=True, doubts_key=True)),
        (429, {"error": {"message": "slow down"}}, {"Retry-After": "7"}, ("rate_limit_exceeded", 7.0)),
        (429, b"", {"Retry-After": "-1"}, ("rate_limit_exceeded", None)),
        (429, b"", {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, ("rate_limit_exceeded", None)),
        (429, b"", {"Retry-After": "99999999"}, ("rate_limit_exceeded", 86_400.0)),
        (503, b"<html>", {"Retry-After": "2"}, ("overloaded", 2.0)),
        (500, {"error": {"code": 500, "message": "oops", "type": "server_error"}}, {}, ("provider error", None)),
        (504, b"", {}, ("timeout", None)),
        (408, b"", {}, ("timeout", None)),
        (302, b"", {"Location": "http://elsewhere.test/"}, ("unexpected HTTP 302", None)),
        (400, {"error": {"message": "bad"}}, {}, "invalid argument"),
        (422, {"detail": [{}]}, {}, "invalid argument"),
        (404, {"error": {"message": "model 'x' not found"}}, {}, "model not found"),
        (418, b"[[[", {}, "refused with HTTP 418"),
        (400, {"error": {"code": 400, **CONTEXT}}, {}, "prompt of 9001 tokens exceeds the context of 8192 tokens"),
        (400, {"error": {"code": "context_length_exceeded"}}, {}, "prompt exceeds the model's context"),
    ],
)
async def test_errors_are_values(
    emulator: OpenAIEmulator, status: int, body: object, headers: dict[str, str], failure: Any
) -> None:
    emulator.script.append(reply(body, status, **headers))
    if isinstance(failure, str):
        failure = Failure(reason=failure)
    elif isinstance(failure, tuple):
        strain = STRAINS.get(status)
        failure = Failure(reason=failure[0], transient=True, retry_after=failure[1], strain=strain)
    async with provider_of(emulator) as provider:
        assert await provider.generate(call()) == failure
    assert len(emulator.heard) == 1, "one attempt, no redirect followed"


async def test_replies_that_are_none(emulator: OpenAIEmulator) -> None:
    async def endless() -> web.StreamResponse:
        return web.Response(body=b" " * (PROVIDER_REPLY_BYTES + 1))

    emulator.script += [reply(b'{"choices": ['), reply(b"\xff"), endless]
    async with provider_of(emulator) as provider:
        for reason, transient in (("unreadable answer", True), ("unreadable answer", True), ("reply too long", False)):
            assert await provider.generate(call()) == Failure(reason=reason, transient=transient, costly=transient)


async def test_a_server_that_hangs_or_is_away(emulator: OpenAIEmulator) -> None:
    async def hang() -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError

    emulator.script.append(hang)
    async with provider_of(emulator) as provider:
        assert await provider.generate(call(seconds=0.1)) == Failure(reason="timeout", transient=True)
    async with provider_of(emulator, url="http://127.0.0.1:1/v1") as provider:
        assert await provider.generate(call()) == Failure(reason="connection failed", transient=True)


async def test_no_call_meets_a_connection_that_a_small_server_has_dropped(emulator: OpenAIEmulator) -> None:
    async with provider_of(emulator) as provider:
        for _ in range(3):
            assert isinstance(await provider.generate(call()), Answer)
    assert len(set(emulator.peers)) == 3, "a connection each"


async def test_no_more_calls_than_slots(emulator: OpenAIEmulator) -> None:
    release = asyncio.Event()

    async def wait() -> web.StreamResponse:
        await release.wait()
        return await reply(completion())()

    emulator.script += [wait, wait]
    async with provider_of(emulator, concurrency=2) as provider:
        calls = [asyncio.create_task(provider.generate(call())) for _ in range(3)]
        async with asyncio.timeout(30):
            while len(emulator.heard) < 2:
                await asyncio.sleep(0.01)  # the server says nothing
        late = await provider.generate(call(seconds=0.2))
        assert late == Failure(reason="timeout", transient=True), "neither is the third one asked, nor this"
        assert len(emulator.heard) == 2
        release.set()
        assert all(isinstance(answer, Answer) for answer in await asyncio.gather(*calls))


async def test_a_rejected_key_waits_and_a_good_one_mends_it_without_a_restart(
    emulator: OpenAIEmulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.key = SECRET
    file = tmp_path / "key"
    file.write_text("sk-wrong-456")
    async with provider_of(emulator, key=api_key_source(None, file)) as provider:
        assert await provider.generate(call()) == REJECTED
        file.unlink()
        assert await provider.generate(call()) == REJECTED
        file.write_text(SECRET)
        assert isinstance(await provider.generate(call()), Answer)
    assert caplog.text.count("does not take the API key") == 1, "said once"
    assert "takes the API key again" in caplog.text
    assert "sk-wrong" not in caplog.text


@pytest.mark.parametrize("refuses", [401, 403])
async def test_a_question_with_nothing_in_it_tells_whether_the_key_is_taken(
    emulator: OpenAIEmulator, tmp_path: Path, refuses: int
) -> None:
    """Not the list of models, which many servers show to everybody. It costs nothing: no prompt, no answer."""
    emulator.key, emulator.refuses = SECRET, refuses
    file = tmp_path / "key"
    file.write_text("sk-wrong-456")
    async with provider_of(emulator, key=api_key_source(None, file)) as provider:
        assert isinstance(provider, Keyed) and not isinstance(provider, Paced)
        [bad] = provider.projects()
        assert "sk-wrong" not in bad
        assert await provider.probe(bad) == REJECTED
        file.write_text(SECRET)
        [good] = provider.projects()
        assert good != bad
        assert await provider.probe(good) is None
        assert await provider.probe(bad) == WITHDRAWN
        file.unlink()
        assert await provider.probe(good) == WITHDRAWN
        with pytest.raises(OperatorError):
            provider.projects()
    assert [body for _, _, body in emulator.heard] == [{}, {}]


@pytest.mark.parametrize(("status", "told"), [(404, True), (402, True), (429, False), (503, False), (500, False)])
async def test_what_a_server_says_without_looking_at_the_key_tells_nothing(
    emulator: OpenAIEmulator, status: int, told: bool
) -> None:
    async with provider_of(emulator) as provider:
        [none] = provider.projects()
        emulator.key, emulator.refuses = SECRET, status
        found = await provider.probe(none)
        assert (found is None) == told and (found is None or not found.doubts_key)
    async with provider_of(emulator, url="http://127.0.0.1:1/v1") as provider:
        assert await provider.probe(none) == Failure(reason="connection failed", transient=True)


async def test_a_task_of_a_model_that_the_map_lost_waits(emulator: OpenAIEmulator) -> None:
    async with provider_of(emulator) as provider:
        failure = await provider.generate(call(model="gone"))
    assert failure == Failure(reason="model not configured", transient=True, waits=True)
    assert not emulator.heard, "nobody knows what it would cost"


async def test_models_that_the_server_does_not_list_are_not_offered(
    emulator: OpenAIEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.names = ("some-model", "llama3.1:latest")
    offers = (offer("b", reasoning=True), offer("a", "llama3.1"), offer("c", "gone"))
    async with provider_of(emulator, *offers) as provider:
        for _ in range(2):
            assert await provider.models() == (
                Model(name="b", served="some-model", provider="workshop", reasoning=True),
                Model(name="a", served="llama3.1", provider="workshop"),
            )
        assert caplog.text.count("model 'c' is not offered: server workshop does not list it") == 1
        emulator.names = None  # a server that lists nothing is believed to serve what it is said to
        assert [model.name for model in await provider.models()] == ["b", "a", "c"]
    async with provider_of(emulator, *offers, lists_models=False) as provider:
        emulator.heard.clear()
        assert len(await provider.models()) == 3
        assert not emulator.heard


async def test_a_key_that_is_no_key_is_never_sent(emulator: OpenAIEmulator) -> None:
    def none() -> str:
        raise OperatorError("There is no key.")

    async with provider_of(emulator, key=none) as provider:
        assert await provider.generate(call()) == REJECTED
    assert not emulator.heard
