"""No endpoint shows or changes anything of another account's, whatever ids, tags, logins or keys it is asked with.

Every route that is served is called; a new one fails `test_every_route_is_among_these` until it is covered here.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast

import asyncpg
import pytest

from restante.core.allowance import LIMIT_NAMES, Allowance
from restante.flow import accounts
from restante.store.database import Database
from restante.store.embedded_postgres import EmbeddedPostgres
from restante.web.application import create_app
from restante.web.health import Health
from restante.web.metrics import MetricsPage
from restante.web.rate_limit import RateLimits
from restante.web.wire import FAMILY, OURS
from restante.wiring import utc_now
from tests.support import Http, Restante, open_account, task
from tests.web.calls import Answered, Shop, call, fetched, listed, one_task
from tests.web.test_openapi import operations

MARK: Final = "kx7-victim"  # in everything that is the victim's
KEY: Final = "the same key of both"
_ID: Final = re.compile(rb"[0-9]{8}-[0-9a-f]{4}-[0-9]{4}-0000-[0-9a-f]{12}")
_TIME: Final = re.compile(rb'"time":"[0-9.]+ sec\."|<time>[0-9.]+ sec\.</time>')


class Victim(NamedTuple):
    """An account with something of everything. `ids` by what became of the task."""

    shop: Shop
    login: str
    ids: dict[str, str]


class Wish(NamedTuple):
    """A call that a stranger makes; `about` the id in it."""

    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = MappingProxyType({})
    about: str = "no id"


def _by_path(method: str, path: str) -> Callable[[Victim, Sequence[str]], list[Wish]]:
    def wishes(victim: Victim, ids: Sequence[str]) -> list[Wish]:
        return [Wish(method, path.replace("{task_id}", one), about=one) for one in ids]

    return wishes


def _plain(method: str, path: str, *bodies: Any) -> Callable[[Victim, Sequence[str]], list[Wish]]:
    return lambda victim, ids: [Wish(method, path, body) for body in bodies or (None,)]


def _naming(path: str, *bodies: Callable[[str, str], Any]) -> Callable[[Victim, Sequence[str]], list[Wish]]:
    """Bodies made of the victim's login and each id."""

    def wishes(victim: Victim, ids: Sequence[str]) -> list[Wish]:
        return [Wish("POST", path, body(victim.login, one), about=one) for one in ids for body in bodies]

    return wishes


def _span(**fields: Any) -> list[Any]:
    now = utc_now()
    form = "%Y-%m-%d %H:%M:%S +00:00"
    return [{"datetime_from": f"{now - timedelta(days=6):{form}}", "datetime_to": f"{now:{form}}"} | fields]


WISHES: Final[dict[tuple[str, str], Callable[[Victim, Sequence[str]], list[Wish]]]] = {
    ("POST", f"{FAMILY}/task_post"): lambda victim, ids: [
        Wish("POST", f"{FAMILY}/task_post", [task("the same of both")], {"Idempotency-Key": KEY})
    ],
    ("POST", f"{FAMILY}/live"): _plain("POST", f"{FAMILY}/live", [task("a stranger's own")]),
    ("GET", f"{FAMILY}/tasks_ready"): _plain("GET", f"{FAMILY}/tasks_ready"),
    ("GET", f"{FAMILY}/task_get/{{task_id}}"): _by_path("GET", f"{FAMILY}/task_get/{{task_id}}"),
    ("GET", f"{FAMILY}/models"): _plain("GET", f"{FAMILY}/models"),
    ("GET", "/v3/appendix/user_data"): _plain("GET", "/v3/appendix/user_data"),
    ("GET", "/v3/appendix/errors"): _plain("GET", "/v3/appendix/errors"),
    ("GET", "/v3/appendix/status"): _plain("GET", "/v3/appendix/status"),
    ("POST", "/v3/appendix/webhook_resend"): _naming("/v3/appendix/webhook_resend", lambda login, one: [{"id": one}]),
    ("POST", "/v3/ai_optimization/id_list"): lambda victim, ids: [
        Wish("POST", "/v3/ai_optimization/id_list", _span(**more))
        for more in ({}, {"include_metadata": True}, {"sort": "desc", "limit": 1000, "offset": 0})
    ],
    ("POST", "/v3/ai_optimization/errors"): lambda victim, ids: [
        Wish("POST", "/v3/ai_optimization/errors", _span(**more))
        for more in ({}, {"filtered_function": "pingback_url", "limit": 1000})
    ],
    ("POST", f"{OURS}/tasks/cancel"): _naming(
        f"{OURS}/tasks/cancel",
        lambda login, one: {"ids": [one]},
        lambda login, one: {"ids": [one], "login": login},
        lambda login, one: {"ids": [one], "everyone": True},
        lambda login, one: {"tag": f"{MARK} tag"},
        lambda login, one: {"tag": f"{MARK} tag", "login": login},
        lambda login, one: {"all": True, "login": login},
        lambda login, one: {"all": True, "everyone": True},
    ),
    ("POST", f"{OURS}/account/pause"): _naming(f"{OURS}/account/pause", lambda login, one: {"login": login}),
    ("POST", f"{OURS}/account/resume"): _naming(f"{OURS}/account/resume", lambda login, one: {"login": login}),
    ("POST", f"{OURS}/models/pause"): _plain("POST", f"{OURS}/models/pause", {"model": "gemini-2.5-flash"}),
    ("POST", f"{OURS}/models/resume"): _plain("POST", f"{OURS}/models/resume", {"model": "gemini-2.5-flash"}),
    ("GET", f"{OURS}/tasks/{{task_id}}/raw"): _by_path("GET", f"{OURS}/tasks/{{task_id}}/raw"),
    ("GET", f"{OURS}/tasks/{{task_id}}/suggestions"): _by_path("GET", f"{OURS}/tasks/{{task_id}}/suggestions"),
}
OPEN: Final = {"/openapi.json", "/docs", "/docs/docs.css", "/healthz", "/readyz"}  # to everybody, without a password
CLOSED: Final = {"/metrics"}  # to all but the operator: tests/operation/test_metrics.py


@pytest.fixture(scope="module")
def victim(restante: Restante) -> Victim:
    """Tasks that are done, failed, live, queued (the account is paused), a webhook that failed, a POST with a key."""
    return asyncio.run(_become_victim(restante))


async def _become_victim(restante: Restante) -> Victim:
    login = f"{MARK}@example.org"
    shop = await asyncio.to_thread(_open, restante, login)
    ids: dict[str, str] = {}
    async with Http(restante.family, shop.credentials) as http:
        ways = {"done": "", "searched": "[[search]]", "failed": "[[fail=a reason]]"}
        own: dict[str, Any] = {"tag": f"{MARK} tag", "system_message": f"{MARK} system"}
        own["pingback_url"] = f"https://{MARK}.invalid/$id"  # a name that nobody has
        for name, way in ways.items():
            ids[name] = one_task(await http.post([task(f"{MARK} prompt {way}", **own)]))["id"]
        await listed(http, len(ways))
        ids["live"] = one_task(await http.post([task(f"{MARK} live")], "live"))["id"]
        body = json.dumps([task("the same of both")]).encode()
        keyed = await call("POST", f"{restante.family}/task_post", shop.credentials, body, {"Idempotency-Key": KEY})
        ids["keyed"] = one_task(keyed.json)["id"]
        await fetched(http, ids["keyed"], until=20000)
        assert (await call("POST", f"{restante.url}{OURS}/account/pause", shop.credentials, b"{}")).status == 200
        ids["queued"] = one_task(await http.post([task(f"{MARK} prompt", **own)]))["id"]
    made = Victim(shop, login, ids)
    await _has_something_of_everything(restante, made)
    return made


async def _has_something_of_everything(restante: Restante, victim: Victim) -> None:
    """Else that a stranger does not see it would prove nothing."""
    number, ids = victim.shop.number, victim.ids

    async def keep_raw(db: Database) -> None:  # the scripted provider has no reply of its own
        raw = f'{{"candidates":[{{"groundingMetadata":{{"searchEntryPoint":{{"renderedContent":"{MARK}"}}}}}}]}}'
        await db._pool.execute(
            "insert into answer_raw (day, id, account_id, body) select day, id, account_id, $3 from task"
            " where account_id = $1 and id = $2::uuid",
            number, ids["searched"], raw.encode(),
        )  # fmt: skip

    await asyncio.to_thread(restante.look, keep_raw)
    own = restante.url, victim.shop.credentials
    async with asyncio.timeout(30):
        while not (await call("POST", f"{own[0]}/v3/ai_optimization/errors", own[1], b"[{}]")).json["tasks"][0][
            "result"
        ]:
            await asyncio.sleep(0.05)  # the pingback fails when it is tried
    for method, path, body in (
        ("GET", f"{FAMILY}/tasks_ready", None),
        ("GET", f"{FAMILY}/task_get/{ids['done']}", None),
        ("POST", "/v3/ai_optimization/id_list", _span(include_metadata=True)),
        ("POST", "/v3/ai_optimization/errors", [{}]),
        ("POST", "/v3/appendix/webhook_resend", [{"id": ids["failed"]}]),
        ("GET", f"{OURS}/tasks/{ids['searched']}/raw", None),
        ("GET", f"{OURS}/tasks/{ids['searched']}/suggestions", None),
    ):
        answered = await call(method, own[0] + path, own[1], None if body is None else json.dumps(body).encode())
        assert MARK in answered.body.decode(), (path, answered)


@pytest.fixture(scope="module")
def inside(restante: Restante) -> Iterator[str]:
    """The DSN of its database."""
    with EmbeddedPostgres(restante.data_dir) as server:
        yield server.dsn


@pytest.fixture(scope="module")
def stranger(restante: Restante) -> Shop:
    """Another account that has done nothing yet."""
    return _open(restante, "stranger@example.org")


def _open(restante: Restante, login: str) -> Shop:
    """An account without limits."""

    async def work(db: Database) -> Shop:
        credentials = await open_account(db, login, "10")
        await accounts.change_limits(db, login, dict.fromkeys(LIMIT_NAMES, 0))
        return Shop(credentials, (await accounts.find(db, login)).id)

    return restante.look(work)


def routes() -> set[tuple[str, str]]:
    """What an API process serves, as `serving` puts it together."""
    nothing = cast(Any, None)
    app = create_app(
        operations(),
        RateLimits(nothing, nothing, nothing),
        Allowance(),
        nothing,
        nothing,
        Health(nothing, list).routes() + MetricsPage(nothing, nothing, nothing, None).routes(),
    )
    return {(method, cast(Any, route).path) for route in app.routes for method in cast(Any, route).methods or ()}


def test_every_route_is_among_these() -> None:
    served = {(method, path) for method, path in routes() if path not in OPEN | CLOSED}
    assert served == set(WISHES), "a new endpoint: say above how a stranger would misuse it"
    assert {path for _, path in routes()} >= OPEN | CLOSED


async def _granted(restante: Restante, stranger: Shop, wish: Wish) -> Answered:
    body = None if wish.body is None else json.dumps(wish.body).encode()
    return await call(wish.method, restante.url + wish.path, stranger.credentials, body, wish.headers)


def _invented(task_id: str) -> str:
    """An id that never was, of the same account, time and function."""
    return task_id[:-12] + secrets.token_hex(6)


def _faceless(answered: Answered) -> tuple[int, bytes, list[str]]:
    body = _TIME.sub(b"TIME", _ID.sub(b"ID", answered.body))
    return answered.status, body, sorted(name.lower() for name in answered.headers)


@pytest.mark.parametrize(("method", "path"), WISHES)
async def test_a_stranger_sees_nothing_and_changes_nothing(
    restante: Restante, inside: str, victim: Victim, stranger: Shop, method: str, path: str
) -> None:
    before = await _state(inside, victim)
    asked = WISHES[method, path](victim, [*victim.ids.values()])
    assert asked
    for wish in asked:
        answered = await _granted(restante, stranger, wish)
        sent = f"{wish.path} {json.dumps(wish.body)}"
        _shows_nothing(answered, victim, allowed=sent)
        for there, never in ((wish.about, _invented(wish.about)), (victim.login, "nobody@example.org")):
            if there in sent:
                body = json.loads(json.dumps(wish.body).replace(there, never))
                twin = await _granted(restante, stranger, Wish(wish.method, wish.path.replace(there, never), body))
                assert _faceless(twin) == _faceless(answered), wish
    assert await _state(inside, victim) == before


@pytest.mark.parametrize("suffix", [".ai", ".xml", ".json"])
async def test_no_other_format_shows_more(restante: Restante, victim: Victim, stranger: Shop, suffix: str) -> None:
    for (method, _), wishes in WISHES.items():
        if method == "GET":
            for wish in wishes(victim, [*victim.ids.values()]):
                answered = await _granted(restante, stranger, wish._replace(path=wish.path + suffix))
                _shows_nothing(answered, victim, allowed=wish.path)


async def test_what_needs_no_password_says_nothing_of_anybody(restante: Restante, victim: Victim) -> None:
    for path in OPEN:
        answered = await call("GET", restante.url + path)
        assert answered.status == 200
        _shows_nothing(answered, victim, allowed="")


def _shows_nothing(answered: Answered, victim: Victim, *, allowed: str) -> None:
    """Neither a mark of the victim's nor an id, beyond what the stranger said."""
    text = answered.body.decode() + str(dict(answered.headers))
    for secret in _all(victim):
        assert secret not in text or secret in allowed, (secret, text)


def _all(victim: Victim) -> Iterable[str]:
    return (MARK, victim.login, *victim.ids.values(), f"-{victim.shop.number:04x}-")


async def _state(dsn: str, victim: Victim) -> Any:
    """What the victim would notice: its tasks, its webhooks, its money, whether it is paused."""
    connection = await asyncpg.connect(dsn)
    try:
        return [
            [tuple(row.values()) for row in await connection.fetch(statement, victim.shop.number)]
            for statement in (
                "select id, state, code, settled_at from task where account_id = $1 order by id",
                "select id, state from queue where account_id = $1 order by id",
                "select id, seq from ready where account_id = $1 order by seq",
                "select balance, held, spent, paused_by from account where id = $1",
            )
        ]
    finally:
        await connection.close()
