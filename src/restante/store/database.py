"""The connection pool, named statements, transactions and migrations. What PostgreSQL says becomes our own errors.

Statements live in sql/NAME.sql, one each, and are called by that name. Nothing here sets a statement time-out or
cancels a statement: around a money commit either could hide whether it happened (design, Data 9).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from datetime import date, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import asyncpg

from restante.core.errors import OperatorError, RestanteError
from restante.core.limits import COMMIT_TRIES, DAYS_AHEAD, DROP_LOCK_SECONDS, MIGRATION_POLL_SECONDS, POOL_CONNECTIONS

log = logging.getLogger("restante.database")

T = TypeVar("T")


class Row(Protocol):
    """A row of a result: columns by name or number."""

    def __getitem__(self, column: str | int) -> Any: ...
    def values(self) -> Iterator[Any]: ...


_EXAMPLE: Final = "An example: postgresql://user:password@host:5432/database"
_MIGRATION_LOCK: Final = 7_305_041  # arbitrary, ours alone
_OLDEST_MAJOR: Final = 15
_DAILY_TABLES: Final = {
    "task": "with (fillfactor = 60)", "task_request": "", "answer": "", "answer_raw": "", "transfer": "", "attempt": ""
}  # fmt: skip

# Settings of our role in this database, kept there because poolers such as PgBouncer drop start-up parameters.
# enable_seqscan: statistics taken while the queue was empty cached plans that read whole tables (notes, trap 2).
# enable_sort: the same ones made claims and listings read and sort all there was, instead of following an index until
# they had enough (tests/store/test_plans.py). Where nothing else is possible it is sorted all the same.
_ROLE_SETTINGS: Final = {"enable_seqscan": "off", "enable_sort": "off", "jit": "off", "timezone": "UTC"}


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


_LOST: Final = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ObjectNotInPrerequisiteStateError,
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg says of a connection that the server cut in the middle of a reply
    OSError,
)


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
    except _LOST as error:
        raise DatabaseLost(f"{type(error).__name__}: {error}") from error


@cache
def statement(name: str) -> str:
    """The SQL of sql/NAME.sql."""
    return files("restante.store").joinpath("sql", f"{name}.sql").read_text()


class Session:
    """Runs named statements: on any pooled connection (a Database), or inside one transaction."""

    def __init__(self, on: Any) -> None:
        self._on = on

    async def rows(self, name: str, *args: object) -> list[Row]:
        """Raises DatabaseLost, Conflict."""
        with our_errors():
            found: list[Row] = await self._on.fetch(statement(name), *args)
        return found

    async def row(self, name: str, *args: object) -> Row | None:
        """The only row, or None. Raises DatabaseLost, Conflict."""
        found = await self.rows(name, *args)
        return found[0] if found else None

    async def value(self, name: str, *args: object) -> Any:
        """The first column of the only row, or None. Raises DatabaseLost, Conflict."""
        found = await self.rows(name, *args)
        return found[0][0] if found else None


class Database(Session):
    """A pool. `revive` is told when the server is gone and may start it again (the embedded one)."""

    def __init__(self, dsn: str, *, connections: int = POOL_CONNECTIONS, revive: Callable[[], None] | None = None):
        self.dsn = dsn
        self._revive = revive
        self._reviving: asyncio.Task[None] | None = None
        try:
            self._pool = asyncpg.create_pool(
                dsn, min_size=1, max_size=connections, command_timeout=None, reset=_nothing_to_reset
            )
        except ValueError as error:
            raise OperatorError(f"RESTANTE_DATABASE_URL cannot be used: {error}.", _EXAMPLE) from None
        super().__init__(self._pool)

    async def rows(self, name: str, *args: object) -> list[Row]:
        """Raises DatabaseLost, Conflict. A lost server is asked for again at once, for whoever comes next."""
        try:
            return await super().rows(name, *args)
        except DatabaseLost:
            self._start_reviving()
            raise

    async def open(self) -> None:
        """Connect. Raises OperatorError when the server cannot be reached, is too old or not in UTF-8."""
        try:
            await self._pool
            version = await self._pool.fetchval("show server_version_num")
            encoding = await self._pool.fetchval("show server_encoding")
        except ValueError as error:
            raise OperatorError(f"RESTANTE_DATABASE_URL cannot be used: {error}.", _EXAMPLE) from None
        except (*_LOST, asyncpg.PostgresError) as error:
            raise OperatorError(
                f"PostgreSQL cannot be reached: {error}", "Check RESTANTE_DATABASE_URL and that the server runs."
            ) from error
        if int(version) // 10_000 < _OLDEST_MAJOR:
            await self.close()
            raise OperatorError(f"PostgreSQL {int(version) // 10_000} is too old.", "Use PostgreSQL 15 or newer.")
        if encoding != "UTF8":
            await self.close()
            raise OperatorError(f"The database's encoding is {encoding}.", "Create it with encoding UTF8.")

    async def close(self) -> None:
        """Close the connections; those still at work are cut off after a second."""
        try:
            async with asyncio.timeout(1):
                await self._pool.close()
        except (TimeoutError, *_LOST):
            self._pool.terminate()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """One transaction on one connection. Raises DatabaseLost, Conflict."""
        with our_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                yield Session(connection)

    async def settled(self, work: Callable[[], Awaitable[T]], day: date | None = None) -> T:
        """Run a transaction or a one-statement write again when it lost a race (deadlock, serialization), and when the
        partitions of its `day` were missing, which are then made. Raises DatabaseLost when the races go on."""
        for _ in range(COMMIT_TRIES):
            try:
                return await work()
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError) as error:
                raced: Exception = error
            except NoSuchDay as error:
                if day is None:
                    raise
                raced = error
                await self.prepare_days(day)
        raise DatabaseLost(f"lost {COMMIT_TRIES} races: {raced}") from raced

    async def again(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run what may be run twice (reading, collecting) once more if the server was lost on the way: after a restart
        every pooled connection is dead, and no client need notice."""
        try:
            return await work()
        except DatabaseLost:
            await self.revive()
            return await work()

    async def revive(self) -> None:
        """Ask whoever runs the server to start it again; one attempt serves all who ask at the same time."""
        reviving = self._start_reviving()
        if reviving is not None:
            await asyncio.wait([reviving])

    def _start_reviving(self) -> asyncio.Task[None] | None:
        if self._revive is None:
            return None
        if self._reviving is None or self._reviving.done():
            self._reviving = asyncio.create_task(self._revived(self._revive))
        return self._reviving

    async def _revived(self, revive: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(revive)
        except Exception as error:  # said here, tried again at the next need
            log.error("PostgreSQL could not be brought back: %s", error)

    @contextlib.asynccontextmanager
    async def listening(self, channel: str, on_notify: Callable[[], None]) -> AsyncIterator[asyncio.Event]:
        """Call `on_notify` for each notification of the channel; the yielded event is set when the connection ends."""
        ended = asyncio.Event()
        with our_errors():
            connection = await asyncpg.connect(self.dsn)
        try:
            connection.add_termination_listener(lambda _: ended.set())
            with our_errors():
                await connection.add_listener(channel, lambda *_: on_notify())
            yield ended
        finally:
            with contextlib.suppress(*_LOST, asyncpg.PostgresError):
                await connection.close(timeout=1)

    async def migrate(self, *, wait: bool = False) -> None:
        """Bring the schema up to date: numbered SQL, forward only, under a lock, so that ten processes may start at
        once. Never under processes that live: those that run know the old schema only, and would bring webhooks again
        and miscount. `wait`: first for those that may have been killed, whose leases end in a moment.

        Raises OperatorError when other processes live, or when the database is newer than this restante.
        """
        until: float | None = None
        while True:
            with our_errors():
                async with self._pool.acquire() as connection:
                    living = await _migrate(connection)
            if living is None:
                return
            now = asyncio.get_running_loop().time()
            if until is None:
                until = now + (living.seconds if wait else 0)
                if wait:
                    log.warning("%s The database is migrated when they have ended; waiting.", living.said)
            if now >= until:
                raise OperatorError(
                    f"The database has to be migrated for this restante. {living.said}",
                    "Stop them, all of them, then start this restante: `restante up`, or `restante api`.",
                )
            await asyncio.sleep(min(MIGRATION_POLL_SECONDS, until - now))

    async def newer(self) -> int | None:
        """The database's migration where it is one that this restante does not know: a newer one runs on it now."""
        at: int = await self.value("schema_version")
        return at if at > _migrations()[-1][0] else None

    async def prepare_days(self, today: date) -> None:
        """Make the daily partitions from yesterday (clocks of nodes differ) to DAYS_AHEAD days ahead."""
        with our_errors():
            async with self._pool.acquire() as connection:
                for offset in range(-1, DAYS_AHEAD + 1):
                    await _prepare_day(connection, today + timedelta(days=offset))

    async def drop_days(self, table: str, before: date) -> list[str]:
        """Drop a table's daily partitions of days before `before`; returns their names. A day that still has queued
        tasks stays, and one that somebody reads is left to the next time."""
        dropped: list[str] = []
        for row in await self.rows("old_days", table, before):
            try:
                async with self.transaction() as tx:
                    await tx._on.execute(f"set local lock_timeout = '{DROP_LOCK_SECONDS}s'")
                    await tx._on.execute(f"drop table {row['name']}")
            except DatabaseLost as error:
                log.info("%s could not be dropped now: %s", row["name"], error)
                break
            dropped.append(row["name"])
        return dropped


def _migrations() -> Sequence[tuple[int, str, str]]:
    found = files("restante.store").joinpath("migrations").iterdir()
    return sorted((int(path.name[:4]), path.name, path.read_text()) for path in found if path.name.endswith(".sql"))


class _Living(NamedTuple):
    """Processes with a lease on the database: in words, and how long the last of them lasts."""

    said: str
    seconds: float


async def _migrate(connection: Any) -> _Living | None:
    """Migrate, unless other processes live, which are then returned."""
    known = _migrations()
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
        await connection.execute(
            "create table if not exists schema_migration"
            " (version int primary key, name text not null, applied_at timestamptz not null default now())"
        )
        at = await connection.fetchval("select coalesce(max(version), 0) from schema_migration")
        if at > known[-1][0]:
            raise OperatorError(
                f"The database is at migration {at}, this restante knows only {known[-1][0]}.",
                "Run the newer restante that migrated it; migrations are forward only.",
            )
        pending = [one for one in known if one[0] > at]
        if pending and at and (living := await _living(connection)) is not None:
            return living
        for version, name, text in pending:
            log.info("migrating the database: %s", name)
            await connection.execute(text)
            await connection.execute("insert into schema_migration (version, name) values ($1, $2)", version, name)
        await _set_role(connection)
    # What was just set holds for new sessions only; this one goes on serving, and the pool resets nothing.
    for name, value in _ROLE_SETTINGS.items():
        await connection.execute(f"set {name} = '{value}'")
    return None


async def _living(connection: Any) -> _Living | None:
    found = await connection.fetch(
        "select name, extract(epoch from expires_at - now())::float8 as seconds from worker"
        " where expires_at > now() order by name"
    )
    if not found:
        return None
    names = ", ".join(row["name"] for row in found)
    number = (
        "1 process of an older restante runs" if len(found) == 1 else f"{len(found)} processes of an older restante run"
    )
    return _Living(f"{number}: {names}.", max(row["seconds"] for row in found))


async def _set_role(connection: Any) -> None:
    wanted = [f"{name}={value}" for name, value in _ROLE_SETTINGS.items()]
    has = await connection.fetchval(
        "select setconfig from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase"
        " join pg_roles r on r.oid = s.setrole where d.datname = current_database() and r.rolname = current_user"
    )
    if set(wanted) <= {entry.replace("TimeZone", "timezone") for entry in has or ()}:
        return
    database, role = await connection.fetchrow("select quote_ident(current_database()), quote_ident(current_user)")
    for name, value in _ROLE_SETTINGS.items():
        await connection.execute(f"alter role {role} in database {database} set {name} = '{value}'")


async def _prepare_day(connection: Any, day: date) -> None:
    # Day by day: all at once would need more locks than a default server has (notes, trap 8). Made standalone and then
    # attached, which waits for no reader or writer of the parent, as CREATE ... PARTITION OF would.
    # All tables are looked for: a process of an older restante may have made the day without the newest.
    if not await _missing(connection, day):
        return
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
        for table in await _missing(connection, day):
            name = f"{table}_{day:%Y%m%d}"
            await connection.execute(f"create table {name} (like {table} including all) {_DAILY_TABLES[table]}")
            bounds = f"from ('{day}') to ('{day + timedelta(days=1)}')"
            await connection.execute(f"alter table {table} attach partition {name} for values {bounds}")


async def _missing(connection: Any, day: date) -> list[str]:
    """The daily tables that have no partition of this day. Looked up in the catalogue as it is now: to_regclass keeps
    in mind, for this session, that a name was free before it waited for the lock."""
    names = {f"{table}_{day:%Y%m%d}": table for table in _DAILY_TABLES}
    rows = await connection.fetch(
        "select relname from pg_class where relname = any ($1) and pg_table_is_visible(oid)", list(names)
    )
    there = {row["relname"] for row in rows}
    return [table for name, table in names.items() if name not in there]


async def _nothing_to_reset(_: object) -> None:
    """Sessions are left as they were found (SET LOCAL only): the pool's own reset would cost a round trip for each
    statement, and undo what `_migrate` set."""
