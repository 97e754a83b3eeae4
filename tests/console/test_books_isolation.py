"""No page and no form of the books shows or changes anything of another account's, whatever a stranger asks for."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any, Final
from urllib.parse import quote

import asyncpg
import pytest

from restante.store.embedded_postgres import EmbeddedPostgres
from restante.web.console.gate import PREFIX
from tests.console.person import Form, Person, person
from tests.console.served import PATHS
from tests.console.test_deliveries import failing, tried
from tests.support import OPERATOR, Http, Restante, task
from tests.web.calls import Shop, open_shop

MARK: Final = "qz7-books"

#: Every path of the books; `{delivery}`, `{number}`, `{login}`, `{id}` are the victim's.
READ: Final = [
    "/deliveries",
    "/deliveries?account={login}",
    "/deliveries?state=failed&account={login}",
    "/deliveries?host=nobody.invalid:443",
    "/deliveries?after=WzFd",
    "/deliveries/{delivery}",
    "/deliveries/{delivery}/payload",
    "/ledger",
    "/ledger?account={login}",
    "/ledger?account={login}&kind=top-up",
    "/ledger.csv?account={login}",
    "/accounts",
    "/accounts?login={login}",
    "/accounts/{number}",
    "/playground",
    "/models",
]
SENT: Final[list[tuple[str, dict[str, str]]]] = [
    ("/deliveries/{delivery}/resend", {}),
    ("/deliveries/resend", {"account": "{login}", "since": "168"}),
    ("/deliveries/resend", {"account": "", "since": "168"}),
    ("/ledger/audit", {}),
    ("/accounts", {"login": "stranger's own", "balance": "5"}),
    ("/accounts/{number}/top-up", {"amount": "5"}),
    ("/accounts/{stranger}/top-up", {"amount": "5"}),
    ("/accounts/{number}/password", {"overlap_hours": "0"}),
    ("/accounts/{number}/webhook-secret", {"do": "show"}),
    ("/accounts/{number}/webhook-secret", {"do": "rotate"}),
    ("/accounts/{number}/limits", {"live": "1"}),
    ("/accounts/{stranger}/limits", {"live": "0"}),
    ("/accounts/{number}/pause", {"paused": "yes"}),
    ("/accounts/{number}/cancel", {}),
    ("/accounts/{number}/cancel", {"tag": MARK}),
    ("/models/pause", {"model": "gemini-2.5-flash", "paused": "yes"}),
]


def _plain(path: str) -> str:
    path = path.partition("?")[0]
    for name in ("{delivery}", "{number}", "{stranger}"):
        path = path.replace(name, "{number:int}")
    return path


#: All of them, as they are served; each page has its twin. /playground pays of the session's own account, whatever it
#: is sent.
BOOKS: Final = {
    *(("GET", _plain(path)) for path in READ),
    *(("GET", f"{_plain(path)}.json") for path in READ if not path.partition("?")[0].endswith((".csv", "/payload"))),
    *(("POST", _plain(path)) for path, _ in SENT),
    ("POST", "/playground"),
}


def test_every_path_is_served() -> None:
    """That none is forgotten is in test_isolation."""
    assert BOOKS <= PATHS


@pytest.fixture(scope="module")
def victim(restante: Restante) -> tuple[Shop, list[str], int]:
    """A paused account with failed webhooks, queued tasks and money; its tasks and one of its webhooks."""

    async def become() -> tuple[Shop, list[str], int]:
        shop = await asyncio.to_thread(open_shop, restante)
        ids = await failing(restante, shop.credentials, system_message=MARK)
        async with person(restante.url, shop.credentials) as owner:
            [row, *_] = await tried(owner, 1)
            here = f"/accounts/{shop.number}"
            await owner.send((await owner.read(here)).form(f"/console{here}/pause"))
        async with Http(restante.family, shop.credentials) as http:
            ids += [entry["id"] for entry in (await http.post([task(MARK, tag=MARK)]))["tasks"]]
        return shop, ids, row["id"]

    return asyncio.run(become())


async def _state(restante: Restante, number: int) -> Any:
    with EmbeddedPostgres(restante.data_dir) as server:
        connection = await asyncpg.connect(server.dsn)
        try:
            return [
                [tuple(row.values()) for row in await connection.fetch(statement, number)]
                for statement in (
                    "select id, state, code from task where account_id = $1 order by id",
                    "select id, state from queue where account_id = $1 order by id",
                    # One that is sent again has less attempts than before; more it gets by itself.
                    "select id, attempts > 0 from delivery where account_id = $1 order by id",
                    "select balance, held, spent, funded, secret, limits, paused from account where id = $1",
                    "select generation from webhook_secret where account_id = $1 order by generation",
                )
            ]
        finally:
            await connection.close()


async def test_a_stranger_sees_and_changes_nothing(restante: Restante, victim: tuple[Shop, list[str], int]) -> None:
    shop, ids, delivery = victim
    stranger = await asyncio.to_thread(open_shop, restante)
    names = {"delivery": delivery, "number": shop.number, "login": shop.credentials[0], "stranger": stranger.number}
    before = await _state(restante, shop.number)
    own = await _state(restante, stranger.number)
    async with person(restante.url, stranger.credentials) as thief:
        for path in READ:
            asked = path.format(**names)
            for suffix in ("", ".json"):
                where, mark, query = asked.partition("?")
                page = await thief.read(f"{where}{suffix if '.csv' not in where else ''}{mark}{query}")
                for secret in (shop.credentials[0], MARK, "nobody.invalid:443</a>", f"-{shop.number:04x}-", *ids):
                    told = (
                        page.text.replace(quote(query), "").replace(query.replace("&", "&amp;"), "")
                        if query
                        else page.text
                    )
                    assert secret not in told, (asked, secret, page.words)
                    assert page.status in (200, 400, 404), (asked, page.words)
            for name, never in (("{number}", 65_000), ("{delivery}", 10**9)):
                if name in path:  # as if it were not
                    nowhere = path.replace(name, str(never)).format(**names)
                    absent, present = await thief.read(nowhere), await thief.read(asked)
                    assert (absent.status, absent.text) == (present.status, present.text.replace(asked, nowhere))
        tokens = (await thief.read(f"/accounts/{stranger.number}")).form(f"{PREFIX}/accounts/{stranger.number}/cancel")
        for path, fields in SENT:
            await _sent(thief, tokens, path.format(**names), {k: v.format(**names) for k, v in fields.items()}, victim)
    did = [line for line in restante.process.log.splitlines() if f"console: {stranger.credentials[0]} " in line]
    assert all("logged in" in line or "of 0 tasks" in line for line in did), did
    assert await _state(restante, shop.number) == before
    assert await _state(restante, stranger.number) == own


async def _sent(
    thief: Person, tokens: Form, path: str, fields: dict[str, str], victim: tuple[Shop, list[str], int]
) -> None:
    """A form that is on no page of the thief's, with tokens that are the thief's own, confirmed."""
    form = Form(f"{PREFIX}{path}", "post", {"csrf": tokens.fields["csrf"]}, [])
    page = await thief.send(form, **fields, sure="yes", once=f"{int(time.time())}-{secrets.token_hex(10)}")
    own = path == "/deliveries/resend"
    assert page.status == 404 or (own and "of 0 tasks" in page.words), (path, page.status, page.words)
    for secret in (victim[0].credentials[0], MARK, *victim[1]):
        assert secret not in page.text


async def test_the_operator_sees_what_a_stranger_does_not(
    restante: Restante, victim: tuple[Shop, list[str], int]
) -> None:
    """Else that a stranger does not see it would prove nothing."""
    shop, ids, delivery = victim
    login = shop.credentials[0]
    async with person(restante.url, OPERATOR) as operator:
        assert ids[0] in (await operator.read(f"/deliveries?account={login}")).text
        page = await operator.read(f"/deliveries/{delivery}")
        assert any(one in page.text for one in ids)
        assert ids[0] in (await operator.read(f"/ledger?account={login}")).text
        assert login in (await operator.read(f"/accounts/{shop.number}")).text
        assert login in (await operator.read(f"/accounts?login={login}")).text
