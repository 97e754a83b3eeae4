"""The previous release's processes, schema and data, and this one's, under clients that go on posting all the while."""

from __future__ import annotations

import asyncio
import re
import secrets
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from restante.store.schema import migrations
from restante.web.wire import FAMILY
from tests.chaos.processes import eventually, house
from tests.support import OPERATOR, Process, task

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
CLIENTS = 4


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    """The source of the last restante that knew our migrations but the newest ones."""
    ours = [name for _, name, _ in migrations()]
    directory = "src/restante/store/migrations"

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        for changed in git("rev-list", "--first-parent", "HEAD", "--", directory).split():
            before = f"{changed}^"
            known = [Path(path).name for path in git("ls-tree", "--name-only", before, f"{directory}/").split()]
            if known and known == ours[: len(known)] and len(known) < len(ours):
                git("archive", "--output", str(tmp_path / "old.tar"), before, "src")
                break
        else:
            pytest.skip("no such commit in the history here")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no history here: the previous release cannot be had")
    subprocess.run(["tar", "-x", "-C", tmp_path, "-f", tmp_path / "old.tar"], check=True)
    return tmp_path / "src"


class Clients(threading.Thread):
    """Post under a key of their own for each POST, and repeat it until it is answered, as docs/scale.md says."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url + FAMILY
        self.ended = threading.Event()
        self.accepted: dict[str, str] = {}  # id by key
        self.repeated = 0

    def run(self) -> None:
        asyncio.run(self._all())

    async def _all(self) -> None:
        headers = {"Authorization": aiohttp.encode_basic_auth(*OPERATOR, encoding="utf-8")}
        async with aiohttp.ClientSession(headers=headers) as session:
            await asyncio.gather(*(self._client(session, number) for number in range(CLIENTS)))

    async def _client(self, session: aiohttp.ClientSession, number: int) -> None:
        while not self.ended.is_set():
            key = f"{number}-{secrets.token_hex(8)}"
            body = msgspec.json.encode([task(f"name the lake of {key}", tag=key)])
            while key not in self.accepted:
                answer = await self._post(session, key, body)
                if answer is None:
                    self.repeated += 1
                    await asyncio.sleep(0.1)  # a client's pause
                else:
                    [entry] = answer["tasks"]
                    assert entry["status_code"] == 20100, entry
                    self.accepted[key] = entry["id"]

    async def _post(self, session: aiohttp.ClientSession, key: str, body: bytes) -> Any:
        try:
            async with session.post(f"{self._url}/task_post", data=body, headers={"Idempotency-Key": key}) as response:
                return msgspec.json.decode(await response.read()) if response.status == 200 else None
        except (aiohttp.ClientError, OSError):
            return None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_clients_feel_an_upgrade_as_a_pause(tmp_path: Path, previous: Path, number: signal.Signals) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with house(tmp_path, SCRIPTED_LATENCY="1", PORT=port, LEASE_SECONDS="3") as here:
        env = here.env | {"PYTHONPATH": str(previous)}
        old = Process(["up", "--provider", "scripted"], env, tmp_path, "old")
        here._started.append(old)
        old.wait_for(r"up at (http://\S+)")
        clients = Clients(f"http://127.0.0.1:{port}")
        clients.start()
        try:
            eventually("tasks of the old one", lambda: len(clients.accepted) > 200)
            at = here.sql("select max(version)::int as at from schema_migration")[0]["at"]
            assert at < migrations()[-1][0]
            old.signal(number)
            if number == signal.SIGTERM:
                assert old.wait() == 0
            before = len(clients.accepted)
            new = here.up("new")
            assert re.search(rf"migrating the database: {migrations()[-1][1]}", new.log)
            eventually("tasks of the new one", lambda: len(clients.accepted) > before + 200)
        finally:
            clients.ended.set()
            clients.join()
        assert clients.repeated
        ids = list(clients.accepted.values())
        found = here.collect(ids, 120)
        assert {entry["status_code"] for entry in found.values()} == {20000}
        here.settled()
        # One task for each key, whoever heard of it when: nothing lost, nothing posted twice.
        tags = here.sql("select tag from task")
        assert sorted(row["tag"] for row in tags) == sorted(clients.accepted)
        here.audit()
        doctor = here.start("doctor", "doctor", "--provider", "scripted")
        assert doctor.wait() <= 1, doctor.stdout
        print(f"\n{len(ids)} tasks, {before} of them the old one's; {clients.repeated} POSTs were repeated")
