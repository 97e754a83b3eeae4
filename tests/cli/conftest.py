"""A restante that may call loopback addresses, shared by the tests of one process."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from restante.cli import main
from tests.chaos.processes import look
from tests.support import COMMAND, Restante, running


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restante]:
    """As `restante`, with webhooks to 127.0.0.1, and id_list without a rate, for `tail`."""
    settings = {"WEBHOOK_ALLOW": "127.0.0.1", "RATE_ID_LIST": "0"}
    with running(tmp_path_factory.mktemp("served"), "--provider", "scripted", **settings) as up:
        yield up


class Shop:
    """A prepaid account, and commands as it, in a directory of its own."""

    def __init__(self, served: Restante, directory: Path, usd: str = "20") -> None:
        self.served = served
        self.directory = directory
        self.login, self.password = served.account(f"shop-{directory.name}-{os.urandom(3).hex()}", usd)
        own = {"RESTANTE_URL": served.url, "RESTANTE_LOGIN": self.login, "RESTANTE_PASSWORD": self.password}
        self.env = served.env | own

    def run(self, *arguments: str, code: int = 0, stdin: str = "") -> str:
        """What a command printed, after it ended with this exit code: the entry point itself, in this process."""
        streams = [
            io.TextIOWrapper(io.BytesIO(data), "utf-8", write_through=True) for data in (stdin.encode(), b"", b"")
        ]
        root = logging.getLogger()
        before = root.handlers[:], root.level
        ended = 0
        with (
            patch.dict(os.environ, self.env, clear=True),
            patch.multiple(
                "sys", argv=["restante", *arguments], stdin=streams[0], stdout=streams[1], stderr=streams[2]
            ),
            contextlib.chdir(self.directory),
        ):
            try:
                main()
            except SystemExit as exit_:
                ended = exit_.code if isinstance(exit_.code, int) else 1
            finally:
                root.handlers[:], root.level = before
        out, self.err = (stream.buffer.getvalue().decode() for stream in streams[1:])
        assert ended == code, (ended, out, self.err)
        assert "Traceback" not in self.err
        return out

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A command in a process of its own."""
        pipe = subprocess.PIPE
        self.popen = subprocess.Popen(
            [*COMMAND, *arguments], env=self.env, cwd=self.directory, stdin=pipe, stdout=pipe, stderr=pipe
        )
        return self.popen

    def charges(self) -> tuple[int, int]:
        """Its settlements that charged something, and the nano-dollars it has spent."""

        async def work(connection: Any) -> tuple[int, int]:
            row = await connection.fetchrow(
                "select spent, (select count(*) from transfer t where t.account_id = a.id and kind = 3 and t.spent > 0)"
                " as charges from account a where login = $1",
                self.login,
            )
            return row["charges"], row["spent"]

        with ThreadPoolExecutor(1) as thread:  # a test may have a loop of its own
            found: tuple[int, int] = thread.submit(look, self.served.data_dir, work).result()
        return found

    def write(self, name: str, text: str) -> str:
        """A file in its directory; its name."""
        (self.directory / name).write_text(text)
        return name


@pytest.fixture
def shop(served: Restante, tmp_path: Path) -> Shop:
    """A new account with $20."""
    return Shop(served, tmp_path)
