"""Gemini's JSON: requests and replies of `generateContent`. What a reply says: gemini_answer; errors: gemini_faults.
No I/O.

Field names, finish reasons and error details: Google's REST reference for v1beta, checked against the structs of
google-genai 3.4 (tests/providers/test_gemini.py). Every field has a default: Google leaves out what is zero or empty.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec

from restante.core.answer import Failure
from restante.core.task import Prompt
from restante.providers.gemini_traits import Level, Traits, traits
from restante.providers.provider import NO_JSON

MALFORMED: Final = Failure(reason="malformed reply", transient=True)


class _Camel(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """Snake case here, camel case on the wire."""


class Part(_Camel, frozen=True):
    text: str = ""
    thought: bool = False


class Content(_Camel, frozen=True):
    role: str = ""
    parts: tuple[Part, ...] = ()


class Thinking(_Camel, frozen=True):
    """Models of 2.5 take a budget, later ones a level; both in one request is an error of Google's."""

    include_thoughts: bool = False
    thinking_budget: int | None = None
    thinking_level: Level | None = None


class _Sampling(_Camel, frozen=True):
    """The first three are always sent: left out, the model's own defaults would count, and restante promises its
    own."""

    max_output_tokens: int
    temperature: float
    top_p: float
    thinking_config: Thinking | None = None


class _Empty(msgspec.Struct, frozen=True):
    """{}"""


class _Tool(msgspec.Struct, rename="camel", frozen=True):
    google_search: _Empty = _Empty()


class Request(_Camel, frozen=True):
    contents: tuple[Content, ...]
    generation_config: _Sampling
    system_instruction: Content | None = None
    tools: tuple[_Tool, ...] = ()


#: Money is made of these; Google's type is int32.
_Count = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class Usage(_Camel, frozen=True):
    """`candidates_token_count` is the visible answer alone; thoughts are billed as output beside it. Google also counts
    what its search fed to the model (toolUsePromptTokenCount): "retrieved context is not charged as input tokens"
    (ai.google.dev/gemini-api/docs/pricing), so it is passed over. `billed_tool_calls`: what Google billed of tools."""

    prompt_token_count: _Count = 0
    candidates_token_count: _Count = 0
    thoughts_token_count: _Count = 0
    cached_content_token_count: _Count = 0
    billed_tool_calls: msgspec.Raw = msgspec.Raw()

    @property
    def input_tokens(self) -> int:
        return self.prompt_token_count

    @property
    def output_tokens(self) -> int:
        return self.candidates_token_count + self.thoughts_token_count


class Candidate(_Camel, frozen=True):
    """`grounding_metadata` is read apart: what is strange about citations must not cost a paid answer."""

    content: Content = Content()
    finish_reason: str = ""
    grounding_metadata: msgspec.Raw = msgspec.Raw()


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


def request_body(prompt: Prompt, model: str) -> bytes:
    """The body of generateContent for this model of Google's. The contract's "ai" is Gemini's "model"."""
    earlier = (
        Content(role="model" if turn.role == "ai" else "user", parts=(Part(text=turn.message),))
        for turn in prompt.message_chain
    )
    system = Content(parts=(Part(text=prompt.system_message),)) if prompt.system_message else None
    return _encoder.encode(
        Request(
            contents=(*earlier, Content(role="user", parts=(Part(text=prompt.user_prompt),))),
            generation_config=_Sampling(
                max_output_tokens=prompt.max_output_tokens,
                temperature=prompt.temperature,
                top_p=prompt.top_p,
                thinking_config=thinking(prompt, traits(model)),
            ),
            system_instruction=system,
            tools=(_Tool(),) if prompt.web_search else (),
        )
    )


def thinking(prompt: Prompt, can: Traits) -> Thinking | None:
    """How much a model shall think; None for one that cannot.

    Thoughts are billed as output and eat `max_output_tokens`, of which there are 4,096 at the most. So with reasoning a
    model of 2.5 gets half of them for its thoughts (left to itself it takes up to 8,192 and answers nothing), a later
    one the level MEDIUM, which they all have; and without reasoning all think as little as they can. MINIMAL is refused
    where earlier messages lack Google's own signatures, hence LOW for a conversation.
    """
    if not can.thinks:
        return None
    wanted = prompt.use_reasoning or can.always_thinks
    if can.by_level:
        least: Level = "LOW" if prompt.message_chain else can.least_level
        return Thinking(include_thoughts=wanted, thinking_level="MEDIUM" if wanted else least)
    if not wanted:
        return Thinking(thinking_budget=0)
    return Thinking(include_thoughts=True, thinking_budget=max(can.budget_min, prompt.max_output_tokens // 2))


def read_reply(body: bytes) -> Reply | None:
    """None when it is no reply of generateContent: cut short, not JSON, fields of other types."""
    try:
        return _replies.decode(body)
    except NO_JSON:
        return None


def read_models(body: bytes) -> ModelPage | None:
    """None when it is no page of models.list."""
    try:
        return _pages.decode(body)
    except NO_JSON:
        return None


_WORD: Final = re.compile(r"[A-Z][A-Z_]{0,59}")


def word(reason: str) -> str:
    """A reason of Google's as it may stand in an error message: one word in capitals."""
    return reason if _WORD.fullmatch(reason) else "OTHER"
