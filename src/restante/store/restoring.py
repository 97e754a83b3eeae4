"""Restoring: a backup becomes the embedded database of a data directory that has none, on this machine or another.

Everything is refused before anything is written; what is written has another name until all of it is there, under which
no server starts (embedded_cluster.refuse_half_restored).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from restante.core.errors import OperatorError
from restante.store.base_backup import (
    FORMAT,
    LABEL,
    POSTGRES,
    Label,
    Programs,
    sync_directory,
    verify,
)
from restante.store.embedded_cluster import MAJOR, RESTORING, installed_programs
from restante.store.embedded_postgres import EmbeddedPostgres
from restante.store.schema import migrations
from restante.store.service_user import give_tree, open_directory


def read_label(backup: Path) -> Label:
    """What a backup says of itself. Raises OperatorError when it is none, or not a whole one."""
    if not backup.is_dir():
        raise OperatorError(f"{backup} is not a directory, as a backup of restante is.")
    try:
        return msgspec.json.decode((backup / LABEL).read_bytes(), type=Label)
    except FileNotFoundError:
        unfinished = backup.name.endswith(".partial") or (backup / POSTGRES).exists()
        raise OperatorError(
            f"The backup in {backup} was never finished: its {LABEL} is missing."
            if unfinished
            else f"{backup} is not a backup of restante: there is no {LABEL} in it.",
            "Take another backup." if unfinished else "",
        ) from None
    except msgspec.DecodeError as error:
        raise OperatorError(
            f"The backup in {backup} is damaged: its {LABEL} cannot be read ({error}).", "Take another backup."
        ) from None
    except OSError as error:
        raise OperatorError(f"The backup in {backup} cannot be read: {error}.", "Check who may read it.") from None


async def restore(
    backup: Path, data_dir: Path, progress: Callable[[int, int], None] = lambda done, whole: None
) -> Label:
    """Make the backup the database of `data_dir`, started by nobody yet. `progress` hears kilobytes.

    Raises OperatorError when the backup is none, damaged, of another PostgreSQL or a newer restante, or when there is a
    database already.
    """
    label = read_label(backup)
    _refuse_other(backup, label)
    for name in label.files:
        _refuse_changed(backup, label, name)
    with _explained(data_dir):
        await verify(backup, Programs(installed_programs(), int(MAJOR)), label.postgres)
        with EmbeddedPostgres(data_dir).alone() as (home, way):
            _refuse_taken(home, label)
            fresh = home / RESTORING
            _make_empty(fresh)
            for done, whole in _copied(backup / POSTGRES, fresh):
                progress(done, whole)
                await asyncio.sleep(0)  # it may be cancelled between two files
            (fresh / "backup_manifest").unlink()  # of the backup; this is a database
            give_tree(fresh, way.owner)
            for name in label.files:
                _place(backup / name, data_dir / name)
            os.sync()  # a power cut must not leave half of it under the name of all
            fresh.rename(home / MAJOR)
            sync_directory(home)
            sync_directory(data_dir)
    return label


@contextlib.contextmanager
def _explained(data_dir: Path) -> Iterator[None]:
    """What cannot be written is said in words; a half restored database stays, and is refused at the next start."""
    try:
        yield
    except OSError as error:
        raise OperatorError(
            f"The backup could not be restored into {data_dir}: {error}.",
            "Mend that, and run `restante restore` again; what is half there is replaced.",
        ) from error


def _refuse_other(backup: Path, label: Label) -> None:
    if label.format != FORMAT:
        raise OperatorError(
            f"The backup in {backup} is of restante {label.restante}, which writes them in another way.",
            "Restore it with that version, then upgrade.",
        )
    if not label.embedded:
        raise OperatorError(
            f"The backup in {backup} is of a PostgreSQL {label.postgres} of your own, which restante does not run.",
            f"{backup / POSTGRES} is a data directory for it: stop that server, put a copy in the place of its own,"
            " owned by its user, and start it. Then start restante.",
        )
    if label.postgres != int(MAJOR):
        raise OperatorError(
            f"The backup in {backup} is of PostgreSQL {label.postgres}; this restante brings PostgreSQL {MAJOR}.",
            f"Install restante {label.restante}, which made it.",
        )
    known = migrations()[-1][0]
    if label.migration > known:
        raise OperatorError(
            f"The backup in {backup} is at migration {label.migration}, this restante knows only {known}.",
            f"Install restante {label.restante}, which made it, or a newer one.",
        )


def _refuse_changed(backup: Path, label: Label, name: str) -> None:
    path = backup / name
    if Path(name).name != name or not path.is_file() or path.is_symlink():
        raise OperatorError(f"The backup in {backup} is damaged: {name} is missing.", "Take another backup.")
    if hashlib.sha256(path.read_bytes()).hexdigest() != label.files[name]:
        raise OperatorError(f"The backup in {backup} is damaged: {name} was changed.", "Take another backup.")


def _refuse_taken(home: Path, label: Label) -> None:
    taken = [path for path in home.iterdir() if path.name.split(".")[0].isdecimal() and path.name != RESTORING]
    if not (home / RESTORING).exists():
        taken += [path for name in label.files if (path := home.parent / name).exists()]
    if taken:
        raise OperatorError(
            f"{taken[0]} exists already, and nothing is overwritten.",
            "Set RESTANTE_DATA_DIR to an empty directory, or move the old database away.",
        )


def _make_empty(directory: Path) -> None:
    """Ours and closed, with nothing in it. One that is there is not removed: while it was away, a start would take what
    a restore left for nothing at all, and make an empty database."""
    directory.mkdir(0o700, exist_ok=True)
    with open_directory(directory) as descriptor:
        os.fchown(descriptor, os.geteuid(), os.getegid())
        os.fchmod(descriptor, 0o700)
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _copied(source: Path, to: Path) -> Iterator[tuple[int, int]]:
    """Copy regular files and directories, closed to all others; a link in a backup is no part of one. How many of how
    many kilobytes, after each file."""
    entries = [source, *sorted(source.rglob("*"))]
    for path in entries:
        mode = path.lstat().st_mode
        if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
            raise OperatorError(f"The backup is damaged: {path} is neither a file nor a directory.")
    whole, done = sum(path.lstat().st_size for path in entries) >> 10, 0
    for path in entries:
        place = to / path.relative_to(source)
        if path.is_dir():
            place.mkdir(0o700, exist_ok=path == source)
            continue
        with path.open("rb") as old, open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as new:  # noqa: PTH123
            shutil.copyfileobj(old, new, 1 << 20)
            done += new.tell()
        yield done >> 10, whole


def _place(source: Path, to: Path) -> None:
    to.unlink(missing_ok=True)  # of a restore that was interrupted
    with open(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
        file.write(source.read_bytes())
