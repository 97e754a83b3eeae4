"""Logging in and out: never open, judged as the API judges, and no longer than the password is good."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from http.cookies import SimpleCookie

import pytest
from starlette.responses import Response
from starlette.types import Message, Scope

from restante.core.limits import CONSOLE_SESSION_SECONDS, CREDENTIALS_SECONDS
from restante.flow import accounts
from restante.store import accounts as accounts_store
from restante.store.database import Database
from restante.web.auth import Passwords
from restante.web.console.gate import Gate
from restante.web.console.session import Sessions
from restante.wiring import utc_now
from tests.console.served import PATHS
from tests.console.visiting import Visitor, visitor
from tests.support import OPERATOR, Restante, open_account
from tests.web.calls import Answered, Shop, open_shop

SESSION = "restante_session"


@pytest.fixture(scope="module")
def shop(restante: Restante) -> Shop:
    """An account that no test here changes."""
    return open_shop(restante)


def cookies(answered: Answered) -> SimpleCookie:
    made = SimpleCookie()
    for header in answered.headers.getall("Set-Cookie", []):
        made.load(header)
    return made


async def test_nothing_is_open(restante: Restante) -> None:
    """Every route that is served, but the log-in page and its files: without a session there is the way to log in."""
    async with Visitor(restante.url) as nobody:
        for method, path in sorted(PATHS):
            path = path.replace("{task_id}", "11220000-0001-0613-0000-000000000000")
            answered = await (nobody.get(path) if method == "GET" else nobody.post(path, {"csrf": ""}))
            if path.endswith(".json") or path == "/events":
                assert (answered.status, answered.json) == (401, {"error": "not logged in"}), path
            else:
                assert answered.status == 303 and answered.headers["Location"].startswith("/console/login"), path


async def test_a_session_begins_and_ends(restante: Restante, shop: Shop) -> None:
    async with Visitor(restante.url) as browser:
        there = await browser.log_in(*shop.credentials, where="/console/tasks?state=done")
        assert (there.status, there.headers["Location"]) == (303, "/console/tasks?state=done")
        cookie = cookies(there)[SESSION]
        assert cookie["httponly"] and cookie["samesite"] == "lax" and cookie["path"] == "/console"
        assert int(cookie["max-age"]) == CONSOLE_SESSION_SECONDS and not cookie["secure"]
        assert shop.credentials[1] not in str(there.headers)
        assert shop.credentials[0] in await browser.page("/")
        assert (await browser.send("/", "/logout")).headers["Location"] == "/console/login"
        assert SESSION not in browser.cookies
        assert (await browser.get("/")).status == 303


@pytest.mark.parametrize(
    "wrong",
    [("operator", "a Password of 28 letters"), ("nobody", OPERATOR[1]), ("operator:", ""), ("", ""), ("a\0", "b")],
)
async def test_wrong_passwords_are_refused_alike(restante: Restante, wrong: tuple[str, str]) -> None:
    async with Visitor(restante.url) as browser:
        answered = await browser.log_in(*wrong)
        assert answered.status == 401 and "Login or password is wrong." in answered.body.decode()
        assert SESSION not in cookies(answered)


async def test_a_log_in_form_is_of_the_browser_that_sends_it(restante: Restante) -> None:
    """Else a page elsewhere could log its visitors in as somebody who then sees what they do."""
    async with Visitor(restante.url) as one, Visitor(restante.url) as other:
        fields = {"login": OPERATOR[0], "password": OPERATOR[1]}
        assert (await one.post("/login", fields)).status == 403
        token = (await one.page("/login")).split('name="csrf" value="')[1].split('"')[0]
        await other.page("/login")
        assert (await other.post("/login", fields | {"csrf": token})).status == 403
        assert (await one.post("/login", fields | {"csrf": token}, Sec_Fetch_Site="cross-site")).status == 403
        token = (await one.page("/login")).split('name="csrf" value="')[1].split('"')[0]
        assert (await one.post("/login", fields | {"csrf": token}, Sec_Fetch_Site="same-origin")).status == 303


@pytest.mark.parametrize("token", [None, "", "0" * 48, "é"])
async def test_a_form_without_its_token_does_nothing(restante: Restante, shop: Shop, token: str | None) -> None:
    browser = await visitor(restante.url, shop.credentials)
    async with browser:
        fields = {} if token is None else {"csrf": token}
        assert (await browser.post("/logout", fields)).status == 403
        assert (await browser.get("/")).status == 200


async def test_a_token_is_of_one_session(restante: Restante, shop: Shop) -> None:
    """Not of another's, nor of another session of the same account."""
    one, other = await visitor(restante.url, shop.credentials), await visitor(restante.url, shop.credentials)
    async with one, other:
        token = (await one.page("/")).split('name="csrf" value="')[1].split('"')[0]
        assert (await other.post("/logout", {"csrf": token})).status == 403
        assert (await one.post("/logout", {"csrf": token}, Sec_Fetch_Site="cross-site")).status == 403
        assert (await one.post("/logout", {"csrf": token})).status == 303


async def test_a_cookie_of_anybodys_making_is_nobodys(restante: Restante, shop: Shop) -> None:
    browser = await visitor(restante.url, shop.credentials)
    async with browser:
        good = browser.cookies[SESSION]
        for at in (0, len(good) // 2, len(good) - 2):
            forged = good[:at] + ("A" if good[at] != "A" else "B") + good[at + 1 :]
            browser.take(forged)
            assert (await browser.get("/")).status == 303, forged
        for junk in ("", "x", "é", "A" * 5_000, "====", good + "A"):
            browser.take(junk.encode().decode("latin-1") if junk == "é" else junk)
            assert (await browser.get("/")).status == 303, junk
        browser.take(good)
        assert (await browser.get("/")).status == 200


@pytest.mark.parametrize("where", [
    "//evil.example", "https://evil.example", "/console//evil.example", "/console/\\evil", "/v3/appendix",
    "/console/logout", "javascript:alert(1)", "/console/\nx",
])  # fmt: skip
async def test_logging_in_leads_nowhere_else(restante: Restante, shop: Shop, where: str) -> None:
    async with Visitor(restante.url) as browser:
        assert (await browser.log_in(*shop.credentials, where=where)).headers["Location"] == "/console/"


async def test_behind_tls_the_cookie_is_never_sent_without(restante: Restante, shop: Shop) -> None:
    async with Visitor(restante.url, {"X-Forwarded-Proto": "https"}) as browser:
        page = await browser.get("/login")
        token = page.body.decode().split('name="csrf" value="')[1].split('"')[0]
        form = cookies(page)["restante_login"]
        assert form["secure"] and form["samesite"] == "strict"
        fields = {"login": shop.credentials[0], "password": shop.credentials[1], "csrf": token}
        sent = await browser.post("/login", fields, Cookie=f"restante_login={form.value}")
        assert cookies(sent)[SESSION]["secure"]


async def test_a_changed_password_ends_its_sessions(restante: Restante) -> None:
    """As it ends its API calls: within seconds, and with an overlap when that is over."""
    login, password = await asyncio.to_thread(restante.account, "rotates@example.org")
    browser = await visitor(restante.url, (login, password))
    async with browser:
        done = await asyncio.to_thread(restante.run, "account", "password", login, "--overlap-hours", "1")
        assert done.returncode == 0
        await asyncio.sleep(CREDENTIALS_SECONDS + 0.2)  # what is believed that long
        assert (await browser.get("/")).status == 200
        assert (await asyncio.to_thread(restante.run, "account", "password", login)).returncode == 0
        async with asyncio.timeout(30):
            while (await browser.get("/")).status == 200:
                await asyncio.sleep(0.1)


async def test_a_session_has_its_time(db: Database) -> None:
    pepper, now = await accounts.pepper(db), utc_now()
    sessions = Sessions(db, Passwords(db, pepper), pepper, lambda: now)
    login, password = await open_account(db, "somebody")
    cookie = await sessions.begin(login, password)
    assert cookie is not None
    now += timedelta(seconds=CONSOLE_SESSION_SECONDS - 1)
    viewer = await sessions.viewer(cookie)
    assert viewer is not None and (viewer.login, viewer.operator) == (login, False)
    now += timedelta(seconds=1)
    assert await sessions.viewer(cookie) is None


async def test_a_key_of_another_installation_opens_nothing(db: Database) -> None:
    pepper = await accounts.pepper(db)
    login, password = await open_account(db, "somebody")
    cookie = await Sessions(db, Passwords(db, pepper), pepper, utc_now).begin(login, password)
    assert cookie is not None
    assert await Sessions(db, Passwords(db, pepper), bytes(32), utc_now).viewer(cookie) is None


async def test_who_dawdles_over_a_form_keeps_nobody_out(db: Database) -> None:
    """Strangers who never finish their log-in hold no place; an account that does holds its own share of them."""
    await open_account(db, "shop", "0")
    await open_account(db, "operator", "0")
    await accounts_store.claim_operator(db, "operator")
    credentials = {login: await accounts.change_password(db, login) for login in ("shop", "operator")}
    pepper = await accounts.pepper(db)
    sessions = Sessions(db, Passwords(db, pepper), pepper, utc_now)
    cookies = {login: await sessions.begin(login, password) for login, password in credentials.items()}
    gate = Gate(Response("here"), sessions, most=9, most_of_account=3)

    async def statuses(path: str, method: str, login: str | None, *, whole: bool) -> list[int]:
        said: list[int] = []
        cookie = [] if login is None else [(b"cookie", f"{SESSION}={cookies[login]}".encode())]

        async def receive() -> Message:
            if not whole:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                said.append(message["status"])

        scope: Scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": cookie}
        await gate(scope, receive, send)
        return said

    async with asyncio.TaskGroup() as group:
        slow = [group.create_task(statuses("/console/login", "POST", None, whole=False)) for _ in range(20)]
        slow += [group.create_task(statuses("/console/logout", "POST", "shop", whole=False)) for _ in range(20)]
        while sum(one.done() for one in slow) < 17:  # the shop's beyond its share
            await asyncio.sleep(0)
        assert await statuses("/console/login", "POST", None, whole=True) == [200]
        assert await statuses("/console/tasks", "GET", "operator", whole=True) == [200]
        assert await statuses("/console/tasks", "GET", "shop", whole=True) == [503]
        assert await statuses("/console/" + "9" * 5_000, "GET", "operator", whole=True) == [404]
        for one in slow:
            one.cancel()
    assert {tuple(one.result()) for one in slow if not one.cancelled()} == {(503,)}
