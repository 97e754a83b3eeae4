"""Every code block of the documentation that can be run is run, against a real server; the others say why not."""

from __future__ import annotations

import base64
import configparser
import gzip
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from restante.providers import price_list
from restante.webhooks.signature import PREFIX, sign
from tests.docs.blocks import ROOT, Block, blocks, pages, run, says
from tests.docs.files import filled
from tests.support import OPERATOR, Http, Restante, running, task

BLOCKS: Final = blocks()
EXAMPLE_URL: Final = "http://127.0.0.1:8000"

#: Languages that are looked at rather than run, and how: what cannot be read raises.
READ: Final[dict[str, Callable[[str], object]]] = {
    "ini": lambda text: configparser.ConfigParser(strict=False, interpolation=None).read_string(text),
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
    "text": str,
}
#: What runs the receivers of docs/howto/webhooks.md; their tests need it.
RECEIVERS: Final = {
    "receiver.py": [sys.executable, "receiver.py", "{port}"],
    "receiver.mjs": ["node", "receiver.mjs", "{port}"],
    "receiver.php": ["php", "-S", "127.0.0.1:{port}", "receiver.php"],
}
#: Files of the pages that a test below runs.
FILES: Final = {*RECEIVERS, "two_clients.py"}
#: Pages whose programs the tests of what they are about run.
ELSEWHERE: Final = {"docs/client.md": "tests/cli/test_client.py"}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restante]:
    """A restante of these tests' own: they bring webhooks to this machine, and rotate secrets."""
    with running(tmp_path_factory.mktemp("docs"), "--provider", "scripted", WEBHOOK_ALLOW="127.0.0.1") as server:
        yield server


@pytest.fixture(scope="module")
def shell(up: Restante, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A reader's terminal: `restante` on the path, its URL and the operator's password known."""
    directory = tmp_path_factory.mktemp("bin")
    (directory / "restante").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m restante "$@"\n')
    (directory / "restante").chmod(0o755)
    own = {"RESTANTE_URL": up.url, "RESTANTE_PASSWORD": OPERATOR[1], "RESTANTE_PROVIDER": "scripted", "NO_COLOR": "1"}
    return up.env | own | {"PATH": f"{directory}:{os.environ['PATH']}"}


def file(title: str) -> str:
    [text] = [block.text for block in BLOCKS if block.title == title]
    return text


# --- each says what becomes of it ---------------------------------------------------------------------------


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_it_is_run_or_says_why_not(block: Block) -> None:
    kind, _, reason = block.note.partition(":")
    if kind == "not run":
        assert len(reason.split()) >= 3, "a reason is a sentence"
        for name in [word.strip("`,;.") for word in reason.split() if word.startswith("tests/")]:
            assert (ROOT / name).exists(), name
    elif block.title.startswith("deploy/"):
        assert block.text == (ROOT / block.title).read_text(), "python -m tests.docs.files"
    elif block.title:
        assert block.title in FILES
    elif block.page in ELSEWHERE and block.language == "python":
        assert block.page in (ROOT / ELSEWHERE[block.page]).read_text()
    elif block.language == "console":
        assert block.note == "run", "a console is run, or says why not: tests/docs/blocks.py"
    else:
        assert block.language in READ, "a block of this language is run, or says why not: tests/docs/blocks.py"
        READ[block.language](block.text)


def test_there_are_as_many_blocks_as_fences() -> None:
    """What the pattern does not find, nobody runs."""
    fences = sum(line.lstrip().startswith("```") for page in pages() for line in page.read_text().splitlines())
    assert 2 * len(BLOCKS) == fences


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_files_are_shown_as_they_are(page: Path) -> None:
    assert filled(page.read_text()) == page.read_text(), "python -m tests.docs.files"


def test_the_example_of_prices_can_be_used(tmp_path: Path) -> None:
    [text] = [block.text for block in BLOCKS if (block.page, block.language) == ("docs/prices.md", "toml")]
    (tmp_path / "prices.toml").write_text(text)
    assert "gemini-2.5-flash" in price_list.load(tmp_path / "prices.toml").models


# --- consoles ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS if block.note == "run"}))
async def test_what_a_page_types_works(page: str, up: Restante, shell: dict[str, str], tmp_path: Path) -> None:
    """Each command ends with 0 and prints what the page says. A page begins with nothing to collect, as its reader."""
    async with Http(up.family) as http:
        [listed] = (await http.get("tasks_ready"))["tasks"]
        await http.answers([row["id"] for row in listed["result"]])
    consoles = [block for block in BLOCKS if block.page == page and block.note == "run"]
    for one in run(consoles, tmp_path, shell, {EXAMPLE_URL: shell["RESTANTE_URL"]}):
        assert one.code == 0, f"{one.where}: {one.command}\n{one.printed}"
        assert says(one.expected, one.printed), f"{one.where}: {one.command}\n{one.printed}"


def test_what_is_printed_is_compared() -> None:
    assert says(["a…c", "d"], "x\nabc\ny\nd\n")
    assert not says(["d", "abc"], "abc\nd\n")
    assert not says(["a.c"], "abc\n")


# --- programs -----------------------------------------------------------------------------------------------------


def test_two_clients(up: Restante, shell: dict[str, str], tmp_path: Path) -> None:
    """docs/howto/from-dataforseo.md; the host that it left is not called."""
    (tmp_path / "two_clients.py").write_text(file("two_clients.py"))
    done = subprocess.run(
        [sys.executable, "two_clients.py"],
        cwd=tmp_path,
        env=shell,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("20000 Scripted answer to: name one Alpine lake")


class Receiver:
    """A receiver of the page in a process of its own; `printed` is all it said."""

    def __init__(self, title: str, directory: Path, secrets: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        (directory / title).write_text(file(title))
        self._output = directory / "printed"
        with self._output.open("w") as out:
            self._process = subprocess.Popen(
                [word.format(port=self.port) for word in RECEIVERS[title]],
                cwd=directory, env=os.environ | {"WEBHOOK_SECRETS": secrets}, stdout=out, stderr=out,
            )  # fmt: skip
        self.until(lambda: self._process.poll() is not None or self._answers())

    @property
    def printed(self) -> str:
        return self._output.read_text()

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, self.printed
            time.sleep(0.02)  # what another process prints sends no event

    def call(self, headers: dict[str, str], body: bytes | None = None) -> int:
        """Its status for a webhook that somebody sends."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/forged", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return int(response.status)
        except urllib.error.HTTPError as refused:
            return refused.code

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)


@pytest.mark.parametrize("title", RECEIVERS)
async def test_a_receiver_of_the_page(title: str, up: Restante, tmp_path: Path) -> None:
    """It takes what restante sends it, with the older of two secrets too, once each; and nothing else."""
    if shutil.which(RECEIVERS[title][0]) is None:
        pytest.skip(f"{RECEIVERS[title][0]} is not installed here: {title} was not run")
    login, password = up.account(title)
    [secret] = up.run("account", "webhook-secret", login).stdout.split()
    assert secret.startswith(PREFIX)
    receiver = Receiver(title, tmp_path, f"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= {secret}")
    try:
        at = f"http://127.0.0.1:{receiver.port}"
        async with Http(up.family, (login, password)) as http:
            posted = await http.post(
                [task(tag="größer", postback_url=f"{at}/post?id=$id", pingback_url=f"{at}/ping?id=$id&tag=$tag")]
            )
        [entry] = posted["tasks"]
        receiver.until(lambda: f"answer {entry['id']} 20000 größer" in receiver.printed)
        receiver.until(lambda: f"done /ping?id={entry['id']}&tag=gr%C3%B6%C3%9Fer" in receiver.printed)

        key = base64.b64decode(secret.removeprefix(PREFIX))
        now, said = int(time.time()), receiver.printed
        body = b'{"tasks": [{"id": "forged", "status_code": 20000, "data": {}}]}'
        zipped = gzip.compress(body)
        assert receiver.call({}, zipped) == 401
        assert receiver.call({}) == 401
        assert receiver.call(sign([b"another secret, 32 bytes of it.."], "id-1", now, body), zipped) == 401
        assert receiver.call(sign([key], "id-2", now - 301, body), zipped) == 401, "too old"
        assert receiver.call(sign([key], "id-3", now, body + b" "), zipped) == 401, "changed on the way"
        assert receiver.call(sign([key], "id-4", now, b""), b"no gzip at all") == 400
        assert "forged" not in receiver.printed.removeprefix(said).replace("/forged", "")
        assert receiver.call(sign([key], "id-5", now, body), zipped) == 200
        receiver.until(lambda: "answer forged 20000" in receiver.printed)
        assert receiver.call(sign([key], "id-5", now, body), zipped) == 200
        if title != "receiver.php":  # which leaves remembering to you
            assert receiver.printed.count("answer forged 20000") == 1
    finally:
        receiver.close()
