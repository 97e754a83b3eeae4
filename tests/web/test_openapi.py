"""The OpenAPI document says what is served, all of it and nothing else (contract §1-3, §12.15, §12.25)."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any, cast

import msgspec
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from restante.core import errors, limits
from restante.core.allowance import UNLIMITED, Allowance
from restante.core.errors import Refusal
from restante.core.task import Prompt
from restante.web import wire
from restante.web.api import Api
from restante.web.appendix import Appendix
from restante.web.application import create_app
from restante.web.judge import DOCUMENTED, RELAXED, Format, Judge
from restante.web.openapi import document
from restante.web.operation import Operation
from restante.web.own import Own
from restante.web.posted import PostedTask
from restante.web.rate_limit import RateLimits
from restante.web.raw_replies import RawReplies
from restante.web.records import Records
from restante.web.wire import FAMILY
from tests.support import Http, Restante, task
from tests.web.calls import Shop, basic, call, fetched, one_task

_NONE = cast(Any, None)
_PAGES = {"/openapi.json", "/docs", "/docs/docs.css"}
_GENERAL = {errors.Unauthorized, errors.NotFound}  # of no operation: they stand among the responses


def operations(form: Format = DOCUMENTED, *, ignore_unknown: bool = False) -> list[Operation]:
    """What `serving` serves; nothing behind it is called here."""
    api = Api(_NONE, _NONE, _NONE, _NONE, _NONE, Judge(_NONE, form, ignore_unknown=ignore_unknown), _NONE)
    appendix = Appendix(_NONE, ["scripted"], _NONE, _NONE)
    records = Records(_NONE, _NONE, _NONE, ignore_unknown=ignore_unknown)
    own = Own(_NONE, _NONE, 1, _NONE)
    replies = RawReplies(_NONE, _NONE)
    return [
        *api.operations(), *appendix.operations(), *records.operations(), *own.operations(), *replies.operations(),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def documented() -> Any:
    return document(operations(), Allowance())


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema of an object, however deep."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for inner in schema.values():
            yield from objects(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from objects(inner)


def misfits(document: Any, answer: Any, ref: str) -> list[str]:
    """How an answer departs from a schema; a field that the document does not name is a departure too."""
    strict = copy.deepcopy(document)
    for schema in objects(strict["components"]["schemas"]):
        schema.setdefault("additionalProperties", False)
    whole = {"$ref": f"#/components/schemas/{ref}", "components": strict["components"]}
    return [error.message for error in Draft202012Validator(whole).iter_errors(answer)]


def schema_of(document: Any, name: str) -> Any:
    return document["components"]["schemas"][name]


def test_the_document_is_valid_openapi(documented: Any) -> None:
    validate(documented)
    validate(document(operations(RELAXED), UNLIMITED))
    assert documented["openapi"].startswith("3.1")
    assert "§" not in json.dumps(documented, ensure_ascii=False)  # clients do not have our sections


def test_what_is_served_is_documented_and_what_is_documented_is_served(documented: Any) -> None:
    served = create_app(operations(), RateLimits(_NONE, _NONE), Allowance(), _NONE, _NONE).routes
    routes = {(cast(Any, route).path, method) for route in served for method in cast(Any, route).methods}
    routes = {(path, method) for path, method in routes if path not in _PAGES}
    written = {(path, method.upper()) for path, methods in documented["paths"].items() for method in methods}
    assert written == routes
    assert len(written) == len(operations())
    assert all(security == {"basic": []} for security in documented["security"])


def test_every_code_is_documented_with_its_message(documented: Any) -> None:
    refusals = set(Refusal.__subclasses__())
    named = {refusal for one in operations() for refusal in one.refusals} | _GENERAL
    assert refusals == named | {errors.RateExceeded}
    for one in operations():
        said = documented["paths"][one.path][one.method.lower()]["description"]
        for refusal in one.refusals:
            assert f"| `{refusal.code}` | {refusal.template.format('…')} |" in said


def test_the_posted_task_is_the_judges(documented: Any) -> None:
    posted = schema_of(documented, "PostedTask")
    fields = posted["properties"]
    assert list(fields) == [field.name for field in msgspec.structs.fields(PostedTask)]
    assert posted["required"] == ["user_prompt", "model_name"]
    assert posted["additionalProperties"] is False
    assert fields["user_prompt"]["type"] == "string"  # null is "not sent", which is 40501 here
    assert fields["user_prompt"]["maxLength"] == limits.PROMPT_CHARS
    assert fields["tag"]["type"] == ["string", "null"]
    assert fields["tag"]["maxLength"] == limits.TAG_CHARS
    assert fields["message_chain"]["maxItems"] == limits.CHAIN_MESSAGES
    assert [fields["max_output_tokens"][name] for name in ("minimum", "maximum", "default")] == [1, 4096, 2048]
    assert [fields["temperature"][name] for name in ("minimum", "maximum", "default")] == [0, 2, 1.3]
    assert [fields["top_p"][name] for name in ("minimum", "maximum", "default")] == [0, 1, 0.9]
    assert all(field["description"] for field in fields.values())
    live = schema_of(documented, "LivePostedTask")["properties"]
    assert set(fields) - set(live) == {"postback_url", "pingback_url"}


def test_the_documented_defaults_are_the_prompts() -> None:
    fields = schema_of(document(operations(), Allowance()), "PostedTask")["properties"]
    for field in msgspec.structs.fields(Prompt):
        if "default" in fields[field.name]:
            assert fields[field.name]["default"] == field.default, field.name


def test_relaxed_limits_change_the_bounds_and_nothing_else(documented: Any) -> None:
    relaxed = document(operations(RELAXED), UNLIMITED)
    before, after = schema_of(documented, "PostedTask"), schema_of(relaxed, "RelaxedTask")
    changed = {name for name in before["properties"] if before["properties"][name] != after["properties"][name]}
    assert changed == {"user_prompt", "system_message", "message_chain"}
    assert after["properties"]["user_prompt"]["maxLength"] == limits.PROMPT_CHARS_RELAXED
    assert schema_of(relaxed, "RelaxedMessage")["properties"]["message"]["maxLength"] == limits.PROMPT_CHARS_RELAXED
    posted = relaxed["paths"][f"{FAMILY}/task_post"]["post"]
    assert posted["requestBody"]["content"]["application/json"]["schema"]["maxItems"] == limits.TASKS_PER_POST_RELAXED
    assert "headers" not in posted["responses"]["200"]
    assert errors.RateExceeded.code not in schema_of(relaxed, "TaskPostTask")["properties"]["status_code"]["enum"]


def test_ignored_unknown_fields_may_be_sent() -> None:
    ignoring = document(operations(ignore_unknown=True), Allowance())
    assert schema_of(ignoring, "PostedTask")["additionalProperties"] is True


def test_the_examples_are_what_the_server_would_say(documented: Any) -> None:
    for path, methods in documented["paths"].items():
        for operation in methods.values():
            content = next(iter(operation["responses"]["200"]["content"].values()))
            if "$ref" not in content["schema"]:
                continue  # another's JSON or HTML
            name = content["schema"]["$ref"].rpartition("/")[2]
            assert misfits(documented, content["example"], name) == [], path
            sent = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if sent and sent["schema"].get("type") == "array":
                for one in sent["example"]:
                    assert misfits(documented, one, sent["schema"]["items"]["$ref"].rpartition("/")[2]) == []
    for name, response in documented["components"]["responses"].items():
        assert misfits(documented, response["content"]["application/json"]["example"], name) == []


async def test_answers_are_as_the_served_document_says(restante: Restante, http: Http, shop: Shop) -> None:
    served = (await call("GET", f"{restante.url}/openapi.json")).json
    assert served == msgspec.json.decode(msgspec.json.encode(document(operations(), _of_the_fixture())))

    def fits(answer: Any, name: str) -> None:
        assert misfits(served, answer, name) == []

    answer = await http.post([task(tag="a"), task("[[fail=blocked]]"), task(""), task(promt=1), {}])
    fits(answer, "TaskPostAnswer")
    good, bad = [entry["id"] for entry in answer["tasks"][:2]]
    fits(await http.get("task_get/none"), "TaskGetAnswer")
    await fetched(http, bad, until=errors.ProviderFailed.code)
    fits(await http.get(f"task_get/{bad}"), "TaskGetAnswer")
    await fetched(http, good, until=errors.OK_CODE)
    whole = await http.get(f"task_get/{good}")
    fits(whole, "TaskGetAnswer")
    fits(await http.get("task_get/a/b"), "TaskGetAnswer")  # a wrong path, without data
    fits(await http.post([task()]), "TaskPostAnswer")
    fits(await http.get("tasks_ready"), "TasksReadyAnswer")
    fits(await http.get("models"), "ModelsAnswer")
    for live in ([task(use_reasoning=True)], [task("[[fail=blocked]]")], [task(), task()], [], [task(web_search=True)]):
        fits(await http.post(live, "live"), "LiveAnswer")
    for body in (b"", b"[", b"{}"):
        fits((await http.send("POST", "task_post", body))[1], "TaskPostAnswer")
    assert misfits(served, whole, "TasksReadyAnswer")  # or this test could not fail
    assert misfits(served, {**whole, "more": 1}, "TaskGetAnswer")


async def test_queued_tasks_and_cancelled_ones_are_as_documented(restante: Restante, http: Http, shop: Shop) -> None:
    served = (await call("GET", f"{restante.url}/openapi.json")).json
    entry = one_task(await http.post([task("[[fail=overloaded]]", tag="later")]))
    assert misfits(served, await http.get(f"task_get/{entry['id']}"), "TaskGetAnswer") == []
    url = f"{restante.url}/restante/v1/tasks/cancel"
    done = await call("POST", url, shop.credentials, b'{"tag": "later"}')
    assert (done.status, misfits(served, done.json, "Cancelled")) == (200, [])
    wrong = await call("POST", url, shop.credentials, b"{}")
    assert (wrong.status, misfits(served, wrong.json, "Fault")) == (400, [])


async def test_refused_calls_are_as_documented(restante: Restante, shop: Shop) -> None:
    served = (await call("GET", f"{restante.url}/openapi.json")).json
    refused = await call("GET", f"{restante.family}/models")
    assert refused.status == 401
    assert misfits(served, refused.json, "Unauthorized") == []
    assert msgspec.json.decode(wire.UNAUTHORIZED_BODY) == refused.json
    unknown = await call("GET", f"{restante.url}/v4", headers={"Authorization": basic(*shop.credentials)})
    assert unknown.status == 404
    assert misfits(served, unknown.json, "NotFound") == []


async def test_the_pages_are_public_cacheable_and_safe(restante: Restante) -> None:
    for path in _PAGES:
        found = await call("GET", restante.url + path, headers={"Accept-Encoding": "identity"})
        assert found.status == 200
        assert found.headers["Cache-Control"].startswith("public, max-age=")
        assert found.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self';")
        again = await call("GET", restante.url + path, headers={"If-None-Match": found.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")
    compressed = await call("GET", f"{restante.url}/docs", headers={"Accept-Encoding": "gzip"})
    assert compressed.headers["Content-Encoding"] == "gzip"


async def test_the_page_shows_every_operation_and_field(restante: Restante, documented: Any) -> None:
    page = (await call("GET", f"{restante.url}/docs")).body.decode()
    assert "<script" not in page
    assert "style=" not in page  # the Content-Security-Policy would refuse it
    for path, methods in documented["paths"].items():
        assert path in page
        for operation in methods.values():
            assert f'<section id="{operation["operationId"]}">' in page
    for name, schema in documented["components"]["schemas"].items():
        if not name.endswith(("Answer", "Task")):
            for field in schema.get("properties", {}):
                assert f"<code>{field}</code>" in page, (name, field)


def _of_the_fixture() -> Allowance:
    return msgspec.structs.replace(Allowance(), tasks_ready=0)  # tests/support lets tests poll
