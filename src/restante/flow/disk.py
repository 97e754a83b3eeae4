"""Disk on the disk: below a reserve no new task is taken, so that what was taken can still be settled and brought.

Only whoever takes tasks looks, once a second. PostgreSQL itself has no such reserve: on a full disk it stops, and
starts again when somebody has made room (store/embedded_postgres.py).
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from restante.core.errors import InternalError, RestanteError
from restante.core.limits import DISK_LOOK_SECONDS, DISK_RESUME
from restante.core.reserve import Reserve, show_bytes

log = logging.getLogger("restante.disk")

#: Bytes of the file system that a path is on: all of them, and those that are free for everybody.
Measure = Callable[[Path], tuple[int, int]]


class DiskFull(RestanteError):
    """The disk is almost full: no new task is taken now. Nothing was changed."""


def measure(path: Path) -> tuple[int, int]:
    """The whole and the free bytes of the file system of a path. Raises OSError."""
    found = shutil.disk_usage(path)
    return found.total, found.free


class Disk:
    """What one process knows of the disk at `path`; None: nothing can be known, and there is always room."""

    def __init__(self, path: Path | None = None, reserve: Reserve = Reserve(), measure: Measure = measure) -> None:  # noqa: B008 (frozen)
        self._path = path
        self._reserve = reserve
        self._measure = measure
        self._refused = 0
        self._unread = False
        #: The disk has less than the reserve.
        self.short = False
        #: Free bytes, and those that are kept in reserve; None: not known.
        self.room: tuple[int, int] | None = None

    def check(self) -> None:
        """Raises DiskFull."""
        if self.short:
            self._refused += 1
            raise DiskFull("the disk is almost full")

    def look(self) -> None:
        """Look now. What cannot be read stays as it was."""
        if self._path is None:
            return
        try:
            whole, free = self._measure(self._path)
        except OSError as error:
            if not self._unread:
                log.error("how full the disk of %s is cannot be read (%s): it counts as before", self._path, error)
            self._unread = True
            return
        self._unread = False
        reserve = self._reserve.of(whole)
        self.room = free, reserve
        if not self.short and free < reserve:
            self.short = True
            log.error(
                "the disk of %s is almost full: %s are free, %s are kept in reserve (RESTANTE_DISK_RESERVE). New tasks"
                " are refused with %d; running, settling, bringing and collecting go on. Free some space: then tasks"
                " are taken again, by themselves",
                self._path, show_bytes(free), show_bytes(reserve), InternalError.code,
            )  # fmt: skip
        elif self.short and free >= min(reserve * DISK_RESUME, whole):
            self.short = False
            log.warning(
                "the disk of %s has room again (%s free): new tasks are taken; %d calls were refused meanwhile",
                self._path, show_bytes(free), self._refused,
            )  # fmt: skip
            self._refused = 0

    async def keep(self) -> None:
        """Look every second, until cancelled: in a thread, since a network's disk may hang."""
        while True:
            await asyncio.sleep(DISK_LOOK_SECONDS)
            await asyncio.to_thread(self.look)
