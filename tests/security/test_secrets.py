"""Secrets show nowhere: real processes, marked secrets, every fault that is known to make programs talkative.

Searched are all that the processes write, all answers of the API, the command lines of all processes, PostgreSQL's own
logs, and every row of the database, for each secret and what base64, hexadecimal and URL encoding make of it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp
import asyncpg
import pytest
from aiohttp import web

from restante.config import load
from restante.core.errors import OperatorError
from restante.store.database import Database
from restante.store.embedded_postgres import EmbeddedPostgres
from restante.web.wire import FAMILY, OURS
from restante.webhooks.address_guard import AllowList
from restante.webhooks.sender import Sender
from restante.wiring import build_models
from tests.chaos.processes import House, family, house, postmaster
from tests.emulators.proxy import ForwardProxy
from tests.support import COMMAND, environment, task

LOGIN: Final = "operator"
SECRETS: Final = {
    "a Gemini key as Google makes them": "AIzaSyKx7-0123456789abcdefghijklmnopqrstu",
    "a Gemini key of another form": "kx7-gemini-key-of-another-form",
    "a model server's key": "sk-kx7-model-server-key",
    "a key behind the proxy": "sk-kx7-key-behind-the-proxy",
    "the database's password": "kx7-password-of-the-database",
    "the egress proxy's password": "kx7-password-of-the-egress-proxy",
    "the webhook proxy's password": "kx7-password-of-the-webhook-proxy",
    "the operator's password": "kx7-Password of the operator",
    "a wrong password": "kx7-Wrong password of somebody",
    "a bearer's token": "kx7-token-of-a-bearer",
    "the token of /metrics": "kx7-token-of-the-metrics",
    "a token in a query": "kx7-token-in-a-query",
}
#: A customer's, who sees it in answers of the account's own; for the log it is a secret.
HOOK_TOKEN: Final = "kx7-token-of-a-webhook"
MODELS: Final = """
[servers.near]
url = "{url}/v1"
key_env = "NEAR_KEY"
lists_models = false
[servers.far]
url = "http://far.test/v1"
key_env = "FAR_KEY"
lists_models = false
[models.near-model]
server = "near"
[models.far-model]
server = "far"
"""


def forms(secret: str) -> set[str]:
    """A secret as it may be written."""
    raw = secret.encode()
    logins = (raw, f"{LOGIN}:{secret}".encode(), f"u:{secret}".encode())
    coded = {base64.b64encode(one).decode().rstrip("=") for one in logins}
    return {secret, quote(secret, safe=""), raw.hex(), *coded, repr(secret)[1:-1]}


def found_in(text: str, secrets: Mapping[str, str]) -> list[str]:
    """Names of the secrets that a text gives away."""
    return [name for name, secret in secrets.items() if any(form in text for form in forms(secret))]


class Provider:
    """A language model that says back whatever it was sent, key and headers included. `status` of its answers."""

    def __init__(self) -> None:
        self.status = 200
        self.asked = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/v1beta/models", self._list)
        app.router.add_post("/v1beta/models/{model}", self._gemini)
        app.router.add_post("/v1/chat/completions", self._openai)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        await runner.cleanup()

    async def _list(self, _: web.Request) -> web.Response:
        names = ("models/gemini-2.5-flash", "models/gemini-2.5-pro")
        return web.json_response(
            {"models": [{"name": one, "supportedGenerationMethods": ["generateContent"]} for one in names]}
        )

    async def _gemini(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.status == 200:
            said = {"candidates": [{"content": {"parts": [{"text": "A lake."}]}, "finishReason": "STOP"}]}
            return web.json_response(said | {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 3}})
        key = request.headers["x-goog-api-key"]
        message = f"API key not valid: {key}, api_key:{key}; {dict(request.headers)}"
        return web.json_response(
            {"error": {"code": self.status, "message": message, "status": key}}, status=self.status, reason=key
        )

    async def _openai(self, request: web.Request) -> web.Response:
        self.asked += 1
        proof = request.headers["Authorization"]
        error = {"message": f"Incorrect API key provided: {proof}", "type": proof, "code": proof}
        return web.json_response({"error": error}, status=401, reason=proof)


class Client:
    """Calls that keep every answer."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.heard: list[str] = []

    async def __call__(self, method: str, path: str, body: Any = None, proof: str | None = None) -> Any:
        own = aiohttp.encode_basic_auth(LOGIN, SECRETS["the operator's password"], encoding="utf-8")
        async with (
            aiohttp.ClientSession(headers={"Authorization": proof or own}) as session,
            session.request(method, self._url + path, json=body) as answer,
        ):
            text = await answer.text()
            self.heard.append(f"{answer.status} {dict(answer.headers)} {text}")
            return json.loads(text) if answer.content_type == "application/json" else text

    async def post(self, **fields: Any) -> str:
        [entry] = (await self("POST", f"{FAMILY}/task_post", [task(**fields)]))["tasks"]
        assert entry["status_code"] == 20100, entry
        task_id: str = entry["id"]
        return task_id

    async def until(self, what: str, condition: Any, seconds: float = 30.0) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not await condition():
                    await asyncio.sleep(0.05)  # another process's doing
        except TimeoutError:
            raise AssertionError(f"waited for {what}") from None

    async def ended(self, task_id: str) -> None:
        async def is_over() -> bool:
            [entry] = (await self("GET", f"{FAMILY}/task_get/{task_id}"))["tasks"]
            return entry["status_code"] not in (40601, 40602)

        await self.until("the task's end", is_over)


class Scene:
    """An installation full of secrets, and all that was seen of it from outside."""

    def __init__(self, home: House, server: EmbeddedPostgres, provider: Provider, client: Client) -> None:
        self.home = home
        self.server = server
        self.provider = provider
        self.client = client
        self.commands: set[str] = set()

    def look_at_processes(self) -> None:
        self.commands |= {one.command for one in family(self.home.data_dir)}

    def written(self) -> dict[str, str]:
        """Everything that processes wrote: name of the file -> its text."""
        logs = [*self.home.directory.glob("*.out"), *self.home.directory.glob("*.err")]
        logs += [path for path in self.home.data_dir.rglob("*") if path.suffix == ".log" and path.is_file()]
        return {str(path): path.read_text(errors="replace") for path in logs}


def settings(provider: str, dsn: str, proxy: str, models: Path) -> dict[str, str]:
    """Every setting that may hold a secret holds one."""
    keys = SECRETS["a Gemini key as Google makes them"], SECRETS["a Gemini key of another form"]
    database, egress, hooks = (
        SECRETS[f"the {whose} password"] for whose in ("database's", "egress proxy's", "webhook proxy's")
    )
    return {
        "GEMINI_API_KEY": ",".join(keys),
        "NEAR_KEY": SECRETS["a model server's key"],
        "FAR_KEY": SECRETS["a key behind the proxy"],
        "RESTANTE_GEMINI_BASE_URL": provider,
        "RESTANTE_MODELS": str(models),
        "RESTANTE_PASSWORD": SECRETS["the operator's password"],
        "RESTANTE_METRICS_TOKEN": SECRETS["the token of /metrics"],
        "RESTANTE_METRICS_LISTEN": "127.0.0.1:0",
        "RESTANTE_DATABASE_URL": dsn.replace("restante@", f"restante:{database}@"),
        "RESTANTE_EGRESS_PROXY": f"http://u:{egress}@{proxy}",
        "RESTANTE_WEBHOOK_PROXY": f"http://u:{hooks}@{proxy}",
        "RESTANTE_LOG_LEVEL": "debug",
        "RESTANTE_RATE_LIVE": "0",
    }


@asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[Scene]:
    provider = Provider()
    with house(directory) as home, EmbeddedPostgres(home.data_dir) as server:
        async with provider.serving() as url, ForwardProxy({}, "u:another password") as proxy:
            (directory / "models.toml").write_text(MODELS.format(url=url))
            home.env |= settings(url, server.dsn, f"127.0.0.1:{proxy.port}", directory / "models.toml")
            process = home.start("up", "up")
            found = await asyncio.to_thread(process.wait_for, r"up at (http://\S+)")
            made = Scene(home, server, provider, Client(found[1]))
            yield made
            made.look_at_processes()
            assert await asyncio.to_thread(process.stop) == 0, process.log


async def rejected_by_everybody(made: Scene) -> None:
    """Providers and proxies that refuse, and say back what they were shown."""
    client, provider = made.client, made.provider
    await client.ended(await client.post(pingback_url=f"https://hook.test/?token={HOOK_TOKEN}"))

    async def is_listed() -> bool:
        [entry] = (await client("POST", "/v3/ai_optimization/errors", [{}]))["tasks"]
        return bool(entry["result"])

    await client.until("the webhook's failure", is_listed)
    for status in (400, 404, 500, 401):  # the last one shuts the keys
        provider.status = status
        for model in ("gemini-2.5-flash", "gemini-2.5-pro"):
            await client("POST", f"{FAMILY}/live", [task(model_name=model)])
    for model in ("near-model", "far-model"):
        await client("POST", f"{FAMILY}/live", [task(model_name=model)])
    assert provider.asked > 8
    provider.status = 200


async def strangers_and_mistakes(made: Scene) -> None:
    """Credentials that are wrong, in wrong places, or no credentials."""
    wrong, token = SECRETS["a wrong password"], SECRETS["a bearer's token"]
    for proof in (
        aiohttp.encode_basic_auth(LOGIN, wrong), aiohttp.encode_basic_auth(wrong, wrong), f"Bearer {token}",
        f"Basic {token}", f"Basic {token * 500}",
    ):  # fmt: skip
        await made.client("GET", f"{FAMILY}/models", proof=proof)
        await made.client("GET", "/metrics", proof=proof)
    opener = f"Bearer {SECRETS['the token of /metrics']}"
    assert "restante_workers" in await made.client("GET", "/metrics", proof=opener)
    assert await made.client("GET", "/metrics", proof=opener + "x") == ""
    await made.client("GET", f"{FAMILY}/models", proof=opener)
    for path in (f"{FAMILY}/models", "/v3/nothing", "/nothing", f"{OURS}/nothing", "/docs"):
        await made.client("GET", f"{path}?api_key={SECRETS['a token in a query']}")
    await made.client("POST", f"{OURS}/tasks/cancel", {"ids": 17})


async def without_a_database(made: Scene) -> None:
    """The server is killed under load, and comes back."""
    made.look_at_processes()
    os.kill(postmaster(made.home.data_dir).pid, signal.SIGQUIT)

    async def fails() -> bool:
        answers = [await made.client("GET", f"{FAMILY}/tasks_ready"), await made.client("GET", "/readyz")]
        await made.client("POST", f"{FAMILY}/task_post", [task()])
        return any(answer.get("status_code") == 50000 for answer in answers)

    await made.client.until("the database's end", fails)
    await asyncio.to_thread(made.server.ensure_running)

    async def works() -> bool:
        return bool((await made.client("GET", f"{FAMILY}/tasks_ready"))["status_code"] == 20000)

    await made.client.until("the database's return", works)


async def own_secrets(made: Scene) -> dict[str, str]:
    """Secrets that restante made itself: given out once by a command, or never. What commands say is not searched."""

    def run(*arguments: str) -> Any:
        quiet = made.home.env | {"RESTANTE_LOG_LEVEL": "error"}
        done = subprocess.run([*COMMAND, *arguments, "--json"], env=quiet, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    shop = await asyncio.to_thread(run, "account", "add", "shop@example.org")
    [signing] = (await asyncio.to_thread(run, "account", "webhook-secret", LOGIN))["secrets"]
    connection = await asyncpg.connect(made.server.dsn)
    pepper = await connection.fetchval("select encode(pepper, 'base64') from installation")
    await connection.close()
    return {
        "an API password": shop["password"],
        "a signing secret": signing.removeprefix("whsec_"),
        "the pepper": pepper,
    }


async def rows(dsn: str) -> str:
    """Every row of every table."""
    connection = await asyncpg.connect(dsn)
    tables = await connection.fetch(
        "select oid::regclass::text as name from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
    )
    found = [str(await connection.fetch(f"select t::text from {table['name']} t")) for table in tables]
    await connection.close()
    return "\n".join(found)


async def test_no_secret_shows_whatever_goes_wrong(tmp_path: Path) -> None:
    async with scene(tmp_path) as made:
        made.look_at_processes()
        await rejected_by_everybody(made)
        await strangers_and_mistakes(made)
        own = await own_secrets(made)
        await without_a_database(made)
        stored = await rows(made.server.dsn)
    written = made.written()
    assert "does not take the API key" in written[str(tmp_path / "up.err")]  # the log says that it was so
    assert "50000" in written[str(tmp_path / "up.err")] and "proxy answered HTTP 407" in str(made.client.heard)
    assert any("/postgres" in command for command in made.commands) and any("worker" in one for one in made.commands)
    for path, text in written.items():
        assert found_in(text, SECRETS | own | {"a webhook's token": HOOK_TOKEN}) == [], path
    for text in made.client.heard:
        assert found_in(text, SECRETS | own) == [], text
    for text in made.commands:
        assert found_in(text, SECRETS | own | {"a webhook's token": HOOK_TOKEN}) == [], text
    assert HOOK_TOKEN in stored and found_in(stored, SECRETS | {"an API password": own["an API password"]}) == []


# --- settings that cannot be used -----------------------------------------------------------------------

MARKED: Final = "S3cr3tKx7"
BROKEN_URLS: Final = (
    f"postgresql://u:{MARKED}/x@127.0.0.1:1/db",
    f"postgresql://u:{MARKED}#x@127.0.0.1:1/db",
    f"postgresql://u:x?{MARKED}@127.0.0.1:1/db",
    f"postgresql://u:x/{MARKED}@127.0.0.1:1/db",
    f"postgresql://u:1/{MARKED}@127.0.0.1:1/db",
    f"postgresql://u:{MARKED}@127.0.0.1:port/db",
    f"postgresql://u:{MARKED}@127.0.0.1:99999/db",
    f"postgresql://u:{MARKED}@[::1/db",
    f"postgresql://u:{MARKED}\uff0f@127.0.0.1:1/db",
    f"postgresql://u:x@{MARKED}@127.0.0.1:1/db",
    f"postgresql://u:{MARKED}@127.0.0.1:1/db?sslmode={MARKED}",
    f"postgresql://u:{MARKED}@h1:1,h2:x/db",
    f"mysql://u:{MARKED}@127.0.0.1/db",
    f"{MARKED}:x@127.0.0.1/db",
    f"host=127.0.0.1 password={MARKED}",
)


@pytest.mark.parametrize("url", BROKEN_URLS)
async def test_a_database_url_that_cannot_be_used_is_not_shown(url: str) -> None:
    with pytest.raises(OperatorError) as raised:
        await Database(url, connections=2).open()
    said = f"{raised.value.problem} {raised.value.remedy}"
    assert "RESTANTE_DATABASE_URL" in said
    assert MARKED.lower() not in said.lower()


@pytest.mark.parametrize(
    "proxy", [f"u:{MARKED}@proxy:3128", f"socks5://u:{MARKED}@p", f"http://u:{MARKED}@p:x", f"http://u:{MARKED}/@p"]
)
def test_a_webhook_proxy_that_cannot_be_used_is_refused_at_the_start(proxy: str) -> None:
    with pytest.raises(OperatorError, match="RESTANTE_WEBHOOK_PROXY") as raised:
        load({"RESTANTE_WEBHOOK_PROXY": proxy})
    assert MARKED not in f"{raised.value.problem} {raised.value.remedy}"


async def test_what_a_customer_is_told_of_a_webhook_holds_no_url() -> None:
    """A refused CONNECT used to show the proxy's password to whoever had posted the webhook."""
    async with ForwardProxy({}, "u:another") as proxy:
        sender = Sender(AllowList(), proxy=f"http://u:{MARKED}@127.0.0.1:{proxy.port}")
        for url in (
            "https://hook.test/x",
            "https://hook.test:99999/x",
            f"https://[{MARKED}/x",
            f"https://a b/{MARKED}",
        ):
            outcome = await sender.send(url, {}, None)
            assert outcome.error and MARKED not in outcome.error, outcome
        await sender.close()
        gone = proxy.port
    sender = Sender(AllowList(), proxy=f"http://u:{MARKED}@127.0.0.1:{gone}")
    outcome = await sender.send("https://hook.test/x", {}, None)
    await sender.close()
    assert outcome.error == "the proxy cannot be reached"


@pytest.mark.parametrize(
    "settings",
    [
        {"GEMINI_API_KEY": f"{MARKED}\x07 {MARKED}"},
        {"GEMINI_API_KEY": "a-key", "GEMINI_API_KEY_FILE": MARKED},
        {"GEMINI_API_KEY_FILE": "keys"},
        {"RESTANTE_PROVIDER": "scripted", "RESTANTE_EGRESS_PROXY": f"socks5://u:{MARKED}@proxy"},
    ],
    ids=["key", "key and file", "file", "proxy"],
)
def test_what_models_cannot_be_made_of_is_not_shown(
    settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys").write_text(f"two words {MARKED}\nand \x07 {MARKED}")
    with pytest.raises(OperatorError) as raised:
        build_models(load(settings))
    assert MARKED not in f"{raised.value.problem} {raised.value.remedy}"


@pytest.mark.parametrize(
    ("name", "value"), [("RESTANTE_DATABASE_URL", BROKEN_URLS[0]), ("RESTANTE_WEBHOOK_PROXY", f"u:{MARKED}@proxy")]
)
def test_a_secret_setting_that_cannot_be_used_is_not_shown(tmp_path: Path, name: str, value: str) -> None:
    """A real process, at its most talkative."""
    env = environment(tmp_path) | {"RESTANTE_LOG_LEVEL": "debug", "RESTANTE_PROVIDER": "scripted", name: value}
    done = subprocess.run([*COMMAND, "api"], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert name in said and MARKED not in said and "Traceback" not in said
