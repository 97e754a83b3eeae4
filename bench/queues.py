"""restante end to end beside what Celery and taskiq do with nothing: no-op tasks through Redis.

Theirs is neither durable (Redis keeps everything in memory here, as fast as it can be) nor does it keep money, answers
or a list. One producer process and one worker process each; a task counts from the producer's first to the worker's
last.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from bench import end_to_end, peers
from bench.installation import installed
from bench.machine import Clocks, fdatasync_ms
from bench.report import Goal, Round, Row, medians, missing, one_round, said

PROGRAMS = Path(__file__).parent / "programs"
_ROUND_SECONDS = 120.0
_LOOK_SECONDS = 0.005
_POST_TASKS = 2_000  # of restante's for each POST of an account: twenty accounts, 100 tasks a POST


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """A running worker of a queue library, with what its producer needs."""

    row: Row
    python: Path
    program: str
    environment: dict[str, str]
    processes: dict[str, int]
    families: tuple[str, ...]
    tasks: int


async def measure(parent: Path | None, rounds: int, posts: int) -> list[Row]:
    """A row for each; `posts` POSTs of each account a round, and twice as many no-ops as they have tasks."""
    restante_row = Row(name="end to end, beside queues", unit="tasks/s", rounds=[])
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="restante-bench-", dir=parent)))
        restante = await stack.enter_async_context(installed(directory, workers=1))
        queues = []
        for name, start in (("Celery", _celery), ("taskiq", _taskiq)):
            try:
                queue = await stack.enter_async_context(start(directory, posts * _POST_TASKS))
                await _drained(queue, directory, 0)
                queues.append(queue)
            except peers.Missing as why:
                rows.append(missing(f"  {name}, no-op on Redis", str(why)))
        await end_to_end.through_http(restante, 1)
        for number in range(1, rounds + 1):
            restante_row.rounds.append(await end_to_end.through_http(restante, posts))
            said(restante_row, number)
            for queue in queues:
                queue.row.rounds.append(await _drained(queue, directory, number))
                said(queue.row, number)
        restante_row.note = await restante.audit()
    for queue in queues:
        name = queue.row.name.strip().split(",")[0]
        measured = medians(restante_row, queue.row)
        restante_row.goals.append(Goal(what=f"times {name}", bound=3 if name == "Celery" else 1, measured=measured))
        queue.row.ratio = f"restante is {measured:.2f} times as fast"
    return [restante_row, *(queue.row for queue in queues), *rows]


async def _drained(queue: Queue, directory: Path, number: int) -> Round:
    """One round: the producer begins, the worker's last task ends."""
    done = Path(f"{queue.environment['BENCH_DONE']}.{number + 1}")
    command = [str(queue.python), str(PROGRAMS / f"{queue.program}.py"), str(queue.tasks)]
    disk = fdatasync_ms(directory)
    producer = await asyncio.create_subprocess_exec(
        *command, env=queue.environment, cwd=directory, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(_ROUND_SECONDS):
            assert producer.stdin is not None and producer.stdout is not None
            if not await producer.stdout.readline():
                raise peers.Missing(f"the producer of {queue.row.name.strip()} does not start")
            clocks = Clocks(queue.processes | {"producer": producer.pid}, queue.families)
            producer.stdin.write(b"go\n")
            while not done.exists():  # noqa: ASYNC240 (it takes a microsecond)
                await asyncio.sleep(_LOOK_SECONDS)
            clocks.stop()
            await producer.wait()
    except TimeoutError:
        raise peers.Missing(f"{queue.row.name.strip()} did not end in time") from None
    finally:
        if producer.returncode is None:
            producer.kill()
            await producer.wait()
    return one_round(queue.tasks / clocks.seconds, queue.tasks, clocks, disk)


@asynccontextmanager
async def _redis(directory: Path) -> AsyncIterator[tuple[str, int]]:
    """A Redis that writes nothing: its URL and pid."""
    server = await asyncio.to_thread(peers.redis_server)
    port = peers.free_port()
    command: list[str | Path] = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    async with peers.running(command, directory, {}, port=port) as process:
        yield f"redis://127.0.0.1:{port}/0", process.pid


@asynccontextmanager
async def _celery(directory: Path, tasks: int) -> AsyncIterator[Queue]:
    """The pool `solo`: its worker process runs the tasks itself, which is its fastest way for no-ops."""
    python = await asyncio.to_thread(peers.python, "celery")
    worker = ["-m", "celery", "-A", "celery_noop", "worker", "--pool", "solo", "--loglevel", "error"]
    worker += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    async with _queue("Celery, no-op on Redis", "celery_noop", python, worker, directory, tasks) as queue:
        yield queue


@asynccontextmanager
async def _taskiq(directory: Path, tasks: int) -> AsyncIterator[Queue]:
    python = await asyncio.to_thread(peers.python, "taskiq")
    worker = ["-m", "taskiq", "worker", "taskiq_noop:broker", "--workers", "1", "--max-async-tasks", "500"]
    worker += ["--log-level", "ERROR"]
    async with _queue("taskiq, no-op on Redis", "taskiq_noop", python, worker, directory, tasks) as queue:
        yield queue


@asynccontextmanager
async def _queue(
    name: str, program: str, python: Path, worker: Sequence[str], directory: Path, tasks: int
) -> AsyncIterator[Queue]:
    async with _redis(directory) as (url, redis):
        environment = {
            "BENCH_REDIS": url,
            "BENCH_DONE": str(directory / f"{program}-done"),
            "BENCH_TASKS": str(tasks),
            "PYTHONPATH": str(PROGRAMS),
            "PATH": "/usr/bin:/bin",
        }
        async with peers.running([python, *worker], directory, environment) as process:
            family = name.split(",")[0]
            yield Queue(
                row=Row(name=f"  {name}", unit="tasks/s", rounds=[]),
                python=python,
                program=program,
                environment=environment,
                processes={family: process.pid, "Redis": redis},
                families=(family,),
                tasks=tasks,
            )
