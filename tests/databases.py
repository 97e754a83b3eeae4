"""Databases for tests: made as copies of a migrated template, and used again once they are as the template again.

A copy costs a second, of which the suite had a thousand. One that was used is emptied instead, and thrown away whenever
anything but its rows may differ: a test never sees what another one did.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from typing import Any

import asyncpg

from restante.store.database import Database
from restante.wiring import utc_now

TEMPLATE = "template_of_tests"
#: The DSN of a migrated database, on a server that stands in for the embedded one: for many short sessions in a row.
STANDING: str | None = os.environ.get("TEST_TEMPLATE_URL")
#: The tests' own clusters end with the tests: what survives a power cut is not their matter.
FOR_TESTS = ("fsync = off", "full_page_writes = off", "autovacuum = off")

# What a copy has in common with its template down to the object ids, whatever rows came and went. Planner statistics
# belong to it: plans depend on them.
_SHAPE = """
select md5(string_agg(line, ';' order by line)) from (
  select concat_ws(' ', 'class', oid, relname, relkind, relpartbound, reloptions, relowner, relacl,
                   case when relkind = 'r' then reltuples end) from pg_class where oid >= 16384
  union all
  select concat_ws(' ', 'column', attrelid, attnum, attname, atttypid, attnotnull, attisdropped, attoptions)
    from pg_attribute where attrelid >= 16384
  union all select concat_ws(' ', 'trigger', oid, tgenabled, xmin) from pg_trigger
  union all select concat_ws(' ', 'constraint', oid, conname, convalidated) from pg_constraint where oid >= 16384
  union all select concat_ws(' ', 'function', oid, xmin) from pg_proc where oid >= 16384
  union all select concat_ws(' ', 'type', oid, typname) from pg_type where oid >= 16384
  union all select concat_ws(' ', 'schema', oid, nspname) from pg_namespace where nspname !~ '^pg_'
  union all select concat_ws(' ', 'statistics', starelid, staattnum) from pg_statistic where starelid >= 16384
) as shape (line)
"""
_FULL = """
select format('%I.%I', relnamespace::regnamespace, relname) from pg_class
where relkind = 'r' and oid >= 16384 and pg_relation_size(oid) > 0 order by 1
"""
_SEQUENCES = "select format('%I.%I', schemaname, sequencename) as name, start_value, last_value from pg_sequences"
_OTHERS = "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"


async def make_template(server_dsn: str) -> None:
    """Make the database that others are copies of anew."""
    admin = await asyncpg.connect(server_dsn)
    for setting in FOR_TESTS:
        await admin.execute(f"alter system set {setting}")
    await admin.execute("select pg_reload_conf()")
    await admin.execute(f"drop database if exists {TEMPLATE} with (force)")
    await admin.execute(f"create database {TEMPLATE} encoding 'UTF8' template template0")
    await admin.close()
    db = Database(dsn_of(server_dsn, TEMPLATE), connections=2)
    await db.open()
    await db.migrate()
    await db.prepare_days(utc_now().date())
    await db.close()


class Server:
    """A PostgreSQL, its template, and the databases that wait to be used again."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._numbers = itertools.count()
        self._ready: list[str] = []

    async def prepare(self) -> None:
        """Make the template; remember what it has."""
        if STANDING is None:
            await make_template(self._dsn)
        connection = await asyncpg.connect(dsn_of(self._dsn, TEMPLATE))
        self._shape: str = await connection.fetchval(_SHAPE)
        self._rows: dict[str, list[Any]] = {
            name: await connection.fetch(f"table {name}") for (name,) in await connection.fetch(_FULL)
        }
        self._sequences = {row["name"]: row for row in await connection.fetch(_SEQUENCES)}
        await connection.close()

    async def take(self) -> str:
        """The name of a database that is as the template is."""
        if self._ready:
            return self._ready.pop()
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        admin = await asyncpg.connect(self._dsn)
        await admin.execute(f"create database {name} template {TEMPLATE}")
        await admin.close()
        return name

    async def give_back(self, name: str) -> None:
        """Empty it, or throw it away."""
        if STANDING is None and await self._emptied(name):
            self._ready.append(name)
            return
        admin = await asyncpg.connect(self._dsn)
        await admin.execute(f"drop database if exists {name} with (force)")
        await admin.close()

    async def _emptied(self, name: str) -> bool:
        """Whether it is the template's equal again."""
        try:
            connection = await asyncpg.connect(dsn_of(self._dsn, name))
        except (OSError, asyncpg.PostgresError):
            return False
        try:
            if not await _alone(connection):
                return False
            full = [row[0] for row in await connection.fetch(_FULL)]
            async with connection.transaction():
                await connection.execute("set local session_replication_role = replica")  # the ledger refuses it
                await connection.execute(f"truncate {', '.join(full)}")
                for table, rows in self._rows.items():
                    schema, _, short = table.rpartition(".")
                    await connection.copy_records_to_table(short, schema_name=schema, records=map(tuple, rows))
                for row in await connection.fetch(_SEQUENCES):
                    as_it_was = self._sequences.get(row["name"])
                    if as_it_was is not None and row["last_value"] != as_it_was["last_value"]:
                        at, called = as_it_was["last_value"], as_it_was["last_value"] is not None
                        await connection.execute(
                            "select setval($1::regclass, $2, $3)", row["name"], at or row["start_value"], called
                        )
                # A process that a test started set them for its role, as `db` does; a copy has none.
                await connection.execute(f"alter role current_user in database {name} reset all")
            return bool(await connection.fetchval(_SHAPE) == self._shape)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        finally:
            await connection.close()


async def _alone(connection: Any) -> bool:
    """End every other session of the database, as dropping it by force would."""
    for _ in range(200):
        if not await connection.fetch(f"select pg_terminate_backend(pid) from ({_OTHERS}) as other"):
            return True
        await asyncio.sleep(0.01)  # nothing tells that a backend has ended
    return False


def dsn_of(server_dsn: str, database: str) -> str:
    """The same server, another database."""
    head, _, tail = server_dsn.partition("?")
    return f"{head.rpartition('/')[0]}/{database}?{tail}"
