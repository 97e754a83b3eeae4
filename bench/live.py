"""Live: one prompt, its answer in the same call, from fifty accounts, money held and settled for each.

With the scripted provider at 0 ms all of a call is restante's own time. Beside it the same calls go to a model server
of ours that answers at once (bench.echo): through restante, through LiteLLM's proxy, through Portkey's gateway, and
straight, which is what the others add to. The peers keep neither money nor tasks, and have no database.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from bench import echo, peers
from bench.background import background
from bench.client import Connection, live, prompt
from bench.installation import installed
from bench.machine import Clocks, fdatasync_ms, pss_mib
from bench.report import Goal, Round, Row, medians, missing, one_round, said

ACCOUNTS = 50
CONCURRENCY = 50
ALONE = 40  # of so many calls one is made when nothing else happens
_ROUND_SECONDS = 120.0
_LIFTED = {"RESTANTE_LIMITS": "relaxed"}
_SAID = b"harbour"  # a word of every answer


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Something that answers a prompt in one call. `request` makes the bytes of the n-th."""

    row: Row
    host: str
    port: int
    processes: dict[str, int]
    families: tuple[str, ...] = ()
    request: Callable[[int], bytes]
    alone: list[float] = []  # milliseconds of calls one at a time
    memory: list[float] = []  # MiB under load


async def measure(parent: Path | None, rounds: int, calls: int) -> list[Row]:
    """A row for each; `calls` calls a round at concurrency 50, and an ALONE-th of it one at a time."""
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="restante-bench-", dir=parent)))
        _, (port,) = stack.enter_context(background("bench.echo"))
        targets = [_straight(port)]
        for scripted in (True, False):
            targets.append(await stack.enter_async_context(_restante(directory, port, scripted=scripted)))
        for name, start in (("LiteLLM proxy", _litellm), ("Portkey gateway", _portkey)):
            try:
                targets.append(await stack.enter_async_context(start(directory, port)))
            except peers.Missing as why:
                rows.append(missing(f"  {name}", str(why)))
        for target in targets:
            await _round(target, directory, max(calls // 10, CONCURRENCY))
            target.alone.clear()
            target.memory.clear()
        for number in range(1, rounds + 1):
            for target in targets:
                target.row.rounds.append(await _round(target, directory, calls))
                said(target.row, number)
    _compare(targets)
    return [*(target.row for target in targets), *rows]


def _compare(targets: Sequence[Target]) -> None:
    straight, scripted, *others = targets
    base = statistics.median(straight.alone)
    p50 = statistics.median(scripted.alone)
    scripted.row.goals += [Goal(what="p50 ms at concurrency 1", bound=1.5, at_most=True, measured=p50)]
    for target in (straight, scripted, *others):
        alone = statistics.median(target.alone)
        added = alone if target is scripted else alone - base
        memory = statistics.median(target.memory)
        target.row.ratio = f"p50 alone {alone:.2f} ms, adds {max(added, 0.0):.2f} ms; {memory:.0f} MiB under load"
    for target in others[1:]:
        times = medians(scripted.row, target.row)
        at_least = 30 if "LiteLLM" in target.row.name else 2
        name = target.row.name.strip().split(" ")[0]
        scripted.row.goals.append(Goal(what=f"times {name}", bound=at_least, measured=times))
        target.row.ratio += f"; restante is {times:.1f} times as fast"
        if at_least == 30:
            share = statistics.median(scripted.memory) / statistics.median(target.memory)
            scripted.row.goals.append(Goal(what=f"of {name}'s memory", bound=0.25, at_most=True, measured=share))


async def _round(target: Target, directory: Path, calls: int) -> Round:
    connections = [await Connection(target).open() for _ in range(CONCURRENCY)]
    for number in range(max(calls // ALONE, 5)):
        begin = time.perf_counter()
        await connections[0].call(target.request(number))
        target.alone.append((time.perf_counter() - begin) * 1e3)
    requests = iter([target.request(number) for number in range(calls)])
    disk = fdatasync_ms(directory)
    clocks = Clocks(target.processes, target.families)
    async with asyncio.timeout(_ROUND_SECONDS):
        await asyncio.gather(*(_call_all(connection, requests) for connection in connections))
    clocks.stop()
    # Of the interpreters; PostgreSQL's memory is its own row's matter (bench.memory).
    watched = {name: pid for name, pid in target.processes.items() if name != "PostgreSQL"}
    target.memory.append(sum(pss_mib(pid, family=name in target.families) for name, pid in watched.items()))
    for connection in connections:
        connection.close()
    return one_round(calls / clocks.seconds, calls, clocks, disk)


async def _call_all(connection: Connection, requests: Iterator[bytes]) -> None:
    for request in requests:
        answer = await connection.call(request)
        assert _SAID in answer or b"Scripted answer" in answer, answer[:1000]


@asynccontextmanager
async def _restante(directory: Path, echo_port: int, *, scripted: bool) -> AsyncIterator[Target]:
    models = None if scripted else echo.models_map(echo_port, echo.MODEL, CONCURRENCY)
    async with installed(directory, workers=0, opened=ACCOUNTS, more=_LIFTED, models=models) as restante:
        row = Row(
            name=f"live, {ACCOUNTS} accounts, concurrency {CONCURRENCY}"
            if scripted
            else "  restante to the echo server",
            unit="calls/s",
            rounds=[],
            goals=[Goal(bound=3_000)] if scripted else [],
        )

        def request(number: int) -> bytes:
            client = restante.clients[number % ACCOUNTS]
            return live(client, number) if scripted else live(client, number, echo.MODEL)

        yield Target(row=row, host=restante.host, port=restante.port, processes=restante.processes, request=request)
        row.note = await restante.audit()


def _straight(port: int) -> Target:
    row = Row(name="  echo server, straight", unit="calls/s", rounds=[])
    return Target(row=row, host="127.0.0.1", port=port, processes={}, request=lambda n: _chat("/v1", "", n))


@asynccontextmanager
async def _litellm(directory: Path, echo_port: int) -> AsyncIterator[Target]:
    """One worker process, one key, which it will not do without; no database, no logs of calls."""
    binary = (await asyncio.to_thread(peers.python, "litellm")).parent / "litellm"
    config = directory / "litellm.yaml"
    config.write_text(
        f"model_list:\n- model_name: {echo.MODEL}\n  litellm_params:\n    model: openai/{echo.MODEL}\n"
        f"    api_base: http://127.0.0.1:{echo_port}/v1\n    api_key: none\n"
        "litellm_settings:\n  telemetry: false\n"
    )
    port = peers.free_port()
    command: list[str | Path] = [
        binary,
        "--config",
        config,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--num_workers",
        "1",
    ]
    key = "sk-bench-" + secrets.token_hex(16)
    quiet = {
        "LITELLM_MASTER_KEY": key,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
    }
    async with peers.running(command, directory, quiet, port=port) as process:
        row = Row(name="  LiteLLM proxy", unit="calls/s", rounds=[])
        yield Target(
            row=row, host="127.0.0.1", port=port, processes={"LiteLLM": process.pid}, families=("LiteLLM",),
            request=lambda n: _chat("/v1", f"Authorization: Bearer {key}\r\n", n),
        )  # fmt: skip


@asynccontextmanager
async def _portkey(directory: Path, echo_port: int) -> AsyncIterator[Target]:
    """One node process, without its console."""
    modules = await asyncio.to_thread(peers.node_modules, "portkey")
    port = peers.free_port()
    server = modules / "@portkey-ai/gateway/build/start-server.js"
    trusted = {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost", "NODE_ENV": "production"}
    headers = (
        "Authorization: Bearer none\r\nx-portkey-provider: openai\r\n"
        f"x-portkey-custom-host: http://127.0.0.1:{echo_port}/v1\r\n"
    )
    async with peers.running(
        ["node", server, f"--port={port}", "--headless"], directory, trusted, port=port
    ) as process:
        row = Row(name="  Portkey gateway", unit="calls/s", rounds=[])
        yield Target(
            row=row, host="127.0.0.1", port=port, processes={"Portkey": process.pid}, families=("Portkey",),
            request=lambda n: _chat("/v1", headers, n),
        )  # fmt: skip


def _chat(prefix: str, headers: str, number: int) -> bytes:
    """The bytes of a POST of /chat/completions."""
    body = msgspec.json.encode({"model": echo.MODEL, "messages": [{"role": "user", "content": prompt(number)}]})
    head = (
        f"POST {prefix}/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"{headers}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
