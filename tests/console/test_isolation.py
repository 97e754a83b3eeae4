"""No page of the console shows or changes anything of another account's; the operator sees all (tests/security has the
same of the API)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import pytest

from tests.console.served import PATHS
from tests.console.test_books_isolation import BOOKS
from tests.console.visiting import visitor
from tests.support import Http, Restante, task
from tests.web.calls import Shop, listed, one_task, open_shop

MARK: Final = "qz9-victim"  # in everything that is the victim's


class Victim(NamedTuple):
    """An account with tasks of every kind."""

    shop: Shop
    ids: list[str]

    @property
    def login(self) -> str:
        return self.shop.credentials[0]


Wishes = Callable[[Victim, Sequence[str]], list[str]]


def _plain(path: str) -> Wishes:
    return lambda victim, ids: [path]


def _of_account(path: str, *queries: str) -> Wishes:
    return lambda victim, ids: [path, *(f"{path}?{query.replace('LOGIN', victim.login)}" for query in queries)]


def _of_task(path: str) -> Wishes:
    return lambda victim, ids: [path.replace("{task_id}", one) for one in ids]


_LISTS: Final = (
    "account=LOGIN", f"tag={MARK}", f"tag={MARK}&account=LOGIN", "state=done&account=LOGIN", "state=failed",
    "state=queued", "state=waiting&account=LOGIN", "kind=live&account=LOGIN", "time=24h",
    "model=gemini-2.5-flash&account=LOGIN",
)  # fmt: skip

#: How a stranger would ask each page for what is the victim's.
READS: Final[dict[str, Wishes]] = {
    "/": _of_account("/", "account=LOGIN"),
    "/overview.json": _of_account("/overview.json", "account=LOGIN"),
    "/events": lambda victim, ids: [],  # says only that something changed: test_nudges
    "/tasks": _of_account("/tasks", *_LISTS),
    "/tasks.json": _of_account("/tasks.json", *_LISTS),
    "/tasks/{task_id}": _of_task("/tasks/{task_id}"),
    "/tasks/{task_id}.json": _of_task("/tasks/{task_id}.json"),
    "/tasks/{task_id}/reply.json": _of_task("/tasks/{task_id}/reply.json"),
}
#: What forms do, and the fields with which a stranger would reach for the victim's.
ACTIONS: Final[dict[str, Callable[[Victim], list[dict[str, str]]]]] = {"/logout": lambda victim: []}


@pytest.fixture(scope="module")
def victim(restante: Restante) -> Victim:
    """Tasks that are done, failed, live, parked and queued (the account is paused)."""
    return asyncio.run(_become_victim(restante))


async def _become_victim(restante: Restante) -> Victim:
    shop = await asyncio.to_thread(open_shop, restante)
    own: dict[str, Any] = {"tag": MARK, "system_message": f"{MARK} system"}
    async with Http(restante.family, shop.credentials) as http:
        ways = ("", "[[search]]", "[[fail=a reason]]", "[[fail=overloaded]] [[retry_after=900]]")
        ids = [one["id"] for one in (await http.post([task(f"{MARK} {way}", **own) for way in ways]))["tasks"]]
        await listed(http, 3)
        ids.append(one_task(await http.post([task(f"{MARK} live")], "live"))["id"])
    browser = await visitor(restante.url, shop.credentials)
    async with browser:  # else that a stranger does not see it would prove nothing
        for path in ("/tasks", "/tasks.json", f"/tasks/{ids[1]}", f"/tasks/{ids[1]}.json"):
            assert MARK in await browser.page(path), path
    return Victim(shop, ids)


@pytest.fixture(scope="module")
def stranger(restante: Restante) -> Shop:
    return open_shop(restante)


def test_every_route_is_among_these() -> None:
    assert {path for method, path in PATHS - BOOKS if method == "GET"} == set(READS), (
        "say how a stranger would misuse it"
    )
    assert {path for method, path in PATHS - BOOKS if method == "POST"} == set(ACTIONS), (
        "say how a stranger would misuse it"
    )


async def test_a_stranger_sees_nothing(restante: Restante, victim: Victim, stranger: Shop) -> None:
    browser = await visitor(restante.url, stranger.credentials)
    async with browser:
        for wishes in READS.values():
            for path in wishes(victim, victim.ids):
                answered = await browser.get(path)
                _shows_nothing(answered.body.decode() + str(answered.headers), victim, allowed=path)


async def test_another_accounts_is_as_if_it_were_not(restante: Restante, victim: Victim, stranger: Shop) -> None:
    """Nothing tells a stranger whether a task or an account exists."""
    browser = await visitor(restante.url, stranger.credentials)
    async with browser:
        for path in READS:
            if "{task_id}" in path:
                for one in victim.ids:
                    never = one[:-12] + secrets.token_hex(6)
                    there, not_there = [await browser.get(path.replace("{task_id}", each)) for each in (one, never)]
                    assert (there.status, not_there.status) == (404, 404)
                    assert _faceless(there.body, one) == _faceless(not_there.body, never)
            elif path in ("/tasks", "/tasks.json"):
                own, asked = await browser.get(path), await browser.get(f"{path}?account={victim.login}")
                assert asked.status == 200
                assert own.body == asked.body.replace(f"?account={victim.login}".encode(), b"")  # its own address


async def test_the_operator_sees_all_and_each(restante: Restante, victim: Victim, stranger: Shop) -> None:
    operator = await visitor(restante.url)
    async with operator:
        assert MARK in await operator.page(f"/tasks/{victim.ids[0]}")
        of_victim = await operator.json(f"/tasks.json?account={victim.login}")
        assert {one["id"] for one in of_victim["tasks"]} == set(victim.ids)
        assert {one["account"] for one in (await operator.json(f"/tasks.json?tag={MARK}"))["tasks"]} == {victim.login}
        assert (await operator.json(f"/tasks.json?account={stranger.credentials[0]}"))["tasks"] == []
        assert (await operator.json(f"/overview.json?account={victim.login}"))["queue"]["retrying"] == 1
        assert (await operator.get("/tasks?account=nobody")).status == 404


async def test_the_state_of_the_victims_stays(restante: Restante, victim: Victim, stranger: Shop) -> None:
    """Whatever a stranger's forms say, with a token of the stranger's own."""
    owner, thief = (
        await visitor(restante.url, victim.shop.credentials),
        await visitor(restante.url, stranger.credentials),
    )
    async with owner, thief:
        before = [await owner.json("/tasks.json"), (await owner.json("/overview.json"))["money"]]
        for path, fields in ACTIONS.items():
            for one in fields(victim):
                answered = await thief.send("/", path, **one)
                _shows_nothing(answered.body.decode() + str(answered.headers), victim, allowed=str(one))
        assert [await owner.json("/tasks.json"), (await owner.json("/overview.json"))["money"]] == before


def _shows_nothing(text: str, victim: Victim, *, allowed: str) -> None:
    """Neither a mark of the victim's nor an id, beyond what the stranger said."""
    for secret in (MARK, victim.login, *victim.ids, f"-{victim.shop.number:04x}-"):
        assert secret not in text or secret in allowed, (secret, text)


def _faceless(body: bytes, said: str) -> str:
    text = body.decode()
    return text.replace(said, "") if said else text
