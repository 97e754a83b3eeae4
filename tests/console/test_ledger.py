"""The ledger on the console: each transfer is on one page, the CSV runs no formula, the audit's verdict is kept."""

from __future__ import annotations

import asyncio
import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restante.core.spreadsheet import cell
from restante.flow import accounts, verdict
from restante.flow.deeds import Deeds
from restante.flow.verdict import Auditor
from restante.store import books_ledger, ledger
from restante.store.books_ledger import Entry, Place, Span
from restante.store.database import Database
from restante.web.console import places
from restante.web.console.acting import Acting
from restante.web.console.desk import Desk
from restante.web.console.ledger import Asked, Ledger
from restante.web.console.spreadsheet import lines
from restante.wiring import utc_now
from tests.console.person import person
from tests.support import OPERATOR, Http, Restante, open_account, task
from tests.web.calls import open_shop

NIL = "00000000-0000-0000-0000-000000000000"


async def test_the_statement_pages_through_everything_once(db: Database) -> None:
    """Many transfers of one moment too: a page ends between them."""
    await open_account(db, "shop", "0")
    now = utc_now()
    for number in range(25):
        at = now - timedelta(seconds=number // 8)
        async with db.transaction() as tx:
            await ledger.top_up(tx, "shop", at, f"{number:032x}", 1_000)
    span = Span(now - timedelta(days=40), now + timedelta(seconds=1))

    async def read(way: str, after: Place | None) -> list[Entry]:
        if way == "statement":
            return await books_ledger.statement(db, 1, span, None, after, 7)
        return await books_ledger.money_in(db, 1 if way == "of one" else None, span, after, 7)

    for way in ("statement", "of one", "of all"):
        seen: list[tuple[datetime, str]] = []
        after: Place | None = None
        while page := await read(way, after):
            seen += [(one.transfer.made_at, one.transfer.task_id) for one in page]
            after = page[-1].place
        assert len(seen) == 25 and len(set(seen)) == 25
        assert seen == sorted(seen, reverse=True)
    empty: Place | None = None
    assert await books_ledger.statement(db, 2, span, None, empty, 7) == []
    assert await books_ledger.statement(db, 1, Span(now + timedelta(days=1), now + timedelta(days=2)), 2, None, 7) == []


async def test_a_statement_and_its_csv_say_the_same(restante: Restante) -> None:
    shop = await asyncio.to_thread(open_shop, restante)
    async with Http(restante.family, shop.credentials) as http:
        entries = (await http.post([task("[[cost=0.002]]"), task("[[fail=a reason]]")]))["tasks"]
        await http.answers([entry["id"] for entry in entries])
    async with person(restante.url, shop.credentials) as owner, person(restante.url, OPERATOR) as operator:
        twin = await owner.json("/ledger")
        changes = [(one["kind"], one["balance"], one["held"], one["spent"]) for one in twin["transfers"]]
        assert sorted(changes) == [
            ("hold", -20_400_000, 20_400_000, 0),
            ("settlement", 8_000_000, -10_200_000, 2_200_000),
            ("settlement", 10_200_000, -10_200_000, 0),
            ("top-up", 10_000_000_000, 0, 0),
        ]
        assert twin["account"]["balance"] == 10_000_000_000 - 2_200_000
        settled = await owner.json("/ledger?kind=settlement")
        assert {one["id"] for one in settled["transfers"]} == {entry["id"] for entry in entries}
        rows = list(csv.DictReader(io.StringIO((await owner.read("/ledger.csv")).text)))
        assert [row["id"] for row in rows] == [one["id"] for one in twin["transfers"]]
        assert {row["account"] for row in rows} == {shop.credentials[0]}
        assert sum(float(row["balance"]) for row in rows) == pytest.approx(9.9978)
        page = await operator.read(f"/ledger?account={shop.credentials[0]}")
        assert "$9.9978" in page.words and entries[0]["id"] in page.text
        everything = await operator.json("/ledger")
        assert any(one["login"] == shop.credentials[0] for one in everything["transfers"])
        assert {one["kind"] for one in everything["transfers"]} == {"top-up"}
        for wrong in (
            "from=x",
            "from=2026-02-30",
            "from=2026-11-02&to=2026-11-01",
            "from=1999-01-01",
            "kind=x",
            "after=x",
            f"after={places.write(['0001-01-01T00:00:00+14:00', NIL, 1])}",
            f"after={places.write(['9999-12-31T23:59:59.999999-14:00', NIL, 1])}",
        ):
            assert (await owner.read(f"/ledger?{wrong}")).status == 400, wrong
        assert (await operator.read("/ledger?account=nobody")).status == 404


async def test_a_csv_that_is_cut_says_so(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sums would be taken for the account's."""
    await open_account(db, "shop", "0")
    for number in range(5):
        async with db.transaction() as tx:
            await ledger.top_up(tx, "shop", utc_now(), f"{number:032x}", 1_000)
    desk = Desk(db, utc_now)
    page = Ledger(Acting(desk, Deeds(db, utc_now)), Auditor(db, utc_now, desk.reads))
    account = await accounts.find(db, "shop")
    today = utc_now().date()
    for most, cut in ((4, True), (5, False), (6, False)):
        monkeypatch.setattr("restante.web.console.ledger.CONSOLE_CSV_ROWS", most)
        text = b"".join(
            [part async for part in page._lines(account, Asked(today - timedelta(days=1), today, ""))]
        ).decode()
        rows = list(csv.DictReader(io.StringIO(text)))
        assert len([row for row in rows if row["kind"]]) == min(most, 5)
        assert ("older ones are left out" in rows[-1]["id"]) == cut, most


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=20))
def test_no_cell_is_a_formula(text: str) -> None:
    found = cell(text)
    assert found.lstrip()[:1] not in {*"=+-@\uff1d\uff0b\uff0d\uff20"}
    assert found.removeprefix("'") == text or found == text
    [[back]] = csv.reader(io.StringIO(lines([[found]]).decode(), newline="")) if found else [[""]]
    assert back == found


@pytest.mark.parametrize("login", ["=HYPERLINK(1)", "+1", "-1@x", "@SUM(A1)", '=cmd|" /C calc"!A0'])
async def test_a_login_runs_nothing_in_a_spreadsheet(restante: Restante, login: str) -> None:
    credentials = await asyncio.to_thread(restante.account, login)
    async with person(restante.url, credentials) as owner:
        page = await owner.read("/ledger.csv")
        [row] = csv.DictReader(io.StringIO(page.text))
        assert row["account"] == f"'{login}"
        assert page.headers["Content-Type"] == "text/csv; charset=utf-8"
        assert "attachment" in page.headers["Content-Disposition"]


async def test_the_audit_is_run_and_its_verdict_shown(restante: Restante) -> None:
    async with person(restante.url, OPERATOR) as operator:
        page = await operator.send((await operator.read("/ledger")).form("/console/ledger/audit"))
        assert "The audit began" in page.said
        async with asyncio.timeout(30):
            while (audits := (await operator.json("/ledger"))["audits"])[0]["ended_at"] is None:
                await asyncio.sleep(0.05)
        assert (audits[0]["differences"], audits[0]["whole"], audits[0]["said"]) == (0, False, [])
        assert "adds up" in (await operator.read("/ledger")).words
        done = await asyncio.to_thread(restante.run, "ledger", "audit", "--full")
        assert done.returncode == 0, done.stderr
        newest = (await operator.json("/ledger"))["audits"][0]
        assert newest["id"] == audits[0]["id"] + 1 and newest["whole"], "the command's verdict is kept too"
    credentials = await asyncio.to_thread(restante.account, "no auditor")
    async with person(restante.url, credentials) as owner:
        assert (await owner.json("/ledger"))["audits"] == []


@pytest.mark.breaks_invariants
async def test_a_verdict_names_what_differs(db: Database) -> None:
    await open_account(db, "shop", "5")
    await db._pool.execute("update account set balance = balance + 1, funded = funded + 1")
    found = await verdict.audit(db, utc_now, whole=False)
    [kept] = await books_ledger.verdicts(db, 5)
    assert kept.differences == len(found.differences) == 1
    assert kept.said == found.differences and found.differences[0].startswith("I2")
    assert kept.ended_at is not None and kept.ended_at.tzinfo == UTC
    assert isinstance(kept.begun_at, datetime)
