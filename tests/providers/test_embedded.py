"""The embedded provider with its real child process and model, and with an engine that misbehaves on demand."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import stat
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psutil
import pytest
import pytest_asyncio
from aiohttp import web

from restante.core.answer import Answer, Failure
from restante.core.errors import OperatorError
from restante.core.task import Message, Prompt
from restante.providers import model_server
from restante.providers.embedded import DEFAULT_SYSTEM_MESSAGE, EmbeddedProvider
from restante.providers.model_files import find_model
from restante.providers.model_server import Address, ModelServer
from restante.providers.provider import Call, Provider
from restante.providers.registry import embedded_models

MODEL = find_model(None, Path("/nonexistent"))  # that of the development environment
FRANCE = "What is the capital of France?"
# At temperature 0 the model keeps on with this for more than 1,500 tokens, which takes it more than ten seconds.
ENDLESS: dict[str, Any] = {
    "system_message": "You never stop writing.",
    "user_prompt": "Write a very long story about a dragon, with many chapters.",
    "max_output_tokens": 4_096,
}

pytestmark = pytest.mark.asyncio(loop_scope="module")


# --- helpers -------------------------------------------------------------------------------------------


def call(user_prompt: str = FRANCE, *, seconds: float = 60.0, **fields: Any) -> Call:
    prompt = Prompt(
        user_prompt=user_prompt,
        model_name="gemini-2.5-flash",
        **{"temperature": 0.0, "max_output_tokens": 8, **fields},
    )
    return Call(task_id="t", model="smollm2-135m-instruct", prompt=prompt, seconds=seconds)


async def ask(provider: Provider, *args: Any, **fields: Any) -> Answer:
    answer = await provider.generate(call(*args, **fields))
    assert isinstance(answer, Answer), answer
    return answer


async def fail(provider: Provider, *args: Any, **fields: Any) -> Failure:
    failure = await provider.generate(call(*args, **fields))
    assert isinstance(failure, Failure), failure
    return failure


def text(answer: Answer) -> str:
    return answer.items[0].sections[0].text


def server_file(state_dir: Path) -> Path:
    return state_dir / "server.json"


def written(state_dir: Path) -> Address:
    return msgspec.json.decode(server_file(state_dir).read_bytes(), type=Address)


def children(pid: int | None = None) -> list[psutil.Process]:
    """The living model processes a process has started."""
    return [
        child
        for child in psutil.Process(pid).children()
        if child.status() != psutil.STATUS_ZOMBIE and "restante.providers.model_child" in child.cmdline()
    ]


def serving(address: Address) -> psutil.Process:
    """The child of its owner that listens where `address` says."""
    port = int(address.url.rpartition(":")[2])
    (child,) = [
        child
        for child in children(address.owner_pid)
        if any(listening.laddr.port == port for listening in child.net_connections())
    ]
    return child


def gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def generating(child: psutil.Process) -> None:
    """Until the child is at work: it burns processor time only while it reads or writes."""
    before = child.cpu_times().user
    await until(lambda: child.cpu_times().user > before + 0.05)


@asynccontextmanager
async def provider_on(state_dir: Path) -> AsyncIterator[EmbeddedProvider]:
    provider = EmbeddedProvider(embedded_models(), ModelServer(state_dir, MODEL))
    try:
        yield provider
    finally:
        await provider.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared") / "model"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(shared_dir: Path) -> AsyncIterator[EmbeddedProvider]:
    """One running model for the tests that leave it as it is."""
    async with provider_on(shared_dir) as provider:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GEMINI_API_KEY", "not-for-native-code")
            await provider.start()
        yield provider


# --- answers -------------------------------------------------------------------------------------------


async def test_it_is_a_provider_that_answers_to_the_names_it_was_given(shared: EmbeddedProvider) -> None:
    provider: Provider = shared
    assert provider.name == "embedded"
    assert provider.concurrency in (2, 4)
    assert await provider.models() == embedded_models()


async def test_a_question_is_answered_in_the_models_own_name_with_its_exact_usage(shared: EmbeddedProvider) -> None:
    answer = await ask(shared, FRANCE, temperature=0.0, max_output_tokens=40)

    assert "Paris" in text(answer)
    assert answer == Answer(
        model_name="smollm2-135m-instruct",
        input_tokens=48,  # 37 with the template's own system line (measured), 48 with ours
        output_tokens=answer.output_tokens,
        items=Answer.message(text(answer)),
        reasoning_tokens=0,
        web_search=False,
        money_spent=0,  # type: ignore[arg-type]
        fan_out_queries=None,
    )
    assert 1 < answer.output_tokens <= 40


async def test_the_contracts_own_sampling_and_its_extremes_are_accepted(shared: EmbeddedProvider) -> None:
    for temperature, top_p in ((1.3, 0.9), (2.0, 1.0), (2.0, 0.0)):
        assert text(await ask(shared, temperature=temperature, top_p=top_p))


async def test_system_message_and_history_are_part_of_the_prompt(shared: EmbeddedProvider) -> None:
    plain = await ask(shared)
    default = await ask(shared, system_message=DEFAULT_SYSTEM_MESSAGE)
    brief = await ask(shared, system_message="Be brief.")
    history = (Message("user", "My name is Ada."), Message("ai", "Hello Ada."))
    chained = await ask(shared, message_chain=history)

    assert plain.input_tokens == default.input_tokens
    assert brief.input_tokens < plain.input_tokens < chained.input_tokens


async def test_max_output_tokens_cuts(shared: EmbeddedProvider) -> None:
    answer = await ask(shared, **{**ENDLESS, "max_output_tokens": 7})
    assert answer.output_tokens == 7


async def test_two_calls_are_answered_at_once(shared: EmbeddedProvider, shared_dir: Path) -> None:
    long = asyncio.create_task(shared.generate(call(**ENDLESS)))
    await generating(serving(written(shared_dir)))

    assert text(await ask(shared, max_output_tokens=3))
    assert not long.done()

    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long


async def test_cancelled_and_timed_out_calls_stop_generating(shared: EmbeddedProvider, shared_dir: Path) -> None:
    """All slots busy for half a minute, given up: then a short answer comes at once."""
    address = written(shared_dir)
    long = [asyncio.create_task(shared.generate(call(**ENDLESS))) for _ in range(shared.concurrency - 1)]
    await generating(serving(address))
    timed_out = await fail(shared, **ENDLESS, seconds=0.5)
    assert timed_out == Failure(reason="timeout", transient=True)
    for task in long:
        task.cancel()
    await asyncio.gather(*long, return_exceptions=True)

    async with asyncio.timeout(15):  # the stories would go on for longer, in all slots
        await asyncio.gather(*(ask(shared, max_output_tokens=3) for _ in range(shared.concurrency)))
    assert written(shared_dir) == address, "nobody had to start another"


@pytest.mark.parametrize("letter", ["語", "😀"])
async def test_a_prompt_beyond_the_context_fails_for_good_and_says_by_how_much(
    shared: EmbeddedProvider, letter: str
) -> None:
    """The longest request the contract allows: a system message, ten messages and a question of 500 characters."""
    longest = letter * 500
    history = (Message("user", longest), Message("ai", longest)) * 5

    failure = await fail(shared, longest, system_message=longest, message_chain=history)

    assert not failure.transient
    words = failure.reason.split()
    assert failure.reason == f"prompt of {words[2]} tokens exceeds the context of 8192 tokens"
    assert int(words[2]) > 8_192


# --- the key -------------------------------------------------------------------------------------------


async def test_nobody_is_answered_without_the_key(shared: EmbeddedProvider, shared_dir: Path) -> None:
    address = written(shared_dir)
    assert address.url.startswith("http://127.0.0.1:")
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    async with aiohttp.ClientSession() as session:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            for path in ("/v1/chat/completions", "/completion", "/tokenize"):
                async with session.post(address.url + path, json=body, headers=headers) as response:
                    assert response.status == 401
            async with session.get(f"{address.url}/v1/models", headers=headers) as response:
                assert response.status == 401


async def test_the_key_shows_nowhere_but_in_a_file_of_ours(shared: EmbeddedProvider, shared_dir: Path) -> None:
    address = written(shared_dir)
    key = address.key.encode()
    assert len(key) >= 32

    process = Path("/proc", str(serving(address).pid))
    assert key not in (process / "cmdline").read_bytes()
    assert key not in (process / "environ").read_bytes()
    assert key not in (shared_dir / "server.log").read_bytes()
    assert address.key not in repr(address)
    assert stat.S_IMODE(server_file(shared_dir).stat().st_mode) == 0o600
    assert stat.S_IMODE(shared_dir.stat().st_mode) == 0o700


async def test_secrets_of_ours_do_not_reach_the_child(shared: EmbeddedProvider, shared_dir: Path) -> None:
    environment = Path("/proc", str(serving(written(shared_dir)).pid), "environ").read_bytes()
    assert b"PATH=" in environment
    assert b"not-for-native-code" not in environment


# --- one child, whoever starts it ----------------------------------------------------------------------


async def test_a_call_survives_the_death_of_the_child(tmp_path: Path) -> None:
    async with provider_on(tmp_path) as provider:
        await provider.start()
        first = written(tmp_path)
        child = serving(first)
        before = len(children())
        calls = [asyncio.create_task(ask(provider, **{**ENDLESS, "max_output_tokens": 60})) for _ in range(2)]
        await generating(child)
        child.send_signal(signal.SIGKILL)

        answers = await asyncio.gather(*calls)

        assert all(answer.output_tokens == 60 for answer in answers)
        assert gone(child)
        assert written(tmp_path).url != first.url
        assert len(children()) == before


OTHER_PROCESS = """
import asyncio, sys
from pathlib import Path
from restante.providers.embedded import EmbeddedProvider
from restante.providers.model_server import ModelServer

async def main():
    provider = EmbeddedProvider((), ModelServer(Path(sys.argv[1]), Path(sys.argv[2])))
    await provider.start()
    print("started", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await provider.close()

asyncio.run(main())
"""


@asynccontextmanager
async def another_process(state_dir: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that has started, or shares, the model of `state_dir`, and closes it when its stdin ends."""
    arguments = (sys.executable, "-c", OTHER_PROCESS, str(state_dir), str(MODEL))
    process = await asyncio.create_subprocess_exec(*arguments, stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"started\n"
        yield process
    finally:
        process.stdin.close()
        await process.wait()


async def test_processes_share_one_child_and_outlive_its_owner(tmp_path: Path) -> None:
    async with another_process(tmp_path) as owner, provider_on(tmp_path) as provider:
        before = len(children())
        assert text(await ask(provider))
        address = written(tmp_path)
        assert address.owner_pid == owner.pid
        assert len(children()) == before, "no second child"

        child = serving(address)
        call_in_flight = asyncio.create_task(ask(provider, **{**ENDLESS, "max_output_tokens": 30}))
        await generating(child)
        owner.kill()

        assert (await call_in_flight).output_tokens == 30
        await until(lambda: gone(child))
        assert written(tmp_path).owner_pid == os.getpid()


async def test_the_owner_closes_and_the_others_go_on(tmp_path: Path) -> None:
    async with provider_on(tmp_path) as provider, another_process(tmp_path) as other:
        assert other.stdin is not None
        await provider.start()
        assert written(tmp_path).owner_pid == other.pid
        other.stdin.close()
        await other.wait()
        assert not server_file(tmp_path).exists()

        assert text(await ask(provider))
        assert written(tmp_path).owner_pid == os.getpid()


async def test_many_who_start_at_once_get_one_child(tmp_path: Path) -> None:
    before = len(children())
    servers = [ModelServer(tmp_path, MODEL) for _ in range(4)]
    try:
        addresses = await asyncio.gather(*(server.address() for server in servers))
        assert len({address.url for address in addresses}) == 1
        assert len(children()) == before + 1
    finally:
        for server in servers:
            await server.close()


async def test_closing_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    async with provider_on(tmp_path) as provider:
        await provider.start()
        child = serving(written(tmp_path))
        in_flight = asyncio.create_task(provider.generate(call(**ENDLESS)))
        await generating(child)

        await provider.close()

        assert gone(child)
        assert not server_file(tmp_path).exists()
        assert isinstance(await in_flight, Failure), "and does not start another"
        assert isinstance(await provider.generate(call()), Failure)


async def test_a_hanging_child_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_server, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(model_server, "STOP_SECONDS", 0.2)
    async with provider_on(tmp_path) as provider:
        await provider.start()
        child = serving(written(tmp_path))
        child.suspend()

        assert (await fail(provider, seconds=0.3)).reason == "timeout"
        assert text(await ask(provider))
        assert gone(child)


async def test_a_start_that_is_given_up_leaves_nothing_behind(tmp_path: Path) -> None:
    before = len(children())
    server = ModelServer(tmp_path, MODEL)
    start = asyncio.create_task(server.address())
    await until(lambda: len(children()) > before)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start

    await server.close()

    assert len(children()) == before


async def test_a_model_that_cannot_be_loaded_is_the_operators_affair(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model")
    provider = EmbeddedProvider((), ModelServer(tmp_path / "state", broken))

    with pytest.raises(OperatorError, match="does not start") as caught:
        await provider.start()
    assert "RuntimeError" in caught.value.remedy, "what the child said"
    assert await fail(provider) == Failure(reason="the embedded model does not start", transient=True)
    await provider.close()


async def test_a_lock_that_is_never_given_back_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_server, "LOCK_SECONDS", 0.1)
    with (tmp_path / "start.lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OperatorError, match=r"has held .*start\.lock"):
            await ModelServer(tmp_path, MODEL).address()


@pytest.mark.parametrize("content", [b"", b"{}", b'{"url": 1}', b"\xff"])
async def test_a_damaged_server_file_is_no_server(tmp_path: Path, content: bytes) -> None:
    server_file(tmp_path).write_bytes(content)
    assert model_server._read(server_file(tmp_path)) is None


# --- an engine that misbehaves -------------------------------------------------------------------------


class Engine:
    """A stand-in for the child, which a test gives a reply; found, as every server, through server.json."""

    def __init__(self) -> None:
        self.key = "k"
        self.asked = 0
        self.heard: Any = None
        self.reply: Callable[[], Awaitable[web.Response]] = self.say("Hello.")

    def say(self, content: str | None, status: int = 200) -> Callable[[], Awaitable[web.Response]]:
        body = {
            "choices": [{"message": {"role": "assistant", "content": content}}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        }

        async def reply() -> web.Response:
            return web.json_response(body, status=status)

        return reply

    async def models(self, request: web.Request) -> web.Response:
        known = request.headers.get("Authorization") == f"Bearer {self.key}"
        return web.Response(status=200 if known else 401)

    async def chat(self, request: web.Request) -> web.Response:
        self.asked += 1
        self.heard = await request.json()
        return await self.reply()


@asynccontextmanager
async def engine_on(state_dir: Path) -> AsyncIterator[Engine]:
    engine = Engine()
    app = web.Application()
    app.add_routes([web.get("/v1/models", engine.models), web.post("/v1/chat/completions", engine.chat)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        address = Address(f"http://127.0.0.1:{port}", engine.key, str(MODEL), owner_pid=1)
        server_file(state_dir).write_bytes(msgspec.json.encode(address))
        yield engine
    finally:
        await runner.cleanup()


async def test_what_the_engine_is_asked(tmp_path: Path) -> None:
    history = (Message("user", "Hi."), Message("ai", "Hello."))
    async with engine_on(tmp_path) as engine, provider_on(tmp_path) as provider:
        answer = await ask(
            provider,
            FRANCE,
            system_message="Be brief.",
            message_chain=history,
            temperature=1.3,
            top_p=0.9,
            max_output_tokens=2_048,
        )
        assert engine.heard == {
            "model": "smollm2-135m-instruct",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi."},
                {"role": "assistant", "content": "Hello."},
                {"role": "user", "content": FRANCE},
            ],
            "max_tokens": 2_048,
            "temperature": 1.3,
            "top_p": 0.9,
            "min_p": 0.2,
            "top_k": 40,
            "repeat_penalty": 1.1,
        }
        assert (answer.input_tokens, answer.output_tokens) == (3, 2)

        await ask(provider)
        assert engine.heard["messages"][0] == {"role": "system", "content": DEFAULT_SYSTEM_MESSAGE}


async def test_never_more_calls_in_flight_than_slots(tmp_path: Path) -> None:
    release = asyncio.Event()
    async with engine_on(tmp_path) as engine, provider_on(tmp_path) as provider:
        hello = engine.reply

        async def wait() -> web.Response:
            await release.wait()
            return await hello()

        engine.reply = wait
        calls = [asyncio.create_task(ask(provider)) for _ in range(3 * provider.concurrency)]
        await until(lambda: engine.asked == provider.concurrency)
        # A last one, whose time does not run while it waits for a slot.
        impatient = asyncio.create_task(ask(provider, seconds=5.0))
        release.set()
        await asyncio.gather(*calls, impatient)
        assert engine.asked == 3 * provider.concurrency + 1


async def test_half_a_character_at_the_cut_is_dropped(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as engine, provider_on(tmp_path) as provider:
        engine.reply = engine.say("Snow: ❄\ufffd")
        assert text(await ask(provider)) == "Snow: ❄"


@pytest.mark.parametrize("content", ["", None, " \n", "\ufffd"])
async def test_an_empty_answer_is_a_failure(tmp_path: Path, content: str | None) -> None:
    async with engine_on(tmp_path) as engine, provider_on(tmp_path) as provider:
        engine.reply = engine.say(content)
        assert await fail(provider) == Failure(
            reason="the embedded model gave an empty answer", transient=True, costly=True
        )
        assert engine.asked == 1


@pytest.mark.parametrize(("status", "transient"), [(400, False), (503, True)])
async def test_refusals_of_the_engine_are_failures(tmp_path: Path, status: int, transient: bool) -> None:
    async with engine_on(tmp_path) as engine, provider_on(tmp_path) as provider:
        engine.reply = engine.say("no", status=status)
        expected = Failure(reason=f"the embedded model answered HTTP {status}", transient=transient)
        assert await fail(provider) == expected


async def test_an_unreadable_answer_is_a_failure(tmp_path: Path) -> None:
    async def nonsense() -> web.Response:
        return web.Response(body=b'{"choices": [')

    async with engine_on(tmp_path) as engine, provider_on(tmp_path) as provider:
        engine.reply = nonsense
        assert (await fail(provider)).reason == "the embedded model gave an unreadable answer"


async def test_a_server_that_takes_the_key_only_at_times_is_asked_twice_and_no_more(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as engine, provider_on(tmp_path) as provider:
        engine.reply = engine.say("no", status=401)
        assert await fail(provider) == Failure(reason="the embedded model crashed", transient=True, costly=True)
        assert engine.asked == 2


async def test_a_stranger_on_the_port_of_a_dead_server_is_left_alone(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as engine, provider_on(tmp_path) as provider:
        engine.key = "another"

        assert text(await ask(provider))

        assert engine.asked == 0
        assert written(tmp_path).owner_pid == os.getpid()


async def test_a_server_of_another_model_is_not_shared(tmp_path: Path) -> None:
    async with engine_on(tmp_path) as engine, provider_on(tmp_path) as provider:
        foreign = msgspec.structs.replace(written(tmp_path), model="/another.gguf")
        server_file(tmp_path).write_bytes(msgspec.json.encode(foreign))

        assert text(await ask(provider))

        assert engine.asked == 0
