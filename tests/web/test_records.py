"""id_list, errors and webhook_resend over HTTP (contract §3.10-3.12, §5.3, §12.13, §12.21)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from dataforseo_client import ApiClient, Configuration
from dataforseo_client.api.appendix_api import AppendixApi
from dataforseo_client.models.appendix_webhook_resend_request_info import AppendixWebhookResendRequestInfo

from restante.core.task import Function
from tests.support import Http, Restante, task
from tests.web.calls import FAMILY_DATA, Shop, check_id, fetched, one_task, open_shop
from tests.webhooks.receiver import receiving

DEAD = "http://192.0.2.1:9/"  # a documentation address: nobody answers


def moment(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S %z").replace("+0000", "+00:00")


def around(**more: Any) -> dict[str, Any]:
    now = datetime.now(UTC)
    return {"datetime_from": moment(now - timedelta(hours=1)), "datetime_to": moment(now)} | more


async def ask(restante: Restante, shop: Shop, path: str, body: Any) -> Any:
    async with Http(restante.url + "/v3", shop.credentials) as http:
        return await http.post(body, path)


async def id_list(restante: Restante, shop: Shop, **fields: Any) -> Any:
    return one_task(await ask(restante, shop, "ai_optimization/id_list", [fields]))


async def test_id_list_has_every_task_of_the_account(restante: Restante, shop: Shop, http: Http) -> None:
    done, failed, open_ = [
        entry["id"]
        for entry in (await http.post([task(tag="a"), task("[[fail=nonsense]]"), task("[[fail=overloaded]]")]))["tasks"]
    ]
    await http.answers([done, failed])
    live = one_task(await http.post([task("live one")], "live"))
    entry = await id_list(restante, shop, **around(include_metadata=True))
    check_id(entry["id"], shop, Function.ID_LIST)
    assert entry["path"] == ["v3", "ai_optimization", "id_list"]
    assert list(entry["data"])[:3] == ["api", "function", "datetime_from"]
    assert (entry["data"]["api"], entry["data"]["function"]) == ("ai_optimization", "id_list")
    rows = {row["id"]: row for row in entry["result"]}
    assert set(rows) == {done, failed, open_, live["id"]} and entry["result_count"] == 4
    assert list(rows[done]) == ["id", "url", "datetime_posted", "datetime_done", "status", "cost", "metadata"]
    assert rows[done]["url"] == "v3/ai_optimization/gemini/llm_responses/task_post"
    assert rows[live["id"]]["url"] == "v3/ai_optimization/gemini/llm_responses/live"
    assert rows[live["id"]]["metadata"] == FAMILY_DATA
    assert rows[done]["metadata"] == FAMILY_DATA | task(tag="a")
    assert rows[done]["status"] == rows[live["id"]]["status"] == "20000"
    assert rows[failed]["status"] == "50301" and rows[failed]["cost"] == 0
    assert rows[open_]["status"] in ("40601", "40602", "50301")
    if rows[open_]["status"] != "50301":
        assert (rows[open_]["datetime_done"], rows[open_]["cost"]) == (None, 0)
    [account] = restante_account(restante, shop)
    assert rows[live["id"]]["cost"] == live["cost"]
    assert round(sum(row["cost"] for row in entry["result"]) * 10**9) == account
    assert datetime.fromisoformat(rows[done]["datetime_done"].replace(" +", "+")) >= datetime.fromisoformat(
        rows[done]["datetime_posted"].replace(" +", "+")
    )


def restante_account(restante: Restante, shop: Shop) -> list[int]:
    async def spent(db: Any) -> list[int]:
        return [row["spent"] for row in await db._on.fetch("select spent from account where id = $1", shop.number)]

    return asyncio.run(spent_of(restante, spent)) if False else _in_thread(restante, spent)


def _in_thread(restante: Restante, work: Any) -> list[int]:
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        found: list[int] = pool.submit(restante.look, work).result()
    return found
