"""Hosts of their own: network namespaces on one switch, and this process beside them. Needs root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

#: The test's own network; its last number is the host's. 1 is this process.
NETWORK = "10.213.77"
HERE = f"{NETWORK}.1"


def become_missing() -> str | None:
    """Why no command can be run as another user; None: it can."""
    if os.geteuid() != 0:
        return "only root can run PostgreSQL's and PgBouncer's daemons as their user"
    return None if shutil.which("setpriv") else "setpriv (util-linux) is not installed"


def missing() -> str | None:
    """Why there can be no namespaces here; None: there can."""
    if (why := become_missing()) is not None:
        return why
    if shutil.which("ip") is None:
        return "ip (iproute2) is not installed"
    name = f"restante-{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"no network namespaces here: {made.stderr.strip()}"
    _ip("netns", "delete", name)
    return None


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=30)


def become(user: str) -> list[str]:
    """What to write before a command that root runs as another user."""
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]


class Network:
    """A switch in a namespace of its own, and hosts on it by name."""

    def __init__(self) -> None:
        self._prefix = f"rst{os.getpid()}"
        self._switch = f"{self._prefix}-switch"
        self._hosts: list[str] = []
        self._here = f"rst{os.getpid() % 100_000}"
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "bridge", "up")
        _ip("link", "add", self._here, "type", "veth", "peer", "name", "here", "netns", self._switch)
        _ip("-n", self._switch, "link", "set", "here", "master", "bridge", "up")
        _ip("address", "add", f"{HERE}/24", "dev", self._here)
        _ip("link", "set", self._here, "up")

    def add(self, host: str, number: int) -> str:
        """A new host; its address."""
        space, address = self._space(host), f"{NETWORK}.{number}"
        _ip("netns", "add", space)
        self._hosts.append(host)
        _ip("-n", space, "link", "add", "eth0", "type", "veth", "peer", "name", host, "netns", self._switch)
        _ip("-n", self._switch, "link", "set", host, "master", "bridge", "up")
        _ip("-n", space, "link", "set", "lo", "up")
        _ip("-n", space, "link", "set", "eth0", "up")
        self.give(host, address)
        return address

    def give(self, host: str, address: str) -> None:
        """One more address for a host. The others forget whose it was, as gratuitous ARP would make them."""
        _ip("-n", self._space(host), "address", "add", f"{address}/24", "dev", "eth0")
        for other in self._hosts:
            _ip("-n", self._space(other), "neighbour", "flush", "all")

    def cut(self, host: str) -> None:
        """Pull the cable at the switch: the host does not notice, nothing is said to anybody."""
        _ip("-n", self._switch, "link", "set", host, "nomaster")

    def mend(self, host: str) -> None:
        """Put the cable back."""
        _ip("-n", self._switch, "link", "set", host, "master", "bridge")

    def on(self, host: str, user: str | None = None) -> list[str]:
        """What to write before a command that runs on a host, as `user`."""
        return ["ip", "netns", "exec", self._space(host), *([] if user is None else become(user))]

    def run(self, host: str, user: str, *command: str | Path) -> str:
        """Run a command on a host to its end; its output."""
        words: Sequence[str | Path] = [*self.on(host, user), *command]
        done = subprocess.run(words, cwd="/", capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def close(self) -> None:
        """Take everything away; the cables go with their hosts."""
        for space in [*map(self._space, self._hosts), self._switch]:
            subprocess.run(["ip", "netns", "delete", space], check=False, capture_output=True, timeout=30)
        # A namespace lives as long as a process in it; the cable to here must go in any case.
        subprocess.run(["ip", "link", "delete", self._here], check=False, capture_output=True, timeout=30)

    def _space(self, host: str) -> str:
        return f"{self._prefix}-{host}"
