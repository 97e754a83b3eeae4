"""Another user of the same host: reads no file, enters no socket, sees no environment, and the model's port says 401.

The installation is root's, with the embedded PostgreSQL and the embedded model, and has seen secrets in every role. The
spy is a process of another user, told all paths and pids: secrecy of names is no defence.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec
import pytest

from restante.providers.model_server import Address
from tests.chaos.processes import House, family, house
from tests.store.embedded import open_directory
from tests.support import task

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc"),
]

MARK: Final = "kx7-second-user"
STRANGER: Final = 61_299  # a user that owns nothing: `nobody` runs servers of other tests
# What the engine serves, and what it does not.
MODEL_PATHS: Final = (
    "/", "/index.html", "/health", "/v1/health", "/props", "/metrics", "/slots", "/models", "/v1/models", "/api/tags",
    "/api/show", "/completion", "/completions", "/v1/completions", "/chat/completions", "/v1/chat/completions",
    "/v1/responses", "/v1/messages", "/infill", "/embeddings", "/v1/embeddings", "/rerank", "/tokenize", "/detokenize",
    "/apply-template", "/lora-adapters", "/nothing",
)  # fmt: skip

SPY: Final = r"""
import glob, http.client, json, os, socket, stat, sys, urllib.parse
told = json.load(sys.stdin)
host = urllib.parse.urlsplit(told["model"]).netloc
warm = http.client.HTTPConnection(host, timeout=10)  # imports what others may not read
warm.request("GET", "/")
warm.getresponse().read()
if told["uid"]:
    os.setgroups([]); os.setresgid(*[told["uid"]] * 3); os.setresuid(*[told["uid"]] * 3)

def can(work):
    try:
        return work()
    except OSError:
        return None

def entered(path):
    with socket.socket(socket.AF_UNIX) as knock:
        knock.settimeout(2)
        knock.connect(path)
    return True

read, entered_sockets, listed, seen = [], [], [], {}
for path in told["paths"] + glob.glob("/dev/shm/PostgreSQL.*"):
    mode = can(lambda: os.lstat(path).st_mode)
    if path in told["sockets"]:
        if can(lambda: entered(path)):
            entered_sockets.append(path)
    elif mode is not None and stat.S_ISDIR(mode):
        if can(lambda: os.listdir(path)) is not None or os.access(path, os.W_OK):
            listed.append(path)
    elif (fd := can(lambda: os.open(path, os.O_RDONLY | os.O_NONBLOCK))) is not None:
        read.append(path)
        os.close(fd)
for pid in told["pids"]:
    for name in ("environ", "mem", "maps", "auxv", "io", "stack", "syscall", "fd", "cwd", "root", "exe", "map_files"):
        path = f"/proc/{pid}/{name}"
        if name in ("cwd", "root", "exe"):
            found = can(lambda: os.readlink(path))
        elif name in ("fd", "map_files"):
            found = can(lambda: os.listdir(path))
        else:
            found = can(lambda: open(path, "rb").read(1))
        if found is not None:
            read.append(path)
    if can(lambda: os.kill(pid, 0) or True):
        read.append(f"signal {pid}")
    seen[pid] = (can(lambda: open(f"/proc/{pid}/cmdline", "rb").read()) or b"").decode()

said = []
for path in told["model_paths"]:
    for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"):
        for key in (None, "", "wrong"):
            ask = http.client.HTTPConnection(host, timeout=10)
            body = b'{"prompt":"x","n_predict":1,"messages":[{"role":"user","content":"x"}],"max_tokens":1}'
            headers = {} if key is None else {"Authorization": f"Bearer {key}", "X-Api-Key": key}
            ask.request(method, path, body if method in ("POST", "PUT") else None, headers)
            answer = ask.getresponse()
            said.append((method, path, answer.status, answer.read().decode("latin-1")))
            ask.close()
print(json.dumps({"read": read, "entered": entered_sockets, "listed": listed, "commands": seen, "said": said}))
"""


class Installation(NamedTuple):
    """What there is to spy on."""

    home: House
    sockets: list[str]
    model: Address


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with open_directory() as parent, house(parent) as home:
        del home.env["RESTANTE_PASSWORD"]  # generated, into a file
        process = home.start("up", "up", "--offline", RATE_TASK_POST="0", WEBHOOK_PROXY=f"http://u:{MARK}@127.0.0.1:9")
        home.url = process.wait_for(r"up at (http://\S+)")[1]
        password = (home.data_dir / "operator-password").read_text().strip()
        [task_id] = home.post([task(MARK, max_output_tokens=1)], ("operator", password))
        home.collect([task_id], credentials=("operator", password))
        address = msgspec.json.decode((home.data_dir / "model" / "server.json").read_bytes(), type=Address)
        sockets = [str(path) for path in home.data_dir.rglob("*") if path.is_socket()]
        yield Installation(home, sockets, address)


def spy(installation: Installation, uid: int, model_paths: tuple[str, ...]) -> Any:
    """What a process of this user gets hold of."""
    data_dir = installation.home.data_dir
    told = {
        "uid": uid,
        "paths": [str(data_dir), *map(str, data_dir.rglob("*"))],
        "sockets": installation.sockets,
        "pids": [one.pid for one in family(data_dir)],
        "model": installation.model.url,
        "model_paths": model_paths,
    }
    command = [sys.executable, "-I", "-c", SPY]
    done = subprocess.run(command, input=json.dumps(told), capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_another_user_gets_hold_of_nothing(installation: Installation) -> None:
    home = installation.home
    found = spy(installation, STRANGER, MODEL_PATHS)
    assert (found["read"], found["entered"], found["listed"]) == ([], [], [])
    assert len(found["commands"]) >= 5 and all(found["commands"].values())  # these everybody sees
    secrets = [MARK, installation.model.key, (home.data_dir / "operator-password").read_text().strip()]
    assert not [secret for secret in secrets if secret in str(found["commands"])]
    for method, path, status, text in found["said"]:
        assert status == 401 or (status, text) in said_without_a_key(method, path), (method, path, status, text)
    answering = {path for _, path, status, _ in found["said"] if status == 401}
    assert answering == set(MODEL_PATHS) - {"/", "/index.html", "/health", "/v1/health"}
    assert not [text for *_, text in found["said"] if "smollm" in text.lower() or MARK in text]


def said_without_a_key(method: str, path: str) -> set[tuple[int, str]]:
    """What the engine tells everybody, in front of its look at the key: that it runs, and that it has no pages."""
    nothing = {(404, '{"error":{"message":"File Not Found","type":"not_found_error","code":404}}'), (404, "")}
    if method == "OPTIONS":
        return {(200, "")}
    if path in ("/health", "/v1/health"):
        return nothing | {(200, '{"status":"ok"}'), (200, "")}
    return nothing if path in ("/", "/index.html") else set()


def test_the_spy_finds_what_is_open(installation: Installation) -> None:
    """Or the other test would prove nothing: root is told the same, and gets hold of it all."""
    found = spy(installation, 0, ())
    assert str(installation.home.data_dir / "operator-password") in found["read"]
    assert any(path.endswith("/environ") for path in found["read"])
    assert found["entered"] == installation.sockets != []
    assert str(installation.home.data_dir / "postgres") in found["listed"]
