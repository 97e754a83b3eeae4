"""What goes over the wire to an OpenAI-compatible server (/chat/completions), and what comes back. No I/O.

Written against llama.cpp, Ollama, vLLM, LM Studio and OpenAI itself: what only some of them send may be missing.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import msgspec

from restante.core.answer import Answer, Failure, Item, Section
from restante.core.task import Prompt
from restante.providers.provider import NO_JSON

UNREADABLE: Final = "unreadable answer"
EMPTY: Final = "empty answer"

_CODE: Final = re.compile(r"[A-Za-z0-9_]{1,60}")
_CONTEXT_CODES: Final = frozenset({"exceed_context_size_error", "context_length_exceeded"})


class Message(msgspec.Struct):
    role: str
    content: str


class Request(msgspec.Struct):
    """The body of /chat/completions."""

    model: str
    messages: list[Message]
    max_tokens: int
    temperature: float
    top_p: float


class _Reply(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None  # llama.cpp, DeepSeek, older vLLM
    reasoning: str | None = None  # vLLM, Ollama, OpenRouter
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Reply
    finish_reason: str | None = None


#: Money is made of these, and the ledger counts in 64 bits.
_Tokens = Annotated[int, msgspec.Meta(lt=2**31)]


class _Details(msgspec.Struct):
    reasoning_tokens: _Tokens | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: _Tokens = 0
    completion_tokens: _Tokens = 0
    completion_tokens_details: _Details | None = None


class Completion(msgspec.Struct):
    """A 200 of /chat/completions. More choices than one were not asked for."""

    choices: list[_Choice]
    usage: _Usage | None = None


class _Listed(msgspec.Struct):
    id: str


class _List(msgspec.Struct):
    data: list[_Listed]


_completions: Final = msgspec.json.Decoder(Completion)
_lists: Final = msgspec.json.Decoder(_List)


def conversation(prompt: Prompt, system_message: str | None) -> list[Message]:
    """The messages of a prompt. The question stands last: a last message of the assistant's would be continued."""
    roles = {"user": "user", "ai": "assistant"}
    return [
        *([Message("system", system_message)] if system_message else []),
        *(Message(roles[earlier.role], earlier.message) for earlier in prompt.message_chain),
        Message("user", prompt.user_prompt),
    ]


def request(model: str, prompt: Prompt) -> Request:
    """What a server is sent."""
    return Request(
        model=model,
        messages=conversation(prompt, prompt.system_message),
        max_tokens=prompt.max_output_tokens,
        temperature=prompt.temperature,
        top_p=prompt.top_p,
    )


def read_completion(body: bytes) -> Completion | None:
    """None when it is no completion."""
    try:
        return _completions.decode(body)
    except NO_JSON:
        return None


def read_names(body: bytes) -> frozenset[str] | None:
    """The names in a reply of GET /models; None when it is no such list."""
    try:
        return frozenset(one.id for one in _lists.decode(body).data)
    except NO_JSON:
        return None


def answer_of(completion: Completion, model: str) -> Answer | Failure:
    """The answer in a completion, without its price, in the name of `model`.

    Text counts, whatever ended it. Without text: refused or filtered → final; the budget used up (by thinking, as a
    rule) → an answer all the same, perhaps without items: it is billed; anything else → transient.
    `completion_tokens` holds the reasoning already, as OpenAI defines it.
    """
    if not completion.choices:
        return Failure(reason=EMPTY, transient=True, costly=True)
    choice = completion.choices[0]
    reply = choice.message
    text = (reply.content or "").rstrip("\ufffd")  # max_tokens can cut a character in half, which engines show as that
    thought = reply.reasoning_content or reply.reasoning or ""
    items = [Item("reasoning", (Section(thought),))] if thought.strip() else []
    if text.strip():
        items.append(Item("message", (Section(text),)))
    elif reply.refusal or choice.finish_reason == "content_filter":
        return Failure(reason=f"blocked: {'refusal' if reply.refusal else 'content_filter'}")
    elif choice.finish_reason != "length":
        return Failure(reason=EMPTY, transient=True, costly=True)
    usage = completion.usage or _Usage()
    details = usage.completion_tokens_details or _Details()
    output_tokens = max(0, usage.completion_tokens)
    return Answer(
        model_name=model,
        input_tokens=max(0, usage.prompt_tokens),
        output_tokens=output_tokens,
        reasoning_tokens=min(max(0, details.reasoning_tokens or 0), output_tokens),
        items=tuple(items),
    )


class Fault(msgspec.Struct, frozen=True):
    """What an error's body says: its code or type if it is a word, its message, and what overflowed."""

    code: str = ""
    message: str = ""
    prompt_tokens: int = 0
    context_tokens: int = 0

    @property
    def too_long(self) -> str | None:
        """The reason why a prompt that does not fit its model's context failed; None for any other error."""
        if self.code not in _CONTEXT_CODES:
            return None
        if self.prompt_tokens and self.context_tokens:
            return f"prompt of {self.prompt_tokens} tokens exceeds the context of {self.context_tokens} tokens"
        return "prompt exceeds the model's context"


def read_fault(body: bytes) -> Fault:
    """What is said beside an HTTP status other than 200: {"error": {...}}, {"error": "..."} or {...} itself."""
    try:
        said = msgspec.json.decode(body)
    except NO_JSON:
        return Fault()
    error: Any = said.get("error", said) if isinstance(said, dict) else None
    if isinstance(error, str):
        return Fault(message=error)
    if not isinstance(error, dict):
        return Fault()
    codes = [str(error.get(name)) for name in ("code", "type")]
    known = [code for code in codes if code in _CONTEXT_CODES]
    words = [code for code in codes if _CODE.fullmatch(code) and code != "None"]
    return Fault(
        code=(known or words or [""])[0],
        message=str(error.get("message", "")),
        prompt_tokens=_count(error.get("n_prompt_tokens")),
        context_tokens=_count(error.get("n_ctx")),
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
