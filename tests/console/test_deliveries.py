"""Deliveries on the console: every webhook is on some page once, hostile words are words, failed ones go out again."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from restante.core.money import Nano
from restante.core.task import Function, mint_id
from restante.flow import accounts
from restante.store import books_deliveries as stored
from restante.store.books_deliveries import Stage, Wanted
from restante.store.database import Database
from restante.wiring import utc_now
from tests.console.person import Person, person
from tests.support import OPERATOR, Http, Restante, open_account, task
from tests.web.calls import open_shop

HOSTILE = "<script>alert(1)</script>\u202e \x1b[31m **b**"


async def planted(db: Database, now: datetime) -> None:
    """Two accounts' webhooks, of POSTs of one moment: 30 of each, in every state, and a failed attempt of each."""
    for number, login in enumerate(("one", "two"), 1):
        await open_account(db, login)
        for minute in range(3):
            at = now - timedelta(minutes=minute)
            for place in range(5):
                task_id = mint_id(at, number, Function.TASK_POST, minute * 10 + place)
                await db._pool.execute(
                    "insert into task (day, id, account_id, platform, function, state, held, charged, code, posted_at,"
                    " settled_at) values ($1, $2, $3, 1, 613, 2, 0, 0, 50301, $4, $4)",
                    at.date(), task_id, number, at,
                )  # fmt: skip
                for kind in (1, 2):
                    state = (place + kind) % 5
                    await db._pool.execute(
                        "insert into delivery (day, task_id, account_id, kind, host, url, body, state, run_at, token,"
                        " attempts, created_at, seq, posted_at) values ($1, $2, $3, $4, $5, 'https://x/', $6, $7, $8,"
                        " $9, $10, $11, 0, $11)",
                        at.date(), task_id, number, kind, f"{login}:{443 + kind}",
                        b"{}" if kind == 2 and state < 3 else None, state, at if state == 1 else None,
                        7 if state == 2 else None, min(state, 1), at,
                    )  # fmt: skip


@pytest.mark.breaks_invariants
async def test_each_webhook_is_on_one_page(db: Database) -> None:
    now = utc_now()
    await planted(db, now)
    since, until = now - timedelta(days=2), now + timedelta(minutes=1)
    wants = [
        Wanted(),
        Wanted((Stage.DELIVERED,)),
        Wanted((Stage.GIVEN_UP,)),
        Wanted((Stage.READY, Stage.PARKED, Stage.LEASED), tried=True),
        Wanted((Stage.READY, Stage.PARKED, Stage.LEASED), tried=False),
        Wanted(host="one:445"),
    ]
    for want in wants:
        rows = await db._pool.fetch("select id, account_id, host, state, attempts from delivery")
        there = [
            row
            for row in rows
            if (want.stages is None or row["state"] in want.stages)
            and (want.tried is None or (row["attempts"] > 0) == want.tried)
            and (want.host is None or row["host"] == want.host)
        ]
        assert there
        seen: list[int] = []
        after: Any = None
        while True:
            page = await stored.of_all(db, want, after and after[0], 4, now.date())
            seen += [one.id for one in page.webhooks]
            if (after := page.after) is None:
                break
        assert seen == sorted((row["id"] for row in there), reverse=True), want
        for number in (1, 2):
            mine = {row["id"] for row in there if row["account_id"] == number}
            found: list[int] = []
            after = None
            while True:
                page = await stored.of_account(db, number, want, since, until, after, 4, now.date())
                found += [one.id for one in page.webhooks]
                if (after := page.after) is None:
                    break
                until = after[0] + timedelta(microseconds=1)
            until = now + timedelta(minutes=1)
            assert len(found) == len(set(found)) and set(found) == mine, (want, number)
            if want.stages == (Stage.GIVEN_UP,):
                page = await stored.given_up(db, number, None, None, 100, now.date())
                assert {one.id for one in page.webhooks} == mine
    everybody = await stored.given_up(db, None, None, None, 3, now.date())
    assert everybody.after == (everybody.webhooks[-1].id,)
    hosts = await stored.hosts(db, 1, since, until)
    assert {one.host for one in hosts} == {"one:444", "one:445"}
    assert sum(one.given_up for one in hosts) == 6 and sum(one.seen for one in hosts) == 30
    assert sum(one.delivered for one in await stored.hosts(db, None, since, until)) == 12
    assert len(await stored.failed(db, 1, since, None, 100)) == 12  # given up, or parked after a failure
    assert await stored.failed(db, 1, since, "two:444", 100) == []


async def failing(restante: Restante, credentials: tuple[str, str], **fields: Any) -> list[str]:
    """Tasks whose webhooks failed once."""
    async with Http(restante.family, credentials) as http:
        hooks = {"pingback_url": "https://nobody.invalid/$id", "postback_url": "https://nobody.invalid/p?$tag"}
        entries = (await http.post([task(HOSTILE, tag=HOSTILE, **hooks, **fields)] * 2))["tasks"]
        assert [entry["status_code"] for entry in entries] == [20100, 20100], entries
        ids = [entry["id"] for entry in entries]
        await http.answers(ids)
    return ids


async def tried(somebody: Person, times: int, task_id: str = "") -> list[Any]:
    """The webhooks, each (or each of a task) after so many attempts."""
    async with asyncio.timeout(30):
        while True:
            rows: list[Any] = (await somebody.json("/deliveries"))["webhooks"]
            each = [(await somebody.json(f"/deliveries/{row['id']}"))["attempts"] for row in rows]
            late = [
                row
                for row, one in zip(rows, each, strict=True)
                if len(one) < times and row["task_id"].startswith(task_id)
            ]
            if rows and not late:
                return rows
            await asyncio.sleep(0.1)


async def test_what_failed_is_seen_and_goes_out_again(restante: Restante) -> None:
    shop = await asyncio.to_thread(open_shop, restante)
    ids = await failing(restante, shop.credentials)
    async with person(restante.url, shop.credentials) as owner:
        rows = await tried(owner, 1)
        assert {row["task_id"] for row in rows} == set(ids) and len(rows) == 4
        assert {row["state"] for row in rows} == {"retrying"}
        [host] = (await owner.json("/deliveries"))["hosts"]
        assert (host["host"], host["retrying"], host["seen"], host["delivered"]) == ("nobody.invalid:443", 4, 4, 0)
        postback = next(row for row in rows if row["kind"] == "postback")
        page = await owner.read(f"/deliveries/{postback['id']}")
        assert "no answer" in page.words and f"{postback['task_id']}-postback" in page.words
        assert "<script>alert" not in page.text and "&lt;script&gt;alert" in page.text, "the payload is text"
        whole = await owner.read(f"/deliveries/{postback['id']}/payload")
        assert (
            whole.headers["Content-Type"] == "application/json" and "attachment" in whole.headers["Content-Disposition"]
        )
        assert postback["task_id"] in whole.text
        assert (await owner.json("/deliveries?state=failed"))["webhooks"] == []
        assert len((await owner.json("/deliveries?state=retrying&host=nobody.invalid:443"))["webhooks"]) == 4

        again = await owner.send(page.form(f"/console/deliveries/{postback['id']}/resend"))
        assert "go out again now" in again.said
        await tried(owner, 2, postback["task_id"])
        listing = await owner.read("/deliveries")
        done = await owner.confirmed(listing.form("/console/deliveries/resend"), since="1")
        assert done.said == "The failed webhooks of 2 tasks go out again."
        await tried(owner, 2)
        elsewhere = await owner.confirmed(
            listing.form("/console/deliveries/resend"), since="1", host="other.invalid:443"
        )
        assert elsewhere.said == "The failed webhooks of 0 tasks go out again."
        assert (await owner.send(listing.form("/console/deliveries/resend"), since="9999")).status == 400


async def test_a_debtor_does_not_read_answers_here(restante: Restante) -> None:
    """The payload is what `task_get` withholds (contract §12.7); the operator sees it."""
    shop = await asyncio.to_thread(open_shop, restante)
    await failing(restante, shop.credentials)
    async with person(restante.url, shop.credentials) as owner, person(restante.url, OPERATOR) as operator:
        rows = await tried(owner, 1)
        here = f"/deliveries/{next(row['id'] for row in rows if row['kind'] == 'postback')}"
        assert (await owner.json(here))["payload"] and (await owner.read(f"{here}/payload")).status == 200
        await asyncio.to_thread(
            restante.look, lambda db: accounts.top_up(db, shop.credentials[0], Nano(-20_000_000_000), utc_now())
        )
        twin = await owner.json(here)
        assert (twin["payload"], twin["withheld"]) == (None, True)
        assert (await owner.read(f"{here}/payload")).status == 404
        assert "withheld until" in (await owner.read(here)).words
        assert (await operator.json(here))["payload"]


async def test_what_a_link_may_not_ask_for(restante: Restante) -> None:
    async with person(restante.url, OPERATOR) as operator:
        for wrong in ("state=x", "after=x", "after=WzFd0", "host=" + "x" * 301, "host=%00", "after=WyJhIl0"):
            assert (await operator.read(f"/deliveries?{wrong}")).status == 400, wrong
        for where in ("/deliveries/0", f"/deliveries/{2**70}", "/deliveries/0/payload"):
            assert (await operator.read(where)).status == 404, where
