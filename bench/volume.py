"""`python -m bench.volume`: bytes of WAL and of disk that a task costs, by stage and by table (docs/scale.md).

Tasks are posted 100 a call while no worker runs, then run and settled, then fetched one by one. Beside our statements
the WAL holds what the server adds: whole pages after a checkpoint, and what vacuum writes. Both are counted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from bench import machine
from bench.client import MODEL, Connection, accepted, get, prompt
from bench.installation import Client, Installation, installed
from restante.core.limits import TASKS_PER_POST
from restante.web.wire import FAMILY

_LISTED = re.compile(rb'"id":"([0-9a-f-]{36})","se"')
_SIZES = """
    select coalesce(p.relname, c.relname) as name, sum(pg_total_relation_size(c.oid))::bigint as bytes,
        sum(pg_indexes_size(c.oid))::bigint as indexes
    from pg_class c left join pg_inherits i on i.inhrelid = c.oid left join pg_class p on p.oid = i.inhparent
    where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace group by 1
"""
_WAL = "select pg_current_wal_lsn() - '0/0'::pg_lsn as bytes, wal_fpi as pages, wal_records as records from pg_stat_wal"
_KEPT = ("task", "task_request", "answer", "answer_raw", "transfer")


class Stage(msgspec.Struct, frozen=True):
    """What one stage wrote, a task."""

    name: str
    wal: float
    records: float
    pages: float


def _post(client: Client, first: int, directives: str) -> bytes:
    tasks = [
        {"user_prompt": f"{prompt(number)} {directives}", "model_name": MODEL, "tag": f"t{number}"}
        for number in range(first, first + TASKS_PER_POST)
    ]
    body = msgspec.json.encode(tasks)
    return (
        f"POST {FAMILY}/task_post HTTP/1.1\r\nHost: bench\r\nAuthorization: {client.authorization}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


@asynccontextmanager
async def _worker(restante: Installation) -> AsyncIterator[None]:
    """A worker on the installation's database for the block."""
    env = dict(os.environ) | {"RESTANTE_DATA_DIR": str(restante.directory / "data"), "RESTANTE_LOG_LEVEL": "warning"}
    command = [sys.executable, "-m", "restante", "worker", "--provider", "scripted"]
    worker = await asyncio.create_subprocess_exec(*command, env=env)
    try:
        yield
    finally:
        worker.terminate()
        await worker.wait()


async def _stages(restante: Installation, tasks: int, directives: str) -> list[Stage]:
    db = await restante.connect()
    stages: list[Stage] = []

    async def now() -> Any:
        await db.execute("select pg_stat_force_next_flush()") if db.get_server_version().major >= 16 else None
        await asyncio.sleep(1.5)  # figures of other sessions arrive within a second
        return await db.fetchrow(_WAL)

    async def ended(name: str, before: Any) -> Any:
        after = await now()
        wal, pages, records = (float(after[key] - before[key]) / tasks for key in ("bytes", "pages", "records"))
        stages.append(Stage(name, wal, records, pages))
        return after

    await db.execute("checkpoint")
    before = await now()
    connections = [await Connection(restante).open() for _ in range(8)]
    posts = iter(range(0, tasks, TASKS_PER_POST))

    async def post(connection: Connection) -> None:
        for first in posts:
            client = restante.clients[first // TASKS_PER_POST % len(restante.clients)]
            assert accepted(await connection.call(_post(client, first, directives))) == TASKS_PER_POST

    await asyncio.gather(*map(post, connections))
    before = await ended("accepted", before)
    async with _worker(restante):
        while await db.fetchval("select count(*) from queue"):
            await asyncio.sleep(0.1)
        before = await ended("run and settled", before)
    for client in restante.clients:
        while ids := _LISTED.findall(await connections[0].call(get(client, "tasks_ready"))):
            left = iter(ids)

            async def fetch(connection: Connection, client: Client = client, left: Any = left) -> None:
                for task_id in left:
                    await connection.call(get(client, f"task_get/{task_id.decode()}"))

            await asyncio.gather(*map(fetch, connections))
    await ended("listed and fetched", before)
    for connection in connections:
        connection.close()
    await db.close()
    return stages


async def _measure(parent: Path | None, name: str, directives: str, tasks: int) -> str:
    async with installed(parent, workers=0) as restante:
        db = await restante.connect()
        before = {row["name"]: row["bytes"] for row in await db.fetch(_SIZES)}
        stages = await _stages(restante, tasks, directives)
        size = await db.fetchval("select avg(length(body)) from answer")
        after = {row["name"]: row for row in await db.fetch(_SIZES)}
        version = await restante.postgres_version()
        await db.close()
        print(f"\n{name}: {tasks:,} tasks, answers of {size:.0f} bytes as stored")
        print("| stage | WAL bytes a task | WAL records | whole pages |\n|---|---|---|---|")
        for one in stages:
            print(f"| {one.name} | {one.wal:,.0f} | {one.records:.1f} | {one.pages:.3f} |")
        print(f"| together | {sum(one.wal for one in stages):,.0f} | {sum(one.records for one in stages):.1f} | |")
        print("\n| table | bytes a task on disk | of them indexes |\n|---|---|---|")
        kept = {table: (after[table]["bytes"] - before.get(table, 0)) / tasks for table in _KEPT}
        for table, bytes_a_task in kept.items():
            print(f"| {table} | {bytes_a_task:,.0f} | {after[table]['indexes'] / tasks:,.0f} |")
        print(f"| together | {sum(kept.values()):,.0f} | |")
        print(await restante.audit())
        return version


async def _run(parent: Path | None, tasks: int) -> None:
    await _measure(parent, "short answers", "", tasks)
    version = await _measure(parent, "400 words with citations", "[[words=400]] [[search]]", tasks)
    print(f"\n{machine.described(version)}; {time.strftime('%Y-%m-%d %H:%M')}Z")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.volume", description=__doc__)
    parser.add_argument("--tasks", type=int, default=20_000, help="of each kind")
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()), help="where the databases are made")
    options = parser.parse_args()
    uvloop.run(_run(options.dir, options.tasks))


if __name__ == "__main__":
    main()
