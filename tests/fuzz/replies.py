"""What providers and receivers reply, as a target of the fuzzer (tests/fuzz/targets.py)."""

from __future__ import annotations

import json
import math
import re
from typing import Final

from restante.core.answer import Answer, Failure
from restante.core.task import Prompt
from restante.providers import gemini_batch, openai_wire
from restante.providers.gemini import read_answer
from restante.providers.gemini_answer import search_suggestions
from restante.providers.gemini_faults import fault_of
from restante.providers.gemini_wire import read_models
from restante.providers.openai_compatible import failure_of
from restante.providers.provider import Call
from restante.providers.session import retry_after_seconds
from restante.web import wire
from restante.webhooks.sender import _storable
from tests.fuzz.given import ID, NOW

_PROMPT: Final = Prompt(user_prompt="hi", model_name="gemini-2.5-flash", web_search=True)
_CALL: Final = Call(task_id=ID, model="gemini-2.5-flash", prompt=_PROMPT, seconds=10.0, project="p")
_NANO_MAX: Final = 2**62  # what a price may be and still be booked: the ledger counts in 64 bits


def replies_target(data: bytes) -> None:
    """Replies of Gemini and of OpenAI-compatible servers, their errors, lists, batches and headers.

    A reply is an answer that can be stored, shown and paid for, or a failure in words that may be shown; annotations
    are where they say they are.
    """
    kind, body = (data[:1] or b"\0")[0] % 9, data[1:]
    line, _, rest = body.partition(b"\n")
    header = line.decode("latin-1")
    match kind:
        case 0:
            _said(read_answer(body, _CALL))
        case 1:
            completion = openai_wire.read_completion(body)
            if completion is not None:
                _said(openai_wire.answer_of(completion, "house-model"))
        case 2:
            status = 400 + (data[1] if len(data) > 1 else 0)
            _failed(fault_of(status, header[1:], rest, NOW).failure)
        case 3:
            fault = openai_wire.read_fault(rest)
            for status in (400, 401, 403, 404, 413, 429, 500, 503, 302):
                _failed(failure_of(status, fault, retry_after_seconds(header, NOW)))
        case 4:
            read_models(body)
            openai_wire.read_names(body)
        case 5:
            search_suggestions(body)
        case 6:
            one = gemini_batch._decoded(body, gemini_batch._Result)
            if not isinstance(one, Failure):
                reply = gemini_batch._result(one)
                _said(reply if isinstance(reply, Failure) else read_answer(reply, _CALL, batch=True))
        case 7:
            known = gemini_batch._sent(body)
            if not isinstance(known, Failure):
                gemini_batch._path(known.name)
                gemini_batch._decoded(known.output, gemini_batch._Output)
        case _:
            wait = retry_after_seconds(header, NOW)
            assert wait is None or (math.isfinite(wait) and 0 < wait <= 86_400)
            assert "\0" not in _storable(rest.decode("utf-8", "surrogateescape"))


def _said(outcome: Answer | Failure) -> None:
    if isinstance(outcome, Failure):
        _failed(outcome)
        return
    result = wire.answer_result(outcome, NOW)
    [shown] = json.loads(result)
    assert list(shown) and result.decode()
    tokens = (outcome.input_tokens, outcome.output_tokens, outcome.reasoning_tokens)
    assert all(0 <= count < 2**33 for count in tokens), tokens
    assert outcome.reasoning_tokens <= outcome.output_tokens
    assert 0 <= outcome.money_spent < _NANO_MAX
    for item in outcome.items:
        for section in item.sections:
            for note in section.annotations or ():
                assert 0 <= note.start_index < note.end_index <= len(section.text)
                assert section.text[note.start_index : note.end_index] == note.text


_WORDS: Final = re.compile(r"[ -~]{1,200}")


def _failed(failure: Failure) -> None:
    assert _WORDS.fullmatch(failure.reason), failure.reason
    assert failure.retry_after is None or 0 < failure.retry_after <= 86_400
