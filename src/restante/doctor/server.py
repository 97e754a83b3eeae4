"""Checks of PostgreSQL itself."""

from __future__ import annotations

import time

from restante.core.errors import CREATED_CODE, OperatorError
from restante.core.limits import (
    DOCTOR_CLOCK_FAULT_SECONDS,
    DOCTOR_CLOCK_SECONDS,
    DOCTOR_CONNECTIONS_SHARE,
    DOCTOR_DEAD_ROWS,
    DOCTOR_FREEZE_AGE,
    DOCTOR_PREPARED_SECONDS,
    DOCTOR_SLOT_BYTES,
    DOCTOR_SNAPSHOT_SECONDS,
    DOCTOR_SYNC_SECONDS,
    STANDBY_BEHIND_SECONDS,
)
from restante.core.reserve import show_bytes
from restante.doctor.finding import Finding, Patient, fault, fine, warning
from restante.store import inspection
from restante.store import standby as stored
from restante.store.inspection import Server

_ROLE = "ALTER ROLE ... IN DATABASE ..."
_FREEZE_FAULT = 4 * DOCTOR_FREEZE_AGE  # PostgreSQL itself stops near it


async def version(patient: Patient) -> list[Finding]:
    """Which server it is."""
    found = await inspection.server(patient.base)
    if found.standby:
        return [
            fault(
                "the server is a standby, which takes no writes",
                "Name the primary, or all hosts, in RESTANTE_DATABASE_URL.",
            )
        ]
    return fine(f"PostgreSQL {found.version}")


async def settings(patient: Patient) -> list[Finding]:
    """Settings that promises rest on, as our role's sessions have them."""
    return judge_settings(await inspection.server(patient.base)) or fine(
        "fsync, commits and time-outs are as they must be"
    )


def judge_settings(found: Server) -> list[Finding]:
    """What is wrong with them."""
    wrong = []
    for name, value in (("fsync", found.fsync), ("full_page_writes", found.full_page_writes)):
        if value != "on":
            wrong.append(
                fault(f"{name} is {value}: a crash of the machine loses or tears the database", f"Set {name} = on.")
            )
    if found.synchronous_commit == "off":
        wrong.append(
            fault(
                f"synchronous_commit is off: tasks answered with {CREATED_CODE} may be lost",
                f"Set it to on where it was set off: postgresql.conf, or the role ({_ROLE} RESET synchronous_commit).",
            )
        )
    for name in ("statement_timeout", "transaction_timeout", "idle_session_timeout"):
        value = getattr(found, name)
        if value not in (None, "0"):
            what = "cuts sessions off" if name == "idle_session_timeout" else "can hide whether money was moved"
            wrong.append(fault(f"{name} is {value}: it {what}", f"{_ROLE} SET {name} = 0, for restante's role."))
    if found.autovacuum != "on":
        wrong.append(fault("autovacuum is off: claims and listings grow slower and slower", "Set autovacuum = on."))
    if found.enable_seqscan != "off":
        wrong.append(
            warning(
                "restante's settings of its role are not in force (enable_seqscan): plans may read whole tables",
                "Start restante once as the role that serves; a pooler has to connect with that role.",
            )
        )
    if found.data_checksums != "on":
        wrong.append(
            warning("data checksums are off: a bad disk is noticed late", "pg_checksums --enable, while it is stopped.")
        )
    return wrong


async def clock(patient: Patient) -> list[Finding]:
    """This host's clock against the database's."""
    before = time.time()
    found = await inspection.server(patient.base)
    after = time.time()
    return judge_clock(found.clock - (before + after) / 2, (after - before) / 2)


def judge_clock(ahead: float, doubt: float = 0.0) -> list[Finding]:
    """`ahead`: seconds that the database's clock is before ours, give or take the `doubt`."""
    off = max(0.0, abs(ahead) - doubt)
    if off <= DOCTOR_CLOCK_SECONDS:
        return fine("this host's clock and the database's agree")
    said = f"the database's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this host's"
    remedy = "Run a time service (NTP) on both: days, deadlines and rates go by these clocks."
    return [fault(said, remedy) if off > DOCTOR_CLOCK_FAULT_SECONDS else warning(said, remedy)]


async def connections(patient: Patient) -> list[Finding]:
    """How many of the server's connections are taken."""
    found = await inspection.server(patient.base)
    said = f"{found.connections} of {found.max_connections} connections are taken"
    if found.connections > DOCTOR_CONNECTIONS_SHARE * found.max_connections:
        return [
            warning(
                said, "Raise max_connections, lower RESTANTE_DATABASE_CONNECTIONS, or put PgBouncer before the API."
            )
        ]
    return fine(said)


async def sessions(patient: Patient) -> list[Finding]:
    """Old transactions, and commits that wait for a standby."""
    found = []
    for one in await inspection.old_sessions(patient.base, DOCTOR_SNAPSHOT_SECONDS, DOCTOR_SYNC_SECONDS):
        who = f"session {one.pid} ({one.who}, {one.program})"
        if one.waits:
            found.append(
                fault(
                    f"{who} has waited for a synchronous standby for {one.seconds:.0f} s: nothing is committed",
                    "Bring a standby back, or name fewer in synchronous_standby_names. Do not cancel what waits.",
                )
            )
        else:
            found.append(
                warning(
                    f"{who} has a transaction open for {one.seconds / 60:.0f} min ({one.state}): claims slow down",
                    f"End it: select pg_terminate_backend({one.pid}). Dumps belong on a replica.",
                )
            )
    return found or fine("no old snapshot is open")


async def held_back(patient: Patient) -> list[Finding]:
    """Forgotten prepared transactions and replication slots."""
    found = []
    for one in await inspection.held_back(patient.base, DOCTOR_PREPARED_SECONDS, DOCTOR_SLOT_BYTES):
        if one.kind == "prepared":
            found.append(
                fault(
                    f"a prepared transaction ({one.name}) is open for {one.amount / 60:.0f} min, and is not restante's",
                    f"Whoever made it must end it: ROLLBACK PREPARED '{one.name}'.",
                )
            )
        else:
            found.append(
                warning(
                    f"replication slot {one.name}, which nobody uses, keeps {show_bytes(int(one.amount))} of WAL",
                    f"Bring its standby back, or drop it: select pg_drop_replication_slot('{one.name}').",
                )
            )
    return found or fine("nothing keeps PostgreSQL from tidying up")


async def vacuum(patient: Patient, dead: int = DOCTOR_DEAD_ROWS) -> list[Finding]:
    """Whether vacuum keeps up."""
    found = []
    age = 0
    for one in await inspection.tables(patient.base, dead):
        age = max(age, one.age)
        if one.name:
            since = "never" if one.seconds is None else f"{one.seconds / 3_600:.1f} h ago"
            found.append(
                warning(
                    f"{one.name} has {one.dead:,} dead rows, last vacuumed {since}",
                    f"Look for old snapshots above; then VACUUM {one.name}.",
                )
            )
    return found + judge_age(age) or fine("vacuum keeps up")


def judge_age(age: int) -> list[Finding]:
    """Of the oldest row that is not frozen, in transactions."""
    if age <= DOCTOR_FREEZE_AGE:
        return []
    said = f"the oldest rows are {age:,} transactions old; PostgreSQL stops at about 2,100,000,000"
    remedy = "Let autovacuum run (no old snapshots, prepared transactions or slots), or VACUUM FREEZE by night."
    return [fault(said, remedy) if age > _FREEZE_FAULT // 2 else warning(said, remedy)]


async def standby(patient: Patient) -> list[Finding]:
    """The server that the console's pages are read from."""
    dsn = patient.settings.read_database_url
    if dsn is None:
        return fine("the console's pages are read from the primary")
    try:
        db = await stored.connect(dsn, patient.base, patient.settings.database_prepared)
    except OperatorError as error:
        return [warning(f"{error.problem} The console's pages are read from the primary", error.remedy)]
    try:
        return judge_standby(await stored.behind(db))
    finally:
        await db.close()


def judge_standby(behind: float | None) -> list[Finding]:
    """By how many seconds old what it shows is; None: it is a primary."""
    if behind is None:
        return [
            warning(
                f"{stored.SETTING} names the primary: the console's pages are read from it as without",
                "Name a standby, or unset it.",
            )
        ]
    if behind > STANDBY_BEHIND_SECONDS:
        remedy = "Look at its log, its disk and its network; is replay paused (pg_is_wal_replay_paused())?"
        return [warning(f"the standby that the console's pages are read from is {behind:.0f} s behind", remedy)]
    return fine("the console's pages are read from a standby that is not behind")


async def pooler(patient: Patient) -> list[Finding]:
    """Whether a pooler stands between, which workers should not have."""
    if patient.base.pooled:
        return [
            warning(
                "RESTANTE_DATABASE_URL goes through a pooler: good for API nodes; workers are not woken there"
                " by new tasks and look for them every moment",
                "Give workers a URL of PostgreSQL itself.",
            )
        ]
    return fine("a direct connection")
