"""Backups: PostgreSQL's files, copied while it works, and what lies beside the database.

    BACKUP/                    0700; made as BACKUP.partial, renamed when all of it is there, checked and on the disk
        restante-backup.json   what it is (`Label`); the last file that is written
        postgres/              as pg_basebackup wrote it, with the WAL of that time and its manifest of checksums
        operator-password      where the data directory has it

pg_basebackup holds no old snapshot, so that claims and listings stay fast beside it (design, Data 10). What it brings
is the database at the end of the copying, not at its beginning.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import msgspec

from restante import __version__
from restante.core.errors import OperatorError
from restante.core.limits import BACKUP_NICENESS, BACKUP_REPLY_BYTES
from restante.store.database import Session
from restante.store.embedded_cluster import installed_programs

FORMAT: Final = 1
LABEL: Final = "restante-backup.json"
POSTGRES: Final = "postgres"
# Variables that our own connections heed too (asyncpg): without them another server's certificate would do.
_CONNECTING: Final = re.compile(r"PG(SSL\w+|PASSWORD|PASSFILE|SERVICE|SERVICEFILE|TARGETSESSIONATTRS)")
_PROGRESS: Final = re.compile(rb"(\d+)/(\d+) kB")

# Runs a program that ends with us, however we end. pg_basebackup does not: a child of its own receives WAL for ever.
# What it writes is its user's alone.
_LEASH: Final = """
import os, signal, subprocess, sys, threading
os.umask(0o077)
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
def follow():
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=follow, daemon=True).start()
code = child.wait()
os._exit(code if code >= 0 else 1)
"""

#: Hears how many of how many kilobytes are copied.
Progress = Callable[[int, int], None]


class Label(msgspec.Struct, frozen=True):
    """What a backup is. `wal_end`: whatever PostgreSQL committed before this place is in it; `files`: those beside the
    database, and the SHA-256 of each; `left_out`: what a new machine needs beside it, in words."""

    format: int
    restante: str
    postgres: int
    embedded: bool
    migration: int
    begun_at: datetime
    ended_at: datetime
    wal_end: str
    files: dict[str, str]
    left_out: list[str]


class Facts(msgspec.Struct, frozen=True):
    """Of a server that is to be copied. `size` in bytes, of the databases that we may look into."""

    postgres: int
    migration: int
    tablespaces: int
    size: int


class Programs(msgspec.Struct, frozen=True):
    """Where pg_basebackup and pg_verifybackup are, and of which PostgreSQL."""

    directory: Path
    major: int


async def facts(db: Session) -> Facts:
    """What a backup has to know of the server. Raises OperatorError when restante was never started on it."""
    if not await db.value("is_installed"):
        raise OperatorError("There is no restante in this database yet: nothing to copy.", "Start it: `restante up`.")
    row = await db.row("backup_facts")
    assert row is not None
    return Facts(*row.values())


def find_programs(server: int, *, embedded: bool) -> Programs:
    """The programs that can copy a server of this major version: with the embedded one its own, else those of its
    version, or newer ones. Raises OperatorError when there are none."""
    if embedded:
        return Programs(installed_programs(), server)
    places = [Path(found).parent for name in ("pg_basebackup",) if (found := shutil.which(name))]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    with contextlib.suppress(OperatorError):
        places.append(installed_programs())
    found_here = [Programs(place, major) for place in places if (major := _major(place)) is not None]
    able = sorted((one for one in found_here if one.major >= server), key=lambda one: one.major)
    if not able:
        raise OperatorError(
            f"There is no pg_basebackup here that can copy a PostgreSQL {server}.",
            f"Install the client programs of PostgreSQL {server} (postgresql-client-{server}, postgresql-{server}), or"
            " let your own backup of that PostgreSQL do it (pg_basebackup, pgBackRest, your provider's snapshots).",
        )
    return able[0]


def _major(directory: Path) -> int | None:
    """Of the programs in a directory; None where one of the two is missing."""
    if not (directory / "pg_verifybackup").exists():
        return None
    try:
        said = subprocess.run(  # noqa: S603
            [directory / "pg_basebackup", "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"\) (\d+)", said)
    return int(found[1]) if found else None


def refuse_target(target: Path, needed: int, reserve: int = 0) -> Path:
    """Where the backup is to be made; nothing is overwritten. `reserve`: bytes that stay free beside those needed.
    Raises OperatorError when it cannot be."""
    partial = target.with_name(f"{target.name}.partial")
    if not target.parent.is_dir():
        raise OperatorError(f"There is no directory {target.parent}.", "Make it, or name another place.")
    if target.exists() or target.is_symlink():
        raise OperatorError(f"{target} exists already, and nothing is overwritten.", "Name another place.")
    if partial.exists() or partial.is_symlink():
        raise OperatorError(
            f"{partial} exists: another backup is being made there, or one was interrupted.",
            "Wait for it, or remove it.",
        )
    free = shutil.disk_usage(target.parent).free
    if free < needed + reserve:
        beside = f", and {reserve >> 20:,} are kept in reserve (RESTANTE_DISK_RESERVE)" if reserve else ""
        raise OperatorError(
            f"{target.parent} has not room enough: {free >> 20:,} MiB are free, some {needed >> 20:,} are needed"
            f"{beside}.",
            "Free some, or name a place on another disk.",
        )
    return partial


async def back_up(
    dsn: str,
    target: Path,
    found: Facts,
    programs: Programs,
    *,
    embedded: bool,
    beside: Sequence[Path] = (),
    left_out: Sequence[str] = (),
    reserve: int = 0,
    most_kilobytes: int | None = None,
    progress: Progress = lambda done, whole: None,
) -> Label:
    """Copy the server and the files `beside` to `target`, check the copy, and only then give it its name.

    `reserve`: bytes that it leaves free. `most_kilobytes`: a second, of copying; None: as fast as it goes. Raises
    OperatorError, with what PostgreSQL's program said; then, and when it is cancelled, nothing is left.
    """
    if found.tablespaces:
        raise OperatorError(
            "This PostgreSQL has tablespaces, which restante's backup does not copy.",
            "Use a backup of your own that knows them (pg_basebackup with --tablespace-mapping, pgBackRest).",
        )
    partial = refuse_target(target, found.size, reserve)
    begun_at = datetime.now(UTC)
    try:
        partial.mkdir(0o700)
    except OSError as error:  # nor is it ours to remove: another backup was faster
        raise OperatorError(f"The backup cannot be made in {partial}: {error}.") from error
    try:
        await _copy(dsn, partial / POSTGRES, programs, most_kilobytes, progress)
        ended_at = datetime.now(UTC)
        await verify(partial, programs, found.postgres)
        label = Label(
            FORMAT,
            __version__,
            found.postgres,
            embedded,
            found.migration,
            begun_at,
            ended_at,
            _wal_end(partial / POSTGRES),
            {path.name: _keep(path, partial / path.name) for path in beside if path.exists()},
            list(left_out),
        )
        _write(partial / LABEL, msgspec.json.format(msgspec.json.encode(label), indent=2) + b"\n")
        sync_directory(partial)
        partial.rename(target)
    except OSError as error:
        raise OperatorError(f"The backup cannot be written to {partial}: {error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # gone already when all went well
    sync_directory(target.parent)
    return label


async def verify(backup: Path, programs: Programs, server: int) -> None:
    """Compare every file with its checksum in the manifest, and read the WAL. Raises OperatorError when one differs."""
    # A program reads the WAL of its own version only.
    options = [] if programs.major == server else ["--no-parse-wal"]
    verify: list[str | Path] = [programs.directory / "pg_verifybackup", "--exit-on-error"]
    command = [*verify, *options, backup / POSTGRES]
    async with _running(command, {}) as process:
        assert process.stdout is not None
        said = await process.stdout.read()
        await process.wait()
    if process.returncode != 0:
        raise OperatorError(
            f"The backup in {backup} is damaged: {_last_words(said)}", "Take another one, or another backup."
        )


async def _copy(dsn: str, to: Path, programs: Programs, most: int | None, progress: Progress) -> None:
    address, secret = _without_password(dsn)
    command: list[str | Path] = [
        *(programs.directory / "pg_basebackup", "--pgdata", to, "--dbname", address, "--no-password"),
        *("--wal-method=stream", "--checkpoint=fast", "--progress", "--label=restante"),
        *(() if most is None else (f"--max-rate={most}",)),
    ]
    async with _running(command, secret, leashed=True) as process:
        assert process.stdout is not None
        said = b""
        while chunk := await process.stdout.read(4_096):
            said = (said + chunk)[-BACKUP_REPLY_BYTES:]
            if places := _PROGRESS.findall(chunk):
                progress(*map(int, places[-1]))
        await process.wait()
    if process.returncode != 0:
        raise OperatorError(
            f"PostgreSQL could not be copied: {_last_words(said)}",
            ""
            if "host=%2F" in address
            else "Its role needs REPLICATION, and pg_hba.conf a line for the database `replication`.",
        )


@contextlib.asynccontextmanager
async def _running(
    command: Sequence[str | Path], secret: dict[str, str], *, leashed: bool = False
) -> AsyncIterator[Process]:
    """A program of PostgreSQL's, with less right to the processor than those that serve; left early, it is ended.
    `leashed`: even if we are killed."""
    env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": os.environ.get("HOME", "/")}
    env |= {name: value for name, value in os.environ.items() if _CONNECTING.fullmatch(name)} | secret
    leash = (sys.executable, "-I", "-S", "-c", _LEASH) if leashed else ()
    process = await asyncio.create_subprocess_exec(
        *leash, *command, stdin=PIPE, stdout=PIPE, stderr=STDOUT, env=env, start_new_session=True
    )
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PGRP, process.pid, BACKUP_NICENESS)
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def _without_password(dsn: str) -> tuple[str, dict[str, str]]:
    """The DSN as it may stand on a command line, which everybody can read, and the rest of it. Of several hosts the one
    that takes writes, as everywhere (store/connecting.py): a standby may lack what was just accepted."""
    parts = urlsplit(dsn)
    query = dict(parse_qsl(parts.query))
    if "sslpassword" in query:
        raise OperatorError(
            "RESTANTE_DATABASE_URL has an sslpassword, which pg_basebackup takes on its command line only, where every"
            " user of this host could read it.",
            "Use a key file without one, 0600; or a backup of your own.",
        )
    password = query.pop("password", None)
    user, at, hosts = parts.netloc.rpartition("@")
    if "," in f"{hosts}{query.get('host', '')}":
        query.setdefault("target_session_attrs", "read-write")
    user, colon, quoted = user.partition(":")
    if colon:
        password = unquote(quoted)
    # PostgreSQL's programs know neither `postgresql:/x`, which urlunsplit makes of no host, nor a blank written as `+`.
    address = f"{parts.scheme}://{user}{at}{hosts}{parts.path}"
    if query:
        address += f"?{urlencode(query, quote_via=quote)}"
    return address, {} if password is None else {"PGPASSWORD": password}


def _last_words(said: bytes) -> str:
    """What a program complained of, without the progress before it."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", said.decode(errors="replace"))]
    return "; ".join(line for line in lines if line and not re.match(r"\d+/\d+ kB", line))[-1_000:]


def _wal_end(directory: Path) -> str:
    manifest = msgspec.json.decode((directory / "backup_manifest").read_bytes())
    end: str = manifest["WAL-Ranges"][-1]["End-LSN"]
    return end


def _keep(source: Path, to: Path) -> str:
    """Copy a file beside the database; its SHA-256."""
    content = source.read_bytes()
    _write(to, content)
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Have the names in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
