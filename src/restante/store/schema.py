"""The schema: numbered migrations, our role's settings, a partition for each day. All of it on a connection given.

Called by the Database, which knows how to wait and what to tell people.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date, timedelta
from importlib.resources import files
from typing import Any, Final, NamedTuple

from restante.core.errors import OperatorError
from restante.core.limits import DATABASE_CLIENT_SILENT_SECONDS

log = logging.getLogger("restante.database")

_MIGRATION_LOCK: Final = 7_305_041  # arbitrary, ours alone
DAILY_TABLES: Final = {
    "task": "with (fillfactor = 60)", "task_request": "", "answer": "", "answer_raw": "", "transfer": "", "attempt": ""
}  # fmt: skip

# Settings of our role in this database, kept there because poolers such as PgBouncer drop start-up parameters.
# enable_seqscan: statistics taken while the queue was empty cached plans that read whole tables (notes, trap 2).
# enable_sort: the same ones made claims and listings read and sort all there was, instead of following an index until
# they had enough (tests/store/test_plans.py). Where nothing else is possible it is sorted all the same.
# The others end sessions whose client is gone without a word, and with them their locks. None is about a statement.
_ROLE_SETTINGS: Final = {
    "enable_seqscan": "off",
    "enable_sort": "off",
    "jit": "off",
    "timezone": "UTC",
    "idle_in_transaction_session_timeout": f"{DATABASE_CLIENT_SILENT_SECONDS}s",
    "tcp_keepalives_idle": f"{DATABASE_CLIENT_SILENT_SECONDS // 4}",
    "tcp_keepalives_interval": f"{DATABASE_CLIENT_SILENT_SECONDS // 4}",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": f"{DATABASE_CLIENT_SILENT_SECONDS}s",
}


def migrations() -> Sequence[tuple[int, str, str]]:
    """Every migration this restante knows: number, name and SQL, in their order."""
    found = files("restante.store").joinpath("migrations").iterdir()
    return sorted((int(path.name[:4]), path.name, path.read_text()) for path in found if path.name.endswith(".sql"))


class Living(NamedTuple):
    """Processes with a lease on the database: in words, and how long the last of them lasts."""

    said: str
    seconds: float


async def migrate(connection: Any) -> Living | None:
    """Migrate, unless other processes live, which are then returned."""
    known = migrations()
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


async def _living(connection: Any) -> Living | None:
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
    return Living(f"{number}: {names}.", max(row["seconds"] for row in found))


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


async def prepare_day(connection: Any, day: date) -> None:
    """Make a day's partition of every daily table that lacks it."""
    # Day by day: all at once would need more locks than a default server has (notes, trap 8). Made standalone and then
    # attached, which waits for no reader or writer of the parent, as CREATE ... PARTITION OF would.
    # All tables are looked for: a process of an older restante may have made the day without the newest.
    if not await _missing(connection, day):
        return
    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
        for table in await _missing(connection, day):
            name = f"{table}_{day:%Y%m%d}"
            await connection.execute(f"create table {name} (like {table} including all) {DAILY_TABLES[table]}")
            bounds = f"from ('{day}') to ('{day + timedelta(days=1)}')"
            if (
                table == "transfer"
            ):  # attaching gives a partition the triggers of rows, not this one (docs/invariants, I5)
                await connection.execute(
                    f"create trigger transfer_is_kept before truncate on {name} execute function refuse_change()"
                )
            await connection.execute(f"alter table {table} attach partition {name} for values {bounds}")


async def _missing(connection: Any, day: date) -> list[str]:
    """The daily tables that have no partition of this day. Looked up in the catalogue as it is now: to_regclass keeps
    in mind, for this session, that a name was free before it waited for the lock."""
    names = {f"{table}_{day:%Y%m%d}": table for table in DAILY_TABLES}
    rows = await connection.fetch(
        "select relname from pg_class where relname = any ($1) and pg_table_is_visible(oid)", list(names)
    )
    there = {row["relname"] for row in rows}
    return [table for name, table in names.items() if name not in there]
