"""What PostgreSQL, asyncpg and the way between say becomes our own errors, or stays a mistake of ours."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from typing import Final

import asyncpg

from restante.core.errors import RestanteError
from restante.observing.metrics import DATABASE_LOST


class DatabaseLost(RestanteError):
    """The server is gone or cannot serve now: connection broken, disk full, out of memory, lock time-out, read-only.

    Whether a statement under way was committed is not known. Nothing is wrong with what was asked: later it may do.
    """


class Conflict(RestanteError):
    """A unique key exists already."""


class OutOfRange(RestanteError):
    """A number beyond 64 bits."""


class NoSuchDay(RestanteError):
    """There are no partitions for a day: this process slept past those made ahead, or a clock is far off."""


class WrongClock(DatabaseLost):
    """This process's clock and the database's are too far apart for anything to be written by it. What it does waits as
    for a database that is gone."""


LOST: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InvalidAuthorizationSpecificationError,  # a password that is just being changed
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg says of a connection that the server cut in the middle of a reply
    OSError,
)

#: What a second try may mend. The server's internal errors (XX) are about itself, never about what was asked.
RACES: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.InternalServerError)


@contextlib.contextmanager
def our_errors() -> Iterator[None]:
    """What asyncpg raises becomes one of ours, or stays a mistake of ours."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise Conflict(error.constraint_name or str(error)) from error
    except asyncpg.CheckViolationError as error:
        if "no partition of relation" not in str(error):
            raise
        raise NoSuchDay(str(error)) from error
    except asyncpg.NumericValueOutOfRangeError as error:
        raise OutOfRange(str(error)) from error
    except asyncpg.DataError:  # an InterfaceError too, but about the arguments: the connection is fine
        raise
    except LOST as error:
        DATABASE_LOST.add()
        raise DatabaseLost(f"{type(error).__name__}: {error}") from error
    except AttributeError as error:
        if not _left_empty(error):
            raise
        DATABASE_LOST.add()
        raise DatabaseLost("the connection ended between a reply and what was asked next") from error


def _left_empty(error: AttributeError) -> bool:
    """A connection that ends while nobody waits for its reply is emptied at once: whoever holds it then, or the pool's
    stand-in for it, meets None inside asyncpg (0.32: its `_protocol`, its `_con`)."""
    *_, (place, _) = traceback.walk_tb(error.__traceback__)
    return error.obj is None and place.f_globals.get("__name__", "").startswith("asyncpg.")
