"""The PostgreSQL that comes with restante: started by the first process that needs it, stopped by the last.

    $RESTANTE_DATA_DIR/postgres/    0700, of the user the server runs as (service_user.py)
        18/                         the cluster; settings of ours in 18/restante.conf, written anew at each start
        18.new/                     a cluster being made; a kill leaves it, the next start deletes it
        socket/                     0700; a path too long for a socket moves it to /tmp
        start.lock                  held exclusively by whoever starts or stops the server
        users.lock                  held shared by every process that uses the server
        start.log                   what the last start said until the server opened its own log, 18/log/
        bin-18.6.3/                 a copy of the programs, where the server cannot read the installed ones

The kernel drops both locks when a process dies, however it dies: nobody is ever waited for in vain. The running
server is known by its command line, not by the pid in postmaster.pid: that may be a zombie's or somebody else's.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Self
from urllib.parse import quote

from restante.core.errors import OperatorError
from restante.core.limits import POSTGRES_FULL_BYTES as FULL_BYTES
from restante.core.limits import POSTGRES_POLL_SECONDS as POLL_SECONDS
from restante.core.limits import POSTGRES_PROBE_SECONDS as PROBE_SECONDS
from restante.core.limits import POSTGRES_REPORT_SECONDS as REPORT_SECONDS
from restante.core.limits import POSTGRES_RETRIES as RETRIES
from restante.core.limits import POSTGRES_RETRY_SECONDS as RETRY_SECONDS
from restante.core.limits import POSTGRES_UNREACHABLE_SECONDS as UNREACHABLE_SECONDS
from restante.store.embedded_cluster import (
    MAJOR,
    create_cluster,
    find_programs,
    refuse_half_restored,
    refuse_other_major,
    write_configuration,
)
from restante.store.embedded_places import (
    SOCKET_NAME,
    make_data_directory,
    make_socket_directory,
    socket_directory,
)
from restante.store.process_table import children, command_line, exists, is_server_child, stopped
from restante.store.service_user import Way, find_way, give, open_directory, replace_file, user_name

Report = Callable[[str], None]


def silent(_: str) -> None:
    """A `Report` for nobody."""


class Probe(Enum):
    """What a connection attempt met."""

    READY = "accepts connections"
    STARTING = "is starting, recovering or shutting down"
    FOREIGN = "does not know us"
    SILENT = "does not answer"


class EmbeddedPostgres:
    """One process's use of the server in `data_dir`. Each process makes its own: a fork shares its parent's lock."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.expanduser().resolve()
        self._home = self._data_dir / "postgres"
        self._cluster = self._home / MAJOR
        self._way: Way | None = None
        self._users_lock: int | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def dsn(self) -> str:
        """For `asyncpg.connect`; known once `start` has returned."""
        return f"postgresql://restante@/restante?host={quote(str(self._socket.parent), safe='')}&port=5432"

    def start(self, report: Report = silent) -> None:
        """Join the server, or start it, and return when it accepts connections.

        Recovery after a crash takes as long as it takes; `report` hears about every wait longer than a second.
        Raises `OperatorError`.
        """
        if self._users_lock is not None:
            raise RuntimeError("this EmbeddedPostgres is started already")
        with self._explained():
            self._make_directories()
            with self._start_lock(report) as lock:
                self._way = find_way(self._data_dir, self._cluster)
                give(self._home, self._way.owner)
                give(self._home / "start.lock", self._way.owner)
                self._users_lock = _open_lock(self._home / "users.lock")
                give(self._home / "users.lock", self._way.owner)
                fcntl.flock(self._users_lock, fcntl.LOCK_SH)
                try:
                    self._bring_up(self._way, lock, report)
                except BaseException:
                    self._leave(self._users_lock)
                    raise

    def stop(self) -> None:
        """Leave. The last one out stops the server and waits until it is gone. Does nothing if not started."""
        if self._users_lock is not None:
            with self._explained(), self._start_lock(silent):
                self._leave(self._users_lock)

    def ensure_running(self, report: Report = silent) -> bool:
        """Start the server again if it died while in use; call it when a connection is lost. Says whether it did.

        Any number of processes may call it at once: the first one acts, the others find it done.
        """
        if self._users_lock is None or self._way is None:
            raise RuntimeError("this EmbeddedPostgres is not started")
        with self._explained(), self._start_lock(report) as lock:
            still_ours = (
                self._users_lock is not None
            )  # else we left while waiting for the lock: no server without a user
            return still_ours and self._bring_up(self._way, lock, report)

    @property
    def exists(self) -> bool:
        """Whether there is a database here, running or not."""
        return self._cluster.exists()

    @contextlib.contextmanager
    def alone(self) -> Iterator[tuple[Path, Way]]:
        """Nobody else starts or uses a server here during the block, which gets the directory that clusters are in and
        the way to run programs on them. Raises OperatorError when somebody uses it now."""
        with self._explained():
            self._make_directories()
            with self._start_lock(silent):
                way = find_way(self._data_dir, self._cluster)
                give(self._home, way.owner)
                give(self._home / "start.lock", way.owner)
                users = _open_lock(self._home / "users.lock")
                try:
                    give(self._home / "users.lock", way.owner)
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise OperatorError(
                        f"The PostgreSQL in {self._home} is in use.", "Stop the restante processes that use it."
                    ) from None
                else:
                    yield self._home, way
                finally:
                    os.close(users)

    @property
    def _socket(self) -> Path:
        if self._way is None:
            raise RuntimeError("this EmbeddedPostgres is not started")
        return socket_directory(self._home, self._way.owner) / SOCKET_NAME

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise OperatorError(
                f"The embedded PostgreSQL in {self._home} cannot be used: {error}.",
                "Free some space on that disk."
                if full
                else "Set RESTANTE_DATA_DIR to a local directory that you may write to, or set RESTANTE_DATABASE_URL.",
            ) from error

    def _make_directories(self) -> None:
        if not user_name(os.geteuid()):
            raise OperatorError(
                f"The embedded PostgreSQL knows its users by name, and user id {os.geteuid()} has none here.",
                "Give the id a name (a line in /etc/passwd), or set RESTANTE_DATABASE_URL.",
            )
        make_data_directory(self._data_dir)
        with contextlib.suppress(FileExistsError):
            self._home.mkdir(0o700)

    @contextlib.contextmanager
    def _start_lock(self, report: Report) -> Iterator[int]:
        """Be the only one who starts or stops the server. Whoever holds the lock lives, so the wait has no limit: of
        one that is frozen (SIGSTOP, a paused container) nobody knows how far it came. Its pid is in the file."""
        descriptor = _open_lock(self._home / "start.lock")
        try:
            patience = _Patience(report)
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    patience.pause(
                        f"Another restante process ({_holder(descriptor)}) is starting or stopping PostgreSQL"
                    )
            with contextlib.suppress(OSError):  # a full disk keeps nobody from a server that runs
                os.pwrite(descriptor, b"%-20d" % os.getpid(), 0)
            yield descriptor
        finally:
            os.close(descriptor)

    def _bring_up(self, way: Way, lock: int, report: Report) -> bool:
        """With start.lock held: return once the server accepts connections, starting it if there is none. Says whether
        it was started."""
        make_socket_directory(self._socket.parent, way.owner)
        patience, heard, failures = _Patience(report), time.monotonic(), 0
        child: subprocess.Popen[bytes] | None = None
        try:
            while (state := probe(self._socket)) is not Probe.READY:
                if state is Probe.FOREIGN:
                    raise OperatorError(
                        f"The PostgreSQL in {self._home} was started by another user and does not let us in.",
                        "Stop the restante processes that use it, or set RESTANTE_DATA_DIR to another directory.",
                    )
                if child is not None and child.returncode is not None:
                    failures += 1
                    self._judge_failed_start(failures)
                    child = None
                elif child is None and state is Probe.SILENT and self._server() is None:
                    child, patience = self._spawn(way, lock, report), _Patience(report)
                elif child is not None or state is Probe.STARTING:
                    heard = time.monotonic()
                elif time.monotonic() - heard > UNREACHABLE_SECONDS:
                    raise OperatorError(
                        f"PostgreSQL runs in {self._home}, but its socket {self._socket} does not answer.",
                        "Stop the restante processes that use it, end that PostgreSQL (SIGINT), and try again.",
                    )
                recovering = "recovering after an unclean stop" if state is Probe.STARTING else "starting"
                patience.pause(f"PostgreSQL is {recovering}")
            return child is not None
        except BaseException:
            # Only we know our child: it may not have written its pid file yet. Nor listen: a signal can be too early.
            while child is not None and child.returncode is None:
                child.send_signal(signal.SIGINT)
                time.sleep(POLL_SECONDS)
            raise

    def _spawn(self, way: Way, lock: int, report: Report) -> subprocess.Popen[bytes]:
        """Start the server on the cluster, made first if there is none. With start.lock held, and none running."""
        refuse_half_restored(self._home)
        refuse_other_major(self._home)
        programs = find_programs(self._home, way)
        if not self._cluster.exists():
            report(f"Creating the database in {self._home} (once) ...")
            create_cluster(self._home, way, programs, lock)
        write_configuration(self._cluster, self._socket.parent, way)
        # None of these is a running server's, and PostgreSQL would not start if a stranger has the old pid now.
        for stale in (self._cluster / "postmaster.pid", self._socket, self._socket.with_name(f"{SOCKET_NAME}.lock")):
            stale.unlink(missing_ok=True)
        with open_directory(self._home) as directory:
            replace_file(directory, "start.log", "", way.owner)
            log = os.open("start.log", os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW, dir_fd=directory)
        try:
            child = way.spawn([programs / "postgres", "-D", self._cluster], log)
        finally:
            os.close(log)
        # Another process may stop the server, long after we left: collected whenever it ends, it is no zombie.
        threading.Thread(target=child.wait, name="embedded-postgres", daemon=True).start()
        return child

    def _judge_failed_start(self, failures: int) -> None:
        """The server we started has ended. Returns after a pause if another try may help, else raises."""
        said = (self._home / "start.log").read_text(errors="replace")
        if failures < RETRIES and ("still in use" in said or "already exists" in said):
            time.sleep(RETRY_SECONDS)
            return
        logs = sorted((self._cluster / "log").glob("postgresql-*.log"), key=lambda log: log.stat().st_mtime)
        if "log output will appear in directory" in said and logs:
            said = logs[-1].read_text(errors="replace")
        tail = "\n".join(said.splitlines()[-8:])
        free = shutil.disk_usage(self._home).free
        raise OperatorError(
            f"PostgreSQL does not start in {self._home}:\n{tail}",
            f"Free some space on its disk, which has {free >> 20} MiB left."
            if free < FULL_BYTES
            else f"Mend what it says, or set RESTANTE_DATA_DIR to another directory. Logs: start.log, {MAJOR}/log.",
        )

    def _server(self) -> int | None:
        """The pid of the running server, None if there is none."""
        try:
            pid = int((self._cluster / "postmaster.pid").read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return None
        return pid if pid > 0 and self._is_server(pid) else None

    def _is_server(self, pid: int) -> bool:
        arguments = command_line(pid)
        if arguments is None:
            return exists(pid) and probe(self._socket) is not Probe.SILENT
        return arguments[0].endswith(b"/postgres") and os.fsencode(self._cluster) in arguments

    def _leave(self, users_lock: int) -> None:
        """With start.lock held: give the server up, and stop it if nobody else uses it."""
        self._users_lock = None
        try:
            fcntl.flock(users_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # others remain
        else:
            if (pid := self._server()) is not None:
                self._stop_server(pid)
        finally:
            os.close(users_lock)

    def _stop_server(self, pid: int) -> None:
        """SIGINT is PostgreSQL's fast shutdown: transactions are rolled back, a checkpoint is written."""
        started = children(pid)
        os.kill(pid, signal.SIGINT)
        while self._is_server(pid):
            time.sleep(POLL_SECONDS)
        # The server's logger ends after it, and until then it may write below a directory that the caller deletes.
        deadline = time.monotonic() + 5
        while any(map(is_server_child, started)) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        if self._socket.parent.parent != self._home:
            with contextlib.suppress(OSError):  # somebody's file is in it: leave both
                self._socket.parent.rmdir()


def probe(path: Path) -> Probe:
    """Knock at the server's socket with a bare startup packet: no client library, no session."""
    request = b"user\0restante\0database\0restante\0\0"
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PROBE_SECONDS)
            connection.connect(str(path))
            connection.sendall(struct.pack("!II", 8 + len(request), 196_608) + request)  # protocol 3.0
            with connection.makefile("rb") as stream:
                kind, length = struct.unpack("!cI", stream.read(5))
                answer = stream.read(length - 4)
    except (OSError, struct.error):
        return Probe.SILENT
    if kind == b"E" and b"C57P03\0" in answer:
        return Probe.STARTING
    if kind == b"E" and b"C28000\0" in answer:
        return Probe.FOREIGN
    return Probe.READY  # a request for more, or an error of a server at work ("too many clients")


class _Patience:
    """Waits in small steps, and says what for once it takes longer than a second."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._began = time.monotonic()
        self._said: set[str] = set()

    def pause(self, reason: str) -> None:
        if time.monotonic() - self._began > REPORT_SECONDS and reason not in self._said:
            self._said.add(reason)
            self._report(f"{reason} ...")
        time.sleep(POLL_SECONDS)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _holder(lock: int) -> str:
    """Who wrote itself into a lock, for people."""
    text = os.pread(lock, 20, 0).decode(errors="replace").strip()
    if not text.isdecimal():
        return "its pid is not known"
    return f"pid {text}" + (", which is stopped: continue it, or kill it" if stopped(int(text)) else "")
