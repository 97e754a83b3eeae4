"""PgBouncer in transaction mode: Debian's 1.18, which cannot prepare statements, between everything and PostgreSQL."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import pytest

from restante.store import queue
from restante.store.database import Database
from restante.worker import _listen
from tests.chaos.processes import Client
from tests.cluster import network, servers
from tests.support import OPERATOR, Process, differences, environment, task

pytestmark = pytest.mark.skipif(bool(why := network.become_missing() or servers.missing()), reason=str(why))


@pytest.fixture
def pooled_dsn(dsn: str) -> Iterator[str]:
    """The test's database through PgBouncer."""
    parts = urlsplit(dsn)
    query = dict(parse_qsl(parts.query))
    if not Path(query["host"]).name.startswith("pg15-"):
        pytest.skip("PgBouncer reaches the socket of Debian's PostgreSQL only")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    name = parts.path.removeprefix("/")
    directory = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    shutil.chown(directory, servers.USER)
    line = f"{name} = host={query['host']} port=5432"
    server = servers.pgbouncer(network.become(servers.USER), directory, "127.0.0.1", line, port)
    try:
        yield f"postgresql://restante@127.0.0.1:{port}/{name}"
    finally:
        server.kill()
        shutil.rmtree(directory)


async def test_a_pooler_is_known_and_nothing_is_prepared(pooled_dsn: str) -> None:
    """Many at once, so that the server's sessions change hands; asyncpg's default fails here at once."""
    databases = [Database(pooled_dsn, connections=8) for _ in range(3)]
    for db in databases:
        await db.open()
        assert db.pooled
    await asyncio.gather(*(db.rows("list_accounts") for db in databases for _ in range(200)))
    for db in databases:
        async with db.transaction() as tx:
            assert await queue.ensure_lane(tx, "scripted", "", "m")
    woken = SimpleNamespace(notified=True, wake=lambda: None)
    async with asyncio.timeout(30):
        await _listen(databases[0], woken)  # type: ignore[arg-type]  # it leaves no LISTEN in a session of others
    assert not woken.notified
    for db in databases:
        await db.close()


async def test_all_of_it_through_a_pooler(pooled_dsn: str, dsn: str, tmp_path: Path) -> None:
    """The API; and a worker too, which then hears no notifications and looks by itself."""
    env = environment(tmp_path, DATABASE_URL=pooled_dsn, PROVIDER="scripted")
    api, worker = Process(["api"], env, tmp_path, "api"), Process(["worker"], env, tmp_path, "worker")
    try:
        url = api.wait_for(r"API is up at (http://\S+)")[1]
        worker.wait_for("the worker serves", log=True)
        worker.wait_for("goes through a pooler", log=True)
        async with Client(url, OPERATOR) as client:
            answered = await asyncio.gather(*(client.post([task(f"lake {n}")] * 20) for n in range(20)))
            ids = [entry["id"] for answer in answered for entry in answer["tasks"]]
            found = await client.answers(ids)
            live = await client.post([task()], "live")
        assert {entry["status_code"] for entry in found.values()} == {20000} and len(found) == 400
        assert live["tasks"][0]["status_code"] == 20000
    finally:
        codes = [process.stop() for process in (worker, api)]
    assert codes == [0, 0], worker.log + api.log
    db = Database(dsn)
    await db.open()
    assert not db.pooled and not await differences(db)
    await db.close()
