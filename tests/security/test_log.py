"""The log: one line an event, whatever other people put into it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Literal

import pytest

from restante.flow.group import Group
from restante.observing import current
from restante.observing.metrics import LOG_LINES
from restante.observing.traces import TRACES, Span, trace_id
from restante.wiring import configure_logging

_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ [a-z.]+: ")


@pytest.fixture
def log(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What `configure_logging` makes of standard error; afterwards logging is as it was."""
    form: Literal["text", "json"] = getattr(request, "param", "text")
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = []  # not closed by `force`: they are pytest's
    monkeypatch.setattr(sys, "stderr", text := io.StringIO())
    configure_logging("info", form)
    yield text
    root.handlers[:] = before
    root.setLevel(level)


def test_nobody_writes_lines_of_their_own(log: io.StringIO) -> None:
    forged = "/v3/x\n2026-01-01T00:00:00.000Z ERROR restante: all is lost\r\x1b[2J\x85\u2028\0é🚆"
    logging.getLogger("restante.api").error("GET %s: refused", forged)
    [line] = log.getvalue().splitlines()
    assert _LINE.match(line) and line.endswith("é🚆: refused")
    assert r"x\n2026" in line and line.isprintable()


def test_a_traceback_follows_on_lines_of_its_own(log: io.StringIO) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("restante.api").exception("it broke")
    first, *more = log.getvalue().splitlines()
    assert first.endswith("it broke") and more[0].startswith("Traceback")


# --- RESTANTE_LOG_FORMAT=json ---------------------------------------------------------------------------

as_json = pytest.mark.parametrize("log", ["json"], indirect=True)
TASK = "11201415-00ff-0613-0000-5d0c1be9a7f3"
OTHER = "11201415-0003-0613-0000-5d0c1be9a7f3"


@as_json
def test_nobody_writes_json_lines_of_their_own(log: io.StringIO) -> None:
    for one in logging.getLogger().handlers[:]:
        if type(one).__module__.startswith("_pytest"):  # xdist cannot bring half a surrogate pair home
            logging.getLogger().removeHandler(one)
    forged = 'x"}\n{"level":"error"}\r\x1b[2J\x85\u2028\0é🚆\udcff'
    logging.getLogger("restante.api").error("GET %s: refused", forged)
    [line] = log.getvalue().splitlines()
    assert line.isprintable()
    told = json.loads(line)
    assert told["message"] == f"GET {forged}: refused".replace("\udcff", "\\udcff")
    assert (told["level"], told["logger"]) == ("error", "restante.api")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told["time"])


@as_json
def test_a_traceback_is_in_its_line(log: io.StringIO) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logging.getLogger("restante.api").exception("it broke")
    [line] = log.getvalue().splitlines()
    told = json.loads(line)
    assert told["message"] == "it broke" and told["exception"].startswith("Traceback")
    assert told["exception"].endswith("ValueError: two\nlines")


@as_json
async def test_lines_say_whom_they_are_about(log: io.StringIO) -> None:
    """A task that the message names, else the one that is worked for, whoever logs; an account that calls."""
    logger = logging.getLogger("restante.here")  # of nobody else, whose level a test may have changed

    async def run() -> None:
        current.task.set(TASK)
        logger.info("no answer from Gemini")
        logger.info("%s-postback to shop.example: HTTP 500", OTHER)

    async def call() -> None:
        current.account.set(7)
        logger.info("no password can be checked")

    await asyncio.gather(run(), call())
    logger.info("the worker serves")
    told = {line["message"]: line for line in map(json.loads, log.getvalue().splitlines())}
    assert (told["no answer from Gemini"]["task"], told["no answer from Gemini"]["account"]) == (TASK, 255)
    named = told[f"{OTHER}-postback to shop.example: HTTP 500"]
    assert (named["task"], named["account"]) == (OTHER, 3)
    assert told["no password can be checked"]["account"] == 7
    assert not {"task", "account"} & told["the worker serves"].keys()


@as_json
async def test_what_is_done_for_many_is_nobodys(log: io.StringIO) -> None:
    """A group commit is started by its first member, and is not about it."""

    async def commit(members: object) -> list[None]:
        logging.getLogger("restante.settle").warning("answers are kept until the database is back")
        return [None]

    async def member() -> None:
        current.task.set(TASK)
        group: Group[int, None] = Group(commit)
        await group.submit(1)

    await asyncio.create_task(member())
    assert "task" not in json.loads(log.getvalue())


@as_json
def test_lines_of_a_traced_task_name_its_trace(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nowhere:
        def record(self, span: Span) -> None: ...

    monkeypatch.setattr(TRACES, "recorder", Nowhere())
    logging.getLogger("restante.run").info("task %s: overloaded", TASK)
    assert json.loads(log.getvalue())["trace_id"] == f"{trace_id(TASK):032x}"


def test_lines_are_counted_by_level(log: io.StringIO) -> None:
    before = dict(LOG_LINES.values)
    logging.getLogger("restante.api").error("a line")
    logging.getLogger("restante.api").debug("none")
    grown = {level: n - before.get(level, 0) for level, n in LOG_LINES.values.items() if n != before.get(level, 0)}
    assert grown == {("error",): 1}
