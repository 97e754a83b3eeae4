"""Who calls: floods of wrong passwords cost little, tell nothing, and keep nobody out (contract §2.1)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

import pytest

from restante.core.limits import CREDENTIALS_SECONDS
from restante.flow import accounts as flow
from restante.store import accounts
from restante.store.accounts import Credentials
from restante.store.database import Database, Session
from restante.web.auth import Passwords
from restante.web.wire import UNAUTHORIZED_BODY
from tests.support import Http, Restante, open_account, task
from tests.web.calls import Answered, Shop, basic, call


class Counted:
    """The look-ups that reach PostgreSQL: how many logins each asks for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[int] = []
        real = accounts.credentials

        async def credentials(db: Session, logins: Collection[str]) -> dict[str, Credentials]:
            self.asked.append(len(logins))
            return await real(db, logins)

        monkeypatch.setattr(accounts, "credentials", credentials)

    def taken(self) -> list[int]:
        asked, self.asked = self.asked, []
        return asked


@pytest.fixture
async def passwords(db: Database) -> Passwords:
    return Passwords(db, await flow.pepper(db))


async def test_a_flood_of_wrong_passwords_shares_its_statements(
    db: Database, passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold one connection of the pool, and leave nothing in memory; who has the right one is let in with them."""
    login, password = await open_account(db, "somebody@example.org")
    counted = Counted(monkeypatch)
    wrong = [passwords.check(basic(f"nobody-{number}", "wrong")) for number in range(2_000)]
    *refused, found = await asyncio.gather(*wrong, passwords.check(basic(login, password)))
    assert refused == [None] * 2_000
    assert found is not None and found.login == login
    assert len(counted.taken()) <= 4
    assert len(passwords._proven) == 1, "only what was right is kept"


async def test_no_statement_tells_which_logins_exist(
    db: Database, passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login that is in use at this moment costs a guesser the same look-up as one that nobody has."""
    login, password = await open_account(db, "somebody@example.org")
    counted = Counted(monkeypatch)
    assert await passwords.check(basic(login, password)) is not None
    assert counted.taken() == [1]
    assert await passwords.check(basic(login, password)) is not None
    assert counted.taken() == [], f"what was right is believed for {CREDENTIALS_SECONDS} s"
    for guessed in (login, "nobody@example.org", login, "nobody@example.org"):
        assert await passwords.check(basic(guessed, "wrong")) is None
        assert counted.taken() == [1]


async def test_the_comparison_is_made_for_nobody_too(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    """And in constant time: it is hmac.compare_digest of two digests of one length."""
    compared: list[Any] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return False

    monkeypatch.setattr("restante.core.credentials.hmac.compare_digest", compare)
    assert await passwords.check(basic("nobody@example.org", "wrong")) is None
    assert compared == [(32, 32)] * 2  # of the password now, and of the one before


async def test_a_401_is_the_same_whoever_was_meant(restante: Restante, shop: Shop) -> None:
    login, password = shop.credentials
    url = f"{restante.family}/models"
    headers: list[dict[str, str]] = [
        {"Authorization": basic(login, password + "x")},
        {"Authorization": basic(login, "")},
        {"Authorization": basic("nobody@example.org", password)},
        {"Authorization": basic("x" * 5_000, "x")},
        {"Authorization": "Basic !"},
        {"Authorization": "Bearer x"},
        {},
    ]
    answers: list[Answered] = [await call("GET", url, headers=one) for one in headers]
    shown = {
        (one.status, one.body, frozenset((k, v) for k, v in one.headers.items() if k != "Date")) for one in answers
    }
    assert len(shown) == 1
    assert (answers[0].status, answers[0].body) == (401, UNAUTHORIZED_BODY)


async def test_others_are_served_during_a_flood_of_guesses(restante: Restante, shop: Shop) -> None:
    url = f"{restante.family}/models"

    async def guess() -> None:
        for _ in range(10):
            refused = await call("GET", url, headers={"Authorization": basic(secrets.token_hex(4), "wrong")})
            assert refused.status == 401

    guessing = asyncio.gather(*(guess() for _ in range(30)))
    async with Http(restante.family, shop.credentials) as http:
        posted = await http.post([task(tag=str(number)) for number in range(3)])
        await http.answers([entry["id"] for entry in posted["tasks"]])
    await guessing


async def test_a_body_of_nobody_is_not_waited_for(restante: Restante) -> None:
    """Who does not say who it is cannot hold anything by being slow: the 401 comes before the body does."""
    url = urlsplit(restante.url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    head = f"POST {urlsplit(restante.family).path}/task_post HTTP/1.1\r\nHost: restante\r\n"
    writer.write(f"{head}Authorization: {basic('nobody', 'wrong')}\r\nContent-Length: 10000000\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.readuntil(b'"tasks":[]}'), 20)
    assert answer.startswith(b"HTTP/1.1 401 ")
    writer.close()
