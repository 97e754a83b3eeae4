"""taskiq's no-op: a worker's broker, and as a program the producer of so many tasks, 100 in flight as a server would
have them. Runs in taskiq's own environment; restante is not there. How it begins, and the files: as in celery_noop."""

# mypy: disable-error-code="untyped-decorator"

import asyncio
import os
import sys
from pathlib import Path

from taskiq_redis import ListQueueBroker

broker = ListQueueBroker(os.environ["BENCH_REDIS"], socket_timeout=None)  # idle for a minute between rounds
ran = 0


@broker.task(task_name="noop")
async def noop(number: int) -> None:
    global ran
    ran += 1
    if ran % int(os.environ["BENCH_TASKS"]) == 0:
        Path(f"{os.environ['BENCH_DONE']}.{ran // int(os.environ['BENCH_TASKS'])}").touch()  # noqa: ASYNC240 (once a round)


async def produce(tasks: int) -> None:
    await broker.startup()
    print("ready", flush=True)
    sys.stdin.readline()
    for first in range(0, tasks, 100):
        await asyncio.gather(*(noop.kiq(number) for number in range(first, min(first + 100, tasks))))
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(produce(int(sys.argv[1])))
