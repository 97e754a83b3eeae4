"""Debian's PostgreSQL 15, primary and synchronous standby, and PgBouncer before them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.processes import eventually
from tests.cluster.network import NETWORK, Network

BIN = Path("/usr/lib/postgresql/15/bin")
USER = "postgres"
PORT = 5432
POOLER_PORT = 6432


def missing() -> str | None:
    """What of Debian's packages is not here; None: nothing."""
    if not (BIN / "postgres").exists():
        return "Debian's postgresql-15 is not installed"
    if shutil.which("pgbouncer") is None:
        return "Debian's pgbouncer is not installed"
    return None


def directory_of(parent: Path, name: str) -> Path:
    """A directory that PostgreSQL's user owns."""
    made = parent / name
    made.mkdir()
    shutil.chown(made, USER, USER)
    return made


class Server:
    """A daemon whose output goes to a file; `before` makes it run on its host, as its user."""

    def __init__(self, before: Sequence[str], directory: Path, *command: str | Path) -> None:
        self._log = directory / "log"
        with self._log.open("w") as log:
            self.popen = subprocess.Popen([*before, *command], cwd="/", stdout=log, stderr=log, start_new_session=True)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def answers(self, address: str, port: int) -> None:
        """Wait until it takes connections."""

        def connects() -> bool:
            assert self.popen.poll() is None, self.log
            with contextlib.suppress(OSError), socket.create_connection((address, port), 1):
                return True
            return False

        eventually(f"{address}:{port}", connects)

    def kill(self) -> None:
        """SIGKILL to it and all its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(30)


class Postgres:
    """A cluster on a host of its own; `copy_of`: a standby of that one."""

    def __init__(self, network: Network, parent: Path, host: str, number: int, copy_of: Postgres | None = None) -> None:
        self._network = network
        self.host = host
        self.address = network.add(host, number)
        self._directory = directory_of(parent, host)
        self._data = self._directory / "data"
        if copy_of is None:
            options = ["--auth=trust", "-U", "restante", "--encoding=UTF8", "--locale=C", "--no-sync"]
            network.run(host, USER, BIN / "initdb", "-D", self._data, *options)
            with (self._data / "pg_hba.conf").open("a") as hba:
                hba.write(f"host all all {NETWORK}.0/24 trust\nhost replication all {NETWORK}.0/24 trust\n")
        else:
            source = f"host={copy_of.address} user=restante application_name={host}"
            network.run(
                host,
                USER,
                BIN / "pg_basebackup",
                "-D",
                self._data,
                "-R",
                "--checkpoint=fast",
                "--no-sync",
                "-d",
                source,
            )
        self.server: Server | None = None

    def start(self, *settings: str) -> None:
        """Start with settings of its own, which a copy does not inherit."""
        words = ["listen_addresses=*", "max_connections=100", "shared_buffers=256MB", "max_wal_size=2GB", *settings]
        options = [word for one in words for word in ("-c", one)]
        command: list[str | Path] = [BIN / "postgres", "-D", self._data, "-k", self._directory, *options]
        self.server = Server(self._network.on(self.host, USER), self._directory, *command)
        self.server.answers(self.address, PORT)
        ready: list[str | Path] = [BIN / "pg_isready", "-q", "-h", self.address]  # the port is open before
        eventually(f"{self.host}", lambda: subprocess.run(ready, check=False).returncode == 0)

    def sql(self, text: str) -> str:
        """A statement's output, asked on the host itself by its socket."""
        psql = (BIN / "psql", "-h", self._directory, "-U", "restante", "-d", "restante", "-XAtq", "-c", text)
        return self._network.run(self.host, USER, *psql).strip()

    def create_database(self) -> None:
        psql = (BIN / "psql", "-h", self._directory, "-U", "restante", "-d", "postgres", "-XAtq")
        self._network.run(self.host, USER, *psql, "-c", "create database restante")

    def promote(self) -> float:
        """Make the standby a primary; seconds that it took."""
        began = time.monotonic()
        self._network.run(self.host, USER, BIN / "pg_ctl", "-D", self._data, "promote", "-w")
        return time.monotonic() - began

    def kill(self) -> None:
        """Every process of it, at once."""
        if self.server is None:
            return
        children = subprocess.run(
            ["pgrep", "-P", str(self.server.popen.pid)], capture_output=True, text=True, check=False
        ).stdout.split()
        for pid in [self.server.popen.pid, *map(int, children)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.server.popen.wait(30)

    def stop(self) -> None:
        if self.server is not None and self.server.popen.poll() is None:
            self.server.popen.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.server.popen.wait(10)
        self.kill()


PGBOUNCER = """
[databases]
{database}

[pgbouncer]
listen_addr = {address}
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {directory}/users
pool_mode = transaction
default_pool_size = 16
max_client_conn = 500
server_connect_timeout = 3
server_login_retry = 1
query_wait_timeout = 30
tcp_keepalive = 1
tcp_keepidle = 5
tcp_keepintvl = 2
tcp_keepcnt = 3
tcp_user_timeout = 10000
"""


def pgbouncer(before: Sequence[str], directory: Path, address: str, database: str, port: int = POOLER_PORT) -> Server:
    """PgBouncer in transaction mode before a `database` (a line of its configuration), answering."""
    (directory / "users").write_text('"restante" ""\n')
    ini = directory / "pgbouncer.ini"
    ini.write_text(PGBOUNCER.format(database=database, address=address, port=port, directory=directory).lstrip())
    pooler = shutil.which("pgbouncer")
    assert pooler is not None
    server = Server(before, directory, pooler, ini)
    server.answers(address, port)
    return server
