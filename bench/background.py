"""Small servers of ours, `python -m bench.NAME`, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_STOP_SECONDS = 10.0


@contextmanager
def background(module: str, *arguments: str) -> Iterator[tuple[int, list[int]]]:
    """The server's pid and the ports it prints, for the block."""
    child = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert child.stdout is not None
        yield child.pid, [int(port) for port in child.stdout.readline().split()]
    finally:
        child.terminate()
        try:
            child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
