"""One PostgreSQL for all mutants: starting one for each would take longer than its tests. Nothing in it is worth a
flush to the disk."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg

from restante.store.embedded_postgres import EmbeddedPostgres
from tests.conftest import TEMPLATE, dsn_of, make_template

#: tests/conftest.py copies the database at this DSN, and starts no server.
VARIABLE = "TEST_TEMPLATE_URL"


@contextlib.contextmanager
def running() -> Iterator[str]:
    """A server with the tests' template for the block; the template's DSN."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as directory, EmbeddedPostgres(Path(directory)) as server:
        asyncio.run(_hurry(server.dsn))
        asyncio.run(make_template(server.dsn))
        yield dsn_of(server.dsn, TEMPLATE)


async def _hurry(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            await connection.execute(f"alter system set {setting} = off")
        await connection.execute("select pg_reload_conf()")
    finally:
        await connection.close()
