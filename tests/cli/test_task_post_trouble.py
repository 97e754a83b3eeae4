"""`restante task post FILE` where files, disks and servers are not as they should be."""

from __future__ import annotations

import asyncio
import csv
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
import pyarrow.parquet
import pytest
import typer

from restante.cli.export import _entries
from restante.cli.journal import Journal, Run
from restante.cli.moments import moment
from restante.cli.output import Output
from restante.cli.posting import Posting, kept_seconds
from restante.cli.prompts import Prompt
from restante.client import Client, Entry, ListedTask
from restante.client.calls import batches
from restante.core.errors import OperatorError
from restante.core.limits import BODY_BYTES
from tests.cli.conftest import Shop
from tests.cli.test_task_post import STATE, assert_each_once, prompts_file

pytestmark = pytest.mark.timeout(120)


@pytest.mark.parametrize("same", ["--output", "--state", "both"])
def test_nothing_is_written_over(shop: Shop, same: str) -> None:
    """Neither the prompts by their answers, nor the state, which goes when the run is over and took the answers with
    it."""
    name = prompts_file(shop, 1)
    before = (shop.directory / name).read_bytes()
    given = (
        ["--output", "a.jsonl", "--state", "./a.jsonl"]
        if same == "both"
        else [same, f"../{shop.directory.name}/{name}"]
    )
    shop.run("task", "post", name, "--wait", "--new", *given, code=2)
    assert "written over" in " ".join(shop.err.split()) and shop.charges() == (0, 0)
    assert [one.name for one in shop.directory.iterdir()] == [name] and (shop.directory / name).read_bytes() == before


def test_a_full_disk_is_said_and_the_answers_are_still_there(shop: Shop) -> None:
    name = prompts_file(shop, 2)
    (shop.directory / ".answers.jsonl.part").symlink_to("/dev/full")
    shop.run("task", "post", name, "--output", "answers.jsonl", code=1)
    assert "answers.jsonl cannot be written: No space left" in shop.err
    assert sorted(one.name for one in shop.directory.iterdir()) == [name, STATE]
    shop.run("task", "post", name, "--output", "answers.jsonl")
    assert_each_once(shop, 2)


@pytest.mark.parametrize("kept", [3_600.0, 60.0])
async def test_a_post_is_repeated_only_while_the_server_knows_its_key(kept: float) -> None:
    """RESTANTE_IDEMPOTENCY_HOURS may be less than a day: later the same key would buy again."""
    document = {
        "paths": {
            "/v3/ai_optimization/gemini/llm_responses/task_post": {
                "post": {"parameters": [{"name": "Idempotency-Key", "schema": {"x-kept-seconds": kept}}]}
            }
        }
    }
    assert kept_seconds(document) == kept and kept_seconds({}) == 86_400
    prompts = [Prompt(1, {"user_prompt": "x"})]
    with Journal(None, Run("r", "d", 1, "u", "l")) as journal:
        journal.send([0], time.time() - kept)
        with pytest.raises(OperatorError, match="cannot be told any more"):
            await Posting(cast(Client, None), journal, prompts, kept=kept_seconds(document)).post()


def test_the_server_says_how_long_it_knows_a_key(shop: Shop) -> None:
    async def run() -> dict[str, Any]:
        async with Client(shop.served.url, shop.login, shop.password) as client:
            return await client.document()

    found = asyncio.run(run())
    assert "x-kept-seconds" in json.dumps(found) and kept_seconds(found) == 86_400


def test_large_tasks_go_in_posts_that_a_server_takes() -> None:
    """A relaxed server takes tasks of a megabyte, but no POST of a hundred of them; a refused one ended the run."""
    tasks = [{"user_prompt": str(number) + "é" * 100_000, "system_message": "é" * 100_000} for number in range(99)]
    made = list(batches(tasks))
    assert [task for batch in made for task in batch] == tasks and len(made) > 1
    assert all(len(msgspec.json.encode(batch)) < BODY_BYTES for batch in made)
    assert [len(batch) for batch in batches({"user_prompt": "x"} for _ in range(201))] == [100, 100, 1]
    assert list(batches([])) == []


_RUN = '{"type":"run","run":"r","fingerprint":"d","tasks":2,"url":"u","login":"l","version":1}'
_SEND = '{"type":"send","number":0,"key":"k","tasks":[0,1],"at":1.0}'
_SENT = '{"type":"sent","number":0,"ids":["a","b"]}'


@pytest.mark.parametrize(
    "lines", [[_SENT], [_SEND, _SENT, _SENT], [_SEND, _SENT.replace(',"b"', "")], [_SEND.replace("0,1", "0,7")]]
)
def test_a_damaged_state_is_said_in_words(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "state"
    path.write_text("\n".join([_RUN, *lines]) + "\n")
    with pytest.raises(OperatorError, match="or damaged"):
        Journal(path, Run("r", "d", 2, "u", "l"))


@pytest.mark.parametrize("text", ["999999w", "999999d", "0001-01-01T00:00+14:00", "yesterday"])
def test_what_is_no_moment_is_said(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="neither a time ago"):
        moment(text, datetime.now(UTC))


class _Expired(Client):
    """A server that charged for an answer which it does not keep any more."""

    async def listed(self, *_: Any, **__: Any) -> AsyncIterator[ListedTask]:
        yield ListedTask("i", "https://x/task_post", "2026-01-01 00:00:00 +00:00", None, "20000", 0.0023)

    async def get(self, task_id: str) -> Entry:
        return Entry(task_id, 40403, "Results Expired.", "0 sec.", 0, 0, ["v3", "task_get"], {}, None)


async def test_an_export_says_what_was_charged_for_an_answer_that_is_gone(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    [(gone, charged)] = [found async for found in _entries(_Expired("http://x", "l", "p"), now, now)]
    for name in ("a.csv", "a.parquet"):
        with Output(tmp_path / name, None) as out:
            out.write(gone, charged=charged)
    [row] = csv.DictReader((tmp_path / "a.csv").read_text("utf-8-sig").splitlines())
    assert (row["status_code"], row["charged"]) == ("40403", "0.0023")
    assert pyarrow.parquet.read_table(tmp_path / "a.parquet").to_pylist()[0]["charged"] == 0.0023
