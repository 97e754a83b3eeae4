"""Reading for people: a transaction of one moment that writes nothing and whose statements end after a while.

The only place with a statement time-out, and it is around no money (CONTRIBUTING, "Data").
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

import asyncpg

from restante.core.errors import RestanteError
from restante.store.database import Database, Session
from restante.store.errors import DatabaseLost


class TooSlow(RestanteError):
    """A statement took longer than it may."""


class Overtaken(RestanteError):
    """A standby cut the reading off, since it went on to replay what takes away what is read: read from the primary."""


@contextlib.asynccontextmanager
async def reading(db: Database, seconds: float) -> AsyncIterator[Session]:
    """A transaction that only reads, each statement at most so long. Raises DatabaseLost, TooSlow, Overtaken."""
    try:
        with overtaking():
            async with db.transaction(reads=True) as tx:
                await tx.rows("console_reading", str(int(seconds * 1_000)))
                yield tx
    except DatabaseLost as error:
        if isinstance(error.__cause__, asyncpg.QueryCanceledError):
            raise TooSlow(f"longer than {seconds:g} s") from error
        raise


@contextlib.contextmanager
def overtaking() -> Iterator[None]:
    """What a standby says when its recovery goes before, as Overtaken. A primary says none of it of what only reads."""
    try:
        yield
    except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError) as error:
        raise Overtaken(str(error)) from error
    except DatabaseLost as error:  # a time-out has the same code
        if isinstance(error.__cause__, asyncpg.QueryCanceledError) and "conflict with recovery" in str(error):
            raise Overtaken(str(error)) from error
        raise
