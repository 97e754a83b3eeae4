"""A task as it may be posted (contract §3.1): the one statement of its fields, their types, bounds and meaning.

web/judge enforces it, in the order of the fields (§12.10); web/openapi documents it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from restante.core import limits
from restante.core.task import Message

#: Fields that every task needs, and those that a live task may not have (contract §3.1, §3.4).
REQUIRED: Final = ("user_prompt", "model_name")
WEBHOOKS: Final = ("postback_url", "pingback_url")

_PROMPT: Final = Meta(
    description="The question to the model.", examples=["which Alpine towns are easy to reach by train"]
)
_SYSTEM: Final = Meta(description="How the model is to behave.", examples=["answer like a travel agent"])
_CHAIN: Final = Meta(description="The conversation so far, oldest first.")
_MESSAGE: Final = Meta(description="What was said.", examples=["Hello, where to?"])
_SUBSTITUTED: Final = (
    "`$id` and `$tag` in it are replaced. An absolute http or https URL without credentials; private addresses are "
    "refused unless the operator allows them."
)


class ChainMessage(Message, frozen=True, forbid_unknown_fields=True):
    """A message of the chain as it may be posted."""

    message: Annotated[str, Meta(max_length=limits.CHAIN_MESSAGE_CHARS), _MESSAGE]


class PostedTask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A task as posted. Null means "not sent". Characters are Unicode code points; U+0000 is refused everywhere."""

    user_prompt: Annotated[str, Meta(min_length=1, max_length=limits.PROMPT_CHARS), _PROMPT] | None = None
    model_name: (
        Annotated[
            str,
            Meta(min_length=1, max_length=limits.MODEL_NAME_CHARS),
            Meta(
                description="One of the names that `models` lists; an alias stands for its newest version.",
                examples=["gemini-2.5-flash"],
            ),
        ]
        | None
    ) = None
    max_output_tokens: (
        Annotated[
            int,
            Meta(ge=1, le=limits.OUTPUT_TOKENS_MAX),
            Meta(
                description="The answer's tokens at most. With reasoning at least "
                f"{limits.OUTPUT_TOKENS_MIN_REASONING}, for it is paid from the same budget.",
                extra_json_schema={"default": limits.OUTPUT_TOKENS_DEFAULT},
            ),
        ]
        | None
    ) = None
    temperature: (
        Annotated[
            float,
            Meta(ge=0, le=limits.TEMPERATURE_MAX),
            Meta(
                description="The higher, the less predictable.",
                extra_json_schema={"default": limits.TEMPERATURE_DEFAULT},
            ),
        ]
        | None
    ) = None
    top_p: (
        Annotated[
            float,
            Meta(ge=0, le=1),
            Meta(
                description="Only the likeliest tokens up to this total probability are considered.",
                extra_json_schema={"default": limits.TOP_P_DEFAULT},
            ),
        ]
        | None
    ) = None
    web_search: (
        Annotated[
            bool,
            Meta(
                description="Let the model search the web where it supports that: a permission, no guarantee.",
                extra_json_schema={"default": False},
            ),
        ]
        | None
    ) = None
    use_reasoning: (
        Annotated[
            bool,
            Meta(
                description="Let the model reason before it answers. Pro models always do.",
                extra_json_schema={"default": False},
            ),
        ]
        | None
    ) = None
    system_message: Annotated[str, Meta(max_length=limits.SYSTEM_MESSAGE_CHARS), _SYSTEM] | None = None
    message_chain: Annotated[Sequence[ChainMessage], Meta(max_length=limits.CHAIN_MESSAGES), _CHAIN] | None = None
    tag: (
        Annotated[
            str,
            Meta(max_length=limits.TAG_CHARS),
            Meta(description="Yours: comes back with the task.", examples=["run-17"]),
        ]
        | None
    ) = None
    postback_url: (
        Annotated[
            str,
            Meta(max_length=limits.URL_CHARS),
            Meta(
                description=f"The finished task is sent here (POST, gzip). {_SUBSTITUTED}",
                examples=["https://hooks.example.org/answers?id=$id"],
            ),
        ]
        | None
    ) = None
    pingback_url: (
        Annotated[
            str,
            Meta(max_length=limits.URL_CHARS),
            Meta(
                description=f"Called (GET) when the task is finished. {_SUBSTITUTED}",
                examples=["https://hooks.example.org/ping?id=$id&tag=$tag"],
            ),
        ]
        | None
    ) = None


class RelaxedMessage(ChainMessage, frozen=True, forbid_unknown_fields=True):
    """A message of the chain under RESTANTE_LIMITS=relaxed."""

    message: Annotated[str, Meta(max_length=limits.PROMPT_CHARS_RELAXED), _MESSAGE]


class RelaxedTask(PostedTask, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A task as posted, under RESTANTE_LIMITS=relaxed: the same format and order, but for the bounds named here."""

    user_prompt: Annotated[str, Meta(min_length=1, max_length=limits.PROMPT_CHARS_RELAXED), _PROMPT] | None = None
    system_message: Annotated[str, Meta(max_length=limits.PROMPT_CHARS_RELAXED), _SYSTEM] | None = None
    message_chain: Annotated[Sequence[RelaxedMessage], Meta(max_length=limits.CHAIN_MESSAGES), _CHAIN] | None = None
