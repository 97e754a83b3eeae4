"""Several hosts in a DSN, hosts that say nothing, commits in doubt (design, Data 9)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import asyncpg
import pytest

from restante.core.errors import OperatorError
from restante.core.money import Nano
from restante.core.task import Model
from restante.flow import accounts
from restante.flow.accept import Acceptor, Judged, Waker
from restante.flow.idempotency import Once, key_of
from restante.store import database
from restante.store.connecting import Connection, Connector, hosts
from restante.store.database import Database
from restante.store.errors import DatabaseLost
from restante.wiring import utc_now
from tests.support import differences

MODEL = Model(name="gemini-2.5-flash", served="gemini-2.5-flash", provider="scripted")


@pytest.mark.parametrize(
    ("dsn", "found"),
    [
        ("postgresql://u:p@a/db?x=1", ["postgresql://u:p@a/db?x=1"]),
        ("postgresql://u@a:1,b,c:3/db?x=1", [f"postgresql://u@{host}/db?x=1" for host in ("a:1", "b", "c:3")]),
        ("postgresql://u@/db?host=/run/a", ["postgresql://u@/db?host=/run/a"]),
        ("postgresql://a,b/db?target_session_attrs=prefer-standby",) * 2,
    ],
)
def test_a_dsn_for_each_host(dsn: str, found: list[str] | str) -> None:
    assert hosts(dsn) == ([found] if isinstance(found, str) else found)


def test_as_many_ports_as_hosts_or_one() -> None:
    assert len(hosts("postgresql://u@/db?host=a,b,c&port=1")) == 3
    with pytest.raises(OperatorError, match="3 hosts and 2 ports"):
        Database("postgresql://u@/db?host=a,b,c&port=1,2")


async def test_hosts_named_in_the_query_are_tried_too(server_dsn: str) -> None:
    """Sockets of several servers: the first is nobody's."""
    head, _, directory = server_dsn.partition("host=")
    connector = Connector(f"{head}host=/nowhere,{directory}")
    connection = await connector()
    assert await connection.fetchval("select 1") == 1 and connector.pooled is False
    await connection.close()


@contextlib.asynccontextmanager
async def tunnel(server_dsn: str) -> AsyncIterator[tuple[int, list[asyncio.StreamWriter]]]:
    """The server by TCP, on the port given; and the connections made."""
    directory = dict(parse_qsl(urlsplit(server_dsn).query))["host"]
    made: list[asyncio.StreamWriter] = []
    pumps: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65_536):
                writer.write(chunk)
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.append(writer)
        inner, outer = await asyncio.open_unix_connection(f"{directory}/.s.PGSQL.5432")
        for one in (pump(reader, outer), pump(inner, writer)):
            task = asyncio.create_task(one)
            pumps.add(task)
            task.add_done_callback(pumps.discard)

    server = await asyncio.start_server(accept, "127.0.0.1")
    async with server:
        yield server.sockets[0].getsockname()[1], made
        for writer in made:
            writer.close()
        await asyncio.gather(*pumps)


async def test_a_silent_host_is_passed_over_and_remembered(server_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restante.store.connecting.DATABASE_CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never says a word
        async with tunnel(server_dsn) as (port, _):
            connector = Connector(
                f"postgresql://restante@127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{port}/postgres"
            )
            for _ in range(2):
                connection = await connector()
                assert await connection.fetchval("select 1") == 1
                await connection.close()
            asked = 0
            silent.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    silent.accept()[0].close()
                    asked += 1
    assert asked == 1


async def test_the_kernel_watches_a_connection_by_tcp(server_dsn: str) -> None:
    async with tunnel(server_dsn) as (port, _):
        connection = await Connector(f"postgresql://restante@127.0.0.1:{port}/postgres")()
        tcp = connection._transport.get_extra_info("socket")
        assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 4
        assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
        await connection.close()


async def test_a_wrong_password_is_not_hidden_by_the_next_host(
    server_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def refuse(dsn: str, **_: object) -> None:
        asked.append(dsn)
        raise asyncpg.InvalidPasswordError("no")

    monkeypatch.setattr(asyncpg, "connect", refuse)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await Connector("postgresql://u@a,b/db")()
    assert len(asked) == 1


async def test_no_host_at_all_is_said_in_words() -> None:
    db = Database("postgresql://127.0.0.1:9,127.0.0.1:10/nothing", connections=1)
    with pytest.raises(OperatorError, match="cannot be reached"):
        await db.open()
    await db.close()


async def test_sessions_within_a_transaction_end_when_their_client_is_gone(dsn: str, db: Database) -> None:
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("show idle_in_transaction_session_timeout") == "20s"
    await connection.close()


class Replication:
    """A server that waits for a standby which does not exist, until somebody cancels the wait."""

    def __init__(self, connection: asyncpg.Connection, probe: asyncpg.Connection) -> None:
        self._connection = connection
        self._probe = probe

    async def wanted(self, standbys: str) -> None:
        await self._connection.execute("set synchronous_commit = local")
        await self._connection.execute(f"alter system set synchronous_standby_names = '{standbys}'")
        await self._connection.execute("select pg_reload_conf()")
        # Whether commits wait is the checkpointer's to say, which hears of it when it likes: commits are tried.
        async with asyncio.timeout(30):
            while await self._a_commit_waits() != bool(standbys):
                await asyncio.sleep(0.01)

    async def _a_commit_waits(self) -> bool:
        commit = asyncio.create_task(self._probe.execute("select pg_logical_emit_message(true, 'probe', '')"))
        pid = self._probe.get_server_pid()
        while not commit.done():
            if pid in await self._waiting():
                await self._connection.execute("select pg_cancel_backend($1)", pid)
                await commit
                return True
            await asyncio.sleep(0.01)
        return False

    async def _waiting(self) -> set[int]:
        """Clients: autovacuum waits too, and is nobody's here."""
        rows = await self._connection.fetch(
            "select pid from pg_stat_activity where wait_event = 'SyncRep' and backend_type = 'client backend'"
        )
        return {row["pid"] for row in rows}

    async def waiting(self) -> set[int]:
        """Who waits for the standby; waits until somebody does."""
        async with asyncio.timeout(30):
            while not (pids := await self._waiting()):
                await asyncio.sleep(0.01)
        return pids

    async def cancel_the_wait(self) -> None:
        """Of everybody who waits now; returns when they do no longer."""
        pids = await self.waiting()
        for pid in pids:
            await self._connection.execute("select pg_cancel_backend($1)", pid)
        async with asyncio.timeout(30):
            while pids & await self._waiting():
                await asyncio.sleep(0.01)


@pytest.fixture
async def replication(dsn: str) -> AsyncIterator[Replication]:
    connection, probe = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    made = Replication(connection, probe)
    try:
        yield made
    finally:
        await made.wanted("")
        await probe.close()
        await connection.close()


async def test_a_cancelled_wait_is_an_unknown_outcome(db: Database, replication: Replication) -> None:
    await db.rows("list_accounts")
    await replication.wanted("nobody")
    adding = asyncio.create_task(db.rows("add_account", "shop", b"secret", 0))
    await replication.cancel_the_wait()
    with pytest.raises(DatabaseLost, match="standby"):
        await adding
    # What is there is not told before the standby has it.
    looking = asyncio.create_task(db.rows("list_accounts"))
    await replication.waiting()
    assert not looking.done()
    await replication.wanted("")  # the operator goes without
    assert [row["login"] for row in await looking if row["login"] == "shop"] == ["shop"]


async def test_a_cancelled_wait_within_a_transaction(db: Database, replication: Replication) -> None:
    async def add() -> None:
        async with db.transaction() as tx:
            await tx.rows("add_account", "shop", b"secret", 0)

    await db.rows("list_accounts")
    await replication.wanted("nobody")
    adding = asyncio.create_task(add())
    await replication.cancel_the_wait()
    with pytest.raises(DatabaseLost, match="standby"):
        await adding
    looking = asyncio.create_task(db.rows("list_accounts"))
    await replication.cancel_the_wait()
    with pytest.raises(DatabaseLost):  # still in doubt
        await looking
    await replication.wanted("")
    assert await db.rows("list_accounts")


async def test_a_post_with_a_key_is_answered_when_a_standby_has_it(db: Database, replication: Replication) -> None:
    """Its first try is in doubt; the second finds it kept, and says so only when it is safe."""
    opened = await accounts.open_account(db, "shop", None, balance=Nano(10**9), credit_limit=Nano(0), now=utc_now())
    acceptor = Acceptor(db, Waker(db), utc_now)
    once = Once(db, acceptor, utc_now, timedelta(hours=1))
    judged = [Judged(MODEL, None, b'{"user_prompt":"x"}')]
    await acceptor._lane(MODEL)
    await replication.wanted("nobody")
    key = key_of(opened.account_id, "k", b"body")
    posting = asyncio.create_task(once.accept(key, judged, lambda ids, fates: str(list(ids)).encode()))
    await replication.cancel_the_wait()
    await replication.waiting()
    assert not posting.done()
    await replication.wanted("")
    assert await posting
    assert [row["tasks"] for row in await db.rows("unserved_lanes", [])] == [1]
    assert not await differences(db)


_ENDING: list[bool] = []  # filled once the connections below are to end


class _EndsAfterReplies(Connection):
    """Each reply comes, and the connection ends before whoever waited goes on."""

    __slots__ = ()

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        reply = await super().fetch(query, *args, **options)
        if _ENDING:
            self.terminate()
        return reply


class _EndsBeforeItAsks(Connection):
    """The statement is prepared, and the connection ends before it is run."""

    __slots__ = ()

    async def _get_statement(self, *args: Any, **options: Any) -> Any:
        prepared = await super()._get_statement(*args, **options)
        if _ENDING:
            self.terminate()
        return prepared


@pytest.mark.parametrize("kind", [_EndsAfterReplies, _EndsBeforeItAsks])
async def test_a_connection_that_ends_between_two_steps_is_lost(
    dsn: str, monkeypatch: pytest.MonkeyPatch, kind: type[Connection]
) -> None:
    """asyncpg empties it, and whoever goes on meets None: it ended loops and settled answers as broken (the monkey)."""
    monkeypatch.setattr(database, "_connector", lambda dsn, prepared, target: Connector(dsn, prepared, kind))
    db = Database(dsn)
    await db.open()
    monkeypatch.setattr(f"{__name__}._ENDING", [True])
    with pytest.raises(DatabaseLost):
        await db.rows("database_clock")
    with pytest.raises(DatabaseLost):
        async with db.transaction() as tx:
            await tx.rows("database_clock")
    await db.close()


async def test_a_mistake_of_ours_stays_one(db: Database) -> None:
    nothing: Any = None
    with pytest.raises(AttributeError):
        async with db.transaction():
            nothing.rows()
