"""The state file of `restante task post FILE`: what was posted and what came back, so that a run can be ended by
anything at any moment and gone on with, and no prompt is paid for twice.

Lines of JSON, appended. Before a POST its tasks and its Idempotency-Key are on the disk; a POST whose end nobody saw is
repeated with that key and gets the first answer (contract §12.24). After it, the ids are. An answer is noted, too, but
not waited for: it can be fetched again. A line that a crash tore off is as if it had never been written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from restante.client import Entry
from restante.core import errors
from restante.core.errors import OperatorError

_VERSION: Final = 1
#: Ends after which a task may be paid for although its answer cannot be had: never posted again by itself.
_LOST: Final = frozenset(
    {errors.ForeignTask.code, errors.OtherFunction.code, errors.TaskNotFound.code, errors.ResultsExpired.code}
)


class Run(msgspec.Struct, frozen=True, tag="run"):
    """The first line: which run this is. `fingerprint` is of all tasks as they are posted."""

    run: str
    fingerprint: str
    tasks: int
    url: str
    login: str
    version: int = _VERSION


class Send(msgspec.Struct, frozen=True, tag="send"):
    """A POST is about to be sent. `at` in seconds since 1970."""

    number: int
    key: str
    tasks: Sequence[int]
    at: float


class Sent(msgspec.Struct, frozen=True, tag="sent"):
    """It was answered: the id of each task that was accepted, empty where one was refused (its End follows)."""

    number: int
    ids: Sequence[str]


class End(msgspec.Struct, frozen=True, tag="end"):
    """A task was answered, failed or was refused."""

    task: int
    entry: Entry


_Line = Run | Send | Sent | End
_decoder = msgspec.json.Decoder(_Line)


class Journal:
    """An open state file, locked; `path` None keeps it to this process. Used by `with`.

    Tasks are known by their place in the input, from 0. `unsure`: POSTs whose end nobody saw. `ids`: tasks accepted and
    not ended. `answered`, `failed`: how they ended; `lost`: those whose answers cannot be had any more.
    """

    def __init__(self, path: Path | None, run: Run, *, anew: bool = False) -> None:
        """Open or begin it; `anew`: whatever was in it. Raises OperatorError when it is another run's,
        in use, damaged or cannot be written."""
        self.path = path
        self.run = run
        self.unsure: dict[int, Send] = {}
        self.ids: dict[int, str] = {}
        self.answered: dict[int, int] = {}  # where its line stands in the file
        self.failed: dict[int, int] = {}
        self.lost: dict[int, int] = {}
        self.charged = 0  # nano-dollars
        self.resumed = False
        self._sends = 0
        try:
            self._file = _opened(path)
        except OSError as error:
            raise self._unwritable(error, "Another place: --state FILE.") from None
        try:
            if anew:
                os.ftruncate(self._file, 0)
            self._size = os.fstat(self._file).st_size
            self._load()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        os.close(self._file)

    def left(self) -> list[int]:
        """Tasks to post: never posted, refused or failed, none of which cost anything."""
        asked = {task for send in self.unsure.values() for task in send.tasks}
        known = asked | self.ids.keys() | self.answered.keys() | self.lost.keys()
        return [task for task in range(self.run.tasks) if task not in known]

    def send(self, tasks: Sequence[int], at: float) -> Send:
        """Note that these are about to be posted, on the disk when this returns."""
        send = Send(self._sends, f"{self.run.run}-{self._sends}", tasks, at)
        self._append([send], sync=True)
        return send

    def forget(self, send: Send) -> None:
        """Take a POST whose end nobody saw for one that never was: its tasks are posted anew."""
        self._append([Sent(send.number, [""] * len(send.tasks))], sync=True)

    def sent(self, send: Send, entries: Sequence[Entry]) -> None:
        """Note how a POST was answered, on the disk when this returns."""
        lines: list[_Line] = [Sent(send.number, [entry.id if entry.posted else "" for entry in entries])]
        lines += [End(task, one) for task, one in zip(send.tasks, entries, strict=True) if not one.posted]
        self._append(lines, sync=True)

    def end(self, task: int, entry: Entry) -> None:
        """Note how a task ended."""
        self._append([End(task, entry)])

    def entry(self, task: int) -> Entry | None:
        """How a task ended, if it has."""
        place = next((ends[task] for ends in (self.answered, self.failed, self.lost) if task in ends), None)
        if place is None:
            return None
        os.lseek(self._file, place, os.SEEK_SET)
        with open(os.dup(self._file), "rb") as file:  # noqa: PTH123 (a descriptor)
            line = _decoder.decode(file.readline())
        assert isinstance(line, End)
        return line.entry

    def finish(self) -> None:
        """The run is over: the next one begins anew."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _append(self, lines: Iterable[_Line], *, sync: bool = False) -> None:
        try:
            for line in lines:
                text = msgspec.json.encode(line) + b"\n"
                os.lseek(self._file, self._size, os.SEEK_SET)
                if os.write(self._file, text) != len(text):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._note(line, self._size)
                self._size += len(text)
            if sync:
                os.fsync(self._file)
        except OSError as error:
            raise self._unwritable(error, "Nothing is lost: make room, and run the same command again.") from None

    def _load(self) -> None:
        """Read what is there; a torn last line is cut off. Nothing there: begin."""
        good = 0
        with open(os.dup(self._file), "rb") as file:  # noqa: PTH123 (a descriptor)
            for text in file:
                if not text.endswith(b"\n"):
                    break
                try:
                    line = _decoder.decode(text)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    raise self._damaged() from None
                if isinstance(line, Run) != (good == 0):
                    raise self._damaged()
                try:
                    self._note(line, good)
                except (LookupError, ValueError):  # what follows from no line before it
                    raise self._damaged() from None
                good += len(text)
        if good != self._size:
            os.ftruncate(self._file, good)
            self._size = good
        if good == 0:
            self._append([self.run], sync=True)
            if self.path is not None:
                _sync_directory(self.path)
        else:
            self.resumed = True

    def _note(self, line: _Line, place: int = 0) -> None:
        match line:
            case Run():
                self._same(line)
            case Send():
                if not all(0 <= task < self.run.tasks for task in line.tasks):
                    raise ValueError(line.tasks)
                self._sends = line.number + 1
                self.unsure[line.number] = line
                for task in line.tasks:
                    self.failed.pop(task, None)
            case Sent():
                send = self.unsure.pop(line.number)
                self.ids |= {task: one for task, one in zip(send.tasks, line.ids, strict=True) if one}
            case End():
                self.ids.pop(line.task, None)
                self._ends(line.entry)[line.task] = place
                self.charged += line.entry.charged

    def _ends(self, entry: Entry) -> dict[int, int]:
        if entry.answered:
            return self.answered
        return self.lost if entry.status_code in _LOST else self.failed

    def _same(self, begun: Run) -> None:
        """The file is this input's, on this server."""
        if begun.version != _VERSION:
            raise OperatorError(f"{self.path} is of another version of restante.", self._anew)
        if (begun.url, begun.login) != (self.run.url, self.run.login):
            raise OperatorError(
                f"{self.path} is of a run that was posted to {begun.url} as {begun.login}.",
                f"Go on there, or: {self._anew}",
            )
        if begun.fingerprint != self.run.fingerprint:
            raise OperatorError(
                f"{self.path} is of an unfinished run, and its prompts or options were others ({begun.tasks:,} tasks).",
                f"Go on with those, or: {self._anew}",
            )
        self.run = begun

    def _unwritable(self, error: OSError, remedy: str) -> OperatorError:
        return OperatorError(f"The state file {self.path} cannot be written: {error.strerror or error}.", remedy)

    def _damaged(self) -> OperatorError:
        return OperatorError(f"{self.path} is no state file of restante, or damaged.", self._anew)

    @property
    def _anew(self) -> str:
        return "--new forgets that run and posts everything, which is paid for anew."


def _opened(path: Path | None) -> int:
    """A descriptor of the file, locked. Raises OSError, and OperatorError when another process has it."""
    if path is None:
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    while True:
        file_number = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file_number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file_number)
            raise OperatorError(
                f"Another restante works on these prompts: it has {path} open.", "Wait for it, or end it."
            ) from None
        try:
            if os.path.samestat(os.fstat(file_number), path.stat()):
                return file_number
        except FileNotFoundError:
            pass  # whoever had it has just finished and removed it
        os.close(file_number)


def _sync_directory(path: Path) -> None:
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
