"""The Gemini adapter: what it sends, what it makes of the answers and faults, and that no key leaks.

The emulator stands for Google; tests/providers/test_gemini_sdk.py holds it against Google's own SDK.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from restante.core.answer import Answer, Failure, Item, Section
from restante.core.errors import OperatorError
from restante.core.limits import RETRY_AFTER_MAX
from restante.core.money import nano
from restante.core.pacing import Quota
from restante.core.task import Message, Prompt
from restante.providers import gemini as gemini_module
from restante.providers import gemini_price
from restante.providers.gemini import GeminiProvider
from restante.providers.gemini_faults import fault_of, seconds_to_pacific_midnight
from restante.providers.gemini_price import tables_checked
from restante.providers.provider import Call, Provider
from tests.emulators.gemini import GeminiEmulator
from tests.emulators.quota import Quotas

REJECTED = Failure(reason="API key rejected", transient=True, waits=True, doubts_key=True)
EMPTY = Failure(reason="empty answer", transient=True, costly=True)
MALFORMED = Failure(reason="malformed reply", transient=True, costly=True)
OVERLOADED = Failure(reason="overloaded", transient=True, strain="overloaded")
EXHAUSTED = Failure(reason="rate_limit_exceeded", transient=True, strain="quota", quota=Quota(10))
REASONING = Item("reasoning", (Section("hm"),))


def call(user_prompt: str, model: str = "gemini-2.5-flash", seconds: float = 30.0, **prompt: Any) -> Call:
    asked = Prompt(user_prompt=user_prompt, model_name=model, **prompt)
    return Call(task_id="t-1", model=model, prompt=asked, seconds=seconds)


async def answer(gemini: GeminiProvider, *args: Any, **kwargs: Any) -> Answer:
    outcome = await gemini.generate(call(*args, **kwargs))
    assert isinstance(outcome, Answer), outcome
    return outcome


# --- questions and answers ------------------------------------------------------------------------------


@pytest.mark.contract("3.1 system_message", "3.1 message_chain")
async def test_what_is_sent(gemini: GeminiProvider, emulator: GeminiEmulator) -> None:
    protocol: Provider = gemini
    assert (protocol.name, protocol.concurrency) == ("gemini", 10_000)
    await answer(
        gemini,
        "which Alpine towns",
        system_message="be brief",
        message_chain=(Message("user", "Hi"), Message("ai", "Hello, where to?")),
        max_output_tokens=300,
        temperature=0,
        top_p=0.5,
    )
    (sent,) = emulator.requests
    assert (sent.method, sent.path_qs) == ("POST", "/v1beta/models/gemini-2.5-flash:generateContent")
    assert sent.headers["x-goog-api-key"] == "good-key"
    assert sent.headers["Content-Type"] == "application/json"
    assert sent.body == {
        "systemInstruction": {"parts": [{"text": "be brief"}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Hi"}]},
            {"role": "model", "parts": [{"text": "Hello, where to?"}]},
            {"role": "user", "parts": [{"text": "which Alpine towns"}]},
        ],
        "generationConfig": {
            "maxOutputTokens": 300,
            "temperature": 0,
            "topP": 0.5,
            "thinkingConfig": {"thinkingBudget": 0},
        },
    }


@pytest.mark.contract("3.1 max_output_tokens", "3.1 temperature", "3.1 top_p")
async def test_the_contracts_defaults_are_sent(gemini: GeminiProvider, emulator: GeminiEmulator) -> None:
    await answer(gemini, "q", system_message="")
    assert emulator.requests[0].body == {
        "contents": [{"role": "user", "parts": [{"text": "q"}]}],
        "generationConfig": {
            "maxOutputTokens": 2048,
            "temperature": 1.3,
            "topP": 0.9,
            "thinkingConfig": {"thinkingBudget": 0},
        },
    }


async def test_a_plain_answer(gemini: GeminiProvider) -> None:
    said = await answer(gemini, "where is Zürich 🚆 [[usage=120,800,0]] [[version=gemini-2.5-flash]]")
    assert said.raw is not None
    assert msgspec.json.decode(said.raw)["modelVersion"] == "gemini-2.5-flash"
    assert msgspec.structs.replace(said, raw=None) == Answer(
        model_name="gemini-2.5-flash",
        input_tokens=120,
        output_tokens=800,
        items=Answer.message("Echo: where is Zürich 🚆"),
        money_spent=nano(Decimal("0.002036")),  # 120 × $0.30 + 800 × $2.50 a million
        price_date=tables_checked(),
    )


async def test_thoughts_are_a_reasoning_item_and_billed_as_output(gemini: GeminiProvider) -> None:
    said = await answer(gemini, "q [[thoughts=hm]] [[text=Ja.]] [[usage=120,800,300]]")
    assert said.items == (REASONING, *Answer.message("Ja."))
    assert (said.input_tokens, said.output_tokens, said.reasoning_tokens) == (120, 1100, 300)
    assert said.money_spent == nano(Decimal("0.002786"))  # 120 × $0.30 + 1,100 × $2.50 a million


async def test_the_version_that_answered_is_named(gemini: GeminiProvider) -> None:
    assert (await answer(gemini, "q [[version=gemini-2.5-flash-001]]")).model_name == "gemini-2.5-flash-001"
    assert (await answer(gemini, "q [[version=]]")).model_name == "gemini-2.5-flash"


@pytest.mark.contract("3.6 order")
async def test_max_tokens_without_text_is_an_answer_and_billed(gemini: GeminiProvider) -> None:
    thinking = await answer(gemini, "q [[text=]] [[thoughts=hm]] [[finish=MAX_TOKENS]] [[usage=10,0,1024]]")
    assert (thinking.items, thinking.output_tokens, thinking.reasoning_tokens) == ((REASONING,), 1024, 1024)
    nothing = await answer(gemini, "q [[text=]] [[finish=MAX_TOKENS]] [[usage=10,0,1024]]")
    assert nothing.items == ()
    assert nothing.money_spent == thinking.money_spent == nano(Decimal("0.002563"))


@pytest.mark.parametrize("finish", ["MAX_TOKENS", "SAFETY", "OTHER"])
async def test_text_counts_whatever_ended_it(gemini: GeminiProvider, finish: str) -> None:
    assert (await answer(gemini, f"q [[text=Half a]] [[finish={finish}]]")).items == Answer.message("Half a")


@pytest.mark.parametrize(
    ("directives", "expected"),
    [
        ("[[blocked=SAFETY]]", Failure(reason="blocked: SAFETY")),
        ("[[blocked=PROHIBITED_CONTENT]]", Failure(reason="blocked: PROHIBITED_CONTENT")),
        ("[[blocked=<b>mean words</b>]]", Failure(reason="blocked: OTHER")),
        ("[[text=]] [[finish=SAFETY]]", Failure(reason="blocked: SAFETY")),
        ("[[text=]] [[finish=RECITATION]]", Failure(reason="blocked: RECITATION")),
        ("[[text=]] [[thoughts=hm]] [[finish=PROHIBITED_CONTENT]]", Failure(reason="blocked: PROHIBITED_CONTENT")),
        ("[[text=]]", EMPTY),
        ("[[text=  ]] [[thoughts=hm]]", EMPTY),
        ("[[text=]] [[finish=OTHER]]", EMPTY),
        ("[[text=]] [[finish=A_REASON_OF_2030]]", EMPTY),
        ("[[raw={}]]", EMPTY),
        ('[[raw={"candidates": null}]]', MALFORMED),
        ('[[raw={"candidates": 7}]]', MALFORMED),
        ('[[raw={"usageMetadata": {"promptTokenCount": -5}}]]', MALFORMED),
        ("[[raw=<html>]]", MALFORMED),
        ("[[raw=]]", MALFORMED),
        ('[[raw={"candidates": "half]]', MALFORMED),
        ('[[raw="\\ud83d"]]', MALFORMED),
        ("[[long=4096]] [[cut]]", Failure(reason="connection failed", transient=True)),
        ("[[drop]]", Failure(reason="connection failed", transient=True)),
        ("[[status=302]]", Failure(reason="unexpected HTTP 302", transient=True)),
        ("[[status=400]]", Failure(reason="invalid argument")),
        ("[[status=413]]", Failure(reason="refused with HTTP 413")),
        ("[[status=403]]", REJECTED),
        ("[[status=401]]", REJECTED),
        ("[[status=408]]", Failure(reason="timeout", transient=True)),
        ("[[status=500]]", Failure(reason="provider error", transient=True)),
        ("[[status=502]]", Failure(reason="provider error", transient=True)),
        ("[[status=503]]", OVERLOADED),
        ("[[status=503]] [[after=7]]", replace(OVERLOADED, retry_after=7)),
        ("[[status=504]]", Failure(reason="timeout", transient=True)),
        ("[[status=429]]", EXHAUSTED),
        ("[[status=429]] [[retry=2s]]", replace(EXHAUSTED, retry_after=2)),
        (
            "[[status=429]] [[retry=2.5s]] [[after=1]]",
            replace(EXHAUSTED, retry_after=2.5),
        ),
        (
            "[[status=429]] [[retry=2s]] [[after=30]]",
            replace(EXHAUSTED, retry_after=30),
        ),
    ],
)
async def test_faults_are_values(gemini: GeminiProvider, directives: str, expected: Failure) -> None:
    assert await gemini.generate(call(f"q {directives}")) == expected


async def test_a_fault_spoils_nothing(gemini: GeminiProvider) -> None:
    for directives in ("[[drop]]", "[[long=4096]] [[cut]]", "[[status=302]]", "[[raw=<html>]]"):
        await gemini.generate(call(f"q {directives}"))
        await answer(gemini, "q")


async def test_one_question_is_one_request(gemini: GeminiProvider, emulator: GeminiEmulator) -> None:
    await gemini.generate(call("q [[status=503]]"))
    await gemini.generate(call("q [[drop]]"))
    assert len(emulator.requests) == 2


@pytest.mark.contract("12.26 a model no longer known")
async def test_an_unknown_model(gemini: GeminiProvider) -> None:
    assert await gemini.generate(call("q", model="gemini-0")) == Failure(reason="model not found")


async def test_a_models_name_cannot_leave_its_place(gemini: GeminiProvider, emulator: GeminiEmulator) -> None:
    await gemini.generate(call("q", model="../x?key=1&/a b"))
    assert emulator.requests[0].path_qs == "/v1beta/models/..%2Fx%3Fkey%3D1%26%2Fa%20b:generateContent"


async def test_the_call_has_its_time(gemini: GeminiProvider) -> None:
    outcome = await gemini.generate(call("q [[hang]]", seconds=0.05))
    assert outcome == Failure(reason="timeout", transient=True)


async def test_a_call_can_be_cancelled(gemini: GeminiProvider, emulator: GeminiEmulator) -> None:
    asking = asyncio.create_task(gemini.generate(call("q [[hang]]")))
    await emulator.hung.acquire()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_nobody_listens() -> None:
    with socket.socket() as unused:  # bound and not listening: connections are refused
        unused.bind(("127.0.0.1", 0))
        alone = GeminiProvider(lambda: "k", f"http://127.0.0.1:{unused.getsockname()[1]}")
        assert await alone.generate(call("q")) == Failure(reason="connection failed", transient=True)
        await alone.close()


async def test_a_reply_is_bounded(gemini: GeminiProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemini_module, "REPLY_BYTES", 2_000)
    assert await gemini.generate(call("q [[long=3000]]")) == Failure(reason="reply too long")
    await answer(gemini, "q [[long=1000]]")


async def test_many_at_once(gemini: GeminiProvider, emulator: GeminiEmulator) -> None:
    """More than aiohttp's own 100 connections: all 300 are at the emulator together, or this never ends."""
    waiting = [asyncio.create_task(gemini.generate(call("q [[hang]]"))) for _ in range(300)]
    for _ in waiting:
        await emulator.hung.acquire()
    for one in waiting:
        one.cancel()
    await asyncio.wait(waiting)


# --- waiting times --------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", None), ("0", None), ("5", 5.0), (" 5 ", 5.0), ("-5", None), ("soon", None), ("999999999", RETRY_AFTER_MAX),
        ("Sun, 22 Nov 2026 10:00:30 GMT", 30.0), ("Sun, 22 Nov 2026 09:00:00 GMT", None),
        ("Sun, 22 Nov 2026 10:00:30 -0000", 30.0), ("Sun, 99 Nov 2026 10:00:30 GMT", None),
    ],
)  # fmt: skip
def test_retry_after(header: str, seconds: float | None) -> None:
    assert fault_of(503, header, b"", NOW).failure.retry_after == seconds


@pytest.mark.parametrize("delay", ['"soon"', "2", "null", '"-2s"', '"1e9s"', "{}", '"NaNs"'])
def test_a_strange_retry_info_is_passed_over(delay: str) -> None:
    body = f'{{"error": {{"details": [{{"@type": "x/google.rpc.RetryInfo", "retryDelay": {delay}}}]}}}}'
    assert fault_of(429, "", body.encode(), NOW).failure.retry_after is None


@pytest.mark.parametrize("body", [b"", b"[]", b'{"error": 7}', b'{"error": {"details": [7]}}', b"\xff"])
def test_the_status_counts_when_the_body_says_nothing(body: bytes) -> None:
    assert fault_of(429, "", body, NOW).failure == replace(EXHAUSTED, quota=Quota())


def test_no_billing_is_the_operators_to_mend_like_a_bad_key() -> None:
    body = b'{"error": {"code": 400, "status": "FAILED_PRECONDITION", "message": "Please enable billing."}}'
    assert fault_of(400, "", body, NOW).failure == REJECTED


# --- the key --------------------------------------------------------------------------------------------


@pytest.mark.contract("12.26 a rejected key")
async def test_a_rejected_key_and_a_better_one(emulator: GeminiEmulator, caplog: pytest.LogCaptureFixture) -> None:
    keys = ["bad-key", "bad-key", "good-key", "good-key"]
    gemini = GeminiProvider(lambda: keys.pop(0), emulator.url)
    with caplog.at_level(logging.WARNING, logger="restante.gemini"):
        assert await gemini.generate(call("q")) == REJECTED
        assert await gemini.generate(call("q")) == REJECTED
        await answer(gemini, "q")
        await answer(gemini, "q")
    await gemini.close()
    assert [record.levelname for record in caplog.records] == ["ERROR"]  # once, not at every call
    assert "API key not valid" in caplog.text and "bad-key" not in caplog.text


async def test_no_key_to_send(emulator: GeminiEmulator) -> None:
    def missing() -> str:
        raise OperatorError("The API key file /run/secrets/key cannot be read.")

    gemini = GeminiProvider(missing, emulator.url)
    assert await gemini.generate(call("q")) == REJECTED
    assert not emulator.requests
    await gemini.close()


async def test_the_key_is_in_one_header_and_nowhere_else(
    emulator: GeminiEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "AIzaSyD-very-secret-0123456789abcdefghi"
    gemini = GeminiProvider(lambda: secret, emulator.url)
    with caplog.at_level(logging.DEBUG):
        for prompt in ("q", "q [[status=403]]", "q [[status=302]]", "q [[drop]]", "q [[raw=<html>]]"):
            outcome = await gemini.generate(call(prompt))
            assert secret not in repr(outcome)
        await gemini.generate(call("q", model="gemini-0"))
        emulator.keys = frozenset()
        with pytest.raises(OperatorError) as raised:
            await gemini.models()
    await gemini.close()
    assert secret not in caplog.text + str(raised.value) + repr(gemini)
    for sent in emulator.requests:
        assert secret not in sent.path_qs
        assert secret not in repr(sent.body)
        assert [name for name, value in sent.headers.items() if secret in value] == ["x-goog-api-key"]


async def test_google_quoting_the_key_does_not_reach_the_log(caplog: pytest.LogCaptureFixture) -> None:
    message = "Permission denied: Consumer 'api_key:AIzaSyB0123456789' has been suspended; key hunter2hunter2."
    body = f'{{"error": {{"status": "PERMISSION_DENIED", "message": "{message}"}}}}'.encode()
    gemini = GeminiProvider(lambda: "hunter2hunter2")
    gemini._note_fault(fault_of(403, "", body, NOW), "hunter2hunter2")
    assert "'api_key:(key)' has been suspended; key (key)." in caplog.text


async def test_several_keys_are_several_projects(emulator: GeminiEmulator) -> None:
    keys = "one, two\n three ,one"
    gemini = GeminiProvider(lambda: keys, emulator.url)
    one, two, three = gemini.projects()
    assert not {"one", "two", "three"} & {one, two, three}
    for project in (two, "", three):
        assert isinstance(await gemini.generate(replace(call("q"), project=project)), Answer)
    assert [sent.headers["x-goog-api-key"] for sent in emulator.requests] == ["two", "one", "three"]
    keys = "two"
    withdrawn = await gemini.generate(replace(call("q"), project=three))
    assert isinstance(withdrawn, Failure) and withdrawn.strain == "quota" and len(emulator.requests) == 3
    await gemini.close()


async def test_the_models_are_asked_with_a_key_that_is_taken(emulator: GeminiEmulator) -> None:
    gemini = GeminiProvider(lambda: "bad-key good-key", emulator.url)
    bad, good = gemini.projects()
    assert await gemini.probe(bad) == REJECTED
    assert await gemini.probe(good) is None
    assert await gemini.models()
    await gemini.close()


# --- quotas ---------------------------------------------------------------------------------------------


async def test_the_emulators_quotas_are_understood(gemini: GeminiProvider, emulator: GeminiEmulator) -> None:
    emulator.quotas = Quotas(
        per_minute={"*": 1}, per_day={"gemini-2.5-pro": 1}, tokens_per_minute={"gemini-3.7-flash": 1}
    )
    await answer(gemini, "q")
    refused = await gemini.generate(call("q"))
    assert isinstance(refused, Failure) and refused.retry_after
    assert 59 < refused.retry_after <= 60
    assert (refused.reason, refused.strain, refused.quota) == ("rate_limit_exceeded", "quota", Quota(calls=1))
    tokens = await gemini.generate(call("a long question", model="gemini-3.7-flash"))
    assert isinstance(tokens, Failure) and tokens.quota == Quota(tokens=1)
    await answer(gemini, "q", model="gemini-2.5-pro")
    day = await gemini.generate(call("q", model="gemini-2.5-pro"))
    assert isinstance(day, Failure) and day.strain == "quota" and day.quota == Quota() and day.retry_after
    assert abs(day.retry_after - seconds_to_pacific_midnight(datetime.now(UTC))) < 5


def violation(quota_id: str, value: object = "10", metric: str = "generate_content_requests") -> bytes:
    named = {"quotaMetric": f"generativelanguage.googleapis.com/{metric}", "quotaId": quota_id, "quotaValue": value}
    details = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [named]}]
    return msgspec.json.encode({"error": {"code": 429, "details": details}})


def test_a_quota_of_searches_puts_off_only_those_that_search() -> None:
    fault = fault_of(429, "", violation("SearchGroundingRequestsPerDayPerProject"), NOW).failure
    assert (fault.transient, fault.strain, fault.quota) == (True, None, Quota())
    assert fault.retry_after == seconds_to_pacific_midnight(NOW)


@pytest.mark.parametrize("value", ["0", "-1", "many", "", "99999999999", 0, 10.5, None])
def test_a_strange_quota_is_not_learned(value: object) -> None:
    fault = fault_of(429, "", violation("GenerateRequestsPerMinutePerProjectPerModel", value), NOW).failure
    assert (fault.strain, fault.quota) == ("quota", Quota())


@pytest.mark.parametrize(
    ("now", "hours"),
    [
        ("2026-11-22T04:00+00:00", 4),  # winter: UTC-8
        ("2026-07-01T06:30+00:00", 0.5),  # summer: UTC-7
        ("2026-07-01T07:00+00:00", 24),
        ("2026-03-08T08:00+00:00", 23),  # the day that summer time begins
        ("2026-11-01T07:00+00:00", 25),  # the day that it ends
    ],
)
def test_googles_day_ends_at_midnight_in_california(now: str, hours: float) -> None:
    assert seconds_to_pacific_midnight(datetime.fromisoformat(now)) == hours * 3_600


# --- money ----------------------------------------------------------------------------------------------


@pytest.fixture
def prices_unasked() -> None:
    gemini_price._price_source.cache_clear()


@pytest.mark.contract("6 money_spent")
async def test_cached_tokens_have_their_price(gemini: GeminiProvider) -> None:
    said = await answer(gemini, "q [[usage=4000,0,0]] [[text=x]] [[cached=3000]]")
    assert said.money_spent == nano(Decimal("0.00039"))  # 1,000 × $0.30 + 3,000 × $0.03 a million
    strange = await answer(gemini, "q [[usage=100,0,0]] [[text=x]] [[cached=3000]]")
    assert strange.money_spent == nano(Decimal("0.000003"))


@pytest.mark.usefixtures("prices_unasked")
@pytest.mark.parametrize(
    ("served", "asked", "usd", "level"),
    [
        ("gemini-2.5-flash-001", "gemini-2.5-flash", "2.80", None),  # the asked model's price
        ("gemini-2.5-flash-001", "gemini-2.5-flash-001", "2.80", None),  # the price without the version
        ("gemini-1.5-pro-002", "gemini-1.5-pro-002", "6.25", None),
        ("gemini-77-flash-lite", "gemini-77-flash-lite", None, "WARNING"),
        ("gemini-77-flash", "gemini-77-flash", None, "WARNING"),
        ("gemini-77-pro", "gemini-77-pro", None, "WARNING"),
        ("gemini-77-neon", "gemini-77-neon", "0", "ERROR"),
    ],
)
def test_a_model_without_a_price(
    served: str, asked: str, usd: str | None, level: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """A million tokens in, a million out. The price of a family moves with genai-prices: it is only not nothing."""
    with caplog.at_level(logging.WARNING):
        costs = {
            gemini_price.price(served, asked, input_tokens=1_000, cached_tokens=0, output_tokens=1_000).nano
            for _ in range(3)
        }
    (cost,) = costs
    if usd is None:
        assert cost > 0
    else:
        assert cost == nano(Decimal(usd)) / 1_000
    assert [record.levelname for record in caplog.records] == ([level] if level else [])  # once a name


@pytest.mark.usefixtures("prices_unasked")
def test_families_are_told_apart() -> None:
    def cost(name: str) -> int:
        return gemini_price.price(name, name, input_tokens=1_000, cached_tokens=0, output_tokens=1_000).nano

    assert cost("gemini-77-flash-lite") < cost("gemini-77-flash") < cost("gemini-77-pro")


async def test_no_usage_is_an_answer_and_the_operators_concern(
    gemini: GeminiProvider, caplog: pytest.LogCaptureFixture
) -> None:
    said = await answer(gemini, "q [[usage=none]]")
    assert (said.input_tokens, said.output_tokens, said.money_spent) == (0, 0, 0)
    assert "without its usage" in caplog.text


def test_the_base_url_must_be_one() -> None:
    for wrong in ("", "generativelanguage.googleapis.com", "ftp://example.org", "http://"):
        with pytest.raises(OperatorError):
            GeminiProvider(lambda: "k", wrong)
