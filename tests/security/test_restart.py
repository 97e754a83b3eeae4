"""docs/restart.md: API processes are replaced under load, and no client notices: no request refused, none cut off."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from restante.app import listen
from restante.config import load
from restante.core.errors import OperatorError
from restante.store.embedded_postgres import EmbeddedPostgres
from restante.web.closing import refuse_newcomers
from tests.chaos.processes import House, house
from tests.security.traffic import Traffic, one
from tests.support import Process, differences, look

pytestmark = [pytest.mark.skipif(sys.platform != "linux", reason="sockets are shared and filtered as Linux does")]

# What systemd does with a unit that has Sockets=: the socket is descriptor 3 of the command.
AS_SYSTEMD = (
    sys.executable, "-c", "import os, sys; os.dup2(int(sys.argv[1]), 3); os.execv(sys.argv[2], sys.argv[2:])",
)  # fmt: skip


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    """A socket that outlives the processes which accept from it."""
    with socket.create_server(("127.0.0.1", 0), backlog=4_096) as server:
        server.set_inheritable(True)
        yield server


class Api:
    """`restante api` processes of one installation, on a passed socket or on ports of their own."""

    def __init__(self, home: House) -> None:
        self._home = home
        self._number = 0

    def start(self, server: socket.socket | None = None) -> Process:
        self._number += 1
        env = self._home.env | {"RESTANTE_DRAIN_SECONDS": "20"}
        arguments = ["api", "--provider", "scripted"]
        directory, name = self._home.directory, f"api{self._number}"
        if server is None:
            process = Process(arguments, env, directory, name)
        else:
            fd = server.fileno()
            env["RESTANTE_FD"] = "3"
            process = Process(arguments, env, directory, name, before=[*AS_SYSTEMD, str(fd)], pass_fds=[fd])
        self._home.mind(process)
        return process


async def up(process: Process) -> int:
    """Its port, once it answers."""
    found = await asyncio.to_thread(process.wait_for, r"API is up at http://127\.0\.0\.1:([0-9]+)")
    return int(found[1])


async def drained(process: Process) -> None:
    """SIGTERM, and its end, with nothing cut off."""
    process.signal(signal.SIGTERM)
    assert await asyncio.to_thread(process.wait) == 0, process.log
    assert "Cancel" not in process.log and "Traceback" not in process.log, process.log


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """An installation that the tests share, its PostgreSQL running throughout."""
    directory = tmp_path_factory.mktemp("restart")
    with house(directory, RATE_TASK_POST="0", LIVE_AT_ONCE="0") as made, EmbeddedPostgres(made.data_dir):
        yield made


def assert_all_well(home: House, traffic: Traffic) -> None:
    """No request was lost, and what was accepted is what clients were told of: no more, no less."""
    assert not traffic.faults, traffic.faults[:5]
    accepted = [row["id"] for row in home.sql("select id::text as id from task where posted_at >= $1", traffic.began)]
    assert sorted(accepted) == sorted(traffic.ids)
    assert not look(home.data_dir, differences)


async def test_processes_on_one_socket_are_replaced_and_nobody_is_refused(home: House) -> None:
    """Systemd keeps the socket. As long as another process is there, nobody waits; while there is none, as for an
    upgrade that migrates, everybody does."""
    api = Api(home)
    with listening() as server:
        first, second = api.start(server), api.start(server)
        ports = {await up(first), await up(second)}
        assert ports == {server.getsockname()[1]}
        traffic = Traffic([*ports])
        traffic.start(keeping=8, fresh=4, slow=4)
        await traffic.further(100)
        lives = [asyncio.create_task(traffic.live(1.0)) for _ in range(8)]  # some are with the one that stops
        await traffic.further(50)
        await drained(first)
        await asyncio.gather(*lives)
        await traffic.further(50)  # answered by the other
        await drained(second)
        before = traffic.answered
        third = api.start(server)
        await up(third)
        await traffic.further(100)  # those that waited, and more
        await traffic.stop()
        assert traffic.answered >= before + 100
        await drained(third)
    await asyncio.to_thread(assert_all_well, home, traffic)


async def test_with_ports_of_their_own_what_had_connected_is_answered(home: House) -> None:
    """What had not is refused before anything was sent, so that a proxy asks the other one. On the way out of the last
    process: a connection that is idle is not closed on a client that is just about to ask."""
    api = Api(home)
    first, second = api.start(), api.start()
    traffic = Traffic([await up(first), await up(second)])
    traffic.start(keeping=6, fresh=12, slow=2)
    await traffic.further(200)
    await drained(first)
    await traffic.further(100)
    await traffic.stop()
    traffic.ports.reverse()
    async with traffic.connected() as unused, traffic.connected() as used:
        traffic.judge(await traffic.ask(*used, "task_post", one()), 20100)
        ending = asyncio.create_task(drained(second))
        await asyncio.to_thread(_refuses, traffic.ports[0])
        for reader, writer in (unused, used):
            answer = await traffic.ask(reader, writer, "task_post", one())
            traffic.judge(answer, 20100)
            assert answer.closes and await reader.read() == b""
        await ending
    await asyncio.to_thread(assert_all_well, home, traffic)


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("shared", [True, False], ids=["one socket", "a port each"])
async def test_ten_replacements_in_a_row(home: House, shared: bool) -> None:
    """There is always one that serves; the clients are more, and some calls are long."""
    api = Api(home)
    with listening() as server:
        both = [api.start(server if shared else None) for _ in range(2)]
        ports = [await up(one) for one in both]
        traffic = Traffic(ports)
        traffic.start(keeping=16, fresh=16, slow=8)
        for turn in range(10):
            await traffic.further(300)
            lives = [asyncio.create_task(traffic.live(0.3 * number)) for number in range(8)]
            await traffic.further(20)
            await drained(both[turn % 2])
            await asyncio.gather(*lives)
            both[turn % 2] = api.start(server if shared else None)
            traffic.ports[turn % 2] = await up(both[turn % 2])
        await traffic.stop()
        await asyncio.gather(*(drained(one) for one in both))
    print(f"{traffic.answered:,} calls on {'one socket' if shared else 'a port each'}, {len(traffic.faults)} faults")
    await asyncio.to_thread(assert_all_well, home, traffic)


def test_newcomers_are_overlooked_and_who_had_come_is_served() -> None:
    """What the kernel does for a socket that is about to be closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address) as early, socket.socket() as late:
            early.sendall(b"a call")
            assert refuse_newcomers(server)
            late.setblocking(False)
            late.connect_ex(address)
            served, _ = server.accept()
            with served:
                assert served.recv(100) == b"a call"
                served.sendall(b"an answer")
                assert early.recv(100) == b"an answer"
            assert select.select([], [late], [], 0.2)[1] == []  # neither connected nor refused
            server.close()
            assert select.select([], [late], [], 30)[1] == [late]
            assert late.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


def _refuses(port: int) -> None:
    """Wait until nobody listens there any more."""
    with contextlib.suppress(OSError):
        while True:
            socket.create_connection(("127.0.0.1", port), timeout=30).close()


@pytest.mark.parametrize("kind", ["file", "datagram", "not listening", "nothing"])
def test_what_was_passed_and_is_no_listening_socket_is_refused(tmp_path: Path, kind: str) -> None:
    made: dict[str, Callable[[], int]] = {
        "file": lambda: os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT),
        "datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach(),
        "not listening": lambda: socket.socket().detach(),
        "nothing": lambda: 1_000,
    }
    fd = made[kind]()
    with pytest.raises(OperatorError, match=f"RESTANTE_FD cannot be used: descriptor {fd}"):
        listen(load({"RESTANTE_FD": str(fd)}))
    if kind != "nothing":
        os.close(fd)  # it was not closed by us
