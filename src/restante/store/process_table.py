"""What the kernel tells of other processes, where it does (Linux; not macOS, nor under hidepid)."""

from __future__ import annotations

import os
from pathlib import Path


def command_line(pid: int) -> list[bytes] | None:
    """The arguments of a process: [b""] of a zombie or none. None where the kernel does not tell (macOS, hidepid)."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None if exists(pid) else [b""]


def exists(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def children(pid: int) -> list[int]:
    """The processes a process has started; none where the kernel does not tell."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_server_child(pid: int) -> bool:
    """Whether it is one of those that a PostgreSQL server starts."""
    arguments = command_line(pid)
    return arguments is not None and arguments[0].startswith(b"postgres: ")


def stopped(pid: int) -> bool:
    """Whether a process is frozen: by SIGSTOP, a debugger, a paused container's kin."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False
