"""A disk that fills up: new tasks are refused below the reserve, everything else goes on, and it ends by itself."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from restante import log_lines
from restante.config import load
from restante.core.errors import OperatorError
from restante.core.limits import DISK_RESERVE_BYTES, LOG_REPEATS
from restante.core.reserve import Reserve, parse_reserve, show_bytes
from restante.flow.disk import Disk, DiskFull, measure
from restante.store import database
from restante.store.database import Database
from restante.store.errors import DatabaseLost
from tests.chaos.processes import house
from tests.support import Http, task

GB = 10**9


@pytest.mark.parametrize(
    ("text", "whole", "reserve"),
    [
        ("auto", 10 * GB, GB // 2),
        ("auto", 1_000 * GB, DISK_RESERVE_BYTES),
        ("10%", 1_000 * GB, 100 * GB),
        ("1.5%", 1_000 * GB, 15 * GB),
        ("2GB", 1_000 * GB, 2 * GB),
        ("512 MiB", 1_000 * GB, 512 << 20),
        ("2GB", GB, GB),
        ("0", 1_000 * GB, 0),
    ],
)
def test_a_reserve(text: str, whole: int, reserve: int) -> None:
    assert parse_reserve(text).of(whole) == reserve
    assert load({"RESTANTE_DISK_RESERVE": text}).reserve().of(whole) == reserve


@pytest.mark.parametrize("text", ["5", "-1GB", "100%", "5 %%", "much", "2GBs", "999999TB", "nan%"])
def test_no_reserve(text: str) -> None:
    with pytest.raises(OperatorError, match="RESTANTE_DISK_RESERVE"):
        load({"RESTANTE_DISK_RESERVE": text})


def test_amounts_for_people() -> None:
    assert [show_bytes(one) for one in (999, 1_500_000, 68_300_000_000, 5_000 * 10**12)] == [
        "999 bytes", "1.5 MB", "68.3 GB", "5000 TB"
    ]  # fmt: skip


def test_what_is_watched(tmp_path: Path) -> None:
    own = {"RESTANTE_DATA_DIR": str(tmp_path)}
    theirs = own | {"RESTANTE_DATABASE_URL": "postgresql://h/d"}
    assert load(own).watched_disk() == tmp_path
    assert load(theirs).watched_disk() is None
    assert load(theirs | {"RESTANTE_DISK_PATH": "/srv"}).watched_disk() == Path("/srv")
    whole, free = measure(tmp_path)
    assert whole > free > 0


def test_it_is_said_once_and_ends_by_itself(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    free = 2 * GB
    disk = Disk(tmp_path, Reserve(), lambda _: (1_000 * GB, free))
    caplog.set_level(logging.INFO)
    disk.look()
    disk.check()
    free = DISK_RESERVE_BYTES - 1
    for _ in range(3):
        disk.look()
        with pytest.raises(DiskFull):
            disk.check()
    [said] = caplog.messages
    assert str(tmp_path) in said and "1 GB" in said and "RESTANTE_DISK_RESERVE" in said and "Free some space" in said
    free = DISK_RESERVE_BYTES + 1  # files come and go: not yet
    disk.look()
    assert disk.short
    free = 2 * GB
    disk.look()
    disk.check()
    assert "room again" in caplog.messages[-1] and "3 calls were refused" in caplog.messages[-1]


def test_a_disk_that_cannot_be_read_stays_as_it_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def measured(path: Path) -> tuple[int, int]:
        raise OSError(5, "Input/output error")

    disk = Disk(tmp_path, Reserve(), measured)
    disk.look()
    disk.look()
    assert not disk.short and len(caplog.messages) == 1
    disk.short = True
    disk.look()
    assert disk.short
    Disk().check()  # nothing is known of anybody's disk: there is room


def test_tasks_are_refused_and_all_else_goes_on(tmp_path: Path) -> None:
    """A running restante, whose disk is then said to be full: by a reserve that no disk has free."""
    with house(tmp_path, SCRIPTED_LATENCY="0.5") as here:
        up = here.up()
        before = here.post([task(f"before {number}") for number in range(20)])
        up.stop()
        up = here.up("full", DISK_RESERVE="99%")
        up.wait_for("almost full", log=True)

        async def look(http: Http) -> None:
            for path in ("task_post", "live"):
                status, answer = await http.send(
                    "POST", path, b'[{"user_prompt": "x", "model_name": "gemini-2.5-flash"}]'
                )
                said = answer["tasks"][0] if path == "live" else answer
                assert (status, said["status_code"]) == (200 if path == "live" else 500, 50000), answer
            status, answer = await http.send("POST", "task_post", b'[{"model_name": "gemini-2.5-flash"}]')
            assert answer["tasks"][0]["status_code"] == 40501  # what is wrong with a task is said all the same
            async with http._session.get(f"{here.url}/readyz") as ready:
                assert ready.status == 200 and "almost full" in await ready.text()

        here.http(look)
        assert {entry["status_code"] for entry in here.collect(before).values()} == {20000}
        here.settled()
        assert here.sql("select count(*)::int as n from task")[0]["n"] == len(before)  # nothing half-accepted
        here.audit()


# --- PostgreSQL is brought back ------------------------------------------------------------------------------


async def test_it_is_tried_again_with_pauses(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    now, tries, comes = 0.0, 0, False

    def revive() -> bool:
        nonlocal tries
        tries += 1
        if not comes:
            raise OperatorError("No space left on device.", "Free some space.")
        return True

    monkeypatch.setattr(database, "time", SimpleNamespace(monotonic=lambda: now))
    db = Database("postgresql://restante@127.0.0.1:1/x", revive=revive)
    pauses = []
    for _ in range(8):
        at, before = now, tries
        while tries == before:
            await db.revive()
            if tries == before:
                now += 0.25
        pauses.append(now - at)
    assert pauses == [0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 10.0, 10.0]  # 30 s after space is freed it is back
    assert "tried again in 10.0 s: No space left on device.\nFree some space." in caplog.messages[-1]
    comes, now = True, now + 10
    await db.revive()
    assert "was started again" in caplog.messages[-1]
    now += 1.0  # it ended again at once: the next try comes soon, since the last one helped
    await db.revive()
    assert tries == 10


def test_a_lost_database_does_not_flood_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(log_lines, "time", SimpleNamespace(monotonic=lambda: now))
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(log_lines.Repeats())
    log = logging.Logger("restante.any")
    log.addHandler(handler)
    for _ in range(100):
        log.warning("no tasks are claimed until the database is back: %s", DatabaseLost("gone"))
        log.warning("task %s was cancelled", "1")
    now = 10.0
    log.warning("no tasks are claimed until the database is back: %s", DatabaseLost("gone"))
    lines = stream.getvalue().splitlines()
    assert len([line for line in lines if "claimed" in line]) == LOG_REPEATS + 1
    assert lines[-1].endswith("gone (95 more such lines were left out)")
    assert len([line for line in lines if "cancelled" in line]) == 100
