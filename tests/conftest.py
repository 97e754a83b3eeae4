"""Fixtures: a real PostgreSQL (the embedded 18, and Debian's 15 where it is installed), and a running restante."""

from __future__ import annotations

import asyncio
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from restante.store.database import Database
from restante.store.embedded_postgres import EmbeddedPostgres
from restante.wiring import utc_now
from tests.support import Restante, running

_DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
_numbers = itertools.count()
TEMPLATE = "template_of_tests"
#: The DSN of a migrated database, on a server that stands in for the embedded one: for many short sessions in a row.
_TEMPLATE: str | None = os.environ.get("TEST_TEMPLATE_URL")


@pytest.fixture(scope="session")
def embedded_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded PostgreSQL 18 of this session's tests."""
    if _TEMPLATE is not None:
        yield dsn_of(_TEMPLATE, "postgres")
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


@pytest.fixture(scope="session", params=["postgresql-18", "postgresql-15"])
def server_dsn(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each PostgreSQL that restante promises to run on."""
    if request.param == "postgresql-18":
        yield request.getfixturevalue("embedded_dsn")
    elif not (_DEBIAN_15 / "postgres").exists():
        pytest.skip("Debian's postgresql-15 is not installed here")
    else:
        yield from _debian_15()


@pytest.fixture(scope="session")
def template(server_dsn: str) -> str:
    """A migrated database that others are copies of; its name."""
    if _TEMPLATE is None:
        asyncio.run(make_template(server_dsn))
    return TEMPLATE


async def make_template(server_dsn: str) -> None:
    """Make the database that others are copies of anew."""
    async with _admin(server_dsn) as admin:
        await admin.execute(f"drop database if exists {TEMPLATE} with (force)")
        await admin.execute(f"create database {TEMPLATE} encoding 'UTF8' template template0")
    db = Database(dsn_of(server_dsn, TEMPLATE), connections=2)
    await db.open()
    await db.migrate()
    await db.prepare_days(utc_now().date())
    await db.close()


class _admin:
    """A connection to the server's own database."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def __aenter__(self) -> asyncpg.Connection:
        self._connection = await asyncpg.connect(self._dsn)
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()


def dsn_of(server_dsn: str, database: str) -> str:
    """The same server, another database."""
    head, _, tail = server_dsn.partition("?")
    return f"{head.rpartition('/')[0]}/{database}?{tail}"


@pytest.fixture
async def dsn(server_dsn: str, template: str) -> AsyncIterator[str]:
    """A migrated database of the test's own."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    async with _admin(server_dsn) as admin:
        await admin.execute(f"create database {name} template {template}")
    yield dsn_of(server_dsn, name)
    async with _admin(server_dsn) as admin:
        await admin.execute(f"drop database {name} with (force)")


@pytest.fixture
async def db(dsn: str) -> AsyncIterator[Database]:
    """A pool on the test's own database."""
    database = Database(dsn, connections=10)
    await database.open()
    await database.migrate()  # nothing to do but the role's settings, which a copy does not inherit
    yield database
    await database.close()


@pytest.fixture(scope="session")
def restante(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restante]:
    """One `restante up --provider scripted` that many tests share; each opens accounts of its own."""
    with running(tmp_path_factory.mktemp("restante"), "--provider", "scripted") as up:
        yield up
