"""Properties of judging (contract §12.1, §12.9, §12.10, §12.27), over arbitrary bytes and arbitrary JSON.

`first_fault` says once more, and plainly, what the contract says of a task: the judge must agree with it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from restante.core.errors import EmptyBody, InvalidBody, InvalidField, Refusal, TooManyTasks, UnknownField
from restante.core.task import Model, read_prompt
from restante.web import judge, wire
from restante.web.judge import Judge, Verdict
from restante.web.posted import PostedTask

FLASH = Model(name="gemini-2.5-flash", served="gemini-2.5-flash", web_search=True, reasoning=True)
PRO = Model(name="gemini-2.5-pro", served="gemini-2.5-pro", web_search=True, reasoning=True, reasoning_forced=True)
PLAIN = Model(name="gemini-2.5-flash-lite", served="gemini-2.5-flash-lite")
MODELS = {model.name: model for model in (FLASH, PRO, PLAIN)}
SISTERS_FIELDS = {"force_web_search", "web_search_country_iso_code", "web_search_city"}

the_judge = Judge(MODELS.get)
forgiving = Judge(MODELS.get, ignore_unknown=True)

thorough = settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


# --- the contract, said plainly ------------------------------------------------------------------------


def is_text(value: Any, most: int, least: int = 0) -> bool:
    return isinstance(value, str) and least <= len(value) <= most and "\0" not in value


def is_number(value: Any, least: float, most: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def is_tokens(value: Any, task: dict[str, Any]) -> bool:
    reasons = MODELS[task["model_name"]].reasoning_forced or task.get("use_reasoning") is True
    return is_number(value, 1024 if reasons else 1, 4096) and float(value).is_integer()


def is_turn(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"role", "message"}
        and value["role"] in ("user", "ai")
        and is_text(value["message"], 500)
    )


def is_chain(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 10 and all(map(is_turn, value))


def is_webhook(value: Any) -> bool:
    return value in GOOD_URLS


GOOD_URLS = ["https://hooks.example.org/p?id=$id&tag=$tag", "http://hooks.example.org:8080"]
BAD_URLS = ["", "hooks.example.org", "ftp://hooks.example.org/", "https://a:b@hooks.example.org/", "https://[::1/"]

#: In the order of judgement (§12.10). Required fields judge a missing value (None) too.
RULES: dict[str, Callable[[Any, dict[str, Any]], bool]] = {
    "user_prompt": lambda value, _: is_text(value, 500, least=1),
    "model_name": lambda value, _: isinstance(value, str) and value in MODELS,
    "max_output_tokens": is_tokens,
    "temperature": lambda value, _: is_number(value, 0, 2),
    "top_p": lambda value, _: is_number(value, 0, 1),
    "web_search": lambda value, task: value is False or (value is True and MODELS[task["model_name"]].web_search),
    "use_reasoning": lambda value, _: isinstance(value, bool),
    "system_message": lambda value, _: is_text(value, 500),
    "message_chain": lambda value, _: is_chain(value),
    "tag": lambda value, _: is_text(value, 255),
    "postback_url": lambda value, _: is_webhook(value),
    "pingback_url": lambda value, _: is_webhook(value),
}
REQUIRED = ("user_prompt", "model_name")


def first_fault(task: Any, *, live: bool, ignore_unknown: bool = False) -> Refusal | None:
    """What the contract says of a task: its first fault, or None."""
    if not isinstance(task, dict):
        return InvalidBody()
    sent = {name: value for name, value in task.items() if value is not None}  # §12.1
    for name, acceptable in RULES.items():
        missing = name not in sent
        if missing and name not in REQUIRED:
            continue
        if missing or not acceptable(sent[name], sent) or (live and name.endswith("back_url")):
            return InvalidField(name)
    unknown = [name for name in sent if name not in RULES]
    if unknown and not ignore_unknown:
        if unknown[0] in SISTERS_FIELDS:
            return InvalidField(unknown[0])
        return UnknownField("".join(c for c in unknown[0][:64] if c.isprintable()))
    return None


# --- what is sent --------------------------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | text
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=8
)


def around(*limits: int) -> st.SearchStrategy[str]:
    """Texts just within and just beyond a limit, of one- and four-byte characters, some with U+0000."""
    lengths = st.sampled_from([length for limit in limits for length in (limit - 1, limit, limit + 1)])
    return st.builds(lambda length, char, nul: (char * length)[: length - nul] + "\0" * nul, lengths,
                     st.sampled_from("xé🚆"), st.sampled_from([0, 0, 0, 1]))  # fmt: skip


turns = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "ai", "User", "system", 1]), "message": around(500) | text},
    optional={"name": text},
)
good_turns = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "ai"]), "message": text.filter(lambda t: "\0" not in t)}
)
interesting: dict[str, st.SearchStrategy[Any]] = {
    "user_prompt": around(1, 500) | text,
    "model_name": st.sampled_from([*MODELS, "gemini-2.5-flash ", "gpt-4.1", ""]),
    "max_output_tokens": st.sampled_from([0, 1, 500, 1023, 1024, 1024.0, 1024.5, 4096, 4097, -1, True]),
    "temperature": st.sampled_from([0, -0.0, 1, 1.3, 2, 2.0, 2.0001, -0.1, True, "1"]),
    "top_p": st.sampled_from([0, 0.5, 1, 1.0, 1.1, -1, False]),
    "web_search": st.sampled_from([True, False, 0, 1]),
    "use_reasoning": st.sampled_from([True, False, "true"]),
    "system_message": around(500) | text,
    "message_chain": st.lists(good_turns, max_size=11) | st.lists(good_turns | turns, max_size=2),
    "tag": around(255) | text,
    "postback_url": st.sampled_from(GOOD_URLS + BAD_URLS),
    "pingback_url": st.sampled_from(GOOD_URLS + BAD_URLS),
}
good: dict[str, st.SearchStrategy[Any]] = {
    "user_prompt": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12),
    "model_name": st.sampled_from(list(MODELS)),
    "max_output_tokens": st.sampled_from([1024, 4096, 2048.0]),
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1),
    "web_search": st.just(False),
    "use_reasoning": st.booleans(),
    "system_message": text.filter(lambda t: "\0" not in t),
    "message_chain": st.lists(good_turns, max_size=10),
    "tag": text.filter(lambda t: "\0" not in t),
    "postback_url": st.sampled_from(GOOD_URLS),
    "pingback_url": st.sampled_from(GOOD_URLS),
}


def shuffled(fields: dict[str, Any], more: dict[str, Any], seed: int) -> dict[str, Any]:
    items = list((fields | more).items())
    random.Random(seed).shuffle(items)
    return dict(items)


seeds = st.integers(0, 1000)
mixed = {name: st.one_of(good[name], good[name], good[name], interesting[name], scalars) for name in RULES}
strange = st.dictionaries(text | st.sampled_from(["se", *SISTERS_FIELDS]), anything, min_size=1, max_size=2)
#: Mostly good tasks, in any order of fields, with a fault here and there.
tasks = st.builds(
    shuffled,
    st.fixed_dictionaries(
        {name: mixed[name] for name in REQUIRED}, optional={n: mixed[n] for n in RULES if n not in REQUIRED}
    ),
    st.just({}) | st.just({}) | strange,
    seeds,
)


def written(value: Any, seed: int) -> bytes:
    """The value as JSON, in one of the many ways to write it."""
    chance = random.Random(seed)
    spaced = chance.choice([None, 1, "\t"])
    return json.dumps(value, ensure_ascii=chance.random() < 0.5, allow_nan=False, indent=spaced).encode()


def judged(body: bytes, judging: Judge = the_judge, *, live: bool = False) -> Sequence[Verdict] | Refusal:
    """What a POST's tasks are told; a refusal where the whole body is refused."""
    split = judge.split(body)
    if isinstance(split, Refusal):
        return split
    verdicts = []
    for raw in split:
        verdict = judging.judge(raw, live=live)
        if isinstance(verdict, Refusal):
            return verdict
        verdicts.append(verdict)
    return verdicts


def same(one: Refusal | None, other: Refusal | None) -> bool:
    return type(one) is type(other) and (one is None or other is None or one.message == other.message)


def check_verdict(verdict: Verdict) -> None:
    """Accepted with a model or refused without, and the echo is an object that any client can read."""
    assert (verdict.model is None) == (verdict.refusal is not None)
    data = json.loads(bytes(wire.data(verdict.request)))
    assert list(data)[:3] == ["api", "function", "se"]
    assert None not in data.values()
    if verdict.model is not None:
        assert read_prompt(verdict.request).model_name == verdict.model.name  # what a worker will read


good_tasks = st.fixed_dictionaries(
    {name: good[name] for name in REQUIRED}, optional={name: good[name] for name in RULES if name not in REQUIRED}
)


# --- properties ----------------------------------------------------------------------------------------


@thorough
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_never_more_than_invalid(body: bytes) -> None:
    outcome = judged(body)
    if isinstance(outcome, Refusal):
        assert isinstance(outcome, EmptyBody | InvalidBody)
    else:
        for verdict in outcome:
            check_verdict(verdict)


GARBAGE = [b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\0", b"NaN", b"1e999", b"9" * 5000, b'"', b"\\", b"{",
           b"]", b",", b"null", b"[" * 2000]  # fmt: skip


@pytest.mark.contract("12.27 malformed JSON")
@thorough
@given(st.lists(tasks, max_size=3), seeds, st.data())
def test_a_body_with_garbage_in_it_is_refused_or_read_as_json(sent: list[Any], seed: int, data: st.DataObject) -> None:
    """§12.27: what is accepted or echoed is JSON through and through, wherever the garbage stands."""
    body = written(sent, seed)
    place = data.draw(st.integers(0, len(body)))
    body = body[:place] + data.draw(st.sampled_from(GARBAGE)) + body[place + data.draw(st.sampled_from([0, 0, 1, 5])) :]
    outcome = judged(body)
    if isinstance(outcome, Refusal):
        assert isinstance(outcome, EmptyBody | InvalidBody)
        return
    body.removeprefix(b"\xef\xbb\xbf").decode()
    for verdict in outcome:
        check_verdict(verdict)


@pytest.mark.contract("12.10 order of validation")
@thorough
@given(st.lists(anything | tasks, min_size=1, max_size=4), seeds, st.booleans())
def test_every_task_is_told_its_own_first_fault(sent: list[Any], seed: int, live: bool) -> None:
    """§12.10, §12.9: each task alone, fields in the contract's order whatever the order sent."""
    outcome = judged(written(sent, seed), live=live)
    assert not isinstance(outcome, Refusal)
    for task, verdict in zip(sent, outcome, strict=True):
        expected = first_fault(task, live=live)
        assert same(verdict.refusal, expected), (task, verdict.refusal, expected)
        check_verdict(verdict)


@pytest.mark.contract("1.1 no defaults in data")
@thorough
@given(tasks, seeds)
def test_the_echo_equals_what_was_sent_minus_nulls(sent: dict[str, Any], seed: int) -> None:
    """§1.1, §12.1: in the order sent, with `api`, `function`, `se` never taken from the client."""
    outcome = judged(written([sent], seed))
    assert not isinstance(outcome, Refusal)
    expected = {
        name: value for name, value in sent.items() if value is not None and name not in ("api", "function", "se")
    }
    assert list(json.loads(outcome[0].request).items()) == list(expected.items())


@pytest.mark.contract("12.9 ignored")
@thorough
@given(tasks, seeds)
def test_unknown_fields_can_be_ignored(sent: dict[str, Any], seed: int) -> None:
    """§12.9: RESTANTE_UNKNOWN_FIELDS=ignore drops them, from the echo too."""
    outcome = judged(written([sent], seed), forgiving)
    assert not isinstance(outcome, Refusal)
    assert same(outcome[0].refusal, first_fault(sent, live=False, ignore_unknown=True))
    assert set(json.loads(outcome[0].request)) <= set(RULES)


@thorough
@given(good_tasks, seeds)
def test_good_tasks_are_accepted(sent: dict[str, Any], seed: int) -> None:
    """The other half of "accepted means within limits": within limits means accepted."""
    outcome = judged(written([sent], seed))
    assert not isinstance(outcome, Refusal)
    assert outcome[0].refusal is None
    assert outcome[0].model == MODELS[sent["model_name"]]
    prompt = read_prompt(outcome[0].request)
    assert prompt.user_prompt == sent["user_prompt"]
    assert prompt.max_output_tokens == sent.get("max_output_tokens", 2048)
    assert prompt.use_reasoning == (sent.get("use_reasoning", False) or sent["model_name"] == PRO.name)


@thorough
@given(anything | tasks, seeds)
def test_surplus_tasks_are_echoed_unjudged(sent: Any, seed: int) -> None:
    split = judge.split(written([sent], seed))
    assert not isinstance(split, Refusal)
    verdict = the_judge.surplus(split[0], TooManyTasks("100"))
    assert isinstance(verdict, Verdict)
    assert isinstance(verdict.refusal, TooManyTasks)
    check_verdict(verdict)


@thorough
@given(st.lists(tasks, max_size=3), seeds)
def test_blanks_and_a_byte_order_mark_change_nothing(sent: list[Any], seed: int) -> None:
    body = written(sent, seed)
    plain, spaced = judged(body), judged(b"\xef\xbb\xbf \r\n\t" + body + b" \n")
    if isinstance(plain, Refusal):
        assert isinstance(plain, EmptyBody)
        assert isinstance(spaced, EmptyBody)
    else:
        assert not isinstance(spaced, Refusal)
        assert [one.request for one in plain] == [one.request for one in spaced]


@pytest.mark.contract("12.10 order of validation")
def test_the_request_format_names_the_contracts_fields_in_its_order() -> None:
    """§12.10: `PostedTask`'s order is the order of judgement."""
    assert [field.name for field in msgspec.structs.fields(PostedTask)] == list(RULES)


@pytest.mark.parametrize("depth", [*range(880, 1_020), 100_000])
def test_no_depth_of_nesting_breaks_the_judge(depth: int) -> None:
    raw = b'{"user_prompt":"hi","model_name":"gemini-2.5-flash","odd":' + b"[" * depth + b"]" * depth + b"}"
    verdict = Judge(lambda _: None).judge(msgspec.Raw(raw))
    assert isinstance(verdict, InvalidBody) or verdict.refusal is not None
    surplus = Judge(lambda _: None).surplus(msgspec.Raw(raw), TooManyTasks())
    assert isinstance(surplus, InvalidBody) or surplus.refusal is not None


def test_a_post_of_countless_items_is_none() -> None:
    assert isinstance(judge.split(b"[" + b"1," * 20_000 + b"1]"), InvalidBody)
    assert isinstance(judge.split(b"[" + b"1," * 2_000_000 + b"1]"), InvalidBody)
