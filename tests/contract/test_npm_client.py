"""The official npm client, untouched, against a running restante: only its base URL is ours (contract §10.2)."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from restante.providers.registry import scripted_models
from tests.contract.shape import DATA, FAMILY
from tests.support import Restante

PACKAGE = "dataforseo-client@2.1.7"
SHA512 = "3tCFps//l+4rvtMT1MOY1votYFtNF4D2ikp2/D/AsN8THJrt3QQ64yACXYL0zjNctXjzQyd1yQ7khOrnqct15Q=="
SCRIPT = Path(__file__).with_name("npm_client.mjs")
SKIPPED = "dataforseo-client for node is not tested here: {}"


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which `import "dataforseo-client"` works: the very package, checked before any of it runs. It
    needs no other, so npm only fetches it."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip(SKIPPED.format("node and npm are not installed"))
    directory = tmp_path_factory.mktemp("npm")
    command = ["npm", "pack", PACKAGE, "--json", "--ignore-scripts", "--fetch-retries=0", "--fetch-timeout=20000"]
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(SKIPPED.format("the npm registry did not answer in time"))
    if done.returncode != 0:
        pytest.skip(SKIPPED.format(f"npm could not fetch it: {done.stderr.strip().splitlines()[-1:]}"))
    [archive] = directory.glob("*.tgz")
    digest = hashlib.sha512(archive.read_bytes()).digest()
    assert base64.b64encode(digest).decode() == SHA512, f"{PACKAGE} is not the package that it was"
    with tarfile.open(archive) as package:
        package.extractall(directory / "node_modules", filter="data")
    (directory / "node_modules" / "package").rename(directory / "node_modules" / "dataforseo-client")
    shutil.copy(SCRIPT, directory)
    return directory


Step = tuple[str, str, str | None, list[Any]]
AI, APPENDIX = "AiOptimizationApi", "AppendixApi"
POSTED = "AiOptimizationGeminiLlmResponsesTaskPostRequestInfo"
LIVE = "AiOptimizationGeminiLlmResponsesLiveRequestInfo"


class Npm:
    """The client as one account; an answer comes back as the client's own classes hold it."""

    def __init__(self, project: Path, url: str, credentials: tuple[str, str]) -> None:
        self._project = project
        self._command = ["node", SCRIPT.name, url, *credentials]

    def __call__(self, *steps: Step) -> list[Any]:
        env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        done = subprocess.run(
            self._command, cwd=self._project, env=env, input=json.dumps(steps), capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def npm(project: Path, restante: Restante, request: pytest.FixtureRequest) -> Npm:
    """With an account of the test's own."""
    return Npm(project, restante.url, restante.account(f"npm-{request.node.name}", "10"))


def asked(prompt: str = "name one Alpine lake", **fields: Any) -> dict[str, Any]:
    return {"user_prompt": prompt, "model_name": "gemini-2.5-flash"} | fields


def tasks(said: Any, kind: str, *path: str, errors: int = 0) -> Any:
    """The tasks of an answer that the client read into its own class; nothing was thrown."""
    assert said.get("kind") == kind, said
    answer = said["answer"]
    assert (answer["status_code"], answer["status_message"]) == (20000, "Ok.")
    assert (answer["tasks_count"], answer["tasks_error"]) == (len(answer["tasks"]), errors)
    assert answer["cost"] == pytest.approx(sum(one["cost"] for one in answer["tasks"]), abs=1e-12)
    for one in answer["tasks"]:
        assert one["path"] == [*FAMILY, *path]
        assert {name: one["data"][name] for name in DATA} == DATA
    return answer["tasks"]


def kind(name: str) -> str:
    return f"AiOptimizationGeminiLlmResponses{name}ResponseInfo"


@pytest.mark.contract("10.2 npm dataforseo-client")
def test_the_npm_client_runs_every_method(npm: Npm) -> None:
    """models, task_post with one task and with 101, live, tasks_ready, task_get: read by its own classes, whole."""
    models, one, many, live = npm(
        (AI, "geminiLlmResponsesModels", None, []),
        (AI, "geminiLlmResponsesTaskPost", POSTED, [[asked(tag="run-17", web_search=True, use_reasoning=True)]]),
        (AI, "geminiLlmResponsesTaskPost", POSTED, [[asked()] * 101]),
        (AI, "geminiLlmResponsesLive", LIVE, [[asked("one lake [[cost=0.0001035]]")]]),
    )
    [listed] = tasks(models, kind("Models"), "models")
    assert [row["model_name"] for row in listed["result"]] == [model.name for model in scripted_models()]
    [posted] = tasks(one, kind("TaskPost"), "task_post")
    assert (posted["status_code"], posted["cost"], posted["result"]) == (20100, 0.0102, None)
    assert posted["data"] == DATA | asked(tag="run-17", web_search=True, use_reasoning=True)  # its nulls are not echoed
    *good, surplus = tasks(many, kind("TaskPost"), "task_post", errors=1)
    assert {task["status_code"] for task in good} == {20100}
    assert surplus["status_code"] == 40006
    [answered] = tasks(live, kind("Live"), "live")
    assert (answered["status_code"], answered["cost"]) == (20000, 0.0007035)
    assert answered["result"][0]["items"][0]["sections"][0]["text"].startswith("Scripted answer to: one lake")

    for _ in range(100):
        [ready] = npm((AI, "geminiLlmResponsesTasksReady", None, []))
        [rows] = tasks(ready, kind("TasksReady"), "tasks_ready")
        if rows["result_count"] == 101:
            break
    [row] = [row for row in rows["result"] if row["id"] == posted["id"]]
    assert (row["se"], row["tag"]) == ("gemini", "run-17")
    assert row["endpoint"] == "/" + "/".join([*FAMILY, "task_get", posted["id"]])
    fetched, again, missing = npm(
        (AI, "geminiLlmResponsesTaskGet", None, [posted["id"]]),
        (AI, "geminiLlmResponsesTasksReady", None, []),
        (AI, "geminiLlmResponsesTaskGet", None, ["11201415-ffff"]),
    )
    [entry] = tasks(fetched, kind("TaskGet"), "task_get", posted["id"])
    assert (entry["id"], entry["status_code"], entry["data"]) == (posted["id"], 20000, posted["data"])
    [result] = entry["result"]
    reasoning, message = result["items"]
    assert (reasoning["type"], message["type"], result["web_search"]) == ("reasoning", "message", True)
    assert len(message["sections"][0]["annotations"]) == 2
    assert result["fan_out_queries"] == ["name one Alpine lake", "night trains to 京都"]
    [rows] = tasks(again, kind("TasksReady"), "tasks_ready")
    assert rows["result_count"] == 100
    [absent] = tasks(missing, kind("TaskGet"), "task_get", "11201415-ffff", errors=1)
    assert (absent["status_code"], absent["result"]) == (40401, None)


@pytest.mark.contract("10.2 npm dataforseo-client")
def test_the_npm_client_runs_every_appendix_method(npm: Npm, request: pytest.FixtureRequest) -> None:
    """user_data, errors, status and webhook_resend."""
    [one] = npm((AI, "geminiLlmResponsesTaskPost", POSTED, [[asked(pingback_url="http://localhost:9/")]]))
    [posted] = tasks(one, kind("TaskPost"), "task_post")
    user_data, errors, status, resent = npm(
        (APPENDIX, "userData", None, []),
        (APPENDIX, "errors", None, []),
        (APPENDIX, "appendixStatus", None, []),
        (
            APPENDIX,
            "webhookResend",
            "AppendixWebhookResendRequestInfo",
            [[{"id": "11201415-ffff"}, {"id": posted["id"]}]],
        ),
    )
    names = [said.get("kind") for said in (user_data, errors, status, resent)]
    expected = ("UserData", "Errors", "Status", "WebhookResend")
    assert names == [f"Appendix{name}ResponseInfo" for name in expected], (user_data, errors, status, resent)
    [result] = user_data["answer"]["tasks"][0]["result"]
    assert result["login"] == f"npm-{request.node.name}"
    assert (result["money"]["total"], result["rates"]["limits"]["minute"]["appendix"]["user_data"]) == (10, 6)
    prices = result["price"]["ai_optimization"]["llm_responses"]["task_post"]["priority_normal"]
    assert prices == [{"cost_type": "per_request", "cost": 0.0002}]
    rows = errors["answer"]["tasks"][0]["result"]
    assert rows[0] == {"code": 20000, "message": "Ok."}
    apis = {row["api"] for row in status["answer"]["tasks"][0]["result"]}
    assert apis == {"ai_optimization", "appendix"}
    bad, good = resent["answer"]["tasks"]
    assert bad["status_code"] == 40501
    assert (good["id"], good["status_code"] in (20100, 40601, 40602)) == (posted["id"], True)  # it may still be running


def test_a_wrong_password_is_the_npm_clients_exception(project: Path, restante: Restante) -> None:
    """§2.1: with the very body of the original."""
    [refused] = Npm(project, restante.url, ("operator", "wrong"))((AI, "geminiLlmResponsesModels", None, []))
    assert refused["status"] == 401
    assert json.loads(refused["body"])["status_code"] == 40100
