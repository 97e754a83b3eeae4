"""The emulator's batches are Google's: google-genai makes, finds, reads and cancels them, inline and by file."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator

import pytest
from google import genai
from google.genai import types

from restante.core.answer import Failure
from restante.core.task import Prompt
from restante.providers.gemini import GeminiProvider
from restante.providers.gemini_batch import GeminiBatches, _sent
from restante.providers.provider import Call, Sent
from tests.emulators.batches import HALF_FAILS, HANGS
from tests.emulators.gemini import GeminiEmulator, camel

pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

MODEL = "gemini-2.5-flash"


@pytest.fixture
async def emulator() -> AsyncIterator[GeminiEmulator]:
    async with GeminiEmulator() as running:
        running.batches.takes = 0.0
        yield running


@pytest.fixture(params=["v1beta", "v1"])
async def sdk(emulator: GeminiEmulator, request: pytest.FixtureRequest) -> AsyncIterator[genai.Client]:
    options = types.HttpOptions(base_url=emulator.url, api_version=request.param, timeout=10_000)
    made = genai.Client(api_key="good-key", http_options=options)
    yield made
    await made.aio.aclose()
    made.close()


@pytest.fixture
async def ours(emulator: GeminiEmulator) -> AsyncIterator[GeminiBatches]:
    provider = GeminiProvider(lambda: "good-key", emulator.url)
    yield GeminiBatches(provider)
    await provider.close()


def question(text: str, key: str) -> types.InlinedRequest:
    return types.InlinedRequest(
        contents=[types.Content(role="user", parts=[types.Part(text=text)])],
        metadata={"key": key},
        config=types.GenerateContentConfig(
            max_output_tokens=2_048, temperature=1.3, top_p=0.9,
            thinking_config=types.ThinkingConfig(thinking_budget=0),
        ),
    )  # fmt: skip


async def test_inline(sdk: genai.Client, emulator: GeminiEmulator) -> None:
    made = await sdk.aio.batches.create(
        model=MODEL, src=[question("one", "1"), question("two [[status=400]]", "2")],
        config=types.CreateBatchJobConfig(display_name="ours"),
    )  # fmt: skip
    assert made.name is not None and made.display_name == "ours"
    assert made.state == types.JobState.JOB_STATE_RUNNING
    found = await sdk.aio.batches.get(name=made.name)
    assert found.state == types.JobState.JOB_STATE_SUCCEEDED and found.dest is not None
    first, second = found.dest.inlined_responses or []
    assert first.response is not None and first.response.text == "Echo: one" and first.metadata == {"key": "1"}
    assert second.error is not None and second.error.code == 400
    listed = [job async for job in await sdk.aio.batches.list(config={"page_size": 1})]
    assert [(job.name, job.display_name) for job in listed] == [(made.name, "ours")]
    await sdk.aio.batches.delete(name=made.name)
    assert [job async for job in await sdk.aio.batches.list()] == []
    assert emulator.batches.executed == {"1": 1, "2": 1}


async def test_by_file(sdk: genai.Client, emulator: GeminiEmulator) -> None:
    lines = [
        {"key": key, "request": {"contents": [{"role": "user", "parts": [{"text": f"question {key}"}]}]}}
        for key in ("a", "b")
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    config = types.UploadFileConfig(display_name="ours", mime_type="application/jsonl")
    file = await sdk.aio.files.upload(file=io.BytesIO(text.encode()), config=config)
    assert file.name is not None and emulator.batches.files[file.name].decode() == text
    made = await sdk.aio.batches.create(model=MODEL, src=file.name)
    found = await sdk.aio.batches.get(name=made.name or "")
    assert found.dest is not None and found.dest.file_name is not None
    said = await sdk.aio.files.download(file=found.dest.file_name)
    answers = {line["key"]: line["response"] for line in map(json.loads, said.splitlines())}
    assert answers["a"]["candidates"][0]["content"]["parts"][0]["text"].startswith("Echo")
    assert emulator.batches.executed == {"a": 1, "b": 1}
    await sdk.aio.files.delete(name=file.name)


async def test_cancelling_keeps_what_was_done(sdk: genai.Client, emulator: GeminiEmulator) -> None:
    emulator.batches.fates.append(HANGS)
    made = await sdk.aio.batches.create(model=MODEL, src=[question("one", "1"), question("two", "2")])
    await sdk.aio.batches.cancel(name=made.name or "")
    found = await sdk.aio.batches.get(name=made.name or "")
    assert found.state == types.JobState.JOB_STATE_CANCELLED and found.dest is not None
    assert len(found.dest.inlined_responses or []) == 1


async def test_we_ask_what_the_sdk_asks(sdk: genai.Client, ours: GeminiBatches, emulator: GeminiEmulator) -> None:
    await sdk.aio.batches.create(
        model=MODEL, src=[question("one", "1")], config=types.CreateBatchJobConfig(display_name="ours")
    )
    theirs = camel(emulator.requests[-1].body)
    call = Call(task_id="1", model=MODEL, prompt=Prompt(user_prompt="one", model_name=MODEL), seconds=9.0)
    made = await ours.create("", MODEL, "ours", items=[ours.item(call)], file="", seconds=9.0)
    assert isinstance(made, Sent)
    mine = camel(emulator.requests[-1].body)
    assert json.dumps(mine, sort_keys=True) == json.dumps(theirs, sort_keys=True)


async def test_a_list_that_takes_no_fields_is_asked_for_whole(ours: GeminiBatches, emulator: GeminiEmulator) -> None:
    emulator.batches.knows_fields = False
    call = Call(task_id="1", model=MODEL, prompt=Prompt(user_prompt="one", model_name=MODEL), seconds=9.0)
    for name in ["ours", *(f"other {number}" for number in range(20))]:  # more than a page of them
        await ours.create("", MODEL, name, items=[ours.item(call)], file="", seconds=9.0)
    found = await ours.find("", "ours")
    assert not isinstance(found, Failure) and [one.name for one in found] == ["batches/b1"]


@pytest.mark.parametrize(
    ("operation", "known"),
    [
        ({"metadata": {"state": "BATCH_STATE_RUNNING"}}, ("RUNNING", False, False)),
        ({"metadata": {"state": "BATCH_STATE_SUCCEEDED"}, "done": True}, ("SUCCEEDED", True, False)),
        ({"metadata": {"state": "JOB_STATE_CANCELLED"}, "done": True, "error": {"code": 1}}, ("CANCELLED", True, True)),
        ({"done": True, "error": {"code": 13, "message": "Internal."}}, ("FAILED (code 13)", True, True)),
        ({"metadata": {"state": "BATCH_STATE_RUNNING"}, "done": True, "error": {}}, ("FAILED (code 0)", True, True)),
        ({"metadata": {}, "done": True, "response": {}}, ("SUCCEEDED", True, False)),
    ],
)
def test_an_operation_that_is_done_is_over(operation: dict[str, object], known: tuple[str, bool, bool]) -> None:
    sent = _sent(json.dumps({"name": "batches/b", **operation}).encode())
    assert isinstance(sent, Sent) and (sent.word, sent.over, sent.stopped) == known


async def test_ours_by_file(ours: GeminiBatches, emulator: GeminiEmulator) -> None:
    calls = [
        Call(task_id=str(n), model=MODEL, prompt=Prompt(user_prompt=f"Größe {n}", model_name=MODEL), seconds=9.0)
        for n in range(4)
    ]
    file = await ours.upload("", "ours", [ours.item(call) for call in calls])
    assert isinstance(file, str)
    emulator.batches.fates.append(HALF_FAILS)
    made = await ours.create("", MODEL, "ours", items=(), file=file, seconds=9.0)
    assert isinstance(made, Sent) and not made.over
    assert await ours.find("", "another") == []
    found = await ours.find("", "ours")
    assert isinstance(found, list) and [one.name for one in found] == [made.name]
    sent = await ours.look("", made.name)
    assert isinstance(sent, Sent) and sent.over and sent.word == "SUCCEEDED"
    results = dict([one async for one in ours.results("", sent.output) if isinstance(one, tuple)])
    assert results.keys() == {"0", "1", "2", "3"}
    assert "Größe 3" in str(await ours.answer(calls[3], bytes(results["3"])))  # type: ignore[arg-type]
    await ours.delete("", made.name, file)
    assert emulator.batches.made[0].deleted and file not in emulator.batches.files
    await asyncio.sleep(0)
