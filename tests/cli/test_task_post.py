"""`restante task post FILE`: each prompt is answered and paid for once, whatever ends the command and when."""

from __future__ import annotations

import csv
import io
import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from restante.cli.journal import Journal, Run
from restante.cli.posting import run_of
from restante.cli.prompts import Prompt, bounds, fault, read
from restante.client import Client, Entry
from restante.core.errors import OperatorError
from restante.core.money import show_usd
from tests.cli.conftest import Shop

pytestmark = pytest.mark.timeout(300)

FEE = 200_000
STATE = "prompts.jsonl.restante"


def prompts_file(shop: Shop, count: int, latency: float = 0.0) -> str:
    slow = f"[[latency={latency}]] " if latency else ""
    lines = [json.dumps({"user_prompt": f"{slow}lake number {number}", "tag": f"t{number}"}) for number in range(count)]
    return shop.write("prompts.jsonl", "\n".join(lines) + "\n")


def answers(shop: Shop, name: str = "answers.jsonl") -> list[Any]:
    return [json.loads(line) for line in (shop.directory / name).read_text().splitlines()]


def ended(shop: Shop, number: int, lines: int, *arguments: str) -> bool:
    """Start the command and send it the signal as soon as its state file has so many lines; whether it still ran."""
    process = shop.start(*arguments)
    state = shop.directory / STATE
    began = time.monotonic()
    while process.poll() is None and (not state.exists() or state.read_bytes().count(b"\n") < lines):
        assert time.monotonic() - began < 60
    ran = process.poll() is None
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    if ran and number == signal.SIGINT and process.returncode != 0:
        assert process.returncode in (130, -signal.SIGINT), (process.returncode, err)
        assert b"run the same command again" in err and b"Traceback" not in err, err
    return ran and process.returncode != 0


def assert_each_once(shop: Shop, count: int) -> None:
    """One answer for each prompt, in the input's order, and one charge."""
    found = answers(shop)
    assert [entry["line"] for entry in found] == list(range(1, count + 1))
    for number, entry in enumerate(found):
        assert entry["status_code"] == 20000
        text = entry["result"][0]["items"][0]["sections"][0]["text"]
        assert text.startswith(f"Scripted answer to: lake number {number}\n"), text
    assert len({entry["id"] for entry in found}) == count
    assert shop.charges() == (count, count * FEE)


def killed_twice(shop: Shop, count: int, chance: random.Random, latency: float) -> None:
    """kill -9, then Ctrl-C, each at a random line of the state file: while posting, or while answers come."""
    name = prompts_file(shop, count, latency)
    command = ("task", "post", name, "--wait", "--output", "answers.jsonl")
    posts = (count + 99) // 100
    first = chance.randrange(1, 2 * posts + 2)  # the run's own line, then two for each POST
    kills = ended(shop, signal.SIGKILL, first, *command)
    now = (shop.directory / STATE).read_bytes().count(b"\n")
    again = ended(shop, signal.SIGINT, now + chance.randrange(1, count // 2), *command)
    assert kills and again, "the run was over before it was killed twice"
    shop.run(*command)
    assert f"{count:,} of {count:,} answered" in shop.err and f"${count * FEE / 1e9:.2f} charged" in shop.err
    assert_each_once(shop, count)
    assert not (shop.directory / STATE).exists()


@pytest.mark.parametrize("seed", [7])
def test_killed_twice_each_prompt_is_paid_for_once(shop: Shop, seed: int) -> None:
    killed_twice(shop, 250, random.Random(seed), 1.0)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(10))
def test_a_thousand_prompts_killed_twice(shop: Shop, seed: int) -> None:
    """Issue 7, proof 3. The fixture's end audits the ledger."""
    killed_twice(shop, 1_000, random.Random(seed), 2.0)


def test_killed_between_a_post_and_its_answer(shop: Shop) -> None:
    """The worst moment, made on purpose: the server accepted a POST, and the state knows only that it was sent."""
    name = prompts_file(shop, 120)
    source = str(shop.directory / name)
    found = read(source, None, {"model_name": "gemini-2.5-flash"}, bounds(relaxed=False))
    with Journal(shop.directory / STATE, run_of(found, shop.served.url, shop.login)) as journal:
        send = journal.send(list(range(100)), time.time())

        async def post() -> None:
            async with Client(shop.served.url, shop.login, shop.password) as client:
                entries = await client.post_batch([found[task].task for task in send.tasks], key=send.key)
                assert all(entry.posted for entry in entries)

        import asyncio

        asyncio.run(post())
    shop.run("task", "post", name, "--output", "answers.jsonl")
    assert_each_once(shop, 120)


def test_what_failed_is_posted_again_and_nothing_else(shop: Shop) -> None:
    """Failures cost nothing and leave the state; the same command tries them alone, --new tries all."""
    lines = ["good one", "[[fail=boom]] bad one", "good two"]
    name = shop.write("prompts.txt", "\n".join(lines) + "\n\n")
    command = ("task", "post", name, "-o", "answers.csv")
    shop.run(*command, code=3)
    assert "2 of 3 answered" in shop.err and "1 failed" in shop.err and "post 1 of them anew" in shop.err
    rows = list(csv.DictReader(io.StringIO((shop.directory / "answers.csv").read_text("utf-8-sig"))))
    assert [(row["line"], row["status_code"], row["charged"]) for row in rows] == [
        ("1", "20000", "0.0002"), ("2", "50301", "0"), ("3", "20000", "0.0002"),
    ]  # fmt: skip
    first = rows[0]["id"]
    shop.run(*command, code=3)
    assert "going on with the run" in shop.err and shop.charges() == (2, 2 * FEE)
    assert first in (shop.directory / "answers.csv").read_text()
    other = shop.write("other.txt", "something else\n")
    (shop.directory / "prompts.txt").write_text("\n".join([*lines, "more"]))
    shop.run(*command, code=1)
    assert "its prompts or options were others" in shop.err and "--new" in shop.err
    shop.run(*command, "--new", code=3)
    assert shop.charges() == (5, 5 * FEE)
    shop.run("task", "post", other, "--state", "prompts.txt.restante", code=1)
    assert shop.charges() == (5, 5 * FEE)


def test_without_enough_money_it_stops_and_goes_on_after_a_top_up(shop: Shop) -> None:
    """The account is paused meanwhile, so that no task ends and gives back what it held."""
    shop.run("account", "top-up", shop.login, "--", "-18.98")  # 1.02 is left: 100 tasks
    shop.run("account", "pause", shop.login)
    name = prompts_file(shop, 250)
    assert len(shop.run("task", "post", name, code=3).splitlines()) == 200  # 100 with an id, 100 refused
    assert "100 of 250 posted" in shop.err and "Insufficient Funds" in shop.err and "50 not posted" in shop.err
    shop.run("account", "resume", shop.login)
    shop.run("account", "top-up", shop.login, "10")
    shop.run("task", "post", name, "--output", "answers.jsonl")
    assert_each_once(shop, 250)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "prompt\nx\n", "line 1: the header has no column user_prompt"),
        ("a.csv", "user_prompt,tagg\nx,y\n", "line 1: a task has no field 'tagg'; is it tag?"),
        ("a.csv", 'user_prompt,tag\nx,y\n"two\nlines",y,z\n', "line 3: this line has 3 cells, the header 2"),
        ("a.csv", "user_prompt,temperature\nx,hot\n", "line 2: temperature: 'hot' is no number"),
        ("a.csv", "user_prompt,web_search\nx,maybe\n", "line 2: web_search: 'maybe' is neither true nor false"),
        ("a.csv", 'user_prompt\n"open\n', "line 2: this is not CSV"),
        ("a.jsonl", '{"user_prompt":"x"}\n{"user_prompt":\n', "line 2: this is not JSON"),
        ("a.jsonl", '["x"]\n', "line 1: a line is one task"),
        ("a.jsonl", '{"user_prompt":"x","promt":1}\n', "line 1: a task has no field 'promt'; is it user_prompt?"),
        ("a.jsonl", '{"user_prompt":"x","temperature":"1"}\n', "line 1: temperature"),
        ("a.jsonl", '{"tag":"x"}\n', "line 1: there is no user_prompt"),
        ("a.txt", "ok\n\n" + "x" * 501 + "\n", "line 3: user_prompt (501 characters): expected"),
        ("a.jsonl", '{"user_prompt":"x","message_chain":' + "[" * 100_000, "line 1: this is not JSON"),
        ("a.txt", "\n \n", "holds no prompt"),
        ("a.txt", b"ok\n\xff\n", "line 2: this is not UTF-8"),
        ("none.txt", None, "cannot be read"),
    ],
)
def test_every_line_is_checked_before_anything_is_posted(
    tmp_path: Path, name: str, text: str | bytes | None, said: str
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(OperatorError) as caught:
        read(str(path), None, {"model_name": "gemini-2.5-flash"}, bounds(relaxed=False))
    assert said in caught.value.problem, caught.value.problem
    assert caught.value.exit_code == 2


def test_files_are_read_as_people_write_them(tmp_path: Path) -> None:
    """Marks at the beginning, line ends of Windows, semicolons of spreadsheets, defaults for what is not said."""

    def tasks(name: str, data: bytes, **common: Any) -> list[dict[str, Any]]:
        (tmp_path / name).write_bytes(data)
        within = bounds(relaxed=False, models={"m": True, "plain": False})
        found: list[Prompt] = read(str(tmp_path / name), None, {"model_name": "m", **common}, within)
        return [prompt.task for prompt in found]

    assert tasks("a.csv", '\ufeffuser_prompt;tag;web_search\r\nGrüße;;yes\r\n\r\n"b;\r\nc";x;0\r\n'.encode()) == [
        {"model_name": "m", "user_prompt": "Grüße", "web_search": True},
        {"model_name": "m", "user_prompt": "b;\r\nc", "tag": "x", "web_search": False},
    ]
    chain = '"[{""role"":""user"",""message"":""Hi""}]"'
    [task] = tasks("b.csv", f"user_prompt,max_output_tokens,message_chain\nx,1024.0,{chain}\n".encode(), tag="all")
    assert task["max_output_tokens"] == 1024 and task["message_chain"] == [{"role": "user", "message": "Hi"}]
    assert task["tag"] == "all"
    assert tasks("c.txt", b"one\r\n\r\n  two \n", tag="t") == [
        {"model_name": "m", "user_prompt": text, "tag": "t"} for text in ("one", "two")
    ]
    assert tasks("d.ndjson", b'{"user_prompt":"x","tag":null,"model_name":"plain"}\n', tag="t") == [
        {"model_name": "plain", "user_prompt": "x", "tag": "t"}
    ]
    within = bounds(relaxed=False, models={"m": True, "plain": False})
    for task, said in (
        ({"user_prompt": "x", "model_name": "mm"}, "no model 'mm' here; is it m?"),
        ({"user_prompt": "x", "model_name": "plain", "web_search": True}, "does not search the web"),
        ({"user_prompt": "x\0", "model_name": "m"}, "U+0000"),
        ({"user_prompt": "x", "model_name": "m", "use_reasoning": True, "max_output_tokens": 5}, "at least 1024"),
    ):
        assert said in (fault(task, within) or ""), task
    assert fault({"user_prompt": "x" * 5_000, "model_name": "m"}, bounds(relaxed=True)) is None


def entry(code: int, task_id: str = "i") -> Entry:
    return Entry(task_id, code, "said", "0 sec.", 0, 0, ["v3"], None, None)


def test_a_torn_state_is_as_if_its_last_line_had_never_been(tmp_path: Path) -> None:
    """Cut at every byte: what was sent and not confirmed is unsure, never left to be posted anew."""
    path = tmp_path / "state"
    run = Run("r", "d", 3, "u", "l")
    with Journal(path, run) as journal:
        journal.sent(journal.send([0, 1], 1.0), [entry(20100, "a"), entry(40501)])
        journal.end(0, entry(50301, "a"))
        journal.send([0, 1, 2], 2.0)
    whole = path.read_bytes()
    places = [place for place, byte in enumerate(whole) if byte == 10]
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with Journal(path, run) as journal:
            lines = sum(place < cut for place in places)
            known = [(set(), set()), (set(), set()), ({0, 1}, set()), (set(), {0}), (set(), {0}), (set(), set())]
            unsure = {task for send in journal.unsure.values() for task in send.tasks}
            assert (unsure, set(journal.ids)) == known[lines], cut
            assert set(journal.left()) == {0, 1, 2} - unsure - set(journal.ids)
            assert journal.send([2], 3.0).key == f"r-{(lines > 1) + 0}" if lines < 5 else True
    path.write_bytes(whole)
    with Journal(path, run) as journal:
        assert journal.left() == [] and [send.key for send in journal.unsure.values()] == ["r-1"]
        with pytest.raises(OperatorError, match="Another restante works"):
            Journal(path, run)
    for other, said in (
        (Run("r", "D", 3, "u", "l"), "its prompts or options were others"),
        (Run("r", "d", 3, "U", "l"), "posted to u as l"),
    ):
        with pytest.raises(OperatorError, match=said):
            Journal(path, other)
    path.write_bytes(b"not a state\n")
    with pytest.raises(OperatorError, match="no state file"):
        Journal(path, run)
    assert path.read_bytes() == b"not a state\n"


def test_a_post_of_the_day_before_yesterday_is_not_repeated_blindly(shop: Shop) -> None:
    """An Idempotency-Key has its answer for a day. Later the person decides."""
    name = prompts_file(shop, 3)
    found = read(str(shop.directory / name), None, {"model_name": "gemini-2.5-flash"}, bounds(relaxed=False))
    with Journal(shop.directory / STATE, run_of(found, shop.served.url, shop.login)) as journal:
        journal.send([0, 1, 2], time.time() - 86_400)
    shop.run("task", "post", name, "--wait", code=1)
    assert "cannot be told any more" in shop.err and "--repost" in shop.err and shop.charges() == (0, 0)
    shop.run("task", "post", name, "--output", "answers.jsonl", "--repost")
    assert_each_once(shop, 3)


def test_standard_input_and_prompts_themselves(shop: Shop) -> None:
    out = shop.run("task", "post", "-", "--wait", "--json", stdin='{"user_prompt":"from a pipe"}\n')
    assert [json.loads(line)["line"] for line in out.splitlines()] == [1] and "from a pipe" in out
    posted = shop.run("task", "post", "-", "--tag", "x", stdin="one\ntwo\n").splitlines()
    assert [line.split("\t")[0] for line in posted] == ["1", "2"] and "2 of 2 posted" in shop.err
    ids = [line.split("\t")[1] for line in posted]
    out = shop.run("task", "get", "--wait", *ids, "--json")
    assert [json.loads(line)["id"] for line in out.splitlines()] == ids
    out = shop.run("task", "post", "what is robots.txt", "--wait")  # ends like a file's name, and is none
    assert "Scripted answer to: what is robots.txt" in out and not shop.err
    shop.run("task", "post", "robots.txt", code=2)
    assert "cannot be read" in shop.err
    shop.run("task", "post", "a prompt", "-", code=2)
    shop.run("task", "post", "a prompt", "--new", code=2)
    assert shop.run("task", "post", "bad [[fail=boom]]", "--wait", code=3).count("50301") == 1
    assert list(shop.directory.iterdir()) == []


def test_a_dry_run_posts_nothing(shop: Shop) -> None:
    name = shop.write("p.csv", "user_prompt,max_output_tokens,web_search\nx,1000,true\ny,,\n")
    shown = shop.run("task", "post", name, "--wait", "--dry-run")
    quoted = json.loads(shop.run("quote", name, "--json"))
    # 0.0002 each, 3,048 tokens of output at $2.50 and a few of input at $0.30 a million, one search at $35 a thousand.
    [model] = quoted["models"]
    assert quoted["held"] == 2 * 10_200_000 and quoted["fees"] == 2 * FEE and model["searches"] == 35_000_000
    assert 3_048 * 2_500 < model["tokens"] < 3_048 * 2_500 + 60 * 300
    assert quoted["at_most"] == 2 * FEE + model["tokens"] + model["searches"]
    assert f"at the most\t{show_usd(quoted['at_most'])}\n" in shown and "held when posted\t0.0204" in shown
    assert shop.charges() == (0, 0) and [one.name for one in shop.directory.iterdir()] == [name]
    shop.run("quote", shop.write("q.csv", "user_prompt\n\n" + "x" * 501), code=2)
    unknown = json.loads(shop.run("quote", name, "--model", "mine", "--json"))
    assert unknown["models"][0]["known"] is False


def test_two_at_once_do_not_post_twice(shop: Shop) -> None:
    """Whoever has the state works on it; the other one is told."""
    name = prompts_file(shop, 20)
    command = ("task", "post", name, "--output", "answers.jsonl")
    found = read(str(shop.directory / name), None, {"model_name": "gemini-2.5-flash"}, bounds(relaxed=False))
    with Journal(shop.directory / STATE, run_of(found, shop.served.url, shop.login)):
        shop.run(*command, code=1)
        assert "Another restante works on these prompts" in shop.err and shop.charges() == (0, 0)
    shop.run(*command)
    assert_each_once(shop, 20)
