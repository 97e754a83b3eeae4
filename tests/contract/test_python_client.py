"""Acceptance 2: the official PyPI client, `dataforseo-client` 2.1.10, against a running restante (§1.4, §10.1).

Only its host is changed. Every answer must parse into the client's own models, which are strict about types, and hold
what the contract says.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dataforseo_client import ApiClient, Configuration
from dataforseo_client.api.ai_optimization_api import AiOptimizationApi
from dataforseo_client.exceptions import UnauthorizedException
from dataforseo_client.models.ai_optimization_gemini_llm_responses_live_request_info import (
    AiOptimizationGeminiLlmResponsesLiveRequestInfo as LiveTask,
)
from dataforseo_client.models.ai_optimization_gemini_llm_responses_live_response_info import (
    AiOptimizationGeminiLlmResponsesLiveResponseInfo as LiveResponse,
)
from dataforseo_client.models.ai_optimization_gemini_llm_responses_models_response_info import (
    AiOptimizationGeminiLlmResponsesModelsResponseInfo as ModelsResponse,
)
from dataforseo_client.models.ai_optimization_gemini_llm_responses_task_get_response_info import (
    AiOptimizationGeminiLlmResponsesTaskGetResponseInfo as TaskGetResponse,
)
from dataforseo_client.models.ai_optimization_gemini_llm_responses_task_post_request_info import (
    AiOptimizationGeminiLlmResponsesTaskPostRequestInfo as PostedTask,
)
from dataforseo_client.models.ai_optimization_gemini_llm_responses_task_post_response_info import (
    AiOptimizationGeminiLlmResponsesTaskPostResponseInfo as TaskPostResponse,
)
from dataforseo_client.models.ai_optimization_gemini_llm_responses_tasks_ready_response_info import (
    AiOptimizationGeminiLlmResponsesTasksReadyResponseInfo as TasksReadyResponse,
)
from dataforseo_client.models.annotation_info import AnnotationInfo
from dataforseo_client.models.llm_message_chain_item import LlmMessageChainItem
from dataforseo_client.models.message_ai_optimization_llm_response_element_item import (
    MessageAiOptimizationLlmResponseElementItem as MessageItem,
)
from dataforseo_client.models.reasoning_ai_optimization_llm_response_element_item import (
    ReasoningAiOptimizationLlmResponseElementItem as ReasoningItem,
)

from restante.providers.registry import scripted_models
from tests.support import Restante

PATH = ["v3", "ai_optimization", "gemini", "llm_responses"]
FAMILY = {"api": "ai_optimization", "function": "llm_responses", "se": "gemini"}
ID = r"[0-9]{8}-[0-9a-f]{4}-%04d-0000-[0-9a-f]{12}"
MOMENT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+00:00"
SECONDS = r"\d+\.\d{4} sec\."

_numbers = itertools.count(1)


@pytest.fixture
def credentials(restante: Restante) -> tuple[str, str]:
    """An account of the test's own."""
    return restante.account(f"python-client-{next(_numbers)}", "10")


@pytest.fixture
def api(restante: Restante, credentials: tuple[str, str]) -> Iterator[AiOptimizationApi]:
    yield from connected(restante.url, *credentials)


def connected(url: str, login: str, password: str) -> Iterator[AiOptimizationApi]:
    """The client as its README shows it, with another host; its sockets are closed after use."""
    with ApiClient(Configuration(host=url, username=login, password=password)) as client:
        yield AiOptimizationApi(client)
        client.rest_client.pool_manager.clear()


def check(response: Any, model: Any, *path: str, errors: int = 0) -> Any:
    """The envelope in the client's own model; returns the tasks."""
    assert type(response) is model
    assert (response.status_code, response.status_message) == (20000, "Ok.")
    assert re.fullmatch(r"0\.1\.\d{8}", response.version)
    assert re.fullmatch(SECONDS, response.time)
    assert (response.tasks_count, response.tasks_error) == (len(response.tasks), errors)
    assert response.cost == pytest.approx(sum(task.cost for task in response.tasks), abs=1e-12)
    assert not response.additional_properties
    for task in response.tasks:
        assert task.path == [*PATH, *path]
        assert {name: task.data[name] for name in FAMILY} == FAMILY
        assert re.fullmatch(SECONDS, task.time)
        assert task.result_count == len(task.result or [])
        assert not task.additional_properties
    return response.tasks


def posted(prompt: str = "name one Alpine lake", **fields: Any) -> PostedTask:
    return PostedTask(user_prompt=prompt, model_name="gemini-2.5-flash", **fields)


def ready(api: AiOptimizationApi, count: int) -> Any:
    """Poll tasks_ready, as the client's users do, until so many tasks are listed."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        [task] = check(api.gemini_llm_responses_tasks_ready(), TasksReadyResponse, "tasks_ready")
        if task.result_count >= count:
            return task
    raise AssertionError(f"{count} tasks were not ready in time")


def test_this_is_the_client_the_contract_was_read_from() -> None:
    assert importlib.metadata.version("dataforseo-client") == "2.1.10"


@pytest.mark.contract("1 host and prefix", "10.1 PyPI dataforseo-client")
def test_models(api: AiOptimizationApi) -> None:
    """§3.5."""
    [task] = check(api.gemini_llm_responses_models(), ModelsResponse, "models")
    assert (task.status_code, task.cost, task.data) == (20000, 0, FAMILY)
    assert re.fullmatch(ID % 616, task.id)
    assert [(row.model_name, row.web_search_supported, row.task_post_supported) for row in task.result] == [
        (model.name, True, True) for model in scripted_models()
    ]
    assert {row.additional_properties["reasoning"] for row in task.result} == {True}  # newer than the client's model


@pytest.mark.contract("1.4 nulls from the client", "10.1 PyPI dataforseo-client")
@pytest.mark.parametrize("count", [1, 100])
def test_task_post(api: AiOptimizationApi, count: int) -> None:
    """§3.1: the client sends every field it was not given as null: none of them is echoed (§12.1)."""
    response = api.gemini_llm_responses_task_post([posted(tag=f"t-{number}") for number in range(count)])
    tasks = check(response, TaskPostResponse, "task_post")
    assert response.cost == round(0.0102 * count, 4)
    for number, task in enumerate(tasks):
        assert (task.status_code, task.status_message, task.cost) == (20100, "Task Created.", 0.0102)
        assert (task.result_count, task.result) == (0, None)
        assert re.fullmatch(ID % 613, task.id)
        expected = {"user_prompt": "name one Alpine lake", "model_name": "gemini-2.5-flash", "tag": f"t-{number}"}
        assert task.data == FAMILY | expected
    assert len({task.id for task in tasks}) == count


@pytest.mark.contract("3.1 at most 100 tasks")
def test_the_hundred_and_first_task_is_refused_alone(api: AiOptimizationApi) -> None:
    """§3.1: 40006."""
    response = api.gemini_llm_responses_task_post([posted()] * 101)
    *good, surplus = check(response, TaskPostResponse, "task_post", errors=1)
    assert {task.status_code for task in good} == {20100}
    assert (surplus.status_code, surplus.cost, surplus.result) == (40006, 0, None)
    assert surplus.status_message == "You can set no more than 100 tasks at a time."
    assert response.cost == 1.02


def test_every_field_goes_through(api: AiOptimizationApi) -> None:
    """§3.1: with the client's own spelling of numbers (`temperature=1` goes out as 1.0)."""
    fields: dict[str, Any] = {
        "system_message": "answer like a travel agent",
        "max_output_tokens": 1024,
        "temperature": 1.0,
        "top_p": 0.5,
        "web_search": True,
        "use_reasoning": True,
        "tag": "Zürich 🚆",
        "postback_url": "https://hooks.example.org/post?id=$id",
        "pingback_url": "https://hooks.example.org/ping?id=$id&tag=$tag",
    }
    chain = [LlmMessageChainItem(role="user", message="Hi"), LlmMessageChainItem(role="ai", message="Hello!")]
    response = api.gemini_llm_responses_task_post([posted(message_chain=chain, **fields)])
    [task] = check(response, TaskPostResponse, "task_post")
    assert task.status_code == 20100
    turns = [{"role": "user", "message": "Hi"}, {"role": "ai", "message": "Hello!"}]
    base = {"user_prompt": "name one Alpine lake", "model_name": "gemini-2.5-flash"}
    assert task.data == FAMILY | base | fields | {"message_chain": turns}


@pytest.mark.contract("1.4 task_post([]) and task_post()")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([[]], 40502, "POST Data Is Empty."),
        ([], 40502, "POST Data Is Empty."),  # the client then sends no body at all
        ([[None]], 40503, "POST Data Is Invalid."),
        ([[posted("x" * 501)]], 40501, "Invalid Field: 'user_prompt'."),
        ([[PostedTask(user_prompt="hi", model_name="gemini-0.5")]], 40501, "Invalid Field: 'model_name'."),
    ],
    ids=["empty list", "nothing", "no task", "long prompt", "unknown model"],
)
def test_refusals_parse_too(api: AiOptimizationApi, arguments: Any, code: int, message: str) -> None:
    """§12.5: HTTP 200 and one task that says why."""
    [task] = check(api.gemini_llm_responses_task_post(*arguments), TaskPostResponse, "task_post", errors=1)
    assert (task.status_code, task.status_message, task.cost, task.result) == (code, message, 0, None)


@pytest.mark.contract("10.1 PyPI dataforseo-client")
def test_tasks_ready_then_task_get(api: AiOptimizationApi) -> None:
    """§3.2, §3.3: listed until it is collected, and whole."""
    [created] = api.gemini_llm_responses_task_post([posted(tag="run-17", web_search=True, use_reasoning=True)]).tasks
    task = ready(api, 1)
    assert (task.status_code, task.cost, task.data) == (20000, 0, FAMILY)
    assert re.fullmatch(ID % 614, task.id)
    [row] = task.result
    assert (row.id, row.se, row.tag) == (created.id, "gemini", "run-17")
    assert row.additional_properties["function"] == "llm_responses"  # the client's model knows `se_type` instead
    assert re.fullmatch(MOMENT, row.date_posted)
    assert row.endpoint == "/" + "/".join([*PATH, "task_get", created.id])

    response = api.gemini_llm_responses_task_get(created.id)
    [task] = check(response, TaskGetResponse, "task_get", created.id)
    assert (task.id, task.status_code, task.status_message, task.cost) == (created.id, 20000, "Ok.", 0)
    assert task.data == created.data
    [result] = task.result
    assert (result.model_name, result.web_search, result.money_spent) == ("gemini-2.5-flash", True, 0)
    assert result.input_tokens == 4
    assert result.output_tokens > result.reasoning_tokens > 0
    assert re.fullmatch(MOMENT, result.datetime)
    assert result.fan_out_queries == ["name one Alpine lake", "night trains to 京都"]
    reasoning, message = result.items
    assert isinstance(reasoning, ReasoningItem)
    assert isinstance(message, MessageItem)
    assert reasoning.sections[0].text == "Scripted reasoning about: name one Alpine lake"
    [section] = message.sections
    assert section.text.startswith("Scripted answer to: name one Alpine lake")
    assert len(section.annotations) == 2
    for annotation in section.annotations:
        assert isinstance(annotation, AnnotationInfo)
        assert section.text[annotation.start_index : annotation.end_index] == annotation.text  # §12.12
        assert annotation.url.startswith("https://redirect.example.")
        assert annotation.direct_url.startswith("https://example.")
    [task] = check(api.gemini_llm_responses_tasks_ready(), TasksReadyResponse, "tasks_ready")
    assert (task.result_count, task.result) == (0, [])


@pytest.mark.contract("1.4 percent-encoded ids")
def test_task_get_of_what_is_not_there(api: AiOptimizationApi) -> None:
    """§2.3: unknown, not ready and failed tasks are answers, not exceptions; the client percent-encodes the id."""
    for task_id in ("11201415-ffff", "a b"):
        [task] = check(api.gemini_llm_responses_task_get(task_id), TaskGetResponse, "task_get", task_id, errors=1)
        assert (task.id, task.status_code, task.status_message) == (task_id, 40401, "Task Not Found.")
        assert task.result is None
    waiting, failing = (
        api.gemini_llm_responses_task_post([posted(prompt)]).tasks[0].id
        for prompt in ("hi [[fail=overloaded]] [[retry_after=3600]]", "hi [[fail=no such luck]]")
    )
    ready(api, 1)
    [task] = check(api.gemini_llm_responses_task_get(waiting), TaskGetResponse, "task_get", waiting, errors=1)
    assert task.status_code in (40601, 40602)
    assert task.result is None
    [task] = check(api.gemini_llm_responses_task_get(failing), TaskGetResponse, "task_get", failing, errors=1)
    assert (task.status_code, task.cost, task.result) == (50301, 0, None)
    assert task.status_message == "3rd Party API Service Unavailable (no such luck)."


@pytest.mark.contract("3.4 cost", "10.1 PyPI dataforseo-client")
def test_live(api: AiOptimizationApi) -> None:
    """§3.4: cost is 0.0006 + money_spent."""
    asked = LiveTask(user_prompt="one lake [[cost=0.0001035]]", model_name="gemini-1.5-pro", tag="l-1", temperature=1)
    response = api.gemini_llm_responses_live([asked])
    [task] = check(response, LiveResponse, "live")
    assert (task.status_code, task.status_message, task.cost) == (20000, "Ok.", 0.0007035)
    assert re.fullmatch(ID % 612, task.id)
    assert task.data == FAMILY | {
        "user_prompt": "one lake [[cost=0.0001035]]",
        "model_name": "gemini-1.5-pro",
        "tag": "l-1",
        "temperature": 1.0,
    }
    [result] = task.result
    assert (result.model_name, result.money_spent, result.web_search) == ("gemini-1.5-pro-002", 0.0001035, False)
    assert result.fan_out_queries is None
    reasoning, message = result.items  # a Pro model always reasons
    assert isinstance(reasoning, ReasoningItem)
    assert message.sections[0].annotations is None


def test_live_failure(api: AiOptimizationApi) -> None:
    asked = LiveTask(user_prompt="hi [[fail=rate_limit_exceeded]]", model_name="gemini-2.5-flash")
    [task] = check(api.gemini_llm_responses_live([asked]), LiveResponse, "live", errors=1)
    assert (task.status_code, task.cost, task.result) == (50301, 0, None)
    assert task.status_message == "3rd Party API Service Unavailable (rate_limit_exceeded)."


@pytest.mark.contract("2.2 40000")
def test_two_live_tasks_at_once(api: AiOptimizationApi) -> None:
    asked = LiveTask(user_prompt="hi", model_name="gemini-2.5-flash")
    [task] = check(api.gemini_llm_responses_live([asked, asked]), LiveResponse, "live", errors=1)
    assert (task.status_code, task.status_message) == (40000, "You can set only one task at a time.")


@pytest.fixture
def wrong_api(restante: Restante, credentials: tuple[str, str]) -> Iterator[AiOptimizationApi]:
    """The client with one letter too many in its password."""
    yield from connected(restante.url, credentials[0], credentials[1] + "x")


@pytest.mark.contract("1.4 HTTP 401 / 403 / 404 / 400 / 5xx / other ≥300")
def test_a_wrong_password(wrong_api: AiOptimizationApi) -> None:
    """§2.1: the client's UnauthorizedException, with the very body of the original."""
    calls: list[Callable[[], Any]] = [
        wrong_api.gemini_llm_responses_models,
        wrong_api.gemini_llm_responses_tasks_ready,
        lambda: wrong_api.gemini_llm_responses_task_get("11201415-0042-0613-0000-5d0c1be9a7f3"),
        lambda: wrong_api.gemini_llm_responses_task_post([posted()]),
        lambda: wrong_api.gemini_llm_responses_live([LiveTask(user_prompt="hi", model_name="gemini-2.5-flash")]),
    ]
    for call in calls:
        with pytest.raises(UnauthorizedException) as caught:
            call()
        assert caught.value.status == 401
        assert caught.value.body == (
            '{"status_code":40100,"status_message":"You are not Authorized to Access this Resource. Your Login'
            ' Information Here: https:\\/\\/app.dataforseo.com\\/login .","time":"0 sec.","cost":0,"tasks_count":0,'
            '"tasks_error":0,"tasks":[]}'
        )
        assert caught.value.headers["WWW-Authenticate"].startswith("Basic ")
