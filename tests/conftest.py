"""Fixtures: a real PostgreSQL (the embedded 18, and Debian's 15 where it is installed), and a running restante."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from restante.store.database import Database
from restante.store.embedded_postgres import EmbeddedPostgres
from tests.databases import STANDING, TEMPLATE, Server, dsn_of
from tests.support import Restante, differences, running

_DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
#: What CI runs on PostgreSQL 15 too: the statements themselves and the verbs that move money; `make test-long` all.
_ON_BOTH = ("tests/store/", "tests/model/", "tests/contract/")
_VERBS = ("accept", "settle", "collect", "billing", "live", "end")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that CI runs on one PostgreSQL only are long on the other."""
    both = (*_ON_BOTH, *(f"tests/flow/test_{verb}.py" for verb in _VERBS))
    for item in items:
        if "postgresql-15" in item.name and ("test_plans" in item.nodeid or not item.nodeid.startswith(both)):
            item.add_marker(pytest.mark.long)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The monkey plays on the embedded PostgreSQL, or on an empty database of the reader's own."""
    parser.addoption("--database-url", default=None, help="a PostgreSQL for tests/chaos/test_monkey.py")
    parser.addoption("--database-crash", default=None, help="a command that crashes it and starts it again")


@pytest.fixture(scope="session")
def embedded_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded PostgreSQL 18 of this session's tests."""
    if STANDING is not None:
        yield dsn_of(STANDING, "postgres")
        return
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres") / "data") as server:
        yield server.dsn


def _debian_15() -> Iterator[str]:
    """Debian's PostgreSQL 15 on a socket of its own, as `postgres` or whoever runs the tests."""
    root = os.geteuid() == 0
    user = "postgres" if root else pwd.getpwuid(os.geteuid()).pw_name
    identity: dict[str, Any] = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if root else {}
    directory = Path(tempfile.mkdtemp(prefix="pg15-"))
    try:
        if root:
            shutil.chown(directory, user)
        cluster = directory / "cluster"
        options = ["--auth=trust", "-U", "restante", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            [_DEBIAN_15 / "initdb", "-D", cluster, *options], **identity, cwd="/", check=True, capture_output=True
        )
        with (directory / "log").open("w") as log:
            server = subprocess.Popen(
                [_DEBIAN_15 / "postgres", "-D", cluster, "-k", directory, "-c", "listen_addresses="],
                **identity, cwd="/", stdout=log, stderr=log,
            )  # fmt: skip
        try:
            dsn = f"postgresql://restante@/postgres?host={directory}"
            asyncio.run(_accepts(dsn))
            yield dsn
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)
    finally:
        shutil.rmtree(directory)


async def _accepts(dsn: str) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await (await asyncpg.connect(dsn)).close()
                return
            except (OSError, asyncpg.CannotConnectNowError):
                await asyncio.sleep(0.05)  # no event tells that another program's server is ready


@pytest.fixture(scope="session")
def debian_15_dsn() -> Iterator[str]:
    """Of this session, like `embedded_dsn`: a parametrized fixture would start one for each file."""
    if not (_DEBIAN_15 / "postgres").exists():
        pytest.skip("Debian's postgresql-15 is not installed here")
    yield from _debian_15()


@pytest.fixture(scope="session", params=["postgresql-18", "postgresql-15"])
def server_dsn(request: pytest.FixtureRequest) -> str:
    """Each PostgreSQL that restante promises to run on."""
    name = "embedded_dsn" if request.param == "postgresql-18" else "debian_15_dsn"
    return str(request.getfixturevalue(name))


@cache
def _server(server_dsn: str) -> Server:
    server = Server(server_dsn)
    asyncio.run(server.prepare())
    return server


@pytest.fixture(scope="session")
def template(server_dsn: str) -> str:
    """A migrated database that others are copies of; its name."""
    _server(server_dsn)
    return TEMPLATE


@pytest.fixture
async def dsn(request: pytest.FixtureRequest, server_dsn: str, template: str) -> AsyncIterator[str]:
    """A migrated database of the test's own, which the test leaves with every promise of docs/invariants.md kept."""
    name = await _server(server_dsn).take()
    yield dsn_of(server_dsn, name)
    try:
        if "db" not in request.fixturenames:
            database = Database(dsn_of(server_dsn, name), connections=1)
            await database.open()
            try:
                await _assert_kept(request, database)
            finally:
                await database.close()
    finally:
        await _server(server_dsn).give_back(name)


@pytest.fixture
async def db(request: pytest.FixtureRequest, dsn: str) -> AsyncIterator[Database]:
    """A pool on the test's own database; see `dsn`."""
    database = Database(dsn, connections=10)
    await database.open()
    await database.migrate()  # nothing to do but the role's settings, which a copy does not inherit
    yield database
    try:
        await _assert_kept(request, database)
    finally:
        await database.close()


async def _assert_kept(request: pytest.FixtureRequest, database: Database) -> None:
    """The audit finds nothing, unless the test broke something on purpose and said so."""
    if request.node.get_closest_marker("breaks_invariants") is None:
        found = await differences(database)
        assert not found, found


@pytest.fixture(scope="session")
def restante(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restante]:
    """One `restante up --provider scripted` that many tests share; each opens accounts of its own."""
    with running(tmp_path_factory.mktemp("restante"), "--provider", "scripted") as up:
        yield up
