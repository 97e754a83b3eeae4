"""Codes and situations of §2 that no other test makes occur over HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from restante.flow import accounts
from restante.store.database import Database
from restante.web.wire import FAMILY
from restante.wiring import utc_now
from tests.contract.shape import TIME, check, envelope
from tests.contract.shape import task as entry_spec
from tests.support import OPERATOR, Http, Process, Restante, differences, environment, open_account, running, task
from tests.web.calls import FAMILY_DATA, FAMILY_PATH, Shop, call, check_envelope, listed, one_task, open_shop


@pytest.mark.contract("2.3 unknown id in task_get")
async def test_an_unknown_id_is_answered_as_it_was_seen(restante: Restante) -> None:
    """The very answer of a capture, but for what each call has of its own."""
    shop = await asyncio.to_thread(open_shop, restante)
    unknown = f"11201415-{shop.number:04x}-0613-0000-ffffffffffff"
    async with Http(restante.family, shop.credentials) as http:
        answer = await http.get(f"task_get/{unknown}")
    path = [*FAMILY_PATH, "task_get", unknown]
    seen = entry_spec(unknown, path, code=40401, message="Task Not Found.", data=FAMILY_DATA)
    check(answer, envelope(seen | {"time": TIME}, errors=1))


@pytest.mark.contract("12.15 40402")
async def test_a_sisters_path_is_a_wrong_path_and_collects_nothing(restante: Restante) -> None:
    """§12.15 before §2.2's 40002: a platform that is not served is no path here, whoever's the id in it is."""
    shop = await asyncio.to_thread(open_shop, restante)
    async with Http(restante.family, shop.credentials) as http:
        task_id = one_task(await http.post([task()]))["id"]
        await listed(http, 1)
        for platform in ("chat_gpt", "claude", "perplexity"):
            path = f"/v3/ai_optimization/{platform}/llm_responses/task_get/{task_id}"
            answered = await call("GET", restante.url + path, shop.credentials)
            assert (answered.status, one_task(answered.json)["status_code"]) == (200, 40402)
        assert [row["id"] for row in await listed(http, 1)] == [task_id]


@pytest.mark.contract("3.2 family-wide lists")
@pytest.mark.parametrize(
    "path", ["/v3/ai_optimization/tasks_ready", f"{FAMILY}/tasks_fixed", "/v3/ai_optimization/gemini/tasks_ready"]
)
async def test_paths_that_only_other_families_have(restante: Restante, path: str) -> None:
    answered = await call("GET", restante.url + path, OPERATOR)
    assert (answered.status, one_task(answered.json)["status_code"]) == (200, 40402)


@pytest.mark.contract("1.3 no Retry-After, no 429", "1.4 repeated GETs")
async def test_a_refused_rate_is_http_200_without_retry_after(restante: Restante) -> None:
    """Whatever refuses a call, no client of the original is made to wait and repeat it."""

    async def slow_shop(db: Database) -> tuple[str, str]:
        credentials = await open_account(db, "one-call-a-minute@example.org")
        await accounts.change_limits(db, credentials[0], {"tasks_ready": 1})
        return credentials

    credentials = await asyncio.to_thread(restante.look, slow_shop)
    # Three calls: a minute may end between two of them.
    answers = [await call("GET", f"{restante.family}/tasks_ready", credentials) for _ in range(3)]
    assert 40202 in [answered.json["status_code"] for answered in answers]
    for answered in answers:
        assert (answered.status, answered.headers.get("Retry-After")) == (200, None)


@pytest.mark.contract("2.2 40403", "2.3 older than 30 days", "5.3 results")
async def test_40403_when_the_answers_day_is_gone(dsn: str, db: Database, tmp_path: Path) -> None:
    """The task is known as long as tasks are, its answer as long as answers are; then not even the echo is left."""
    credentials = await open_account(db, "shop", "10")
    with serving(dsn, tmp_path) as url:
        async with Http(url + FAMILY, credentials) as http:
            task_id = one_task(await http.post([task(tag="old")]))["id"]
            assert (await http.answers([task_id]))[task_id]["status_code"] == 20000
            tomorrow = utc_now().date() + timedelta(days=1)
            for table in ("answer", "task_request"):
                assert await db.drop_days(table, tomorrow)
            [entry] = check_envelope(await http.get(f"task_get/{task_id}"), "task_get", task_id)
    assert (entry["status_code"], entry["status_message"], entry["cost"]) == (40403, "Results Expired.", 0)
    assert (entry["id"], entry["data"], entry["result"]) == (task_id, FAMILY_DATA, None)
    assert not await differences(db)


@pytest.mark.breaks_invariants
@pytest.mark.contract("2.1 500", "2.2 50000", "12.15 50000")
async def test_50000_without_a_database(dsn: str, tmp_path: Path) -> None:
    """HTTP 500, envelope 50000, tasks null; for whoever asked for .ai or .xml, too, it is an answer in that form."""
    with serving(dsn, tmp_path, workers=False) as url:
        server, _, query = dsn.partition("?")
        admin = await asyncpg.connect(f"{server.rpartition('/')[0]}/postgres?{query}")
        await admin.execute(f"drop database {server.rpartition('/')[2]} with (force)")
        await admin.execute(f"create database {server.rpartition('/')[2]}")  # the fixture's own end drops it again
        await admin.close()
        for path in ("/models", "/tasks_ready", "/task_get/x"):
            answered = await call("GET", url + FAMILY + path, OPERATOR)
            assert answered.status == 500
            nothing = {"time": "0 sec.", "cost": 0, "tasks_count": 0, "tasks_error": 0, "tasks": None}
            check(answered.json, envelope(code=50000, message="Internal Error.") | nothing)


class serving:
    """`restante api`, and a worker beside it, on a database of the test's own."""

    def __init__(self, dsn: str, directory: Path, *, workers: bool = True) -> None:
        self._env = environment(directory / "data", DATABASE_URL=dsn)
        self._names = ["api", "worker"] if workers else ["api"]
        self._directory = directory
        self._processes: list[Process] = []

    def __enter__(self) -> str:
        for name in self._names:
            process = Process([name, "--provider", "scripted"], self._env, self._directory, name)
            self._processes.append(process)
        return self._processes[0].wait_for(r"answers at (http://\S+?),", log=True)[1]

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restante]:
    """A restante whose live tasks have half a second instead of two minutes."""
    directory = tmp_path_factory.mktemp("impatient")
    (directory / "sitecustomize.py").write_text("import restante.core.limits as limits\nlimits.LIVE_SECONDS = 0.5\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(directory), os.environ.get("PYTHONPATH", "")]))
        with running(directory, "--provider", "scripted", "--workers", "0") as up:
            yield up


@pytest.mark.contract("2.2 50401", "2.3 Live > 120 s", "3.4 at most 120 s", "5.2 live")
async def test_50401_when_a_live_task_takes_too_long(impatient: Restante) -> None:
    """In its own time, at cost 0; the money is back."""
    shop: Shop = await asyncio.to_thread(open_shop, impatient)
    sent: dict[str, Any] = task("hi [[latency=30]]")
    async with Http(impatient.family, shop.credentials) as http:
        [entry] = check_envelope(await http.post([sent], "live"), "live")
    assert (entry["status_code"], entry["status_message"]) == (50401, "Internal Error - Timeout.")
    assert (entry["cost"], entry["data"], entry["result"]) == (0, FAMILY_DATA | sent, None)
    assert 0.5 <= float(entry["time"].removesuffix(" sec.")) < 10

    async def account(db: Database) -> tuple[int, int]:
        assert not await differences(db)
        found = await accounts.find(db, shop.credentials[0])
        return found.held, found.spent

    assert await asyncio.to_thread(impatient.look, account) == (0, 0)


@pytest.mark.contract("2.1 200")
async def test_everything_else_is_http_200(restante: Restante) -> None:
    """§2.1: not found, invalid, empty, foreign, wrong path: the status says only that there is an answer."""
    asked = [
        ("GET", "task_get/x", None),
        ("GET", "task_get/11201415-ffff-0613-0000-ffffffffffff", None),
        ("GET", "nothing", None),
        ("POST", "task_post", b""),
        ("POST", "task_post", b"no json"),
        ("POST", "task_post", b"[{}]"),
        ("POST", "live", b"[{},{}]"),
        ("POST", "live", b'[{"user_prompt":"hi [[fail=x]]","model_name":"gemini-2.5-flash"}]'),
    ]
    answers = [await call(method, f"{restante.family}/{path}", OPERATOR, body) for method, path, body in asked]
    assert [answered.status for answered in answers] == [200] * len(asked)
    codes = [one_task(answered.json)["status_code"] for answered in answers]
    assert codes == [40401, 40001, 40402, 40502, 40503, 40501, 40000, 50301]
