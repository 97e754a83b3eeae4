"""Checks that need no database: settings, files, the disk, prices, the provider."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable
from pathlib import Path

from restante.config import Settings, variable
from restante.core.errors import OperatorError
from restante.core.limits import DOCTOR_DISK_RESERVES, DOCTOR_KEY_SECONDS, DOCTOR_PRICES_DAYS, OPEN_FILES
from restante.core.reserve import show_bytes
from restante.doctor.finding import Finding, Patient, fault, fine, unknown, warning
from restante.flow.disk import Measure, measure
from restante.operator_account import password_file
from restante.providers.provider import Keyed
from restante.store.embedded_cluster import MAJOR, RESTORING
from restante.wiring import Models, build_models

# Variables of our prefix that are no settings of a process: tests, benchmarks, the command line's own.
_OTHERS = ("RESTANTE_BENCH", "RESTANTE_TEST", "RESTANTE_URL")


async def settings(patient: Patient) -> list[Finding]:
    """Variables that look like settings and are none."""
    known = {variable(field) for field in Settings.__struct_fields__}
    strange = sorted(
        name
        for name in patient.environ
        if name.startswith("RESTANTE_") and name not in known and not name.startswith(_OTHERS)
    )
    if strange:
        return [warning(f"{', '.join(strange)}: no such setting, so it changes nothing", "See docs/settings.md.")]
    return fine("every RESTANTE_ variable is a setting")


async def files(patient: Patient) -> list[Finding]:
    """Who may read the data directory, the key file and the first password; a restore that was interrupted."""
    found = []
    home = patient.settings.data_dir / "postgres"
    embedded = patient.settings.database_url is None
    if embedded and (home / RESTORING).exists():
        found.append(fault(f"a restore into {home} was interrupted", "Run `restante restore` again."))
    elif embedded and not (home / MAJOR).exists():
        found.append(
            warning(f"there is no database in {home} yet", "`restante up` makes one; is RESTANTE_DATA_DIR right?")
        )
    private = [password_file(patient.settings), patient.settings.gemini_api_key_file]
    private += [home, home / MAJOR, home / "socket"] if embedded else []
    for path in private:
        found += [] if path is None else _closed(path)
    try:
        if embedded and stat.S_IMODE(patient.settings.data_dir.stat().st_mode) & 0o022:
            found.append(
                fault(
                    f"{patient.settings.data_dir} may be written to by others",
                    f"chmod go-w {patient.settings.data_dir}",
                )
            )
    except OSError as error:
        found.append(fault(f"the data directory cannot be looked at: {error}", "Run doctor as the user of restante."))
    return found or fine(f"{patient.settings.data_dir} is closed to others")


def _closed(path: Path) -> list[Finding]:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return []
    except OSError as error:
        return [fault(f"{path} cannot be looked at: {error}", "Run doctor as the user that restante runs as.")]
    if stat.S_IMODE(mode) & 0o077:
        return [fault(f"{path} is open to other users of this machine ({stat.filemode(mode)})", f"chmod go-rwx {path}")]
    return []


async def disk(patient: Patient, measure: Measure = measure) -> list[Finding]:
    """Room for the database, against the reserve below which no new tasks are taken."""
    path = patient.settings.watched_disk()
    if path is None:
        return unknown(
            "how full the disk of RESTANTE_DATABASE_URL is cannot be known (RESTANTE_DISK_PATH, if it is here)"
        )
    try:
        whole, free = measure(path)
    except OSError as error:
        return [warning(f"how full the disk of {path} is cannot be read: {error}", "Check RESTANTE_DISK_PATH.")]
    reserve = patient.settings.reserve().of(whole)
    said = f"{show_bytes(free)} of {show_bytes(whole)} are free on the disk of {path}"
    if free < reserve:
        return [
            fault(
                f"{said}, less than the reserve of {show_bytes(reserve)}: new tasks are refused",
                "Free some space, or lower RESTANTE_DISK_RESERVE.",
            )
        ]
    if free < DOCTOR_DISK_RESERVES * reserve:
        return [warning(f"{said}; below {show_bytes(reserve)} new tasks are refused", "Free some space, or grow it.")]
    return fine(said)


async def open_files(patient: Patient) -> list[Finding]:
    """How many sockets a worker may have."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = min(OPEN_FILES, 2 * patient.settings.concurrency + 1_000)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        return [
            warning(
                f"a process may open {hard} files; a worker of RESTANTE_CONCURRENCY={patient.settings.concurrency}"
                f" wants {wanted}",
                "Raise it: LimitNOFILE in a systemd unit, ulimit -n in a shell.",
            )
        ]
    return fine("a process may open as many files as it needs")


async def prices(patient: Patient) -> list[Finding]:
    """Whether the prices can be read, and how old the built-in ones are."""
    from restante.providers.price_list import load

    path = patient.settings.prices
    try:
        listed = load(path)
    except OperatorError as error:
        return [fault(error.problem, error.remedy)]
    if listed.as_of is not None and (patient.now.date() - listed.as_of).days > DOCTOR_PRICES_DAYS:
        return [warning(f"the prices of {path} are of {listed.as_of}", "Compare them with the provider's; set as_of.")]
    return fine("the built-in prices" if path is None else f"the prices of {path}, of {listed.as_of}")


async def provider(patient: Patient, build: Callable[[Settings], Models] = build_models) -> list[Finding]:
    """Whether there is a model to answer, and whether its provider takes each key. What it asks is unpaid."""
    try:
        models = build(patient.settings)
    except OperatorError as error:
        return [fault(error.problem, error.remedy)]
    try:
        found = [finding for one in models.providers if isinstance(one, Keyed) for finding in await _keys(one)]
    finally:
        await models.close()
    return found or fine(f"{', '.join(models.names)}")


async def _keys(provider: Keyed) -> list[Finding]:
    try:
        projects = provider.projects()
    except OperatorError as error:
        return [fault(f"{provider.name}: {error.problem}", error.remedy)]
    found = []
    for project in projects:
        name = f"the key of {provider.name}" + (f" (project {project})" if project else "")
        try:
            async with asyncio.timeout(DOCTOR_KEY_SECONDS):
                failure = await provider.probe(project)
        except TimeoutError:
            found.append(_away(name, "no answer"))
            continue
        if failure is None:
            found += fine(f"{name} is taken")
        elif failure.doubts_key:
            found.append(
                fault(f"{name} is rejected", "Put a good one where it comes from; in a file it needs no restart.")
            )
        else:
            found.append(_away(name, failure.reason))
    return found


def _away(name: str, why: str) -> Finding:
    return warning(
        f"whether {name} is good cannot be told: {why}",
        "Check the way out: DNS, firewall, RESTANTE_EGRESS_PROXY, RESTANTE_CA_BUNDLE.",
    )
