"""Celery's no-op: a worker's application, and as a program the producer of so many tasks. Runs in Celery's own
environment; restante is not there. The producer says when it is ready and begins when told to on its standard input.
Files BENCH_DONE.1, BENCH_DONE.2, ... appear when so many times BENCH_TASKS have run."""

# mypy: disable-error-code="untyped-decorator"

import os
import sys
from pathlib import Path

from celery import Celery

app = Celery("noop", broker=os.environ["BENCH_REDIS"])
app.conf.update(
    task_ignore_result=True, worker_prefetch_multiplier=500, task_acks_late=False, worker_hijack_root_logger=False
)
ran = 0


@app.task(name="noop")
def noop(number: int) -> None:
    global ran
    ran += 1
    if ran % int(os.environ["BENCH_TASKS"]) == 0:
        Path(f"{os.environ['BENCH_DONE']}.{ran // int(os.environ['BENCH_TASKS'])}").touch()


if __name__ == "__main__":
    import kombu.transport.redis  # noqa: F401 (a producer that is ready has loaded everything)

    print("ready", flush=True)
    sys.stdin.readline()
    with app.connection_for_write() as connection, app.amqp.producer_pool.acquire(block=True) as producer:
        for number in range(int(sys.argv[1])):
            noop.apply_async((number,), producer=producer)
