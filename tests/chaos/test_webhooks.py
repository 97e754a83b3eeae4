"""Webhooks of a real restante to a real receiver, each in processes of their own; and kill -9 between attempts."""

from __future__ import annotations

import base64
import contextlib
import gzip
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from standardwebhooks import Webhook

from tests.chaos.processes import House, eventually, family, house, kill, workers
from tests.support import OPERATOR, Http, task

EACH = 200


class Client:
    """The receiver's process, and what came in there."""

    def __init__(self, file: Path, port: int) -> None:
        self.file = file
        self.url = f"http://127.0.0.1:{port}"

    def hits(self) -> list[dict[str, Any]]:
        lines = self.file.read_bytes().splitlines() if self.file.exists() else []
        return [msgspec.json.decode(line) for line in lines]

    def answers(self, status: int) -> None:
        self.file.with_suffix(".status").write_text(str(status))


@contextlib.contextmanager
def client(directory: Path) -> Iterator[Client]:
    file = directory / "hits"
    process = subprocess.Popen([sys.executable, "-m", "tests.chaos.receiver", str(file)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield Client(file, int(process.stdout.readline()))
    finally:
        process.kill()
        process.communicate()


def secrets(home: House) -> list[str]:
    shown = home.start("secret", "account", "webhook-secret", OPERATOR[0], "--json")
    assert shown.wait() == 0, shown.log
    found: list[str] = msgspec.json.decode(shown.stdout)["secrets"]
    return found


def verified(hit: dict[str, Any], secret: str) -> Any:
    """The envelope of a postback, None of a pingback; the signature is right."""
    body = base64.b64decode(hit["body"])
    plain = gzip.decompress(body) if body else b""
    Webhook(secret).verify(plain, hit["headers"], json_parse=False)
    return msgspec.json.decode(plain) if plain else None


def test_every_webhook_arrives_inflates_parses_and_verifies(tmp_path: Path) -> None:
    with client(tmp_path) as receiver, house(tmp_path, WEBHOOK_ALLOW="127.0.0.1") as home:
        home.up()
        url = receiver.url + "/$id?tag=$tag"
        began = time.monotonic()
        ids = home.post([task(postback_url=url, pingback_url=url, tag=f"n {n}") for n in range(EACH)])
        eventually("all webhooks", lambda: len(receiver.hits()) >= 2 * EACH)
        print(f"{2 * EACH} webhooks came within {time.monotonic() - began:.1f} s")
        home.until("select count(*) = $1 from delivery where state = 3", 2 * EACH)
        [secret] = secrets(home)
        hits = receiver.hits()
        assert Counter((hit["method"], hit["path"]) for hit in hits) == Counter(
            (method, f"/{task_id}?tag=n%20{n}") for n, task_id in enumerate(ids) for method in ("GET", "POST")
        )
        for hit in hits:
            envelope = verified(hit, secret)
            if hit["method"] == "POST":
                [entry] = envelope["tasks"]
                assert hit["path"].startswith("/" + entry["id"]) and entry["result"][0]["items"]
                assert (envelope["status_code"], entry["status_code"]) == (20000, 20000)
        assert home.sql("select count(*) as n from ready")[0]["n"] == 0
        home.audit()


def test_kill_9_between_attempts_and_in_the_middle_of_them_goes_on(tmp_path: Path) -> None:
    with client(tmp_path) as receiver, house(tmp_path, WEBHOOK_ALLOW="127.0.0.1", LEASE_SECONDS="2") as home:
        receiver.answers(500)
        home.up()
        ids = home.post([task(postback_url=receiver.url + "/$id") for _ in range(50)])
        home.until("select count(*) = 50 from delivery where attempts = 1 and state = 1")
        assert home.sql("select count(*) as n from ready")[0]["n"] == 50
        kill(workers(home.data_dir))
        receiver.answers(200)
        home.until("select count(*) = 50 from delivery where state = 3", seconds=60)
        assert home.sql("select count(*) as n from ready")[0]["n"] == 0
        # And while attempts are being made: what was sent may be sent again, under the same id, and none is missing.
        more = home.post([task(postback_url=receiver.url + "/$id") for _ in range(100)])
        eventually("the first of them", lambda: len(receiver.hits()) > 110)
        kill(workers(home.data_dir))
        home.until("select count(*) = 150 from delivery where state = 3", seconds=60)
        [secret] = secrets(home)
        seen: dict[str, set[str]] = {}
        for hit in receiver.hits():
            assert verified(hit, secret)["tasks"][0]["id"] == hit["path"][1:]
            seen.setdefault(hit["path"][1:], set()).add(hit["headers"]["webhook-id"])
        assert seen == {task_id: {f"{task_id}-postback"} for task_id in ids + more}
        home.audit()


def test_kill_9_between_a_resend_and_its_delivery_loses_nothing(tmp_path: Path) -> None:
    with client(tmp_path) as receiver, house(tmp_path, WEBHOOK_ALLOW="127.0.0.1", LEASE_SECONDS="2") as home:
        home.up()
        url = receiver.url + "/$id"
        ids = home.post([task(postback_url=url, pingback_url=url) for _ in range(40)])
        home.until("select count(*) = 80 from delivery where state = 3")
        before = len(receiver.hits())

        async def resend(http: Http) -> list[int]:
            path = "../../../appendix/webhook_resend"
            return [one["status_code"] for one in (await http.post([{"id": one} for one in ids], path))["tasks"]]

        assert home.http(resend) == [20100] * 40
        kill(family(home.data_dir))  # PostgreSQL too
        home.up("again")
        home.until("select count(*) = 80 from delivery where state = 3", seconds=60)
        [secret] = secrets(home)
        again = Counter((hit["method"], hit["path"]) for hit in receiver.hits()[before:])
        assert set(again) == {(method, f"/{task_id}") for task_id in ids for method in ("GET", "POST")}
        bodies: dict[str, set[bytes]] = {}
        for hit in receiver.hits():
            if hit["method"] == "POST":
                bodies.setdefault(hit["path"], set()).add(msgspec.json.encode(verified(hit, secret)))
        assert all(len(said) == 1 for said in bodies.values()) and len(bodies) == 40
        home.audit()
