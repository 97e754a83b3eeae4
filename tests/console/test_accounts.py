"""Accounts and limits on the console: what is done is done once, after it was confirmed, and said."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from restante.flow import accounts
from restante.store.accounts import Account
from restante.web.wire import OURS
from tests.console.person import Page, person
from tests.support import OPERATOR, Http, Restante, task
from tests.web.calls import Shop, call, open_shop


async def look(restante: Restante, shop: Shop) -> Account:
    return await asyncio.to_thread(restante.look, lambda db: accounts.find(db, shop.credentials[0]))


async def works(restante: Restante, credentials: tuple[str, str]) -> bool:
    return (await call("GET", f"{restante.url}/v3/appendix/status", credentials)).status == 200


async def test_a_form_sent_twice_credits_once(restante: Restante) -> None:
    shop = await asyncio.to_thread(open_shop, restante)
    here = f"/accounts/{shop.number}"
    async with person(restante.url, OPERATOR) as operator:
        asked = await operator.send((await operator.read(here)).form(f"/console{here}/top-up"), amount="25")
        assert "$35.00" in asked.words, "what the balance will be"
        assert (await look(restante, shop)).balance == 10_000_000_000, "nothing before it is confirmed"
        sure = asked.form(f"/console{here}/top-up", sure="yes")
        both = await asyncio.gather(*(operator.send(sure) for _ in range(5)))
        assert {page.said for page in both} == {
            f"Put $25.00 into the account {shop.credentials[0]}: its balance is $35.00."
        }
        again = await operator.send(sure)
        assert again.said == both[0].said
        other = await operator.send(sure, amount="50")
        assert other.status == 409 and "Nothing was done now" in other.words, "the browser went back to an old form"
        back = await operator.confirmed((await operator.read(here)).form(f"/console{here}/top-up"), amount="-5.5")
        assert back.said == f"Took $5.50 out of the account {shop.credentials[0]}: its balance is $29.50."
    assert (await look(restante, shop)).funded == 29_500_000_000


@pytest.mark.parametrize(
    "amount", ["", "0", "x", "1e99", "NaN", "0.0000000001", "=1+1", "-", "12,50", "0,5", "1e3", "1,00,000", "١٢"]
)
async def test_what_is_no_amount_moves_nothing(restante: Restante, amount: str) -> None:
    async with person(restante.url, OPERATOR) as operator:
        page = await operator.send(
            (await operator.read("/accounts/1")).form("/console/accounts/1/top-up"), amount=amount
        )
        assert page.status == 400, page.words


async def test_an_account_is_opened_once_and_its_password_shown_once(restante: Restante) -> None:
    login = "<b>shop</b> & \u202eson@example.org"[:20].replace("\u202e", "") + "@console"
    async with person(restante.url, OPERATOR) as operator:
        asked = await operator.send(
            (await operator.read("/accounts")).form("/console/accounts"), login=login, balance="3", credit_limit="none"
        )
        sure = asked.form("/console/accounts", sure="yes")
        one, other = await asyncio.gather(operator.send(sure), operator.send(sure))
        password = one.secret
        assert other.secret == password, "a double click opens one account, and both pages say its password"
        assert await works(restante, (login, password))
        assert "<b>shop" not in one.text and login in one.words
        found = await operator.json("/accounts?login=%3Cb%3Eshop")
        assert [(row["login"], row["balance"], row["credit_limit"]) for row in found["accounts"]] == [
            (login, 3_000_000_000, None)
        ]
        page = await operator.read(f"/accounts/{found['accounts'][0]['id']}")
        assert password not in page.text
        taken = await operator.confirmed(
            (await operator.read("/accounts")).form("/console/accounts"), login=login, balance="3"
        )
        assert taken.status == 400 and "already" in taken.words
    log = restante.process.log
    assert f"console: operator opened the account {login} with 3.00 USD" in log and password not in log


async def test_an_account_changes_its_own_password(restante: Restante) -> None:
    shop = await asyncio.to_thread(open_shop, restante)
    login, before = shop.credentials
    here = f"/accounts/{shop.number}"
    async with person(restante.url, shop.credentials) as owner:
        form = (await owner.read(here)).form(f"/console{here}/password")
        page = await owner.confirmed(form, overlap_hours="1")
        fresh = page.secret
        assert await works(restante, (login, fresh)) and await works(restante, (login, before))
        assert "still good until" in (await owner.read(here)).words
        page = await owner.confirmed((await owner.read(here)).form(f"/console{here}/password"), overlap_hours="0")
        last = page.secret
    assert await works(restante, (login, last))
    async with asyncio.timeout(30):
        while await works(restante, (login, fresh)):
            await asyncio.sleep(0.1)  # processes believe a password for a few seconds


async def test_signing_secrets_are_shown_and_made_anew(restante: Restante) -> None:
    shop = await asyncio.to_thread(open_shop, restante)
    here = f"/accounts/{shop.number}"
    async with person(restante.url, shop.credentials) as owner:
        forms = await owner.read(here)
        shown = (await owner.send(forms.form(f"/console{here}/webhook-secret", do="show"))).secret
        assert shown.startswith("whsec_") and "\n" not in shown
        page = await owner.confirmed(forms.form(f"/console{here}/webhook-secret", do="rotate"))
        assert page.secret.splitlines()[1:] == [shown]


async def test_limits_are_set_taken_back_and_refused(restante: Restante) -> None:
    shop = await asyncio.to_thread(open_shop, restante)
    here = f"/accounts/{shop.number}"
    async with person(restante.url, OPERATOR) as operator, person(restante.url, shop.credentials) as owner:

        async def save(**fields: str) -> Page:
            return await operator.send((await operator.read(here)).form(f"/console{here}/limits"), **fields)

        def holds(page: Any) -> dict[str, Any]:
            return {one["name"]: (one["holds"], one["own"]) for one in page["limits"]}

        assert "spend_per_day, deadline_hours" in (await save(spend_per_day="1,000.5", deadline_hours="5")).said
        found = holds(await owner.json(here))
        assert found["spend_per_day"] == (1_000_500_000_000, "1000.50") and found["deadline_hours"] == (5, "5")
        assert found["live_at_once"] == (30, None)
        assert (await save()).said == "No limit was changed."
        assert "Changed" in (await save(spend_per_day="", deadline_hours="", live="0")).said
        found = holds(await owner.json(here))
        assert found["spend_per_day"] == (0, None) and found["live"] == (0, "0")
        for wrong in (
            {"live": "-1"},
            {"deadline_hours": "0"},
            {"live": "1.5"},
            {"spend_per_day": "-1"},
            {"live": "٣"},
            {"live": "0" * 20 + "9" * 30},
        ):
            assert (await save(**wrong)).status == 400, wrong
        assert holds(await owner.json(here)) == found


async def test_two_operators_do_not_undo_each_others_limits(restante: Restante) -> None:
    """A cap set meanwhile stays, although the other one's page still has its field empty."""
    shop = await asyncio.to_thread(open_shop, restante)
    here = f"/accounts/{shop.number}"
    async with person(restante.url, OPERATOR) as operator:
        mine, theirs = [(await operator.read(here)).form(f"/console{here}/limits") for _ in range(2)]
        await operator.send(theirs, spend_per_day="10")
        assert "Changed for" in (await operator.send(mine, live_at_once="5")).said
        own = {one["name"]: one["own"] for one in (await operator.json(here))["limits"] if one["own"]}
    assert own == {"spend_per_day": "10.00", "live_at_once": "5"}


async def test_pausing_and_cancelling(restante: Restante) -> None:
    shop = await asyncio.to_thread(open_shop, restante)
    here = f"/accounts/{shop.number}"
    async with person(restante.url, shop.credentials) as owner, person(restante.url, OPERATOR) as operator:
        assert "is paused" in (await owner.send((await owner.read(here)).form(f"/console{here}/pause"))).said
        async with Http(restante.family, shop.credentials) as http:
            entries = (await http.post([task(tag="run-1"), task(tag="run-2"), task()]))["tasks"]
        cancel = (await owner.read(here)).form(f"/console{here}/cancel")
        assert (await owner.send(cancel, tag="run-1")).status == 200
        assert (await look(restante, shop)).held == 3 * 10_200_000, "not confirmed yet"
        assert (await owner.confirmed(cancel, tag="run-1")).said == "1 tasks were cancelled, their money returned."
        page = await operator.confirmed((await operator.read(here)).form(f"/console{here}/cancel"))
        assert page.said == "2 tasks were cancelled, their money returned."
        assert (await look(restante, shop)).held == 0
        async with Http(restante.family, shop.credentials) as http:
            [entry] = (await http.get(f"task_get/{entries[0]['id']}"))["tasks"]
            assert entry["status_code"] == 40103
        await operator.send((await operator.read(here)).form(f"/console{here}/pause", paused=""))
        await operator.send((await operator.read(here)).form(f"/console{here}/pause", paused="yes"))
        refused = await owner.send((await owner.read(here)).form(f"/console{here}/pause"))
        assert "the operator paused this account" in refused.said
        await operator.send((await operator.read(here)).form(f"/console{here}/pause"))
    assert not (await look(restante, shop)).paused
    assert (await call("POST", f"{restante.url}{OURS}/account/resume", shop.credentials, b"{}")).status == 200


async def test_a_form_without_its_tokens_does_nothing(restante: Restante) -> None:
    shop = await asyncio.to_thread(open_shop, restante)
    here = f"/accounts/{shop.number}"
    async with person(restante.url, OPERATOR) as operator:
        form = (await operator.read(here)).form(f"/console{here}/pause")
        assert (await operator.send(form, csrf="x")).status == 403
        assert (await operator.send(form, once="")).status == 400
        assert (await operator.send(form, once="\0" * 200)).status == 400
        made_at, _, chance = form.fields["once"].partition("-")
        assert abs(int(made_at) - time.time()) < 60
        for old in (int(made_at) - 25 * 3_600, int(made_at) + 3_600):
            page = await operator.send(form, once=f"{old}-{chance}")
            assert page.status == 400 and "open for too long" in page.words
    assert not (await look(restante, shop)).paused


async def test_the_list_goes_page_by_page(restante: Restante) -> None:
    for _ in range(3):
        await asyncio.to_thread(open_shop, restante)
    async with person(restante.url, OPERATOR) as operator:
        first = await operator.json("/accounts")
        rest = await operator.json("/accounts?after=1")
        assert first["accounts"][0]["id"] == 1 and rest["accounts"][0]["id"] == 2
        assert [row["id"] for row in first["accounts"][1:]] == [row["id"] for row in rest["accounts"][:49]][
            : len(first["accounts"]) - 1
        ]
        for wrong in ("x", "-1", "99999", "1e3", "²", "9" * 5_000):
            assert (await operator.read(f"/accounts?after={wrong}")).status == 400
    async with person(restante.url, (await asyncio.to_thread(open_shop, restante)).credentials) as owner:
        page = await owner.read("/accounts")
        assert page.url.startswith("/console/accounts/") and page.status == 200
