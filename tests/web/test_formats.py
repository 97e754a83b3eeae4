"""`.ai`, `.xml` and gzip, both ways (contract §1.2, §12.16-17)."""

from __future__ import annotations

import gzip
import zlib
from typing import Any
from xml.etree import ElementTree

import aiohttp
import msgspec
import pytest

from restante.core.limits import BODY_BYTES
from restante.web.formats import ai, xml
from tests.support import OPERATOR, Http, Restante, task

ANSWER: dict[str, Any] = {
    "status_code": 20000,
    "status_message": "Ok.",
    "tasks": [
        {
            "id": "an id",
            "status_code": 20000,
            "status_message": "Ok.",
            "path": ["v3", "ai_optimization", "gemini", "llm_responses", "live"],
            "data": {"tag": "<&>"},
            "result": [
                {
                    "model_name": "gemini-2.5-flash",
                    "input_tokens": 0,
                    "web_search": False,
                    "money_spent": 0.0358913,
                    "items": [{"type": "message", "sections": [{"text": "a\x0bb", "annotations": None, "none": []}]}],
                    "fan_out_queries": None,
                }
            ],
        }
    ],
}


@pytest.mark.contract("1.2 .ai", "1.2 .ai shape", "1.2 .ai for llm_responses", "12.16 .ai")
def test_ai_is_flat_without_empty_null_and_false_fields_and_rounded() -> None:
    assert msgspec.json.decode(ai(ANSWER)) == {
        "id": "an id",
        "status_code": 20000,
        "status_message": "Ok.",
        "model_name": "gemini-2.5-flash",
        "input_tokens": 0,
        "money_spent": 0.036,
        "items": [{"type": "message", "sections": [{"text": "a\x0bb"}]}],
    }


@pytest.mark.parametrize("name", ["\u0660", "a\u2460", "\u3007\u00b2", "\uff21", "a b", "1", "\u00aa", "-x", ""])
def test_any_name_of_a_field_becomes_one_that_xml_has(name: str) -> None:
    """Clients name the fields of what is echoed; Unicode has letters and digits that XML's names have not."""
    [element] = ElementTree.fromstring(xml({name: "x"}))
    assert element.text == "x"
    assert element.tag.isascii()


@pytest.mark.contract("12.16 .ai")
def test_ai_of_a_list_of_several_tasks_and_of_no_task() -> None:
    [entry] = ANSWER["tasks"]
    ready = entry | {"path": ["v3", "tasks_ready"], "result": [{"id": "x", "tag": ""}]}
    created = entry | {"path": ["v3", "task_post"], "result": None}
    head = {"id": "an id", "status_code": 20000, "status_message": "Ok."}
    assert msgspec.json.decode(ai(ANSWER | {"tasks": [ready]})) == head | {"items": [{"id": "x"}]}
    assert msgspec.json.decode(ai(ANSWER | {"tasks": [created, created]})) == [head, head]
    assert msgspec.json.decode(ai({"status_code": 40400, "status_message": "Not Found.", "tasks": None})) == {
        "status_code": 40400,
        "status_message": "Not Found.",
    }


@pytest.mark.contract("1.2 XML element names", "12.16 .xml")
def test_xml_has_keys_as_elements_and_members_as_items() -> None:
    root = ElementTree.fromstring(xml(ANSWER))
    assert root.tag == "response"
    assert root.findtext("tasks/item/data/tag") == "<&>"
    assert root.findtext("tasks/item/result/item/web_search") == "false"
    assert root.findtext("tasks/item/result/item/items/item/sections/item/text") == "a\ufffdb"
    assert root.findtext("tasks/item/result/item/fan_out_queries") == ""


@pytest.mark.contract("1.2 XML element names")
@pytest.mark.parametrize("key", ["1st", "a b", "<script>", "", "-x", "xml:lang"])
def test_xml_is_well_formed_whatever_a_client_names_a_field(key: str) -> None:
    ElementTree.fromstring(xml({"data": {key: "value"}}))


@pytest.mark.contract("1.2 .ai", "1.2 .ai by MCP3", "1.2 .xml")
@pytest.mark.parametrize("path", ["models", "tasks_ready", "task_post", "live", "task_get/{id}"])
async def test_every_path_has_both_suffixes(restante: Restante, path: str) -> None:
    async with Http(restante.family) as http:
        [posted] = (await http.post([task()]))["tasks"]
        await http.answers([posted["id"]])
        path = path.format(id=posted["id"])
        body = msgspec.json.encode([task()]) if path in ("task_post", "live") else None
        method = "GET" if body is None else "POST"
        status, flat = await http.send(method, f"{path}.ai", body)
        assert (status, flat["status_code"] // 100) in ((200, 200), (200, 201))
        assert "tasks" not in flat
        if path.startswith("task_get"):
            assert flat["id"] == posted["id"]
            assert flat["items"][0]["type"] == "message"
        async with http._session.request(method, f"{restante.family}/{path}.xml", data=body) as response:
            assert response.content_type == "application/xml"
            assert ElementTree.fromstring(await response.read()).findtext("status_code") == "20000"


@pytest.mark.contract("2.1 401")
async def test_an_unauthorized_call_gets_the_same_bytes_whatever_it_asked_for(restante: Restante) -> None:
    async with Http(restante.family, None) as http:
        plain = await http.send("GET", "models")
        assert await http.send("GET", "models.ai") == plain
        assert await http.send("GET", "models.xml") == plain
        assert plain[0] == 401


async def raw(restante: Restante, path: str, **request: Any) -> tuple[int, Any, bytes]:
    """An answer's status, headers and body as it came over the wire."""
    proof = aiohttp.encode_basic_auth(*OPERATOR, encoding="utf-8")
    headers = {"Authorization": proof} | request.pop("headers", {})
    method = "POST" if "data" in request else "GET"
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request(method, f"{restante.family}/{path}", headers=headers, **request) as response,
    ):
        return response.status, response.headers, await response.read()


@pytest.mark.contract("1.2 gzip transfer", "12.17 gzip")
async def test_answers_are_compressed_for_those_who_take_it(restante: Restante) -> None:
    _, headers, body = await raw(restante, "models", headers={"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"
    assert msgspec.json.decode(gzip.decompress(body))["status_code"] == 20000
    _, headers, body = await raw(restante, "models", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in headers
    assert msgspec.json.decode(body)["status_code"] == 20000


POST = msgspec.json.encode([task("compressed")])


def packed(text: bytes) -> bytes:
    """gzip without a time in it: the tests' names are made of it."""
    return gzip.compress(text, mtime=0)


@pytest.mark.contract("1.2 gzip request body", "12.17 gzip")
@pytest.mark.parametrize(
    ("encoding", "body", "code"),
    [
        ("gzip", packed(POST), 20100),
        ("GZIP", packed(POST[:20]) + packed(POST[20:]), 20100),
        ("x-gzip", packed(POST), 20100),
        ("identity", POST, 20100),
        ("gzip", b"", 40502),
        ("gzip", POST, 40503),
        ("gzip", packed(POST)[:-9], 40503),
        ("gzip", packed(POST) + b"rubbish", 40503),
        ("br", POST, 40503),
        ("deflate", zlib.compress(POST), 40503),
        ("gzip", packed(b"[" + b" " * BODY_BYTES + b"]"), 40503),  # a bomb: 16 KB become 16 MiB
    ],
)
async def test_compressed_requests(restante: Restante, encoding: str, body: bytes, code: int) -> None:
    _, _, answer = await raw(restante, "task_post", data=body, headers={"Content-Encoding": encoding})
    assert msgspec.json.decode(answer)["tasks"][0]["status_code"] == code


@pytest.mark.parametrize("suffix", [".ai", ".xml"])
async def test_what_is_nested_too_deep_to_be_shown_is_not_echoed(restante: Restante, suffix: str) -> None:
    """It was a 500: writing these forms takes more of the stack than reading JSON does."""
    for depth, shown in ((50, True), (101, False), (450, False), (900, False), (100_000, False)):
        nested = b"[" * depth + b"]" * depth
        body = msgspec.json.encode([task()])[:-2] + b',"x":' + nested + b"}]"
        plain = {"Accept-Encoding": "identity"}
        status, _, answer = await raw(restante, f"task_post{suffix}", data=body, headers=plain)
        assert status == 200, depth
        if suffix == ".xml":
            assert (ElementTree.fromstring(answer).find("tasks/item/data/x") is not None) == shown, depth
        else:
            assert msgspec.json.decode(answer)["status_code"] in (40506, 40503), depth
