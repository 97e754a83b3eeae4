"""The connection pool, named statements, transactions and migrations. What PostgreSQL says becomes our own errors.

Statements live in sql/NAME.sql, one each, and are called by that name. Nothing here sets a statement time-out or
cancels a statement: around a money commit either could hide whether it happened (design, Data 9).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, Final, Protocol, TypeVar

import asyncpg

from restante import faults
from restante.core.errors import OperatorError
from restante.core.limits import (
    CLOCK_APART_SECONDS,
    COMMIT_TRIES,
    DAYS_AHEAD,
    DROP_LOCK_SECONDS,
    MIGRATION_POLL_SECONDS,
    POOL_CONNECTIONS,
    POSTGRES_LIVED_SECONDS,
    POSTGRES_RESTART_SECONDS,
    POSTGRES_RESTARTED_SECONDS,
)
from restante.observing.current import nobody
from restante.store import schema
from restante.store.connecting import Connector, Prepared, Target, unusable
from restante.store.errors import LOST, RACES, DatabaseLost, NoSuchDay, WrongClock, our_errors

log = logging.getLogger("restante.database")

T = TypeVar("T")


class Row(Protocol):
    """A row of a result: columns by name or number."""

    def __getitem__(self, column: str | int) -> Any: ...
    def values(self) -> Iterator[Any]: ...


_OLDEST_MAJOR: Final = 15


def _utc_now() -> datetime:
    return datetime.now(UTC)


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
    """A pool. `revive` is told when the server is gone and may start it again (the embedded one); it says whether it
    did."""

    def __init__(
        self,
        dsn: str,
        *,
        connections: int = POOL_CONNECTIONS,
        revive: Callable[[], bool] | None = None,
        prepared: Prepared = "auto",
        setting: str = "RESTANTE_DATABASE_URL",
        target: Target = "read-write",
        clock: Callable[[], datetime] = _utc_now,
    ):
        """`setting`: where the DSN came from; `target`: which of its several hosts is wanted; `clock`: ours."""
        self.dsn = dsn
        self._setting = setting
        self._revive = revive
        self._reviving: asyncio.Task[None] | None = None
        self._starts = 0  # in a row, of a server that did not start or soon ended
        self._started_at = self._not_before = 0.0  # monotonic
        self._certain = 0  # so many doubts are over
        self._making_certain = asyncio.Lock()
        self._clock = clock
        self._database_zero: float | None = None  # the database's time when our monotonic clock began
        #: The server is a standby: there is nothing to migrate, and nothing but reading.
        self.standby = False
        try:
            self._connect = _connector(dsn, prepared, target)
            self._pool = asyncpg.create_pool(
                dsn, min_size=1, max_size=connections, command_timeout=None, reset=_nothing_to_reset,
                connect=self._connect, connection_class=self._connect.kind,
            )  # fmt: skip
        except ValueError as error:
            raise unusable(error, self._setting) from None
        super().__init__(self._pool)

    @property
    def pooled(self) -> bool:
        """Whether a pooler such as PgBouncer stands between; known once it is open."""
        return bool(self._connect.pooled)

    @property
    def connections(self) -> tuple[int, int, int]:
        """Of the pool: those in use, those idle, and how many there may be."""
        idle = self._pool.get_idle_size()
        return self._pool.get_size() - idle, idle, self._pool.get_max_size()

    async def rows(self, name: str, *args: object) -> list[Row]:
        """Raises DatabaseLost, Conflict. A lost server is asked for again at once, for whoever comes next."""
        try:
            with our_errors():
                await self._make_certain()
                async with self._pool.acquire() as connection:
                    found: list[Row] = await connection.fetch(statement(name), *args)
                    _refuse_doubt(connection)
            return found
        except DatabaseLost:
            self._start_reviving()
            raise

    async def _make_certain(self) -> None:
        """After a commit in doubt nobody is told what is there before the standbys have it, too: wait for a commit
        that comes after it. Raises DatabaseLost."""
        if self._certain == self._connect.doubts:
            return
        async with self._making_certain:
            doubts = self._connect.doubts
            if self._certain == doubts:
                return
            async with self._pool.acquire() as connection:
                await connection.fetch(statement("make_certain"))
                _refuse_doubt(connection)
            self._certain = doubts

    async def open(self) -> None:
        """Connect. Raises OperatorError when the server cannot be reached, is too old or not in UTF-8."""
        try:
            await self._pool
            version = await self._pool.fetchval("show server_version_num")
            encoding = await self._pool.fetchval("show server_encoding")
            self.standby = await self._pool.fetchval("select pg_is_in_recovery()")
        except (ValueError, OverflowError) as error:
            raise unusable(error, self._setting) from None
        except (*LOST, asyncpg.PostgresError) as error:
            raise OperatorError(
                f"PostgreSQL cannot be reached: {error}", f"Check {self._setting} and that the server runs."
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
        except (TimeoutError, *LOST):
            self._pool.terminate()

    def abort(self) -> None:
        """Cut all connections at once; whoever waits on one gets DatabaseLost."""
        self._pool.terminate()

    @contextlib.asynccontextmanager
    async def transaction(self, *, reads: bool = False) -> AsyncIterator[Session]:
        """One transaction on one connection; one that `reads` sees everything as of one moment, and writes nothing.
        Raises DatabaseLost, Conflict."""
        options = {"isolation": "repeatable_read", "readonly": True} if reads else {}
        with our_errors():
            await self._make_certain()
            async with self._pool.acquire() as connection:
                async with connection.transaction(**options):
                    yield Session(connection)
                _refuse_doubt(connection)

    async def settled(self, work: Callable[[], Awaitable[T]], day: date | None = None) -> T:
        """Run a transaction or a one-statement write again when it lost a race (deadlock, serialization, or one within
        the server, which calls that its internal error), and when the partitions of its `day` were missing, which are
        then made. Raises DatabaseLost when the races go on."""
        if day is not None:
            await self.in_time()
        for _ in range(COMMIT_TRIES):
            try:
                return await work()
            except RACES as error:
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
        """Ask whoever runs the server to start it again; one attempt serves all who ask at the same time. After
        attempts that failed there is a pause, in which this does nothing."""
        reviving = self._start_reviving()
        if reviving is not None:
            await asyncio.wait([reviving])

    def _start_reviving(self) -> asyncio.Task[None] | None:
        if self._revive is None:
            return None
        if self._reviving is None or self._reviving.done():
            if time.monotonic() < self._not_before:
                return None
            self._reviving = asyncio.create_task(self._revived(self._revive), context=nobody())
        return self._reviving

    async def _revived(self, revive: Callable[[], bool]) -> None:
        try:
            started = await asyncio.to_thread(revive)
        except Exception as error:  # tried again at the next need
            log.error(
                "PostgreSQL ended and could not be started again. What is being answered is kept and tasks wait; it is"
                " tried again in %.1f s: %s", self._put_off(), error,
            )  # fmt: skip
        else:
            if started:
                log.warning("PostgreSQL had ended and was started again; everything goes on")
                self._put_off(POSTGRES_RESTARTED_SECONDS)

    def _put_off(self, most: float = POSTGRES_RESTART_SECONDS[-1]) -> float:
        """No other attempt for a while: seconds, growing with each start in a row that brought nothing for long."""
        now = time.monotonic()
        self._starts = self._starts + 1 if now - self._started_at < POSTGRES_LIVED_SECONDS else 1
        self._started_at = now
        pause = min(most, POSTGRES_RESTART_SECONDS[min(self._starts, len(POSTGRES_RESTART_SECONDS)) - 1])
        self._not_before = now + pause
        return pause

    @contextlib.asynccontextmanager
    async def listening(self, channel: str, on_notify: Callable[[str], None]) -> AsyncIterator[asyncio.Event]:
        """Call `on_notify` with what each notification of the channel tells; the yielded event is set when the
        connection ends."""
        ended = asyncio.Event()
        with our_errors():
            connection = await self._connect()
        try:
            connection.add_termination_listener(lambda _: ended.set())
            with our_errors():
                await connection.add_listener(channel, lambda *told: on_notify(told[-1]))
            yield ended
        finally:
            with contextlib.suppress(DatabaseLost, asyncpg.PostgresError), our_errors():
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
                    living = await schema.migrate(connection)
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
        return at if at > schema.migrations()[-1][0] else None

    async def prepare_days(self, today: date) -> None:
        """Make the daily partitions from yesterday (clocks of nodes differ) to DAYS_AHEAD days ahead."""
        with our_errors():
            async with self._pool.acquire() as connection:
                for offset in range(-1, DAYS_AHEAD + 1):
                    await schema.prepare_day(connection, today + timedelta(days=offset))

    async def compare_clocks(self) -> None:
        """Ask what time it is in the database. Raises WrongClock: days, how long a key is kept and a listing shown go
        by the clock of whoever writes them, and others would forget them at a wrong time."""
        row = await self.row("database_clock")
        assert row is not None
        self._database_zero = row["now"].timestamp() - time.monotonic()
        if self.clocks_apart:
            raise WrongClock(
                f"the clocks are apart, here it is {self._clock():%Y-%m-%d %H:%M} and in the database"
                f" {row['now']:%Y-%m-%d %H:%M} (UTC): set them right (NTP)"
            )

    async def in_time(self) -> None:
        """To be awaited before anything is written by this process's clock. Costs no round trip while that agrees with
        the last look at the database's. Raises WrongClock."""
        if self.clocks_apart:
            await self.compare_clocks()  # it slept, or one was set right

    @property
    def clocks_apart(self) -> bool:
        """Our clock has left the database's, as that was seen last; False before it was."""
        if self._database_zero is None:
            return False
        ahead = self._clock().timestamp() - (time.monotonic() + self._database_zero)
        return abs(ahead) > CLOCK_APART_SECONDS

    async def drop_days(self, table: str, before: date) -> list[str]:
        """Drop a table's daily partitions of days before `before`; returns their names. A day that still has queued
        tasks stays, one that somebody reads is left to the next time, and all to who drops the table's days already:
        every worker does this at its time, and two may have begun together."""
        dropped: list[str] = []
        for row in await self.rows("old_days", table, before):
            try:
                async with self.transaction() as tx:
                    if not await tx.value("turn_to_drop", table):
                        break
                    await tx._on.execute(f"set local lock_timeout = '{DROP_LOCK_SECONDS}s'")
                    # another may have dropped it between our look and our turn
                    await tx._on.execute(f"drop table if exists {row['name']}")
            except DatabaseLost as error:
                log.info("%s could not be dropped now: %s", row["name"], error)
                break
            dropped.append(row["name"])
        return dropped


def _connector(dsn: str, prepared: Prepared, target: Target) -> Connector:
    if not faults.active or target == "standby":
        return Connector(dsn, prepared, target=target)
    from restante.store.interrupted import Interrupted, Severed

    Interrupted.steps = {statement(name): step for name, step in faults.STEPS.items()}
    return Severed(dsn, prepared)


def _refuse_doubt(connection: Any) -> None:
    """Whether a commit happened is not known when its wait for a synchronous standby was cancelled, whatever the reply
    says (design, Data 9). Raises DatabaseLost."""
    if connection.in_doubt:
        connection.terminate()
        raise DatabaseLost("the wait for a synchronous standby was cancelled: a failover may lose the commit")


async def _nothing_to_reset(_: object) -> None:
    """Sessions are left as they were found (SET LOCAL only): the pool's own reset would cost a round trip for each
    statement, and undo what `_migrate` set."""
