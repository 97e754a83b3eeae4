"""The commands around tasks and webhooks: what they print, to whom, and that others' words do nothing."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
import unicodedata
from typing import Any

import msgspec
import pytest

from restante.cli.output import COLUMNS, Output
from restante.cli.text import cell, json_text, visible
from restante.client import Client, Entry, Task
from tests.cli.conftest import Shop
from tests.support import COMMAND

pytestmark = pytest.mark.timeout(300)

#: An escape that clears the screen, one that sets the title, a line that turns around, a forged line, a formula.
HOSTILE = (
    "=cmd|'/c calc'!A1 \x1b[2J\x1b]0;owned\x07 \u202egnp.exe\u202c <script>alert(1)</script>\n11221415-x  20000 \r\x9b"
)
#: What no terminal may get.
SAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_hostile_text_is_shown_and_not_obeyed(shop: Shop) -> None:
    """In tables, answers, JSON and CSV; JSON lines and Parquet keep it as it is."""
    pyarrow = pytest.importorskip("pyarrow.parquet")
    name = shop.write("hostile.jsonl", json.dumps({"user_prompt": HOSTILE, "tag": "=1+1\x1b[31m"}) + "\n")
    shown = shop.run("task", "post", name, "--wait")
    assert "\\x1b[2J" in shown and "\\u202egnp" in shown and "\n  | " in shown
    assert [line for line in shown.splitlines() if not line.startswith("  ")] == shown.splitlines()[:1]
    listed = shop.run("task", "list")
    assert len(listed.splitlines()) == 1 and "=1+1\\x1b[31m" in listed and "\\x1b[2J" in listed
    followed = shop.run("task", "tail", "--all", "--count", "1")
    assert "\\x1b[2J" in followed and len(followed.splitlines()) == 1
    exported = shop.run("export")
    for text in (shown, listed, followed, exported, shop.err):
        assert not SAFE.search(text), text
    [entry] = lines(exported)
    assert entry["data"]["user_prompt"] == HOSTILE

    shop.run("export", "--output", "all.csv")
    text = (shop.directory / "all.csv").read_text("utf-8-sig")
    assert not SAFE.search(text)
    [row] = csv.DictReader(io.StringIO(text))
    assert tuple(row) == COLUMNS
    assert (
        row["user_prompt"].startswith("'=cmd") and row["tag"].startswith("'=1+1") and "<script>" in row["user_prompt"]
    )
    for kind in ("all.parquet", "all.jsonl"):
        with Output(shop.directory / kind, None) as output:
            output.write(msgspec.convert(entry, Entry), 7)
    [kept] = pyarrow.read_table(shop.directory / "all.parquet").to_pylist()
    assert (kept["line"], kept["user_prompt"], kept["status_code"], kept["charged"]) == (7, HOSTILE, 20000, 0.0002)
    [whole] = lines((shop.directory / "all.jsonl").read_text())
    assert whole == {"line": 7, **entry}
    shop.run("task", "get", "\x1b[2J", code=3)
    assert not SAFE.search(shop.err)


def test_what_is_harmless_stays_as_it_is() -> None:
    """Scripts of all kinds, emoji made of several; nothing unseen gets through, and JSON means the same."""
    for text in ("Zürich’s trains 🚆", "京都 夜行バス", "مرحبا", "नमस्\u200dते", "👩\u200d🚀", "a\u00a0b", "ｗｉｄｅ"):
        assert visible(text) == text and cell(text) == text
        assert json_text(text) == json.dumps(text, ensure_ascii=False)
    for code in range(0x110000):
        char = chr(code)
        if 0xD800 <= code < 0xE000:
            continue
        unseen = unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") and char not in "\u200c\u200d"
        if unseen:
            assert visible(char).isprintable() and visible(char) != char
            assert json_text(char).isascii() and json.loads(json_text(char)) == char
            assert char in "\t\n" or char not in cell(char)
    for start in ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠", " =", "\u00a0="):
        assert cell(f"{start}1").startswith("'"), start
    assert cell("1 = 1") == "1 = 1"


def test_a_task_from_both_sides(shop: Shop) -> None:
    """list, get, ready: consistent, with their exit codes."""

    async def post() -> list[str]:
        async with Client(shop.served.url, shop.login, shop.password) as client:
            texts = ["quick", "[[fail=boom]]", "[[fail=overloaded]]"]
            posted = await client.post([Task(user_prompt=one, model_name="gemini-2.5-flash", tag="t") for one in texts])
            while len(await client.ready()) < 2:
                await asyncio.sleep(0.02)  # what another process settles sends no event
            return [entry.id for entry in posted]

    quick, boom, later = asyncio.run(post())
    ready = lines(shop.run("task", "ready", "--json"))
    assert {row["id"] for row in ready} == {quick, boom}
    assert "Scripted answer to: quick" in shop.run("task", "get", quick)
    got = lines(shop.run("task", "get", quick, boom, "--json", code=3))
    assert [entry["status_code"] for entry in got] == [20000, 50301]
    assert "4060" in shop.run("task", "get", later, code=4)
    assert {row["id"]: row["state"] for row in lines(shop.run("task", "list", "--json"))} | {later: ""} == {
        quick: "answered", boom: "failed 50301", later: "",
    }  # fmt: skip
    assert [row["id"] for row in lines(shop.run("task", "list", "--failed", "--json"))] == [boom]
    assert [row["id"] for row in lines(shop.run("task", "list", "--open", "--tag", "t", "--json"))] == [later]
    assert shop.run("task", "list", "--since", "2020-01-01", "--until", "2020-01-02", code=1) == ""
    shop.run("task", "list", "--since", "yesterday", code=2)
    shop.env["RESTANTE_PASSWORD"] = "wrong"
    shop.run("task", "ready", code=1)
    assert "40100" in shop.err and "--password" in shop.err and "Traceback" not in shop.err
    shop.run("task", "ready", "--url", "http://127.0.0.1:1", code=1)
    assert "cannot be reached" in shop.err and "--url" in shop.err


def test_tail_follows(shop: Shop) -> None:
    """What has finished before is left out; what finishes while it looks is told once, and not fetched."""
    shop.run("task", "post", "before", "--wait")
    process = shop.start("task", "tail", "--json", "--count", "2")
    assert process.stdout is not None

    async def post(text: str) -> str:
        async with Client(shop.served.url, shop.login, shop.password) as client:
            [entry] = await client.post(Task(user_prompt=text, model_name="gemini-2.5-flash"))
            return entry.id

    # Nothing tells when it has looked first: posted are tasks until two were told.
    posted: list[str] = []
    while process.poll() is None and len(posted) < 200:
        posted.append(asyncio.run(post("after [[latency=1]]")))
        try:
            process.wait(1.0)
        except subprocess.TimeoutExpired:
            continue
    out, err = process.communicate(timeout=30)
    told = lines(out.decode())
    assert len(told) == 2 and len({row["id"] for row in told}) == 2 and {row["id"] for row in told} <= set(posted), err
    assert all(row["state"] == "answered" for row in told)
    assert {row["id"] for row in told} <= {row["id"] for row in lines(shop.run("task", "ready", "--json"))}


def test_webhooks_are_received_verified_and_tested(shop: Shop) -> None:
    options = ("--port", "0", "--fail-first", "1", "--count", "4", "--json")
    listening = shop.start("webhook", "listen", "--account", shop.login, *options)
    assert listening.stderr is not None and listening.stdout is not None
    greeting = listening.stderr.readline().decode()
    url = greeting.split()[-1]
    assert shop.run("task", "post", "x", "--wait", "--postback-url", f"{url}/p?id=$id")  # failed, then delivered
    task_id = lines(shop.run("task", "list", "--json"))[0]["id"]
    while json.loads(listening.stdout.readline())["answered"] == 500:
        pass
    shop.run("webhook", "test", f"{url}/t?tag=$tag", "--account", shop.login)
    shop.run("webhook", "test", f"{url}/t", "--pingback", "--secret", "whsec_" + "A" * 43 + "=")
    out, _ = listening.communicate(timeout=60)
    sample, ping = lines(out.decode())
    assert (sample["signature"], sample["path"], sample["entry"]["status_code"]) == ("verified", "/t?tag=run-17", 20000)
    assert (ping["method"], ping["signature"], ping["entry"]) == ("GET", "wrong signature", None)
    assert listening.returncode == 3 and len(task_id) == 36
    shop.run("webhook", "test", f"{url}/t", code=1)
    assert "whsec_" in shop.err
    del shop.env["RESTANTE_WEBHOOK_ALLOW"]
    assert "not a public address" in shop.run("webhook", "test", url, code=1)
    shop.run("webhook", "test", "ftp://example.org", code=2)
    shop.run("webhook", "listen", "--secret", "nonsense", code=1)


@pytest.mark.parametrize("plain", [False, True])
def test_a_terminal_gets_a_bar_and_no_colour_none(shop: Shop, plain: bool) -> None:
    """On a terminal; in a pipe there is neither, which the other tests prove by comparing texts."""
    name = shop.write("p.txt", "one [[latency=0.4]]\ntwo\n")
    terminal, side = pty.openpty()
    env = shop.env | {"TERM": "xterm-256color", "COLUMNS": "100"} | ({"NO_COLOR": "1"} if plain else {})
    process = subprocess.Popen(
        [*COMMAND, "task", "post", name, "--wait", "--output", "a.jsonl"], env=env, cwd=shop.directory, stdin=side,
        stdout=side, stderr=side,
    )  # fmt: skip
    os.close(side)
    seen = b""
    try:
        while piece := os.read(terminal, 4096):
            seen += piece
    except OSError:
        pass  # the other side is closed
    os.close(terminal)
    assert process.wait(60) == 0
    text = seen.decode()
    assert "answers" in text and "2/2" in text and "2 of 2 answered" in text, text
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]", text)) is not plain, text


def test_parquet_without_pyarrow_says_what_to_install(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    name = shop.write("p.txt", "one\n")
    shop.run("task", "post", name, "-o", "a.parquet", code=1)
    assert "restante[parquet]" in shop.err and shop.charges() == (0, 0)
    shop.run("task", "post", name, "-o", "a.xlsx", code=1)
    assert "format" in shop.err and shop.charges() == (0, 0)


@pytest.mark.long
def test_bench_measures_this_machine(shop: Shop) -> None:
    found = json.loads(shop.run("bench", "--tasks", "500", "--json"))
    assert found["tasks"] == 500 and min(found.values()) > 0
