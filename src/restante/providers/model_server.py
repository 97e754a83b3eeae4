"""One running demonstration model per data directory, shared by every restante process that needs it.

Whoever needs the model first starts a child process (model_child) and writes where it listens, and its key, to
`server.json`; the others use that. The child dies with the process that started it; the others notice at their next
call and, one of them, start another. `start.lock` makes looking and starting one step.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Final

import aiohttp
import msgspec

from restante.core.errors import OperatorError
from restante.core.limits import MODEL_LOCK_POLL_SECONDS as LOCK_POLL_SECONDS
from restante.core.limits import MODEL_LOCK_SECONDS as LOCK_SECONDS
from restante.core.limits import MODEL_LOG_TAIL_BYTES as LOG_TAIL_BYTES
from restante.core.limits import MODEL_PROBE_SECONDS as PROBE_SECONDS
from restante.core.limits import MODEL_START_SECONDS as START_SECONDS
from restante.core.limits import MODEL_STOP_SECONDS as STOP_SECONDS
from restante.providers.model_files import require_engine

# The child runs native code and needs no secret of ours: only what finds Python and its packages is passed on.
_ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH")


class Address(msgspec.Struct, frozen=True):
    """A running server: where it listens, the key it wants, its model's file, and the process that started it."""

    url: str
    key: str
    model: str
    owner_pid: int

    @property
    def headers(self) -> dict[str, str]:
        """What every request to it carries."""
        return {"Authorization": f"Bearer {self.key}"}

    def __repr__(self) -> str:
        return f"Address({self.url}, owner_pid={self.owner_pid})"  # no key in logs


class ModelServer:
    """Finds the model's server, or starts it. Belongs to one event loop, that of a thread which lives on: on Linux the
    child dies with the *thread* that started it."""

    def __init__(self, state_dir: Path, model_path: Path) -> None:
        """`state_dir` (made on demand, 0700) is what the processes share; `model_path` the .gguf file.

        Raises OperatorError when the engine is not installed.
        """
        require_engine()
        self._state_dir = state_dir
        self._model_path = model_path.absolute()
        self._turn = asyncio.Lock()
        self._address: Address | None = None
        self._child: Process | None = None
        self._own: Address | None = None  # what the child was last written down as
        self._closed = False
        cores = _cores()
        #: Generations at once; more only wait in the engine, where they cannot be seen. Memory follows it: 530 MiB for
        #: 2, 870 for 4 (measured).
        self.slots = 2 if cores <= 2 else 4
        # One core stays free: with all of them, answers took several times as long beside other load (measured).
        self._threads = max(1, cores - 1)

    async def address(self) -> Address:
        """The server to ask: the one last used, else another process's, else one started now (about a second).

        Raises OperatorError when none can be started.
        """
        async with self._turn:
            if self._closed:
                raise OperatorError("The demonstration model has been stopped.")
            if self._address is None:
                self._address = await self._share_or_start()
            return self._address

    def doubt(self) -> None:
        """The server did not answer as it should: the next `address()` looks whether it still lives."""
        self._address = None

    async def close(self) -> None:
        """Stop the server if this process started it. `address()` fails from now on."""
        self._closed = True
        async with self._turn:
            self._address = None
            # Before the child goes, and without the lock: while it answers, nobody else replaces the file.
            with suppress(OSError):  # a file left behind is harmless, a child is not
                if self._own is not None and _read(self._state_file) == self._own:
                    self._state_file.unlink()
            await self._stop_child()

    @property
    def _state_file(self) -> Path:
        return self._state_dir / "server.json"

    async def _share_or_start(self) -> Address:
        try:
            self._state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            async with _locked(self._state_dir / "start.lock"):
                known = _read(self._state_file)
                if known is not None and known.model == str(self._model_path) and await _answers(known):
                    if known != self._own:
                        await self._stop_child()  # ours hung, and another process has started a new one
                    return known
                await self._stop_child()
                self._own = await self._start_child()
                _write(self._state_file, self._own)
                return self._own
        except OSError as error:
            raise OperatorError(f"The demonstration model cannot be started: {error}.") from error

    async def _start_child(self) -> Address:
        """A child that answers. Should this be cancelled half-way, `_child` knows what there is to stop."""
        log = self._state_dir / "server.log"
        with _private(log) as stderr:
            self._child = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-P", "-m", "restante.providers.model_child"),
                *(str(self._model_path), str(self.slots), str(self._threads)),
                stdin=PIPE,
                stdout=PIPE,
                stderr=stderr,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                start_new_session=True,  # Ctrl-C is for us; the child answers until we are done
            )
        key = secrets.token_urlsafe(32)
        url = await _hand_over(self._child, key)
        if url is None:
            await self._stop_child()
            raise OperatorError(
                "The demonstration model does not start.", f"Its process said ({log}):\n{_tail(log) or '(nothing)'}"
            )
        return Address(url, key, str(self._model_path), os.getpid())

    async def _stop_child(self) -> None:
        """Let the child end, by force if need be, and reap it. Does nothing when there is none."""
        child = self._child
        if child is None:
            return
        if child.stdin is not None:
            child.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await child.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
        self._child = None


async def _hand_over(child: Process, key: str) -> str | None:
    """Tell a fresh child its key and hear its URL; None when it ends, or says nothing in time."""
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            child.stdin.write(f"{key}\n".encode())
            await child.stdin.drain()
            line = await child.stdout.readline()
        return msgspec.json.decode(line, type=dict[str, str])["url"]
    except (TimeoutError, ConnectionError, msgspec.DecodeError, KeyError):
        return None


async def _answers(address: Address) -> bool:
    """Whether a server is there and knows the key: a stranger may listen on the port of one that died."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PROBE_SECONDS)) as session,
            session.get(f"{address.url}/v1/models", headers=address.headers, allow_redirects=False) as response,
        ):
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """Hold the lock file, which every restante process of this data directory respects. Raises OperatorError."""
    with _lock_file(path) as file:  # Python opens it close-on-exec: the child does not inherit the lock
        try:
            async with asyncio.timeout(LOCK_SECONDS):
                while not _try_lock(file):
                    await asyncio.sleep(LOCK_POLL_SECONDS)
        except TimeoutError:
            raise OperatorError(f"Another restante process has held {path} for {LOCK_SECONDS:.0f} s.") from None
        yield


def _lock_file(path: Path) -> IO[bytes]:
    return path.open("ab")


def _try_lock(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> Address | None:
    """The server last written down; None when there is none, or nothing that makes sense."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Address)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _write(path: Path, address: Address) -> None:
    """All at once, and readable by nobody else. The caller holds the lock, so the temporary name is its own."""
    scratch = path.with_suffix(".new")
    scratch.unlink(missing_ok=True)
    with _private(scratch) as file:
        file.write(msgspec.json.encode(address))
    scratch.replace(path)


def _private(path: Path) -> IO[bytes]:
    """The file opened for writing from its beginning, created 0600."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb")


def _tail(path: Path) -> str:
    return path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()


def _cores() -> int:
    """The cores this process may use; in a container that can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
