"""What an operator wants to know of the database: its server, its schema, and what waits in it (`restante doctor`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import TypeVar

import msgspec

from restante.store.database import Session
from restante.store.schema import DAILY_TABLES

T = TypeVar("T", bound=msgspec.Struct)


class Owed(msgspec.Struct, frozen=True):
    """Tasks to be run, webhooks to be sent."""

    tasks: int
    deliveries: int


class Server(msgspec.Struct, frozen=True):
    """PostgreSQL, with settings as our role's sessions have them (None: it knows no such setting). `clock`: seconds
    since 1970."""

    version: str
    major: int
    encoding: str
    standby: bool
    fsync: str
    full_page_writes: str
    synchronous_commit: str
    autovacuum: str
    data_checksums: str
    enable_seqscan: str
    statement_timeout: str
    transaction_timeout: str | None
    idle_session_timeout: str
    max_connections: int
    connections: int
    clock: float


class OldSession(msgspec.Struct, frozen=True):
    """A session whose transaction is open so long; `waits`: its commit, for a synchronous standby."""

    pid: int
    who: str
    program: str
    state: str
    seconds: float
    waits: bool | None


class HeldBack(msgspec.Struct, frozen=True):
    """A prepared transaction (`amount`: its seconds) or an idle replication slot (bytes of WAL kept for it)."""

    kind: str
    name: str
    amount: float


class Table(msgspec.Struct, frozen=True):
    """Dead rows of a table, seconds since it was last vacuumed; `age` of the database's oldest row that is not frozen,
    in transactions. The row of name "" says the age only."""

    name: str
    dead: int
    seconds: float | None
    age: int


class Process(msgspec.Struct, frozen=True):
    """A process with a lease of so many seconds, below 0 when it is over, and what is leased to it."""

    name: str
    claims: bool
    provider: str
    seconds: float
    tasks: int
    deliveries: int


class Stuck(msgspec.Struct, frozen=True):
    """Work that nobody moves: tasks and deliveries of no lease, parked beyond their time, tasks beyond the deadline."""

    leased: int
    delivering: int
    parked: int
    late: int


class Host(msgspec.Struct, frozen=True):
    """Webhooks to a host that failed before and wait, and those given up."""

    host: str
    waiting: int
    failed: int


class Debtor(msgspec.Struct, frozen=True):
    """An account below its credit limit by so many nano-dollars, with tasks that wait."""

    login: str
    beyond: int
    tasks: int


class Pause(msgspec.Struct, frozen=True):
    """Calls of a model, or with model "" of a whole project, that are put off for so many seconds."""

    provider: str
    project: str
    model: str
    reason: str
    seconds: float


async def owed(db: Session) -> Owed:
    """What is still to be done."""
    return await _one(db, Owed, "owed")


async def installed(db: Session) -> bool:
    """Whether restante was ever started on this database."""
    return bool(await db.value("is_installed"))


async def server(db: Session) -> Server:
    """The server."""
    return await _one(db, Server, "inspect_server")


async def old_sessions(db: Session, seconds: float, sync_seconds: float) -> list[OldSession]:
    """Sessions that are in one transaction longer than that, or wait for a standby."""
    return await _all(db, OldSession, "inspect_sessions", seconds, sync_seconds)


async def held_back(db: Session, prepared_seconds: float, slot_bytes: int) -> list[HeldBack]:
    """Prepared transactions and idle slots beyond these bounds."""
    return await _all(db, HeldBack, "inspect_held_back", prepared_seconds, slot_bytes)


async def tables(db: Session, dead: int) -> list[Table]:
    """Tables with more dead rows than that, and the row of name ""."""
    return await _all(db, Table, "inspect_tables", dead)


async def missing_days(db: Session, days: Sequence[date]) -> list[date]:
    """Those of the days that some daily table has no partition for."""
    return [row["day"] for row in await db.rows("inspect_days", list(DAILY_TABLES), list(days))]


async def processes(db: Session) -> list[Process]:
    """All that have a lease, ended ones included."""
    return await _all(db, Process, "inspect_workers")


async def stuck(db: Session, overdue_seconds: float, deadline: datetime) -> Stuck:
    """Work that nobody moves; `deadline`: tasks posted before it should have ended."""
    return await _one(db, Stuck, "inspect_stuck", overdue_seconds, deadline)


async def failing_hosts(db: Session, since: date, most: int) -> list[Host]:
    """Hosts that webhooks could not be brought to."""
    return await _all(db, Host, "inspect_hosts", since, most)


async def debtors(db: Session) -> list[Debtor]:
    """Accounts below their credit limit, the deepest first."""
    return await _all(db, Debtor, "inspect_debtors")


async def pauses(db: Session) -> list[Pause]:
    """What is put off now."""
    return await _all(db, Pause, "inspect_pauses")


async def _all(db: Session, kind: type[T], name: str, *args: object) -> list[T]:
    return [kind(*row.values()) for row in await db.rows(name, *args)]


async def _one(db: Session, kind: type[T], name: str, *args: object) -> T:
    [row] = await _all(db, kind, name, *args)
    return row
