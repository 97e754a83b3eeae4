"""Who PostgreSQL runs as. It refuses to run as root, so root needs somebody else, who must reach its files.

Nothing is computed from permission bits: each way is tried on a harmless program, and the kernel's answer counts
(access lists, capabilities, containers and mount options are all in it). In the order tried:

    self             we are not root: as ourselves
    user             as a service user with no privileges at all
    dac_read_search  the same user, plus the capability to read any file: a parent directory is closed to it
    dac_override     the same, where the former capability is missing (containers): may read and write any file
    unshare          in a user namespace: root's files, no capabilities; `daemon` inside
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from restante.core.errors import OperatorError

Argv = Sequence["str | Path"]
Kind = Literal["self", "user", "dac_read_search", "dac_override", "unshare"]

SERVICE_USER = "restante"  # runs the server when root starts it, if the system has such a user
# Otherwise an id that belongs to nobody, unlike `nobody`, whom other daemons share. The number is ours: above the
# ids that distributions and people hand out, and inside the 65,536 that a rootless container may use.
FIRST_SERVICE_ID = 54_329
INSIDE_NAMESPACE_ID = 1  # `daemon`: has a name everywhere, and is not 65534, as which every stranger appears


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the operating system, with or without a name."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Way:
    """A way to run PostgreSQL's programs that was tried and works."""

    kind: Kind
    owner: Account  # of PostgreSQL's files

    def run(self, argv: Argv, account: Account | None = None, *, text: str = "", keep: int | None = None) -> str:
        """Run a program to its end with `text` on its standard input, as `owner` or another account.

        It gets the descriptor `keep`, and no other of ours. Returns what it wrote. Raises
        `subprocess.CalledProcessError` (its `output` is what the program wrote) and, when the program cannot even be
        started, `OSError`.
        """
        command, options = self._command(argv, account or self.owner)
        done: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603 (no shell; every argument is ours)
            command,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=_environment(),
            cwd="/",
            umask=0o077,
            check=True,
            pass_fds=() if keep is None else (keep,),
            **options,
        )
        return done.stdout

    def spawn(self, argv: Argv, output: int) -> subprocess.Popen[bytes]:
        """Start a program that outlives us and our terminal's Ctrl-C; it writes to the descriptor `output`.

        It gets no other descriptor of ours: `close_fds`, said aloud because a lock inherited is a lock kept for ever.
        """
        command, options = self._command(argv, self.owner)
        return subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment(),
            cwd="/",
            umask=0o077,
            start_new_session=True,
            close_fds=True,
            **options,
        )

    def works(self, argv: Argv) -> bool:
        try:
            self.run(argv)
        except (OSError, subprocess.CalledProcessError):
            return False
        return True

    def initdb_account(self) -> Account:
        """initdb insists on a user with a name (postgres does not): the owner, else `nobody`, else anybody but root."""
        if self.kind in ("self", "unshare") or user_name(self.owner.uid):
            return self.owner
        named = sorted(pwd.getpwall(), key=lambda user: user.pw_name != "nobody")
        for user in named:
            if user.pw_uid != 0:
                return Account(user.pw_uid, user.pw_gid)
        raise OperatorError(
            "PostgreSQL cannot be set up by root: this system has no user but root.",
            "Run restante as an ordinary user, or set RESTANTE_DATABASE_URL to a PostgreSQL of your own.",
        )

    def clients(self) -> list[str]:
        """The system's names for those who may connect: us, the owner of the files, and root (who may anyway)."""
        us = INSIDE_NAMESPACE_ID if self.kind == "unshare" else os.geteuid()
        return sorted({name for uid in (us, self.owner.uid, 0) if (name := user_name(uid))})

    def _command(self, argv: Argv, account: Account) -> tuple[list[str | Path], dict[str, Any]]:
        match self.kind:
            case "self":
                return [*argv], {}
            case "user":
                return [*argv], {"user": account.uid, "group": account.gid, "extra_groups": []}
            case "unshare":
                inside = str(INSIDE_NAMESPACE_ID)
                return ["unshare", "--user", f"--map-user={inside}", f"--map-group={inside}", *argv], {}
            case capability:
                only = f"-all,+{capability}"
                # access(2) ignores ambient capabilities of a user other than root, and initdb asks access(2):
                # no_setuid_fixup makes them count.
                return [
                    *("setpriv", "--reuid", str(account.uid), "--regid", str(account.gid), "--clear-groups"),
                    *("--inh-caps", only, "--ambient-caps", only, "--bounding-set", only),
                    *("--no-new-privs", "--securebits=+no_setuid_fixup", *argv),
                ], {}


def find_way(data_dir: Path, cluster: Path) -> Way:
    """The first way by which the server reaches `data_dir`. Raises `OperatorError` if there is none."""
    for way in _ways(cluster):
        if way.works(["test", "-x", data_dir]):
            return way
    raise OperatorError(
        f"PostgreSQL does not run as root, and no other user can get to {data_dir}.",
        "Set RESTANTE_DATA_DIR to a directory that others can walk to, such as /var/lib/restante, "
        "or run restante as an ordinary user, or set RESTANTE_DATABASE_URL.",
    )


def user_name(uid: int) -> str:
    """The name of a user id, "" if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def owner_of(path: Path) -> Account | None:
    """Who owns `path`; None if there is nothing."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return Account(status.st_uid, status.st_gid)


def _ways(cluster: Path) -> Iterator[Way]:
    us = Account(os.geteuid(), os.getegid())
    existing = owner_of(cluster)
    if us.uid != 0:
        if existing and existing.uid != us.uid:
            raise OperatorError(
                f"The database in {cluster} belongs to user {user_name(existing.uid) or existing.uid}, "
                f"not to {user_name(us.uid) or us.uid}.",
                "Run restante as that user, or set RESTANTE_DATA_DIR to a directory of your own.",
            )
        yield Way("self", us)
        return
    service = existing or _service_account()
    if service.uid != 0:
        yield Way("user", service)
        yield Way("dac_read_search", service)
        yield Way("dac_override", service)
    # In the namespace, root's files are the server's own: for a cluster that is root's, or is not there yet.
    if (existing is None or existing.uid == 0) and user_name(INSIDE_NAMESPACE_ID):
        yield Way("unshare", us)


def _service_account() -> Account:
    try:
        user = pwd.getpwnam(SERVICE_USER)
    except KeyError:
        taken = {user.pw_uid for user in pwd.getpwall()} | {group.gr_gid for group in grp.getgrall()}
        free = FIRST_SERVICE_ID
        while free in taken:
            free += 1
        return Account(free, free)
    return Account(user.pw_uid, user.pw_gid)


def _environment() -> dict[str, str]:
    """Nothing of ours reaches the server: PG* variables and locales would change what it does."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def give(path: Path, owner: Account) -> None:
    """Make `path` belong to `owner`; only root ever has to."""
    if owner_of(path) != owner and os.geteuid() == 0:
        os.chown(path, owner.uid, owner.gid, follow_symlinks=False)


def give_tree(path: Path, owner: Account) -> None:
    """Make a directory and all in it belong to `owner`."""
    if os.geteuid() == 0:
        for _, directories, files, descriptor in os.fwalk(path):
            for name in (*directories, *files):
                os.chown(name, owner.uid, owner.gid, dir_fd=descriptor, follow_symlinks=False)
        give(path, owner)


@contextlib.contextmanager
def open_directory(path: Path) -> Iterator[int]:
    """A descriptor for names inside `path`, which is not a link.

    Root works here in directories of a user with less power: a link which that user planted must not lead it away.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def replace_file(directory: int, name: str, content: str, owner: Account) -> None:
    """Write a file of `owner`'s (0600) under a temporary name and move it into place."""
    fresh = f"{name}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh, dir_fd=directory)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
        if os.geteuid() == 0:
            os.fchown(descriptor, owner.uid, owner.gid)
        file.write(content)
    os.rename(fresh, name, src_dir_fd=directory, dst_dir_fd=directory)
