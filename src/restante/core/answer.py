"""What a model said: the answer with its items, sections, annotations, fan-out queries and usage (contract §3.6)."""

from __future__ import annotations

from datetime import date
from typing import Final, Literal, get_args

import msgspec

from restante.core.money import Nano
from restante.core.pacing import Quota


class Annotation(msgspec.Struct, frozen=True):
    """A source for a stretch of a section's text: `text[start_index:end_index]`, in code points (§12.12)."""

    title: str
    url: str
    direct_url: str | None
    start_index: int
    end_index: int
    text: str


class Section(msgspec.Struct, frozen=True):
    """One piece of text. `annotations` is None unless the web was searched, and may be empty although it was."""

    text: str
    annotations: tuple[Annotation, ...] | None = None


class Item(msgspec.Struct, frozen=True):
    """A reasoning item, if there is one, stands before the message item."""

    type: Literal["message", "reasoning"]
    sections: tuple[Section, ...]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's answer. `model_name` is the model that served it; `money_spent` what its provider took.

    `input_tokens` and `output_tokens` count what the provider bills, reasoning being output. `web_search`: whether the
    web was searched, not whether it might have been. `raw`: the provider's reply, byte for byte, where it is worth
    keeping. `price_date`: of the prices that `money_spent` was reckoned with.
    """

    model_name: str
    input_tokens: int
    output_tokens: int
    items: tuple[Item, ...]
    reasoning_tokens: int = 0
    web_search: bool = False
    money_spent: Nano = Nano(0)
    fan_out_queries: tuple[str, ...] | None = None
    raw: bytes | None = None
    price_date: date | None = None

    @staticmethod
    def message(text: str) -> tuple[Item, ...]:
        """The items of a plain answer."""
        return (Item("message", (Section(text),)),)


FailureKind = Literal["key", "quota", "overloaded", "timeout", "connection", "unavailable", "refused"]
FAILURE_KINDS: Final[tuple[FailureKind, ...]] = get_args(FailureKind)


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A provider gave no answer. Faults of a provider are values, never exceptions.

    `reason` is shown to the client in brackets (50301): a short phrase, no secrets, no URLs.
    `transient` says that the same call may succeed later; then it is tried again, not before
    `retry_after` seconds where the provider named a time. `waits`: the task is not at fault and waits for
    the operator, however often it is tried (a rejected key, contract §12.26). `doubts_key`: it may be the key that was
    refused; an unpaid question decides (restante.flow.keys). `costly`: the call may have been paid for, or broke us,
    so it is not tried again for ever as other transient ones are.
    `strain` says that the provider has too much to do: "overloaded" asks for fewer calls at once; "quota" puts off
    every call of this project and model for `retry_after` (by itself not at all), `quota` being what it named.
    """

    reason: str
    transient: bool = False
    retry_after: float | None = None
    waits: bool = False
    doubts_key: bool = False
    costly: bool = False
    strain: Literal["overloaded", "quota"] | None = None
    quota: Quota = Quota()

    @property
    def kind(self) -> FailureKind:
        """In one of a few words. `key` waits for the operator; `refused` is about this prompt or model, and no other
        try would mend it; all others pass by themselves, `unavailable` being those that say no more."""
        if self.waits or self.doubts_key:
            return "key"
        if self.strain is not None:
            return self.strain
        match self.reason:
            case "timeout" | "overloaded":
                return self.reason
            case "rate_limit_exceeded":
                return "quota"
            case "connection failed":
                return "connection"
            case _:
                return "unavailable" if self.transient else "refused"
