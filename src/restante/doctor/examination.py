"""An examination: which checks are made in which order, and what happens when one of them breaks or the database is
down."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final

import msgspec

from restante.config import Settings, load
from restante.core.errors import OperatorError
from restante.core.limits import DOCTOR_DATABASE_SECONDS
from restante.doctor import installation, machine, server
from restante.doctor.finding import Finding, Patient, fault, unknown, warning
from restante.store.database import Database
from restante.store.embedded_postgres import EmbeddedPostgres
from restante.store.errors import DatabaseLost
from restante.wiring import connected

Check = Callable[[Patient], Awaitable[list[Finding]]]

#: They need no database.
MACHINE: Final[tuple[tuple[str, Check], ...]] = (
    ("settings", machine.settings),
    ("files", machine.files),
    ("disk", machine.disk),
    ("open files", machine.open_files),
    ("prices", machine.prices),
    ("provider", machine.provider),
)
#: They need PostgreSQL to answer.
SERVER: Final[tuple[tuple[str, Check], ...]] = (
    ("server", server.version),
    ("server settings", server.settings),
    ("clock", server.clock),
    ("connections", server.connections),
    ("sessions", server.sessions),
    ("held back", server.held_back),
    ("vacuum", server.vacuum),
    ("pooler", server.pooler),
    ("schema", installation.schema),
)
#: They need our schema, as this restante knows it.
INSTALLATION: Final[tuple[tuple[str, Check], ...]] = (
    ("days", installation.days),
    ("processes", installation.processes),
    ("waiting", installation.waiting),
    ("stuck", installation.stuck),
    ("webhooks", installation.webhooks),
    ("debtors", installation.debtors),
    ("pauses", installation.pauses),
    ("standby", server.standby),
)
LEDGER: Final = ("ledger", installation.ledger)


async def examine(environ: Mapping[str, str], now: datetime, *, audit: bool = True) -> AsyncIterator[Finding]:
    """Every finding, as it is made. Nothing is changed; an embedded server that does not run is started meanwhile."""
    try:
        settings = load(environ)
    except OperatorError as error:
        yield msgspec.structs.replace(fault(error.problem, error.remedy), check="settings")
        return
    patient = Patient(settings, environ, now)
    for name, check in MACHINE:
        for finding in await _made(name, check, patient, None):
            yield finding
    async with contextlib.AsyncExitStack() as stack:
        try:
            db = await stack.enter_async_context(_joined(settings))
        except OperatorError as error:
            yield msgspec.structs.replace(fault(error.problem, error.remedy), check="database")
            for name, _ in (*SERVER, *INSTALLATION, LEDGER):
                yield msgspec.structs.replace(unknown("not looked at, for want of the database")[0], check=name)
            return
        patient = msgspec.structs.replace(patient, db=db)
        known = False
        for name, check in SERVER:
            for finding in await _made(name, check, patient, DOCTOR_DATABASE_SECONDS):
                known |= name == "schema" and finding.level == "ok"
                yield finding
        for name, check in (*INSTALLATION, *((LEDGER,) if audit else ())):
            seconds = None if (name, check) == LEDGER else DOCTOR_DATABASE_SECONDS
            found = await _made(name, check, patient, seconds) if known else unknown("not looked at: see schema")
            for finding in found:
                yield msgspec.structs.replace(finding, check=name)


@contextlib.asynccontextmanager
async def _joined(settings: Settings) -> AsyncIterator[Database]:
    if settings.database_url is None and not EmbeddedPostgres(settings.data_dir).exists:
        raise OperatorError(
            f"There is no database in {settings.data_dir}.", "`restante up` makes one; is RESTANTE_DATA_DIR right?"
        )
    async with connected(settings) as db:
        yield db


async def _made(name: str, check: Check, patient: Patient, seconds: float | None) -> list[Finding]:
    """What a check found; that it could not be made is a finding, too."""
    try:
        async with asyncio.timeout(seconds):
            found = await check(patient)
    except (DatabaseLost, TimeoutError) as error:
        said = (
            f"no answer within {seconds:.0f} s"
            if isinstance(error, TimeoutError)
            else f"the database went away: {error}"
        )
        found = [fault(said, "Look at PostgreSQL's log; run doctor again.")]
    except Exception as error:  # the others are made all the same
        found = [warning(f"the check broke: {type(error).__name__}: {error}", "Report it, please.")]
    return [msgspec.structs.replace(one, check=name) for one in found]
