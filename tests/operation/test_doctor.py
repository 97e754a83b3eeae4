"""`restante doctor`: every check, well and ill; what it prints, how it exits; and without a database, too."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from restante.core.answer import Failure
from restante.core.money import Nano
from restante.doctor import examination, installation, machine, server
from restante.doctor.examination import INSTALLATION, MACHINE, SERVER, examine
from restante.doctor.finding import Finding, Level, worst
from restante.flow import accounts
from restante.flow.lease import Lease
from restante.providers.api_key import REJECTED
from restante.store import inspection, queue
from restante.store.database import Database
from restante.wiring import Models, utc_now
from tests.operation.conftest import Ill
from tests.support import COMMAND, Restante, environment, open_account


def levels(found: list[Finding]) -> set[Level]:
    return {one.level for one in found}


def only(found: list[Finding], level: Level, *words: str) -> None:
    """Just this is found, in these words, with a remedy."""
    bad = [one for one in found if one.level is not Level.OK]
    assert [one.level for one in bad] == [level] and bad[0].remedy, found
    assert all(word in f"{bad[0].said} {bad[0].remedy}" for word in words), bad


async def well(found: list[Finding]) -> None:
    assert levels(found) == {Level.OK}, found


# --- the machine -----------------------------------------------------------------------------------------


async def test_settings(patient: Ill) -> None:
    await well(await machine.settings(patient()))
    only(await machine.settings(patient(WORKRES="4")), Level.WARNING, "RESTANTE_WORKRES", "settings.md")


async def test_files(patient: Ill, tmp_path: Path) -> None:
    only(await machine.files(patient()), Level.WARNING, "no database", "restante up")
    cluster = tmp_path / "postgres/18"
    cluster.mkdir(parents=True, mode=0o700)
    cluster.parent.chmod(0o700)
    cluster.chmod(0o700)
    tmp_path.chmod(0o711)
    await well(await machine.files(patient()))
    cluster.chmod(0o750)
    only(await machine.files(patient()), Level.FAULT, "open to other users", f"chmod go-rwx {cluster}")
    cluster.chmod(0o700)
    tmp_path.chmod(0o777)
    only(await machine.files(patient()), Level.FAULT, "written to by others", "chmod go-w")
    tmp_path.chmod(0o700)
    key = tmp_path / "key"
    key.write_text("secret")
    key.chmod(0o644)
    only(await machine.files(patient(GEMINI_API_KEY_FILE=str(key))), Level.FAULT, "key", "chmod")
    (tmp_path / "postgres/18.restoring").mkdir()
    only(await machine.files(patient()), Level.FAULT, "restore", "restante restore")


async def test_disk(patient: Ill, tmp_path: Path) -> None:
    await well(await machine.disk(patient(), lambda _: (10**12, 10**11)))
    only(await machine.disk(patient(), lambda _: (10**12, 2 * 10**9)), Level.WARNING, "2 GB of 1e+03 GB"[:4])
    only(await machine.disk(patient(), lambda _: (10**12, 10**8)), Level.FAULT, "100 MB", "RESTANTE_DISK_RESERVE")
    elsewhere = patient(DATABASE_URL="postgresql://h/d")
    assert levels(await machine.disk(elsewhere)) == {Level.UNKNOWN}
    only(await machine.disk(patient(DISK_PATH=str(tmp_path / "gone"))), Level.WARNING, "gone", "RESTANTE_DISK_PATH")


async def test_open_files(patient: Ill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (1_024, 1_024))
    only(await machine.open_files(patient()), Level.WARNING, "1024", "LimitNOFILE")
    monkeypatch.setattr("resource.getrlimit", lambda _: (1_024, 100_000))
    await well(await machine.open_files(patient()))


async def test_prices(patient: Ill, tmp_path: Path) -> None:
    await well(await machine.prices(patient()))
    file = tmp_path / "prices.toml"
    file.write_text("models = 7")
    only(await machine.prices(patient(PRICES=str(file))), Level.FAULT, "RESTANTE_PRICES")
    file.write_text('as_of = 2020-01-01\n[models."gemini-2.5-flash"]\ninput = 1\noutput = 1\n')
    only(await machine.prices(patient(PRICES=str(file))), Level.WARNING, "2020-01-01", "as_of")


class Locked:
    """A provider with one key."""

    name = "gemini"
    concurrency = 1

    def __init__(self, outcome: Failure | None) -> None:
        self._outcome = outcome

    def projects(self) -> tuple[str, ...]:
        return ("abc123",)

    async def probe(self, project: str) -> Failure | None:
        return self._outcome

    async def models(self) -> tuple[()]:
        return ()

    async def generate(self, call: Any) -> Failure:
        raise AssertionError("doctor buys nothing")

    async def close(self) -> None:
        pass


async def test_provider(patient: Ill, monkeypatch: pytest.MonkeyPatch) -> None:
    await well(await machine.provider(patient()))
    nobody = patient(PROVIDER="")
    only(await machine.provider(nobody), Level.FAULT, "No language model", "GEMINI_API_KEY")

    def build(outcome: Failure | None) -> Any:
        return lambda _: Models((Locked(outcome),), {})

    await well(await machine.provider(patient(), build(None)))
    only(await machine.provider(patient(), build(REJECTED)), Level.FAULT, "rejected", "abc123")
    away = Failure(reason="connection refused", transient=True)
    only(await machine.provider(patient(), build(away)), Level.WARNING, "connection refused", "firewall")


# --- PostgreSQL ------------------------------------------------------------------------------------------


#: What the tests' servers have otherwise than a well one.
UNLIKE_TESTS: dict[str, Any] = {"fsync": "on", "full_page_writes": "on", "autovacuum": "on"}


async def test_a_new_database_is_well(patient: Ill, db: Database, dsn: str) -> None:
    """With a worker, everything is."""
    lease = Lease(db, "worker here 1", 60, claims=True)
    await lease.begin()
    seen = Database(dsn, connections=2)  # new sessions, which have the role's settings
    await seen.open()
    for name, check in (*SERVER, *INSTALLATION, examination.LEDGER):
        # Debian's 15 has no checksums; the rest is the tests' server's (tests/databases.py).
        aside = ("checksums", *UNLIKE_TESTS)
        found = [one for one in await check(patient(seen)) if not any(word in one.said for word in aside)]
        assert levels(found) <= {Level.OK}, name
    await seen.close()
    await lease.end()


async def test_server_settings(db: Database) -> None:
    good = msgspec.structs.replace(
        await inspection.server(db), enable_seqscan="off", data_checksums="on", **UNLIKE_TESTS
    )
    await_none = server.judge_settings(msgspec.structs.replace(good, statement_timeout="0"))
    assert await_none == []
    for name, value, level in (
        ("fsync", "off", Level.FAULT),
        ("full_page_writes", "off", Level.FAULT),
        ("synchronous_commit", "off", Level.FAULT),
        ("statement_timeout", "30s", Level.FAULT),
        ("transaction_timeout", "1min", Level.FAULT),
        ("idle_session_timeout", "1h", Level.FAULT),
        ("autovacuum", "off", Level.FAULT),
        ("enable_seqscan", "on", Level.WARNING),
        ("data_checksums", "off", Level.WARNING),
    ):
        only(server.judge_settings(msgspec.structs.replace(good, **{name: value})), level)


async def test_settings_of_the_role_are_seen(patient: Ill, db: Database, dsn: str) -> None:
    """A trap: synchronous_commit may be off for our role alone."""
    connection = await asyncpg.connect(dsn)
    [name] = await connection.fetchrow("select quote_ident(current_database())")
    await connection.execute(f"alter role restante in database {name} set synchronous_commit = off")
    await connection.close()
    seen = Database(dsn, connections=2)
    await seen.open()
    found = await server.settings(patient(seen))
    await seen.close()
    assert any("synchronous_commit is off" in one.said for one in found)


async def test_clock(patient: Ill, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await well(await server.clock(patient(db)))
    only(server.judge_clock(-5.0), Level.WARNING, "5 s behind", "NTP")
    only(server.judge_clock(90.0), Level.FAULT, "90 s ahead", "NTP")
    await well(server.judge_clock(5.0, doubt=4.0))


async def test_connections(patient: Ill, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await well(await server.connections(patient(db)))
    monkeypatch.setattr(server, "DOCTOR_CONNECTIONS_SHARE", 0.0)
    only(await server.connections(patient(db)), Level.WARNING, "connections are taken", "max_connections")


async def test_version(patient: Ill, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await well(await server.version(patient(db)))
    standby = msgspec.structs.replace(await inspection.server(db), standby=True)

    async def asked(_: object) -> inspection.Server:
        return standby

    monkeypatch.setattr(inspection, "server", asked)
    only(await server.version(patient(db)), Level.FAULT, "standby", "RESTANTE_DATABASE_URL")


async def test_old_sessions(patient: Ill, db: Database, dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "DOCTOR_SNAPSHOT_SECONDS", -1.0)
    forgetful = await asyncpg.connect(dsn, server_settings={"application_name": "psql of last week"})
    transaction = forgetful.transaction(isolation="repeatable_read")
    await transaction.start()
    await forgetful.fetchval("select 1")
    found = await server.sessions(patient(db))
    assert any("psql of last week" in one.said and "pg_terminate_backend" in one.remedy for one in found)
    await transaction.rollback()
    await forgetful.close()
    waits = inspection.OldSession(7, "restante", "", "active", 99.0, waits=True)

    async def asked(*_: object) -> list[inspection.OldSession]:
        return [waits]

    monkeypatch.setattr(inspection, "old_sessions", asked)
    only(await server.sessions(patient(db)), Level.FAULT, "standby", "Do not cancel")


async def test_held_back(patient: Ill, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def asked(*_: object) -> list[inspection.HeldBack]:
        return held

    await well(await server.held_back(patient(db)))
    monkeypatch.setattr(inspection, "held_back", asked)
    held = [inspection.HeldBack("prepared", "forgotten", 7_200.0)]
    only(await server.held_back(patient(db)), Level.FAULT, "120 min", "ROLLBACK PREPARED 'forgotten'")
    held = [inspection.HeldBack("slot", "old_standby", 5e9)]
    only(await server.held_back(patient(db)), Level.WARNING, "old_standby", "pg_drop_replication_slot")


async def test_vacuum(patient: Ill, db: Database) -> None:
    await db._pool.execute("alter table account set (autovacuum_enabled = off)")
    await open_account(db, "a@example.org")
    for _ in range(3):
        await db._pool.execute("update account set login = login")
    async with db._pool.acquire() as connection:
        await connection.execute("select pg_stat_force_next_flush()")
        await connection.execute("update account set login = login")
    async with asyncio.timeout(30):
        while levels(found := await server.vacuum(patient(db), 0)) == {Level.OK}:
            await asyncio.sleep(0.05)  # statistics are written behind the transactions
    assert any("account has" in one.said and "VACUUM account" in one.remedy for one in found)
    await well(await server.vacuum(patient(db)))
    only(server.judge_age(600_000_000), Level.WARNING, "600,000,000")
    only(server.judge_age(1_900_000_000), Level.FAULT, "VACUUM FREEZE")


async def test_pooler(patient: Ill, db: Database) -> None:
    await well(await server.pooler(patient(db)))
    db._connect.pooled = True
    only(await server.pooler(patient(db)), Level.WARNING, "workers are not woken")


# --- the installation --------------------------------------------------------------------------------------


async def test_schema(patient: Ill, db: Database) -> None:
    await well(await installation.schema(patient(db)))
    await db._pool.execute("insert into schema_migration (version, name) values (9999, 'of the future')")
    only(await installation.schema(patient(db)), Level.FAULT, "9999", "newer")
    await db._pool.execute("delete from schema_migration where version > 9")
    only(await installation.schema(patient(db)), Level.WARNING, "migration 9,", "Stop every process")
    await db._pool.execute("drop table schema_migration")
    only(await installation.schema(patient(db)), Level.WARNING, "never started")


async def test_days(patient: Ill, db: Database) -> None:
    today = utc_now().date()
    await well(await installation.days(patient(db)))
    await db._pool.execute(f"drop table attempt_{today + timedelta(days=6):%Y%m%d}")
    only(await installation.days(patient(db)), Level.WARNING, str(today + timedelta(days=6)))
    await db._pool.execute(f"drop table task_{today + timedelta(days=1):%Y%m%d}")
    only(await installation.days(patient(db)), Level.FAULT, "1 days more", "serving process")


@pytest.mark.breaks_invariants
async def test_processes(patient: Ill, db: Database) -> None:
    only(await installation.processes(patient(db)), Level.WARNING, "no process", "restante up")
    await _queue(db)
    only(await installation.processes(patient(db)), Level.FAULT, "1 tasks", "restante up")
    await queue.register(db, 1, "api here 1", 60)
    only(await installation.processes(patient(db)), Level.FAULT, "no worker runs", "restante worker")
    await queue.register(db, 2, "worker here 2", 60, claims=True)
    await well(await installation.processes(patient(db)))
    await queue.register(db, 3, "worker gone 3", -600, claims=True)
    only(await installation.processes(patient(db)), Level.FAULT, "worker gone 3 ended 600 s ago", "log")


async def _queue(db: Database, provider: str = "gemini", posted: str = "now()", **columns: str) -> None:
    """A task's queue row, without the rest of the task."""
    lane = await queue.ensure_lane(db, provider, "", "some-model")
    values = {"state": "0", "token": "null", "run_at": "null"} | columns
    names = ", ".join(values)
    await db._pool.execute(
        f"insert into queue (id, day, account_id, lane, turn, held, posted_at, {names})"
        f" values (gen_random_uuid(), current_date, 1, {lane}, 1, 1, {posted}, {', '.join(values.values())})"
    )


@pytest.mark.breaks_invariants
async def test_waiting(patient: Ill, db: Database) -> None:
    await queue.register(db, 2, "worker here 2", 60, providers=["gemini"], claims=True)
    await _queue(db)
    await well(await installation.waiting(patient(db)))
    await _queue(db, posted="now() - interval '1 hour'")
    only(await installation.waiting(patient(db)), Level.WARNING, "60 min", "workers")
    await db._pool.execute("delete from queue")
    await _queue(db, "ollama")
    only(
        await installation.waiting(patient(db)), Level.FAULT, "1 tasks wait for provider ollama", "restante task cancel"
    )


@pytest.mark.breaks_invariants
@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"state": "2", "token": "404"}, "a lease that is gone"),
        ({"state": "1", "run_at": "now() - interval '1 hour'"}, "parked beyond"),
        ({"posted": "now() - interval '80 hours'"}, "beyond their deadline"),
    ],
)
async def test_stuck(patient: Ill, db: Database, columns: dict[str, str], words: str) -> None:
    await well(await installation.stuck(patient(db)))
    await _queue(db, **columns)
    only(await installation.stuck(patient(db)), Level.FAULT, "1 tasks", words)


@pytest.mark.breaks_invariants
async def test_webhooks(patient: Ill, db: Database) -> None:
    await well(await installation.webhooks(patient(db)))
    await _delivery(db, "hooks.example.org:443", 3, "1, now() + interval '1 hour'")
    only(await installation.webhooks(patient(db)), Level.WARNING, "hooks.example.org:443", "1 are tried again")
    await db._pool.execute("delete from delivery")
    await _delivery(db, "slow.example.org:443", 0, "0, null")
    only(await installation.webhooks(patient(db)), Level.WARNING, "10 min for its first attempt")


async def _delivery(db: Database, host: str, attempts: int, state: str) -> None:
    await db._pool.execute(
        "insert into delivery (day, task_id, account_id, kind, host, url, created_at, seq, posted_at, attempts, state,"
        f" run_at) values (current_date, gen_random_uuid(), 1, 1, '{host}', 'https://{host}/',"
        f" now() - interval '10 minutes', 1, now(), {attempts}, {state})"
    )


async def test_debtors(patient: Ill, db: Database) -> None:
    await open_account(db, "shop@example.org", "1")
    await well(await installation.debtors(patient(db)))
    await accounts.top_up(db, "shop@example.org", Nano(-3_000_000_000), utc_now())
    only(await installation.debtors(patient(db)), Level.WARNING, "shop@example.org is 2.00 USD below", "top-up")
    for number in range(6):
        await open_account(db, f"other{number}@example.org", "1")
        await accounts.top_up(db, f"other{number}@example.org", Nano(-2_000_000_000), utc_now())
    assert "and 2 accounts more" in [one.said for one in await installation.debtors(patient(db))]


async def test_pauses(patient: Ill, db: Database) -> None:
    await well(await installation.pauses(patient(db)))
    await db._pool.execute(
        "insert into bucket (provider, project, model, paused_until, reason)"
        " values ('gemini', 'abc123', '', now() + interval '1 day', 'API key rejected')"
    )
    only(await installation.pauses(patient(db)), Level.WARNING, "abc123", "API key rejected", "good key")


@pytest.mark.breaks_invariants
async def test_ledger(patient: Ill, db: Database) -> None:
    await open_account(db, "shop@example.org", "1")
    await well(await installation.ledger(patient(db)))
    await db._pool.execute("update account set balance = balance + 1, funded = funded + 1")
    only(await installation.ledger(patient(db)), Level.FAULT, "shop@example.org", "report it")


# --- the whole ---------------------------------------------------------------------------------------------


def test_how_bad_it_is() -> None:
    assert worst([]) is Level.OK
    assert worst([Finding(Level.UNKNOWN, "")]) is Level.OK
    assert worst([Finding(Level.FAULT, ""), Finding(Level.WARNING, ""), Finding(Level.OK, "")]) is Level.FAULT


async def test_a_check_that_breaks_or_hangs_is_a_finding(patient: Ill) -> None:
    async def broken(_: object) -> list[Finding]:
        raise ZeroDivisionError("oh")

    async def hanging(_: object) -> list[Finding]:
        await asyncio.Event().wait()
        return []

    only(await examination._made("it", broken, patient(), None), Level.WARNING, "ZeroDivisionError: oh")
    only(await examination._made("it", hanging, patient(), 0.01), Level.FAULT, "no answer")


async def test_it_works_without_a_database(tmp_path: Path) -> None:
    """A port where nobody answers: everything else is examined all the same, and nothing is waited for."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"postgresql://restante:secret-of-mine@127.0.0.1:{taken.getsockname()[1]}/restante"
        environ = {"RESTANTE_DATA_DIR": str(tmp_path), "RESTANTE_PROVIDER": "scripted", "RESTANTE_DATABASE_URL": url}
        found = [one async for one in examine(environ, utc_now())]
    assert worst(found) is Level.FAULT
    [database] = [one for one in found if one.level is Level.FAULT]
    assert database.check == "database" and "cannot be reached" in database.said and database.remedy
    assert {one.check for one in found} >= {name for name, _ in (*MACHINE, *SERVER, *INSTALLATION)}
    assert not any("secret-of-mine" in one.said + one.remedy for one in found)
    nothing = [one async for one in examine({"RESTANTE_DATA_DIR": str(tmp_path)}, utc_now())]
    assert "There is no database" in next(one.said for one in nothing if one.check == "database")
    assert list(tmp_path.iterdir()) == []  # none was made
    (tmp_path / "postgres/18").mkdir(parents=True)
    (tmp_path / "postgres/18/PG_VERSION").write_text("17")
    broken = [one async for one in examine({"RESTANTE_DATA_DIR": str(tmp_path)}, utc_now())]
    assert "is of PostgreSQL 17" in next(one.said for one in broken if one.check == "database")
    unusable = [one async for one in examine({"RESTANTE_PORT": "many"}, utc_now())]
    assert [(one.level, one.check) for one in unusable] == [(Level.FAULT, "settings")]


async def test_an_older_schema_is_not_looked_into(db: Database, dsn: str, tmp_path: Path) -> None:
    await db._pool.execute("delete from schema_migration where version > 9")
    environ = {"RESTANTE_DATA_DIR": str(tmp_path), "RESTANTE_PROVIDER": "scripted", "RESTANTE_DATABASE_URL": dsn}
    found = {one.check: one.level async for one in examine(environ, utc_now())}
    assert found["schema"] is Level.WARNING and found["ledger"] is Level.UNKNOWN


def test_the_command(restante: Restante) -> None:
    """A running restante is well but for what this machine lacks; a pipe gets plain lines."""
    restante.process.wait_for("the worker serves", log=True)
    done = restante.run("doctor", "--provider", "scripted")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert all(len(row) == 4 and row[0] in set(Level) for row in rows), done.stdout
    assert not [row for row in rows if row[0] == "fault"], done.stdout + done.stderr
    assert done.returncode == (1 if any(row[0] == "warning" for row in rows) else 0)
    assert {"processes", "ledger", "days", "provider"} <= {row[1] for row in rows}


def test_the_command_when_all_is_down(tmp_path: Path) -> None:
    env = environment(tmp_path, PROVIDER="scripted")
    done = subprocess.run(
        [*COMMAND, "doctor", "--json"], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2, done.stderr
    assert json.loads(done.stdout)["level"] == "fault"
    assert not (tmp_path / "postgres").exists()
