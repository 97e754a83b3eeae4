"""Secrets change while everything runs. What other tests prove is named in docs/security.md, "Changing secrets"."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from restante.core.errors import OperatorError
from restante.flow import accounts
from restante.store.database import Database
from restante.store.embedded_postgres import EmbeddedPostgres
from restante.store.errors import DatabaseLost
from restante.web.auth import Passwords
from tests.support import Restante, open_account
from tests.web.calls import basic, call

LOGIN = "shop@example.org"


async def good(db: Database, *passwords: str) -> list[bool]:
    """What a process that remembers nothing says of each."""
    pepper = await accounts.pepper(db)
    return [await Passwords(db, pepper).check(basic(LOGIN, one)) is not None for one in passwords]


async def test_two_passwords_are_good_for_a_while(db: Database) -> None:
    _, first = await open_account(db, LOGIN)
    second = await accounts.change_password(db, LOGIN, overlap_hours=24)
    assert await good(db, first, second, first + "x", "") == [True, True, False, False]
    third = await accounts.change_password(db, LOGIN, overlap_hours=24)
    assert await good(db, first, second, third) == [False, True, True]  # two at the most
    await db._pool.execute("update account set old_secret_until = now() - interval '1 second'")
    assert await good(db, first, second, third) == [False, False, True]  # its time is over


async def test_a_change_without_hours_ends_all_that_were_before(db: Database) -> None:
    _, first = await open_account(db, LOGIN)
    second = await accounts.change_password(db, LOGIN, overlap_hours=24)
    third = await accounts.change_password(db, LOGIN)
    assert await good(db, first, second, third) == [False, False, True]


async def test_a_second_password_opens_no_other_account(db: Database) -> None:
    _, first = await open_account(db, LOGIN)
    await accounts.change_password(db, LOGIN, overlap_hours=24)
    await open_account(db, "other")
    pepper = await accounts.pepper(db)
    assert await Passwords(db, pepper).check(basic("other", first)) is None
    found = await Passwords(db, pepper).check(basic(LOGIN, first))
    assert found is not None and found.login == LOGIN


async def test_the_command(restante: Restante) -> None:
    login, first = await asyncio.to_thread(restante.account, "rotated@example.org")
    refused = await asyncio.to_thread(restante.run, "account", "password", login, "--overlap-hours", "721")
    assert refused.returncode == 2
    done = await asyncio.to_thread(restante.run, "account", "password", login, "--overlap-hours", "1", "--json")
    second = json.loads(done.stdout)["password"]
    for password in (first, second):
        assert (await call("GET", f"{restante.family}/models", (login, password))).status == 200


# --- the database's own password ------------------------------------------------------------------------


class Guarded(NamedTuple):
    """A PostgreSQL that wants a password, and the file that restante reads it from."""

    admin: str
    dsn: str
    file: Path

    def write(self, password: str) -> None:
        self.file.write_text(f"*:*:*:app:{password}\n")
        self.file.chmod(0o600)

    async def require(self, password: str) -> None:
        """From now on this one, for whoever connects; who is connected is thrown out."""
        admin = await asyncpg.connect(self.admin)
        await admin.execute(f"alter role app password '{password}'")
        await admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
        await admin.close()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    with EmbeddedPostgres(tmp_path / "data") as server:
        rules = tmp_path / "data" / "postgres" / "18" / "pg_hba.conf"
        rules.write_text(f"local all app scram-sha-256\n{rules.read_text()}")
        dsn = server.dsn.replace("restante@/restante", "app@/app")

        async def prepare() -> None:
            admin = await asyncpg.connect(server.dsn)
            await admin.execute("create role app login password 'first'")
            await admin.execute("create database app owner app")
            await admin.execute("select pg_reload_conf()")
            await admin.close()

        asyncio.run(prepare())
        yield Guarded(server.dsn, f"{dsn}&passfile={tmp_path / 'passwords'}", tmp_path / "passwords")


async def test_the_databases_password_changes_under_a_running_process(guarded: Guarded) -> None:
    guarded.write("wrong")
    with pytest.raises(OperatorError, match="password authentication failed"):
        await Database(guarded.dsn, connections=2).open()
    guarded.write("first")
    db = Database(guarded.dsn, connections=2)
    await db.open()
    await db.migrate()
    assert await db.value("alive")
    await guarded.require("second")
    with pytest.raises(DatabaseLost):  # the connection it had; then a new one, for which the file is wrong yet
        await db.value("alive")
    with pytest.raises(DatabaseLost, match="password authentication failed"):
        await db.value("alive")
    guarded.write("second")
    assert await db.value("alive")
    await db.close()
