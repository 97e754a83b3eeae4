"""The embedded PostgreSQL under everything that happens to processes: real ones, really killed.

Every wait is a line read from a pipe or a look at a process; the time limit of a test ends those that hang.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from restante.core.errors import OperatorError
from restante.store import embedded_postgres, process_table
from restante.store.embedded_postgres import EmbeddedPostgres
from tests.store.embedded import (
    Reports,
    User,
    cluster,
    open_directory,
    postmaster,
    query,
    server_processes,
    status_field,
    wait_until,
)

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc"),
]


@pytest.fixture
def parent() -> Iterator[Path]:
    with open_directory() as path:
        yield path


@pytest.fixture
def data_dir(parent: Path) -> Path:
    return parent / "data"


# --- one process -----------------------------------------------------------------------------------------


async def test_starts_answers_and_leaves_no_process(data_dir: Path) -> None:
    reports = Reports()
    server = EmbeddedPostgres(data_dir)
    server.start(reports)
    assert reports[0] == f"Creating the database in {data_dir}/postgres (once) ..."
    assert await query(server.dsn, "select current_user || '@' || current_database()") == "restante@restante"
    await query(server.dsn, "create table kept as select 42 as answer")
    server.stop()
    assert server_processes(data_dir) == {}
    with EmbeddedPostgres(data_dir) as again:
        assert await query(again.dsn, "select answer from kept") == 42
    assert server_processes(data_dir) == {}


async def test_settings(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as server:
        for name, value in {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "data_checksums": "on",
            "listen_addresses": "",
            "jit": "off",
            "max_wal_size": "1GB",
            "max_locks_per_transaction": "512",
            "idle_in_transaction_session_timeout": "1min",
            "TimeZone": "UTC",
            "server_encoding": "UTF8",
        }.items():
            assert await query(server.dsn, f"show {name}") == value, name
        closed = [data_dir / "postgres" / name for name in ("", "18", "socket", "start.log", "18/restante.conf")]
        assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in closed)


async def test_a_kernel_that_hides_processes_is_no_obstacle(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (embedded_postgres, process_table):
        monkeypatch.setattr(module, "command_line", lambda pid: None)
    with EmbeddedPostgres(data_dir) as first:
        pid = postmaster(data_dir)
        with EmbeddedPostgres(data_dir):
            assert postmaster(data_dir) == pid
        assert await query(first.dsn, "select 1") == 1
    wait_until(lambda: not server_processes(data_dir))


async def test_long_paths_with_odd_characters(parent: Path) -> None:
    data_dir = parent / ("long" * 40) / 'it\'s, "ünusual" \\ 100%'
    with EmbeddedPostgres(data_dir) as server:
        assert await query(server.dsn, "select 1") == 1
        directory = Path(parse_qs(urlsplit(server.dsn).query)["host"][0])
        assert directory.match(f"/tmp/restante-{cluster(data_dir).stat().st_uid}-*")
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert not directory.exists()
    directory.symlink_to(parent)  # another user's trap
    try:
        with pytest.raises(OperatorError, match="mode 700"):
            EmbeddedPostgres(data_dir).start()
    finally:
        directory.unlink()


async def test_odd_characters_in_a_short_path(parent: Path) -> None:
    with EmbeddedPostgres(parent / 'it\'s "ü" \\ 100%') as server:
        assert await query(server.dsn, "select 1") == 1


def test_a_pid_file_that_names_a_stranger(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir):
        content = (cluster(data_dir) / "postmaster.pid").read_text()
        owner = cluster(data_dir).stat()
    identity = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    stranger = subprocess.Popen(["sleep", "600"], cwd="/", **identity)  # type: ignore[call-overload]
    try:
        stale = cluster(data_dir) / "postmaster.pid"
        stale.write_text("\n".join([str(stranger.pid), *content.split("\n")[1:]]))
        os.chown(stale, owner.st_uid, owner.st_gid)
        stale.chmod(0o600)
        with EmbeddedPostgres(data_dir):
            assert postmaster(data_dir) != stranger.pid
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_half_made_cluster_is_made_anew(data_dir: Path) -> None:
    left = data_dir / "postgres" / "18.new"
    left.mkdir(parents=True)
    (left / "PG_VERSION").write_text("18\n")
    with User(data_dir) as killed:
        killed.hear("report Creating the database")
        killed.kill()  # in the middle of initdb, which goes on alone
    with EmbeddedPostgres(data_dir):
        assert cluster(data_dir).is_dir()
        assert not left.exists()
        assert stat.S_IMODE((data_dir / "postgres").stat().st_mode) == 0o700


# --- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", ["18/PG_VERSION", "17/PG_VERSION"])
def test_another_major_version_is_refused(data_dir: Path, inside: str) -> None:
    found = data_dir / "postgres" / inside
    found.parent.mkdir(parents=True)
    found.write_text("17\n")
    with pytest.raises(OperatorError, match=r"is of PostgreSQL 17; this restante brings PostgreSQL 18"):
        EmbeddedPostgres(data_dir).start()
    assert not (data_dir / "postgres" / "18" / "restante.conf").exists()


def test_without_the_package(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(OperatorError, match="RESTANTE_DATABASE_URL"):
        EmbeddedPostgres(data_dir).start()


def test_a_data_directory_that_cannot_be(parent: Path) -> None:
    (parent / "file").touch()
    with pytest.raises(OperatorError, match=f"(?s){parent}/file/data.*RESTANTE_DATA_DIR"):
        EmbeddedPostgres(parent / "file" / "data").start()


def test_a_server_that_does_not_start_says_why(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir):
        pass
    with (cluster(data_dir) / "postgresql.auto.conf").open("a") as settings:
        settings.write("shared_buffers = 'many'\n")
    server = EmbeddedPostgres(data_dir)
    with pytest.raises(OperatorError, match='invalid value for parameter "shared_buffers": "many"'):
        server.start()
    server.stop()  # nothing is held: nothing to do


def test_used_out_of_order(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    with pytest.raises(RuntimeError, match="not started"):
        server.ensure_running()
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.dsn
    with server, pytest.raises(RuntimeError, match="started already"):
        server.start()


# --- several processes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("first_leaves", [True, False])
def test_the_last_one_out_stops_it(data_dir: Path, first_leaves: bool) -> None:
    with User(data_dir) as starter, User(data_dir) as other:
        starter.hear("ready")
        other.hear("ready")
        pid = postmaster(data_dir)
        leaver, stayer = (starter, other) if first_leaves else (other, starter)
        leaver.do("leave", "left")
        assert postmaster(data_dir) == pid
        assert stayer.do("ask", "answer") == "restante"
        stayer.do("leave", "left")
        assert server_processes(data_dir) == {}
        for user in (starter, other):  # each ends without a warning
            out, _ = user.process.communicate()
            assert (user.process.returncode, out) == (0, "")


def test_ten_start_at_once(data_dir: Path) -> None:
    with contextlib.ExitStack() as stack:
        users = [stack.enter_context(User(data_dir)) for _ in range(10)]
        assert len({user.hear("ready") for user in users}) == 1
        assert postmaster(data_dir)
        for user in users:
            user.say("leave")
        for user in users:
            user.hear("left")
        assert server_processes(data_dir) == {}


def test_ctrl_c_reaches_the_process_not_its_server(data_dir: Path) -> None:
    with User(data_dir) as starter, User(data_dir) as other:
        starter.hear("ready")
        other.hear("ready")
        os.killpg(starter.process.pid, signal.SIGINT)
        starter.hear("interrupted")
        assert other.do("ask", "answer") == "restante"
        other.do("leave", "left")
    assert server_processes(data_dir) == {}


def test_waiting_for_another_process_is_reported(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as first:
        reports = Reports()
        second = EmbeddedPostgres(data_dir)
        with first._start_lock(lambda _: None):
            thread = threading.Thread(target=second.start, args=[reports])
            thread.start()
            assert reports.any.wait(30)
        thread.join()
        second.stop()
        assert reports == [f"Another restante process (pid {os.getpid()}) is starting or stopping PostgreSQL ..."]


def test_a_frozen_process_that_keeps_others_from_starting_it_is_named(data_dir: Path) -> None:
    """Who looks after an installation that does not come back has to find it."""
    hold = "import fcntl, os, sys; lock = os.open(sys.argv[1], os.O_RDWR); fcntl.flock(lock, fcntl.LOCK_EX); "
    hold += "os.pwrite(lock, b'%-20d' % os.getpid(), 0); print('held', flush=True); sys.stdin.read()"
    with EmbeddedPostgres(data_dir) as server:
        command = [sys.executable, "-c", hold, str(data_dir / "postgres" / "start.lock")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout and holder.stdout.readline() == b"held\n"
            holder.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, holder.pid, os.WSTOPPED)
            reports = Reports()
            thread = threading.Thread(target=server.ensure_running, args=[reports])
            thread.start()
            assert reports.any.wait(30)
            holder.kill()
            thread.join()
    [said] = reports
    assert f"(pid {holder.pid}, which is stopped: continue it, or kill it)" in said


def test_a_recovering_server_is_waited_for(data_dir: Path) -> None:
    with EmbeddedPostgres(data_dir) as real:
        path = real._socket
    reports = Reports()
    with socket.socket(socket.AF_UNIX) as listener:  # recovery itself is too quick to be caught
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            while not reports.any.is_set():
                connection, _ = listener.accept()
                with connection:
                    connection.recv(100)
                    connection.sendall(b"E\0\0\0\x16SFATAL\0C57P03\0\0\0\0")
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"R\0\0\0\x08\0\0\0\0")

        thread = threading.Thread(target=answer)
        thread.start()
        joined = EmbeddedPostgres(data_dir)
        joined.start(reports)
        thread.join()
        joined.stop()
    assert reports == ["PostgreSQL is recovering after an unclean stop ..."]


# --- kill -9 ---------------------------------------------------------------------------------------------


def test_the_starter_is_killed_while_another_uses_it(data_dir: Path) -> None:
    with User(data_dir) as starter:
        starter.hear("ready")
        with User(data_dir) as other:
            other.hear("ready")
            pid = postmaster(data_dir)
            starter.kill()
            assert other.do("ask", "answer") == "restante"
            assert postmaster(data_dir) == pid
            other.do("leave", "left")
    assert server_processes(data_dir) == {}


def test_an_orphaned_server_is_joined_and_stopped_by_the_next(data_dir: Path) -> None:
    with User(data_dir) as first, User(data_dir) as second:
        first.hear("ready")
        second.hear("ready")
        pid = postmaster(data_dir)
    assert postmaster(data_dir) == pid  # both were killed
    with EmbeddedPostgres(data_dir):
        assert postmaster(data_dir) == pid
    assert server_processes(data_dir) == {}


async def test_a_killed_server_is_started_again_once(data_dir: Path) -> None:
    with User(data_dir) as starter, User(data_dir) as other:
        dsn = starter.hear("ready")
        other.hear("ready")
        await query(dsn, "create table kept as select 42 as answer")
        pid = postmaster(data_dir)
        os.kill(pid, signal.SIGKILL)
        for user in (starter, other):
            user.say("ensure")
        for user in (starter, other):
            user.hear("ensured")
        assert postmaster(data_dir) != pid
        assert await query(dsn, "select answer from kept") == 42
        again = postmaster(data_dir)
        assert starter.do("ensure", "ensured") == ""
        assert postmaster(data_dir) == again
        starter.do("leave", "left")
        other.do("leave", "left")
    assert server_processes(data_dir) == {}


def test_a_zombie_is_not_taken_for_the_server(data_dir: Path) -> None:
    with User(data_dir) as starter:
        starter.hear("ready")
        pid = postmaster(data_dir)
        starter.process.send_signal(signal.SIGSTOP)  # so that it does not collect its child
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: status_field(pid, "State").startswith("Z"))
        with User(data_dir) as next_one:
            next_one.hear("ready")
            assert postmaster(data_dir) != pid
            assert next_one.do("ask", "answer") == "restante"
            starter.process.send_signal(signal.SIGCONT)
            starter.do("leave", "left")
            next_one.do("leave", "left")
    assert server_processes(data_dir) == {}
