"""Gemini's JSON and restante's values: requests and replies of `generateContent`; errors: gemini_faults. No I/O.

Field names, finish reasons and error details: Google's REST reference for v1beta, checked against the structs of
google-genai 3.4 (tests/providers/test_gemini.py). Every field has a default: Google leaves out what is zero or empty.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec

from restante.core.answer import Answer, Failure, Item, Section
from restante.core.task import Prompt

MALFORMED: Final = Failure(reason="malformed reply", transient=True)


class _Camel(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """Snake case here, camel case on the wire."""


class Part(_Camel, frozen=True):
    text: str = ""
    thought: bool = False


class Content(_Camel, frozen=True):
    role: str = ""
    parts: tuple[Part, ...] = ()


class _Sampling(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """All three are always sent: left out, the model's own defaults would count, and restante promises its own."""

    max_output_tokens: int
    temperature: float
    top_p: float


class Request(_Camel, frozen=True):
    contents: tuple[Content, ...]
    generation_config: _Sampling
    system_instruction: Content | None = None


#: Money is made of these; Google's type is int32.
_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class Usage(_Camel, frozen=True):
    """`candidates_token_count` is the visible answer alone; thoughts are billed as output beside it."""

    prompt_token_count: _Count = 0
    candidates_token_count: _Count = 0
    thoughts_token_count: _Count = 0
    tool_use_prompt_token_count: _Count = 0
    cached_content_token_count: _Count = 0

    @property
    def input_tokens(self) -> int:
        return self.prompt_token_count + self.tool_use_prompt_token_count

    @property
    def output_tokens(self) -> int:
        return self.candidates_token_count + self.thoughts_token_count


class Candidate(_Camel, frozen=True):
    content: Content = Content()
    finish_reason: str = ""


class PromptFeedback(_Camel, frozen=True):
    block_reason: str = ""


class Reply(_Camel, frozen=True):
    candidates: tuple[Candidate, ...] = ()
    prompt_feedback: PromptFeedback = PromptFeedback()
    usage_metadata: Usage | None = None
    model_version: str = ""


class ListedModel(_Camel, frozen=True):
    """One row of models.list. `name` has the prefix "models/"."""

    name: str = ""
    supported_generation_methods: tuple[str, ...] = ()
    thinking: bool = False


class ModelPage(_Camel, frozen=True):
    models: tuple[ListedModel, ...] = ()
    next_page_token: str = ""


_encoder: Final = msgspec.json.Encoder()
_replies: Final = msgspec.json.Decoder(Reply)
_pages: Final = msgspec.json.Decoder(ModelPage)


def request_body(prompt: Prompt) -> bytes:
    """The body of generateContent. The contract's "ai" is Gemini's "model"."""
    earlier = (
        Content(role="model" if turn.role == "ai" else "user", parts=(Part(text=turn.message),))
        for turn in prompt.message_chain
    )
    system = Content(parts=(Part(text=prompt.system_message),)) if prompt.system_message else None
    return _encoder.encode(
        Request(
            contents=(*earlier, Content(role="user", parts=(Part(text=prompt.user_prompt),))),
            generation_config=_Sampling(
                max_output_tokens=prompt.max_output_tokens, temperature=prompt.temperature, top_p=prompt.top_p
            ),
            system_instruction=system,
        )
    )


def read_reply(body: bytes) -> Reply | None:
    """None when it is no reply of generateContent: cut short, not JSON, fields of other types."""
    try:
        return _replies.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def read_models(body: bytes) -> ModelPage | None:
    """None when it is no page of models.list."""
    try:
        return _pages.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


# --- what a reply means ---------------------------------------------------------------------------------

#: The model or a filter of Google's will not say it; asking again would not change that.
_BLOCKING: Final = frozenset(
    {
        "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR",
        "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
    }
)  # fmt: skip

_WORD: Final = re.compile(r"[A-Z][A-Z_]{0,59}")


def answer_of(reply: Reply, asked: str) -> Answer | Failure:
    """The answer in a reply, without its price; `asked` is the model's name should the reply not tell it.

    Text counts, whatever ended it: it was paid for. Without text:
    blocked → final; MAX_TOKENS → an answer all the same, the thinking used up the budget and the provider bills it
    (contract §3.6: then only a reasoning item, or nothing); STOP and anything else → transient, since Gemini is
    known to return nothing now and then and to answer the same question a moment later.
    """
    if not reply.candidates:
        if reply.prompt_feedback.block_reason:
            return Failure(reason=f"blocked: {_word(reply.prompt_feedback.block_reason)}")
        return Failure(reason="empty answer", transient=True)
    candidate = reply.candidates[0]
    text = "".join(part.text for part in candidate.content.parts if not part.thought)
    thoughts = "".join(part.text for part in candidate.content.parts if part.thought)
    items = [Item("reasoning", (Section(thoughts),))] if thoughts.strip() else []
    if text.strip():
        items.append(Item("message", (Section(text),)))
    elif candidate.finish_reason in _BLOCKING:
        return Failure(reason=f"blocked: {_word(candidate.finish_reason)}")
    elif candidate.finish_reason != "MAX_TOKENS":
        return Failure(reason="empty answer", transient=True)
    usage = reply.usage_metadata or Usage()
    return Answer(
        model_name=reply.model_version.removeprefix("models/") or asked,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.thoughts_token_count,
        items=tuple(items),
    )


def _word(reason: str) -> str:
    """A reason of Google's as it may stand in an error message: one word in capitals."""
    return reason if _WORD.fullmatch(reason) else "OTHER"
