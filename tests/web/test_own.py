"""restante's own endpoints and commands (contract §12.30-31)."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from restante.web.wire import OURS
from tests.support import OPERATOR, Http, Restante, task


async def cancel(restante: Restante, credentials: tuple[str, str] | None, which: object) -> tuple[int, Any]:
    async with Http(restante.url + OURS, credentials) as http:
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


async def ask(restante: Restante, credentials: tuple[str, str], path: str, what: object) -> tuple[int, Any]:
    async with Http(restante.url + OURS, credentials) as http:
        return await http.send("POST", path, b"" if what is None else msgspec.json.encode(what))


@pytest.mark.contract("12.31 cancel")
async def test_the_operator_cancels_by_account_and_of_everyone(restante: Restante) -> None:
    one, other = [await asyncio.to_thread(restante.account, login) for login in ("cancelled one", "cancelled other")]
    ids = []
    for account in (one, other):
        async with Http(restante.family, account) as http:
            await ask(restante, account, "account/pause", None)  # so that everything is queued
            entries = (await http.post([task("a", tag="of both"), task("b"), task("c")]))["tasks"]
            ids.append([entry["id"] for entry in entries])
    assert await cancel(restante, one, {"all": True, "login": other[0]}) == (
        403,
        {"error": "only the operator may do this"},
    )
    assert (await cancel(restante, one, {"all": True, "everyone": True}))[0] == 403
    assert (await cancel(restante, OPERATOR, {"all": True, "login": "nobody at all"}))[0] == 404
    assert (await cancel(restante, OPERATOR, {"all": True, "login": one[0], "everyone": True}))[0] == 400
    assert (await cancel(restante, OPERATOR, {"everyone": True}))[0] == 400, "what of everyone is to be said"
    assert await cancel(restante, one, {"ids": [ids[0][2]], "login": one[0]}) == (200, {"cancelled": [ids[0][2]]})
    _, answer = await cancel(restante, OPERATOR, {"tag": "of both", "everyone": True})
    assert set(answer["cancelled"]) == {ids[0][0], ids[1][0]}
    assert await cancel(restante, OPERATOR, {"ids": [ids[0][1]], "everyone": True}) == (200, {"cancelled": [ids[0][1]]})
    _, answer = await cancel(restante, OPERATOR, {"all": True, "login": other[0]})
    assert sorted(answer["cancelled"]) == sorted(ids[1][1:]), "in no order that is promised"
    assert (await asyncio.to_thread(restante.run, "ledger", "audit")).returncode == 0


@pytest.mark.contract("2.2 40201")
async def test_pausing_an_account_over_http(restante: Restante) -> None:
    account = await asyncio.to_thread(restante.account, "a pauser", "10")
    async with Http(restante.family, account) as http:
        for _ in range(2):
            assert await ask(restante, account, "account/pause", None) == (200, {"login": "a pauser", "paused": True})
        [entry] = (await http.post([task()]))["tasks"]
        [refused] = (await http.post([task()], "live"))["tasks"]
        assert (refused["status_code"], refused["cost"], refused["result"]) == (40201, 0, None)
        [waiting] = (await http.get(f"task_get/{entry['id']}"))["tasks"]
        assert waiting["status_code"] == 40602
        state = {"login": "a pauser", "paused": False}
        assert await ask(restante, OPERATOR, "account/resume", {"login": "a pauser"}) == (200, state)
        assert (await http.answers([entry["id"]]))[entry["id"]]["status_code"] == 20000
    for word in (("account", "pause", "a pauser"), None):  # by the command, by the operator over HTTP
        if word:
            assert (await asyncio.to_thread(restante.run, *word)).returncode == 0
        else:
            assert (await ask(restante, OPERATOR, "account/pause", {"login": "a pauser"}))[0] == 200
        status, answer = await ask(restante, account, "account/resume", None)
        assert status == 403 and "operator paused this account" in answer["error"]
        assert (await ask(restante, OPERATOR, "account/resume", {"login": "a pauser"})) == (200, state)
    assert (await ask(restante, account, "account/pause", {"login": OPERATOR[0]}))[0] == 403
    assert (await ask(restante, OPERATOR, "account/pause", {"login": "nobody at all"}))[0] == 404
    assert (await ask(restante, OPERATOR, "account/pause", {"account": 1}))[0] == 400


@pytest.mark.contract("2.2 50303")
async def test_pausing_a_model_over_http(restante: Restante) -> None:
    """gemini-1.5-pro is served by gemini-1.5-pro-002 and used by no other test here."""
    account = await asyncio.to_thread(restante.account, "a model pauser", "10")
    name = {"model": "gemini-1.5-pro"}
    assert (await ask(restante, account, "models/pause", name))[0] == 403
    assert (await ask(restante, OPERATOR, "models/pause", {"model": "gpt"}))[0] == 404
    assert (await ask(restante, OPERATOR, "models/pause", {}))[0] == 400
    status, state = await ask(restante, OPERATOR, "models/pause", name)
    names = ["gemini-1.5-pro", "gemini-1.5-pro-002"]
    assert (status, state) == (200, {**name, "served": "gemini-1.5-pro-002", "names": names, "paused": True})
    async with Http(restante.family, account) as http:
        tasks = [task(model_name=one, max_output_tokens=2_048) for one in names]
        entries = [(await http.post([one]))["tasks"][0] for one in tasks]
        assert [entry["status_code"] for entry in entries] == [20100, 20100]
        for one in tasks:
            [refused] = (await http.post([one], "live"))["tasks"]
            assert (refused["status_code"], refused["status_message"], refused["cost"]) == (
                50303,
                "Update in progress. Please try after a few minutes.",
                0,
            )
        [other] = (await http.post([task()]))["tasks"]
        await http.answers([other["id"]])  # a worker looked meanwhile
        found = [(await http.get(f"task_get/{entry['id']}"))["tasks"][0]["status_code"] for entry in entries]
        assert found == [40602, 40602]
        assert (await ask(restante, OPERATOR, "models/resume", name))[1]["paused"] is False
        await http.answers([entry["id"] for entry in entries])


async def test_the_commands(restante: Restante) -> None:
    """Pause, resume, list, cancel and erase from the command line, on a server that runs."""
    account = await asyncio.to_thread(restante.account, "commanded", "10")

    async def run(*arguments: str) -> str:
        done = await asyncio.to_thread(restante.run, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    async with Http(restante.family, account) as http:
        assert await run("account", "pause", "commanded") == "commanded is paused\n"
        assert "\t0.00\tpaused\n" in next(
            line for line in (await run("account", "list")).splitlines(True) if "\tcommanded\t" in line
        )
        ids = [entry["id"] for entry in (await http.post([task(tag="x"), task(), task()]))["tasks"]]
        cancel_it = ("task", "cancel", "--url", restante.url)
        assert await run(*cancel_it, "--account", "commanded", "--tag", "x") == f"{ids[0]}\n"
        assert await run(*cancel_it, "--account", "commanded", ids[1]) == f"{ids[1]}\n"
        refused = await asyncio.to_thread(restante.run, *cancel_it, "--everyone", "--all")
        assert (refused.returncode, "--yes" in refused.stderr) == (1, True)
        assert (await asyncio.to_thread(restante.run, *cancel_it, "--everyone", "--yes")).returncode == 2
        assert ids[2] in await run(*cancel_it, "--everyone", "--all", "--yes")
        assert await run("account", "resume", "commanded") == "commanded is not paused\n"

        await run("model", "pause", "gemini-1.5-pro", "--provider", "scripted")
        listing = await run("model", "list", "--provider", "scripted")
        assert "gemini-1.5-pro\tgemini-1.5-pro-002\tpaused\n" in listing
        assert "gemini-2.5-pro\tgemini-2.5-pro\t\n" in listing
        await run("model", "resume", "gemini-1.5-pro", "--provider", "scripted")
        assert "paused" not in await run("model", "list", "--provider", "scripted")
        wrong = await asyncio.to_thread(restante.run, "model", "pause", "gpt", "--provider", "scripted")
        assert (wrong.returncode, "model list" in wrong.stderr) == (1, True)

        assert "deadline_hours\t72 hours\tthe installation's\n" in await run("account", "limit", "commanded")
        await run("account", "limit", "commanded", "--deadline-hours", "24")
        assert "deadline_hours\t24 hours\tits own\n" in await run("account", "limit", "commanded")
        assert '"deadline_hours":24' in await run("account", "limit", "commanded", "--json")
        await run("account", "limit", "commanded", "--deadline-hours", "default")
        assert "deadline_hours\t72 hours\tthe installation's\n" in await run("account", "limit", "commanded")
        for hours in ("0", "721", "1.5", "-1"):
            bad = await asyncio.to_thread(restante.run, "account", "limit", "commanded", f"--deadline-hours={hours}")
            assert bad.returncode == 2

        unsure = await asyncio.to_thread(restante.run, "account", "erase", "commanded")
        assert (unsure.returncode, "--yes" in unsure.stderr) == (1, True)
        assert "3 tasks" in await run("account", "erase", "commanded", "--yes")
        for task_id in ids:
            assert (await http.get(f"task_get/{task_id}"))["tasks"][0]["status_code"] == 40403
    await run("ledger", "audit")


@pytest.mark.contract("2.2 40203", "2.2 40205 / 40206", "12.30 spend caps")
async def test_caps_and_duplicates_over_http(restante: Restante) -> None:
    """§2.2: 40203, 40205 and 40206 at cost 0, beside accepted neighbours; own limits by the command line."""
    account = await asyncio.to_thread(restante.account, "capped", "10")
    limits = ("--spend-per-day", "0.0407", "--duplicates-per-hour", "2", "--json")
    done = await asyncio.to_thread(restante.run, "account", "limit", "capped", *limits)
    assert '"own":{"spend_per_day":40700000,"duplicates_per_hour":2}' in done.stdout, done.stdout + done.stderr
    async with Http(restante.family, account) as http:
        answer = await http.post([task("a"), task("a", tag="x"), task("a", temperature=1.3), task("b"), task("c")])
        codes = [entry["status_code"] for entry in answer["tasks"]]
        assert codes == [20100, 20100, 40205, 20100, 40203]
        assert (answer["cost"], answer["tasks_error"]) == (0.0306, 2)
        assert [entry["cost"] for entry in answer["tasks"]] == [0.0102, 0.0102, 0, 0.0102, 0]
        [live] = (await http.post([task("a")], "live"))["tasks"]
        assert live["status_code"] == 40205
    per_day = ("--duplicates-per-hour", "default", "--duplicates-per-day", "1", "--spend-per-day", "default")
    assert (await asyncio.to_thread(restante.run, "account", "limit", "capped", *per_day)).returncode == 0
    other = await asyncio.to_thread(restante.account, "daily", "10")
    assert (await asyncio.to_thread(restante.run, "account", "limit", "daily", *per_day)).returncode == 0
    async with Http(restante.family, other) as http:
        codes = [entry["status_code"] for entry in (await http.post([task("a"), task("a")]))["tasks"]]
        assert codes == [20100, 40206]
        [live] = (await http.post([task("a")], "live"))["tasks"]
        assert live["status_code"] == 40206
    for wrong in ("-1", "much", "0.0000000001"):
        bad = await asyncio.to_thread(restante.run, "account", "limit", "capped", f"--spend-per-day={wrong}")
        assert bad.returncode == 2
    assert (await asyncio.to_thread(restante.run, "ledger", "audit")).returncode == 0
