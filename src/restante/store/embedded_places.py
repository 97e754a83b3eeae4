"""Where the embedded PostgreSQL's files and its socket are: made, or refused when they are not ours alone."""

from __future__ import annotations

import os
import stat
from hashlib import blake2b
from pathlib import Path
from typing import Final

from restante.core.errors import OperatorError
from restante.core.limits import POSTGRES_SOCKET_PATH_BYTES as SOCKET_PATH_BYTES
from restante.store.service_user import Account, give

SOCKET_NAME: Final = ".s.PGSQL.5432"  # the port is a part of the name; nothing listens on the network


def make_data_directory(path: Path) -> None:
    """Create the directory if need be. The server's user must walk through root's; nothing above it is touched."""
    mode = 0o711 if os.geteuid() == 0 else 0o700
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode)
    except FileExistsError:
        status = path.stat()
        if os.geteuid() == 0 == status.st_uid and ((path / "postgres").is_dir() or not any(path.iterdir())):
            path.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXOTH)
    else:
        path.chmod(mode)  # whatever the umask


def socket_directory(home: Path, owner: Account) -> Path:
    """Where the socket is: beside the cluster, or in /tmp if that path is too long (or has asyncpg's separator)."""
    beside = home / "socket"
    if len(os.fsencode(beside / SOCKET_NAME)) <= SOCKET_PATH_BYTES and "," not in str(beside):
        return beside
    digest = blake2b(os.fsencode(home.parent), digest_size=8).hexdigest()
    # Not tempfile's choice: every process must find the same directory, whatever its TMPDIR.
    return Path(f"/tmp/restante-{owner.uid}-{digest}")  # noqa: S108 (checked below: ours alone)


def make_socket_directory(path: Path, owner: Account) -> None:
    """Create it, or refuse one that somebody else could have prepared for us."""
    try:
        path.mkdir(0o700)
    except FileExistsError:
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner.uid or status.st_mode & 0o077:
            raise OperatorError(
                f"{path} must be a directory of user id {owner.uid} that is closed to all others (mode 700).",
                "Remove it, or set RESTANTE_DATA_DIR to a directory with a shorter path.",
            ) from None
    else:
        give(path, owner)
