"""restante's own endpoints (contract §12.31)."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from restante.web.own import PREFIX
from tests.support import OPERATOR, Http, Restante, task


async def cancel(restante: Restante, credentials: tuple[str, str] | None, which: object) -> tuple[int, Any]:
    async with Http(restante.url + PREFIX, credentials) as http:
        return await http.send("POST", "tasks/cancel", msgspec.json.encode(which))


@pytest.mark.contract("2.2 40103", "12.8 everything else", "12.31 cancel")
async def test_queued_tasks_are_cancelled_over_http(restante: Restante) -> None:
    account = await asyncio.to_thread(restante.account, "a canceller", "10")
    async with Http(restante.family, account) as http:
        # Put off by the provider, hence parked for seconds: queued whenever the request comes.
        entries = (await http.post([task("[[fail=overloaded]]", tag="later")] * 3 + [task("quick")]))["tasks"]
        *later, quick = [entry["id"] for entry in entries]
        await http.answers([quick])
        status, answer = await cancel(restante, account, {"tag": "later"})
        assert status == 200
        found = await http.answers(later)
        ended = {task_id for task_id, entry in found.items() if entry["status_code"] == 40103}
        assert set(answer["cancelled"]) == ended == set(later)
    assert (await cancel(restante, account, {"all": True})) == (200, {"cancelled": []})
    assert (await asyncio.to_thread(restante.run, "ledger", "audit")).returncode == 0


@pytest.mark.parametrize(
    "which",
    [{}, {"all": False}, {"ids": ["x"], "all": True}, {"tag": ""}, {"tag": "a\0"}, {"id": "x"}, [], "all", {"ids": 1}],
)
async def test_what_is_not_understood_cancels_nothing(restante: Restante, which: object) -> None:
    status, answer = await cancel(restante, OPERATOR, which)
    assert (status, list(answer)) == (400, ["error"])


async def test_nobody_cancels_without_a_password_nor_anothers_tasks(restante: Restante) -> None:
    assert (await cancel(restante, None, {"all": True}))[0] == 401
    owner, thief = [await asyncio.to_thread(restante.account, login) for login in ("an owner", "a thief")]
    async with Http(restante.family, owner) as http:
        [entry] = (await http.post([task("[[fail=overloaded]]")]))["tasks"]
    assert await cancel(restante, thief, {"ids": [entry["id"], "no id"]}) == (200, {"cancelled": []})
    assert await cancel(restante, owner, {"ids": [entry["id"]]}) in (
        (200, {"cancelled": [entry["id"]]}),
        (200, {"cancelled": []}),  # just being run
    )
