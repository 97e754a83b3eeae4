"""The log: one line an event, whatever other people put into it."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterator

import pytest

from restante.wiring import configure_logging

_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z [A-Z]+ [a-z.]+: ")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What `configure_logging` makes of standard error; afterwards logging is as it was."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers[:] = []  # not closed by `force`: they are pytest's
    monkeypatch.setattr(sys, "stderr", text := io.StringIO())
    configure_logging("info")
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
