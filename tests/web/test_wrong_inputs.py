"""Whatever is posted, the contract's answer comes back and never a 500 (§2.3, §2.4, §12.5, §12.9-11, §12.27)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from restante.core.task import Function
from tests.support import Http, Restante, task
from tests.web.calls import FAMILY_DATA, Shop, call, check_envelope, check_id, one_task

pytestmark = pytest.mark.usefixtures("quiet_log")

EMPTY = (40502, "POST Data Is Empty.")
INVALID = (40503, "POST Data Is Invalid.")
CREATED = (20100, "Task Created.")

GOOD = b'{"user_prompt":"hi","model_name":"gemini-2.5-flash"}'


def field(name: str) -> tuple[int, str]:
    """What is said of a known field whose value cannot be taken (§2.4)."""
    return 40501, f"Invalid Field: '{name}'."


def unknown(name: str) -> tuple[int, str]:
    """What is said of a field that no platform knows (§12.9)."""
    return 40506, f"Unknown Fields in POST Data: '{name}'."


def said(entry: Any) -> tuple[int, str]:
    return entry["status_code"], entry["status_message"]


@pytest.fixture
async def http(restante: Restante, visitor: Shop) -> AsyncIterator[Http]:
    async with Http(restante.family, visitor.credentials) as session:
        yield session


# --- the whole body ------------------------------------------------------------------------------------

BODIES = {
    # nothing (§12.5)
    "no body": (b"", EMPTY),
    "blanks": (b" \r\n\t", EMPTY),
    "a byte order mark alone": (b"\xef\xbb\xbf", EMPTY),
    "an empty array": (b"[]", EMPTY),
    "an empty array, spaced": (b" [ \n ] ", EMPTY),
    # JSON, but no array
    "an object": (GOOD, INVALID),
    "an empty object": (b"{}", INVALID),
    "null": (b"null", INVALID),
    "a number": (b"1", INVALID),
    "a string": (b'"[]"', INVALID),
    "true": (b"true", INVALID),
    # no JSON
    "words": (b"user_prompt=hi", INVALID),
    "XML": (b"<task/>", INVALID),
    "cut off": (b"[" + GOOD, INVALID),
    "cut off in a string": (b"[" + GOOD[:-5], INVALID),
    "a comma too many": (b"[" + GOOD + b",]", INVALID),
    "something behind": (b"[" + GOOD + b"] []", INVALID),
    "two arrays": (b"[" + GOOD + b"][" + GOOD + b"]", INVALID),
    "single quotes": (b"[" + GOOD.replace(b'"', b"'") + b"]", INVALID),
    "a comment": (b"[" + GOOD + b"/* hi */]", INVALID),
    "U+0000 around it": (b"\0[" + GOOD + b"]\0", INVALID),
    "UTF-16": (GOOD.decode().encode("utf-16"), INVALID),
    "gzip without saying so": (bytes.fromhex("1f8b0800000000000003"), INVALID),
    # JSON in shape, but not in its smallest parts (§12.27); it may stand anywhere
    "NaN": (b"[" + GOOD[:-1] + b',"temperature":NaN}]', INVALID),
    "Infinity": (b"[" + GOOD[:-1] + b',"top_p":Infinity}]', INVALID),
    "-Infinity in an unknown field": (b"[" + GOOD[:-1] + b',"x":-Infinity}]', INVALID),
    "a leading zero": (b"[" + GOOD[:-1] + b',"max_output_tokens":07}]', INVALID),
    "a point without digits": (b"[" + GOOD[:-1] + b',"temperature":1.}]', INVALID),
    "True": (b"[" + GOOD[:-1] + b',"web_search":True}]', INVALID),
    "a lone surrogate": (b"[" + GOOD[:-1] + rb',"tag":"\ud83d"}]', INVALID),
    "surrogates the wrong way round": (b"[" + GOOD[:-1] + rb',"tag":"\ude00\ud83d"}]', INVALID),
    "a surrogate in an unknown field": (b"[" + GOOD[:-1] + rb',"x":"\udc00"}]', INVALID),
    "a surrogate behind a wrong field": (b'[{"user_prompt":7,"tag":"\\ud83d"}]', INVALID),
    "an unknown escape": (b"[" + GOOD[:-1] + rb',"tag":"\x41"}]', INVALID),
    "a raw control character": (b"[" + GOOD[:-1] + b',"tag":"a\nb"}]', INVALID),
    "a raw U+0000": (b"[" + GOOD[:-1] + b',"tag":"a\0b"}]', INVALID),
    "invalid UTF-8": (b"[" + GOOD[:-1] + b',"tag":"\xff"}]', INVALID),
    "invalid UTF-8 in an unknown field": (b"[" + GOOD[:-1] + b',"x":["\xff"]}]', INVALID),
    "invalid UTF-8 in a name": (b"[" + GOOD[:-1] + b',"\xff":1}]', INVALID),
    "invalid UTF-8 behind a wrong field": (b'[{"user_prompt":7,"tag":"\xff"}]', INVALID),
    "invalid UTF-8 for a task": (b'["\xff"]', INVALID),
    "UTF-8 cut short": (b"[" + GOOD[:-1] + b',"tag":"\xf0\x9f\x9a"}]', INVALID),
    "overlong UTF-8": (b"[" + GOOD[:-1] + b',"tag":"\xc0\x80"}]', INVALID),
    "a surrogate in UTF-8": (b"[" + GOOD[:-1] + b',"tag":"\xed\xa0\x80"}]', INVALID),
    "latin-1": (b"[" + GOOD.replace(b"hi", "Zürich".encode("latin-1")) + b"]", INVALID),
    # depth
    "100,000 brackets": (b"[" * 100_000, INVALID),
    "100,000 brackets, closed": (b"[" * 100_000 + b"]" * 100_000, INVALID),
    "100,000 objects": (b'[{"a":' * 50_000, INVALID),
    "depth in a field": (b'[{"user_prompt":' + b"[" * 100_000 + b"]" * 100_000 + b"}]", INVALID),
    "depth in an unknown field": (b"[" + GOOD[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}]", INVALID),
}


@pytest.mark.contract(
    "1 request body",
    "1.1 envelope: status_code",
    "2.2 40502",
    "2.2 40503",
    "2.3 empty body / []",
    "2.3 invalid JSON / object instead of array",
    "5.4 calls have ids too",
    "12.5 40000, 40502, 40503",
)
@pytest.mark.parametrize("path", ["task_post", "live"])
@pytest.mark.parametrize(("body", "expected"), BODIES.values(), ids=BODIES)
async def test_a_body_without_tasks_is_one_task_that_says_so(
    http: Http, visitor: Shop, path: str, body: bytes, expected: tuple[int, str]
) -> None:
    """§12.5: HTTP 200, envelope 20000, one task with an id of its own, nothing echoed, nothing charged."""
    status, answer = await http.send("POST", path, body)
    assert status == 200
    [entry] = check_envelope(answer, path)
    check_id(entry["id"], visitor, Function.LIVE if path == "live" else Function.TASK_POST)
    assert said(entry) == expected
    assert (entry["cost"], entry["data"], entry["result"]) == (0, FAMILY_DATA, None)


@pytest.mark.contract("12.27 malformed JSON")
@pytest.mark.parametrize("text", [b"NaN", rb'"\ud83d"', b'"\xff"'], ids=["NaN", "surrogate", "UTF-8"])
async def test_text_that_is_no_json_refuses_the_whole_post(http: Http, text: bytes) -> None:
    """§12.27: its good neighbours are not created either, since the body is no JSON."""
    body = b"[" + GOOD + b',{"user_prompt":"hi","tag":' + text + b"}," + GOOD + b"]"
    _, answer = await http.send("POST", "task_post", body)
    assert said(one_task(answer)) == INVALID
    surplus = b"[" + b",".join([GOOD] * 100) + b',{"x":' + text + b"}]"
    _, answer = await http.send("POST", "task_post", surplus)
    assert said(one_task(answer)) == INVALID


async def test_a_byte_order_mark_does_no_harm(http: Http) -> None:
    _, answer = await http.send("POST", "task_post", b"\xef\xbb\xbf[" + GOOD + b"]")
    assert said(one_task(answer)) == CREATED


MIB = 1024 * 1024


@pytest.mark.contract("1.4 repeated GETs", "12.15 oversized")
@pytest.mark.parametrize(
    ("size", "expected"),
    [(16 * MIB, CREATED), (16 * MIB + 1, INVALID), (17 * MIB, INVALID), (40 * MIB, INVALID)],
)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_an_oversized_body_is_invalid_and_never_a_413(
    restante: Restante, visitor: Shop, size: int, expected: tuple[int, str], chunked: bool
) -> None:
    """§12.15: up to 16 MiB; the client is heard out, so that it hears the answer. The length may be unknown."""
    body = b"[" + GOOD.rjust(size - 2) + b"]"
    assert len(body) == size

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, size, MIB):
            yield body[start : start + MIB]

    answered = await call(
        "POST", f"{restante.family}/task_post", visitor.credentials, data=pieces() if chunked else body
    )
    assert answered.status == 200
    [entry] = check_envelope(answered.json, "task_post")
    assert said(entry) == expected


async def test_a_chunked_body_is_as_good_as_another(restante: Restante, visitor: Shop) -> None:
    """Even in pieces of one byte."""

    async def pieces() -> AsyncIterator[bytes]:
        for number in b"[" + GOOD + b"]":
            yield bytes([number])

    answered = await call("POST", f"{restante.family}/task_post", visitor.credentials, data=pieces())
    assert said(one_task(answered.json)) == CREATED


@pytest.mark.contract("1 request body")
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/json"])
async def test_the_body_counts_not_what_it_is_called(restante: Restante, visitor: Shop, content_type: str) -> None:
    """curl's own default says "form"; the body is JSON all the same."""
    answered = await call(
        "POST",
        f"{restante.family}/task_post",
        visitor.credentials,
        data=b"[" + GOOD + b"]",
        headers={"Content-Type": content_type},
    )
    assert said(one_task(answered.json)) == CREATED


# --- each field (§3.1, §12.10, §12.11) -----------------------------------------------------------------

URL = "https://hooks.example.org/"
TURN = {"role": "user", "message": "hi"}

ACCEPTED: dict[str, list[Any]] = {
    "user_prompt": [" ", "x" * 500, "🚆" * 500, "é" * 500, "\n\t\x01\x7f", "\ufeff", "null"],
    "model_name": ["gemini-2.5-flash", "gemini-1.5-pro", "gemini-1.5-pro-002"],
    "max_output_tokens": [1, 4096, 1024.0, 1.0],
    "temperature": [0, 0.0, 1, 1.3, 2, 2.0, 1e-300],
    "top_p": [0, 0.9, 1, 1.0],
    "web_search": [True, False],
    "use_reasoning": [True, False],
    "system_message": ["", "x" * 500, "🚆" * 500],
    "message_chain": [
        [],
        [TURN] * 10,
        [{"role": "ai", "message": "🚆" * 500}],
        [{"role": "user", "message": ""}],
        [{"message": "hi", "role": "ai"}],
    ],
    "tag": ["", "x" * 255, "🚆" * 255, "a/b?c=d&e"],
    "postback_url": [
        URL,
        "http://hooks.example.org:8080/p?id=$id&tag=$tag",
        "HTTPS://EXAMPLE.ORG",
        URL.ljust(2048, "x"),
    ],
    "pingback_url": [URL + "ü", "https://93.184.216.34/", "https://[2606:2800::1]:8443/x", URL + "#anchor"],
}

REFUSED: dict[str, list[Any]] = {
    "user_prompt": ["", "x" * 501, "🚆" * 501, "a\0b", 7, 1.5, True, [], ["hi"], {}],
    "model_name": [
        "",
        "gemini",
        "Gemini-2.5-flash",
        "gemini-2.5-flash ",
        "gpt-4.1",
        "x" * 201,
        "a\0b",
        7,
        False,
        [],
        {},
    ],
    "max_output_tokens": [
        *[0, -1, 4097, 10**19, 10**4000, -(10**4000), 0.0, 1.5, 1024.5, 4097.0, 1e300],
        *["1024", True, False, [], {}],
    ],
    "temperature": [-0.1, -1, 2.1, 3, 10**25, 10**4000, 1e308, "1", "", True, [], {}],
    "top_p": [-0.1, 1.1, 2, 10**4000, "0.9", False, [], {}],
    "web_search": [0, 1, 1.0, "true", "", [], {}],
    "use_reasoning": [0, 1, "false", [], {}],
    "system_message": ["x" * 501, "🚆" * 501, "a\0b", 7, True, [], {}],
    "message_chain": [
        *["", "hi", 7, True, {}, TURN, [TURN] * 11, [[]], ["hi"], [7], [None], [{}]],
        [{"role": "user"}],
        [{"message": "hi"}],
        [{"role": "system", "message": "hi"}],
        [{"role": "User", "message": "hi"}],
        [{"role": 7, "message": "hi"}],
        [{"role": "user", "message": 7}],
        [{"role": "user", "message": None}],
        [{"role": None, "message": "hi"}],
        [TURN | {"name": "me"}],
        [TURN, {"role": "user", "message": "x" * 501}],
        [TURN, {"role": "user", "message": "🚆" * 501}],
        [TURN, {"role": "user", "message": "a\0b"}],
    ],
    "tag": ["x" * 256, "🚆" * 256, "\0", "a\0b", 7, 1.5, True, [], {}],
    "postback_url": [
        *["", " ", "hooks.example.org", "//hooks.example.org/", "/ping", "http://", "https:///x", "https:hooks", "?x"],
        *["ftp://hooks.example.org/", "javascript:alert(1)", "file:///etc/passwd", "httpss://hooks.example.org/"],
        *["https://me:secret@hooks.example.org/", "https://me@hooks.example.org/", "https://@hooks.example.org/"],
        *["https://hooks.example.org:0/", "https://hooks.example.org:65536/", "https://hooks.example.org:x/"],
        *[
            "https://[::1/",
            "https://hooks .example.org/",
            " " + URL,
            URL + " ",
            "https://hooks\n.example.org/",
            URL + "\0",
        ],
        *[URL.ljust(2049, "x"), 7, True, [], {}, [URL]],
        *[
            "http://127.0.0.1/",
            "http://0x7f.1:8000/",
            "https://192.0.2.1/",
            "http://[::ffff:10.0.0.1]/",
            "http://[fe80::1]/",
        ],
    ],
    "pingback_url": [
        "",
        "hooks.example.org",
        "ftp://hooks.example.org/",
        "https://me:secret@example.org/",
        "a\0b",
        7,
        [],
    ],
}


def cases(table: dict[str, list[Any]]) -> list[Any]:
    """The table's rows, each named after its field and value."""
    return [
        pytest.param(name, value, id=f"{name}-{number}-{ascii(value)[:30]}")
        for name, values in table.items()
        for number, value in enumerate(values)
    ]


@pytest.mark.contract(
    "3.1 user_prompt",
    "3.1 max_output_tokens",
    "3.1 temperature",
    "3.1 top_p",
    "3.1 system_message",
    "3.1 message_chain",
    "3.1 tag",
    "12.10 characters",
    "12.11 webhook URLs",
)
@pytest.mark.parametrize(("name", "value"), cases(ACCEPTED))
async def test_a_value_within_the_limits_is_accepted_and_echoed(http: Http, name: str, value: Any) -> None:
    """§3.1: limits are included; characters are code points; an int is a float, a whole float an int (§12.10)."""
    [entry] = check_envelope(await http.post([task(**{name: value})]), "task_post")
    assert (said(entry), entry["cost"]) == (CREATED, 0.0102)
    assert entry["data"] == FAMILY_DATA | task(**{name: value})


@pytest.mark.contract(
    "1 response",
    "1.1 task: result",
    "2.2 40501",
    "2.3 bad field",
    "2.4 user_prompt",
    "2.4 model_name",
    "2.4 max_output_tokens",
    "2.4 cost of a rejection",
    "3.1 user_prompt",
    "3.1 model_name",
    "3.1 temperature",
    "3.1 top_p",
    "3.1 system_message",
    "3.1 message_chain",
    "3.1 tag",
    "3.1 postback_url",
    "3.1 pingback_url",
    "6 Rejected field",
    "12.10 strict types",
    "12.10 characters",
    "12.11 webhook URLs",
    "12.20 literal private addresses",
)
@pytest.mark.parametrize(("name", "value"), cases(REFUSED))
async def test_a_value_beyond_them_is_named_and_costs_nothing(http: Http, name: str, value: Any) -> None:
    """§2.4, §12.10: types are strict, and the field is named; what was sent is echoed."""
    status, answer = await http.send("POST", "task_post", json.dumps([task(**{name: value})]).encode())
    [entry] = check_envelope(answer, "task_post")
    assert (status, said(entry), entry["cost"], entry["result"]) == (200, field(name), 0, None)
    assert entry["data"] == FAMILY_DATA | task(**{name: value})


@pytest.mark.contract("2.4 user_prompt", "2.4 model_name", "3.1 user_prompt", "12.1 nulls")
@pytest.mark.parametrize("name", ["user_prompt", "model_name"])
@pytest.mark.parametrize("null", [True, False], ids=["null", "missing"])
async def test_required_fields(http: Http, name: str, null: bool) -> None:
    """§12.1: null is not sent."""
    sent = task()
    del sent[name]
    nulls: dict[str, Any] = {name: None} if null else {}
    [entry] = check_envelope(await http.post([sent | nulls]), "task_post")
    assert (said(entry), entry["data"]) == (field(name), FAMILY_DATA | sent)


@pytest.mark.contract("1.4 nulls from the client", "12.1 nulls")
@pytest.mark.parametrize("name", [name for name in ACCEPTED if name not in ("user_prompt", "model_name")])
async def test_null_is_not_sent(http: Http, name: str) -> None:
    """§12.1: the official client sends every field it was not given as null."""
    nulls: dict[str, Any] = {name: None}
    [entry] = check_envelope(await http.post([task(**nulls)]), "task_post")
    assert (said(entry), entry["data"]) == (CREATED, FAMILY_DATA | task())


@pytest.mark.contract("2.4 max_output_tokens", "3.1 max_output_tokens", "3.1 use_reasoning")
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_output_tokens": 500}, CREATED),
        ({"max_output_tokens": 1023, "use_reasoning": True}, field("max_output_tokens")),
        ({"max_output_tokens": 1024, "use_reasoning": True}, CREATED),
        ({"max_output_tokens": 1023, "use_reasoning": False}, CREATED),
        ({"max_output_tokens": 500, "model_name": "gemini-2.5-pro"}, field("max_output_tokens")),
        ({"max_output_tokens": 1023, "model_name": "gemini-1.5-pro"}, field("max_output_tokens")),
        (
            {"max_output_tokens": 500, "model_name": "gemini-2.5-pro", "use_reasoning": False},
            field("max_output_tokens"),
        ),
        ({"max_output_tokens": 1024, "model_name": "gemini-2.5-pro"}, CREATED),
        ({"model_name": "gemini-2.5-pro"}, CREATED),
    ],
)
@pytest.mark.parametrize("path", ["task_post", "live"])
async def test_reasoning_needs_room(http: Http, path: str, fields: dict[str, Any], expected: tuple[int, str]) -> None:
    """§3.1: at least 1,024 tokens with reasoning, which Pro models always do."""
    entry = one_task(await http.post([task(**fields)], path))
    assert said(entry) == (expected if path == "task_post" or expected != CREATED else (20000, "Ok."))


NUMBERS = {
    "1e400": (b"1e400", field("temperature")),
    "-1e400": (b"-1e400", field("temperature")),
    "400 digits": (b"1" * 400, field("temperature")),
    "5,000 digits": (b"1" * 5_000, field("temperature")),
    "5,000 decimal places": (b"1." + b"1" * 5_000, CREATED),
    "1e-400": (b"1e-400", CREATED),
    "-0": (b"-0", CREATED),
    "1E0": (b"1E0", CREATED),
}


@pytest.mark.parametrize(("number", "expected"), NUMBERS.values(), ids=NUMBERS)
async def test_numbers_at_the_edge_are_their_own_tasks_affair(
    restante: Restante, visitor: Shop, number: bytes, expected: tuple[int, str]
) -> None:
    """§12.10: JSON knows numbers of any size, so an absurd one is a bad field, and its neighbour is created."""
    body = b"[" + GOOD[:-1] + b',"temperature":' + number + b"}," + GOOD + b"]"
    answered = await call("POST", f"{restante.family}/task_post", visitor.credentials, body)
    bad, good = check_envelope(answered.json, "task_post")
    assert (said(bad), said(good)) == (expected, CREATED)
    echoed = b'"temperature":' + number + b"}" in answered.body
    assert echoed == (expected == CREATED or number == b"1" * 400)  # what a client could not read back is left out


@pytest.mark.contract("12.10 strict types")
@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"1024.0", CREATED), (b"1.024e3", CREATED), (b"1024.5", field("max_output_tokens"))],
)
async def test_a_whole_float_is_an_integer(http: Http, value: bytes, expected: tuple[int, str]) -> None:
    """§12.10: and the model is asked with it."""
    body = b"[" + GOOD[:-1] + b',"max_output_tokens":' + value + b"}]"
    _, answer = await http.send("POST", "live", body)
    entry = one_task(answer)
    assert said(entry) == (expected if expected != CREATED else (20000, "Ok."))
    assert entry["data"]["max_output_tokens"] == float(value)


@pytest.mark.parametrize(
    ("task_text", "expected"),
    [
        (b'{"user_prompt":"hi","model_name":"gemini-2.5-flash","tag":"a","tag":"b"}', CREATED),
        (b'{"user_prompt":7,"model_name":"gemini-2.5-flash","tag":"b","user_prompt":"hi"}', CREATED),
        (b'{"user_prompt":"hi","model_name":"gemini-2.5-flash","tag":"b","user_prompt":7}', field("user_prompt")),
        (b'{"user_prompt":"hi","model_name":"gemini-2.5-flash","tag":"b","user_prompt":null}', field("user_prompt")),
        (rb'{"user_prompt":"hi","model_name":"gemini-2.5-flash","tag":"a","t\u0061g":"b"}', CREATED),
    ],
)
async def test_of_a_name_sent_twice_the_last_counts(http: Http, task_text: bytes, expected: tuple[int, str]) -> None:
    """As JSON's usual readers take it, for the judgement and for the echo alike."""
    _, answer = await http.send("POST", "task_post", b"[" + task_text + b"]")
    entry = one_task(answer)
    assert said(entry) == expected
    assert entry["data"]["tag"] == "b"
    sent = {name: value for name, value in json.loads(task_text).items() if value is not None}
    assert entry["data"] == FAMILY_DATA | sent


# --- unknown fields (§12.9) ----------------------------------------------------------------------------

UNKNOWN = {
    "a misspelling": ({"promt": "hi"}, unknown("promt")),
    "capitals": ({"Tag": "x"}, unknown("Tag")),
    "another family's": ({"keyword": "x"}, unknown("keyword")),
    "priority": ({"priority": 2}, unknown("priority")),
    "a word of the echo": ({"se": "bing"}, unknown("se")),
    "no name": ({"": 1}, unknown("")),
    "quotes in it": ({"it's": 1}, unknown("it's")),
    "braces in it": ({"{0}": 1}, unknown("{0}")),
    "control characters are left out": ({"a\0\n\x1bb": 1}, unknown("ab")),
    "a long one is cut": ({"x" * 1000: 1}, unknown("x" * 64)),
    "the first of several": ({"b": 1, "a": 2}, unknown("b")),
    "a huge number in it": ({"x": 10**4000}, unknown("x")),
    "U+0000 in it": ({"x": "\0"}, unknown("x")),
    "a sister's: country": ({"web_search_country_iso_code": "FR"}, field("web_search_country_iso_code")),
    "a sister's: city": ({"web_search_city": "Paris"}, field("web_search_city")),
    "a sister's: force": ({"force_web_search": True}, field("force_web_search")),
}


@pytest.mark.contract("2.2 40506", "2.4 web_search_country_iso_code", "3.1 no priority", "12.9 unknown fields")
@pytest.mark.parametrize(("fields", "expected"), UNKNOWN.values(), ids=UNKNOWN)
async def test_an_unknown_field_is_named(http: Http, fields: dict[str, Any], expected: tuple[int, str]) -> None:
    """§12.9: 40506, or 40501 for what only a sister platform knows; echoed, but for the echo's own words."""
    status, answer = await http.send("POST", "task_post", json.dumps([task(**fields)]).encode())
    [entry] = check_envelope(answer, "task_post")
    assert (status, said(entry), entry["cost"]) == (200, expected, 0)
    assert entry["data"] == task(**fields) | FAMILY_DATA


@pytest.mark.parametrize("value", [None, False, "", 0])
async def test_an_unknown_field_counts_only_when_it_is_sent(http: Http, value: Any) -> None:
    """§12.1: null is not sent, anything else is."""
    assert said(one_task(await http.post([task(x=value)]))) == (CREATED if value is None else unknown("x"))


# --- the order of judgement (§12.10) -------------------------------------------------------------------

WRONG_IN_ORDER: dict[str, Any] = {
    "user_prompt": 7,
    "model_name": "gpt",
    "max_output_tokens": 0,
    "temperature": 9,
    "top_p": 9,
    "web_search": 1,
    "use_reasoning": 1,
    "system_message": 7,
    "message_chain": 7,
    "tag": 7,
    "postback_url": "x",
    "pingback_url": "x",
    "unknown": 1,
}


@pytest.mark.contract("12.10 order of validation")
@pytest.mark.parametrize("turned", [False, True], ids=["as listed", "other way round"])
@pytest.mark.parametrize("name", WRONG_IN_ORDER)
async def test_the_first_wrong_field_is_reported_whatever_the_order_sent(http: Http, name: str, turned: bool) -> None:
    """§12.10: everything from `name` on is wrong, and `name` is what is said."""
    wrong = list(WRONG_IN_ORDER.items())[list(WRONG_IN_ORDER).index(name) :]
    right = [(known, value) for known, value in task().items() if known not in dict(wrong)]
    fields = dict(reversed(right + wrong)) if turned else dict(right + wrong)
    entry = one_task(await http.post([fields]))
    assert said(entry) == (unknown(name) if name == "unknown" else field(name))


# --- neighbours (§3.1, §12.5) --------------------------------------------------------------------------

NO_TASKS: list[Any] = [None, 1, 1.5, True, "hi", [], [{}], ""]


@pytest.mark.contract("3.1 mixed success")
async def test_what_is_no_object_is_an_invalid_task(http: Http) -> None:
    """Each alone, and good ones among them are created."""
    answer = await http.post([*NO_TASKS, task(), {}])
    *odd, good, empty = check_envelope(answer, "task_post")
    assert {said(entry) for entry in odd} == {INVALID}
    assert all(entry["data"] == FAMILY_DATA for entry in odd)
    assert (said(good), said(empty), answer["cost"]) == (CREATED, field("user_prompt"), 0.0102)


@pytest.mark.contract(
    "1 response", "1.1 envelope: tasks_error", "2.1 200", "3.1 several tasks", "3.1 mixed success", "5.4 R…R"
)
@pytest.mark.parametrize("place", [0, 50, 99])
async def test_one_bad_task_never_harms_its_neighbours(http: Http, visitor: Shop, place: int) -> None:
    """§3.1: 99 of 100 are created, in their places, with ids of their own, and only they cost something."""
    sent = [task(tag=str(number)) for number in range(100)]
    sent[place]["temperature"] = 10**400
    status, answer = await http.send("POST", "task_post", json.dumps(sent).encode())
    entries = check_envelope(answer, "task_post")
    assert (status, answer["tasks_count"], answer["tasks_error"], answer["cost"]) == (200, 100, 1, 1.0098)
    assert [entry["data"] for entry in entries] == [FAMILY_DATA | one for one in sent]
    assert [said(entry) for entry in entries] == [
        field("temperature") if number == place else CREATED for number in range(100)
    ]
    assert len({entry["id"] for entry in entries}) == 100
    for entry in entries:
        check_id(entry["id"], visitor, Function.TASK_POST)


@pytest.mark.contract("2.2 40006", "2.3 > 100 tasks in a POST", "3.1 at most 100 tasks", "12.4 tasks_error")
async def test_beyond_the_hundredth_every_task_is_told_so(http: Http) -> None:
    """§3.1: 40006 for the surplus, unjudged but echoed; bad ones among the first hundred count too."""
    sent = [task(tag=str(number)) for number in range(98)] + [task(""), task(top_p=9)]
    surplus: list[Any] = [task(tag="101", top_p=None), task(""), {"x": 10**4000}, 7, None]
    status, answer = await http.send("POST", "task_post", json.dumps(sent + surplus).encode())
    entries = check_envelope(answer, "task_post")
    assert (status, len(entries), answer["tasks_error"], answer["cost"]) == (200, 105, 7, 0.9996)
    assert [said(entry) for entry in entries[98:]] == [
        field("user_prompt"),
        field("top_p"),
        *[(40006, "You can set no more than 100 tasks at a time.")] * 5,
    ]
    assert [entry["data"] for entry in entries[100:]] == [
        FAMILY_DATA | task(tag="101"),
        FAMILY_DATA | task(""),
        FAMILY_DATA | {"x": 10**4000},
        FAMILY_DATA,
        FAMILY_DATA,
    ]


async def test_a_hundred_tasks_at_every_limit_are_no_oversized_body(restante: Restante, visitor: Shop) -> None:
    """7 MB of honest JSON: every text at its limit, in escapes."""
    chain = [{"role": "user", "message": "🚆" * 500}] * 10
    one = task("🚆" * 500, system_message="🚆" * 500, message_chain=chain, tag="🚆" * 255)
    body = json.dumps([one] * 100).encode()
    assert len(body) > 7_000_000
    answer = (await call("POST", f"{restante.family}/task_post", visitor.credentials, body)).json
    assert (answer["tasks_error"], answer["cost"]) == (0, 1.02)
    assert msgspec.json.encode(answer["tasks"][99]["data"]) == msgspec.json.encode(FAMILY_DATA | one)
