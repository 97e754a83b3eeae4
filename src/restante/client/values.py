"""What is sent and what comes back, typed. Encoded again, an `Entry` is the JSON that was sent (contract §1.1, §3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from restante.client.errors import TaskFailed
from restante.core import errors
from restante.core.answer import Annotation
from restante.core.money import NANO_PER_USD, Nano
from restante.core.pricing import LIVE_FEE, STANDARD_FEE, charge
from restante.core.task import Message

__all__ = [
    "Annotation", "Entry", "Item", "ListedTask", "Message", "Model", "ReadyTask", "Result", "Section", "Task",
]  # fmt: skip

_UNFINISHED = (errors.TaskHanded.code, errors.TaskInQueue.code)


class Task(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task to post (contract §3.1). None is "not sent": the server's default holds."""

    user_prompt: str
    model_name: str
    system_message: str | None = None
    message_chain: Sequence[Message] | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    web_search: bool | None = None
    use_reasoning: bool | None = None
    tag: str | None = None
    postback_url: str | None = None
    pingback_url: str | None = None


class Section(msgspec.Struct, frozen=True):
    """A piece of text. An annotation's `start_index` and `end_index` count code points of it: as Python's slices do."""

    type: str
    text: str
    annotations: Sequence[Annotation] | UnsetType | None = UNSET


class Item(msgspec.Struct, frozen=True):
    """The message, or the reasoning before it."""

    type: Literal["message", "reasoning"] | str
    sections: Sequence[Section] | None


class Result(msgspec.Struct, frozen=True):
    """An answer: what the model said and what its provider took. `money_spent` in US dollars."""

    model_name: str
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    web_search: bool
    money_spent: int | float
    datetime: str
    items: Sequence[Item] | None
    fan_out_queries: Sequence[str] | None

    @property
    def text(self) -> str:
        """The message, without the reasoning."""
        return "\n\n".join(section.text for section in self._sections("message"))

    @property
    def annotations(self) -> list[Annotation]:
        """The sources of all of it; their offsets are of their own sections."""
        return [one for section in self._sections("message") for one in section.annotations or ()]

    def _sections(self, kind: str) -> list[Section]:
        return [section for item in self.items or () if item.type == kind for section in item.sections or ()]


class Entry(msgspec.Struct, frozen=True):
    """A task as the API shows it: posted, unfinished, answered or failed. `cost` in US dollars, of this very call."""

    id: str
    status_code: int
    status_message: str
    time: str
    cost: int | float
    result_count: int
    path: Sequence[str]
    data: dict[str, Any] | None
    result: Sequence[Result] | None

    @property
    def posted(self) -> bool:
        """It was accepted just now and has no answer yet."""
        return self.status_code == errors.CREATED_CODE

    @property
    def unfinished(self) -> bool:
        """It waits or runs."""
        return self.posted or self.status_code in _UNFINISHED

    @property
    def answered(self) -> bool:
        """It has its answer."""
        return self.status_code == errors.OK_CODE and bool(self.result)

    @property
    def failed(self) -> bool:
        """It was refused, or ended without an answer; that cost nothing."""
        return not self.unfinished and not self.answered

    @property
    def text(self) -> str:
        """What the model said; empty without an answer."""
        return "\n\n".join(result.text for result in self.result or ())

    @property
    def annotations(self) -> list[Annotation]:
        """The sources that the answer names."""
        return [one for result in self.result or () for one in result.annotations]

    @property
    def tag(self) -> str:
        """Yours, as posted; empty without one."""
        return str((self.data or {}).get("tag") or "")

    @property
    def charged(self) -> Nano:
        """What an answered task cost its account in all, in nano-dollars: the fee and what the provider took (§12.8).
        0 for every other one."""
        if not self.answered or not self.result:
            return Nano(0)
        fee = LIVE_FEE if "live" in self.path else STANDARD_FEE
        return charge(fee, Nano(sum(round(one.money_spent * NANO_PER_USD) for one in self.result)))

    def check(self) -> Entry:
        """The entry itself. Raises TaskFailed if the task was refused or has failed."""
        if self.failed:
            raise TaskFailed(self)
        return self


class ReadyTask(msgspec.Struct, frozen=True):
    """A finished task that nobody has collected (contract §3.2)."""

    id: str
    se: str
    function: str
    date_posted: str
    tag: str
    endpoint: str


class ListedTask(msgspec.Struct, frozen=True):
    """A task of the account (contract §3.11). `status` is the code as text; `cost` what was finally charged, in US
    dollars; `metadata` what was posted, where that was asked for and is still kept."""

    id: str
    url: str
    datetime_posted: str
    datetime_done: str | None
    status: str
    cost: int | float
    metadata: dict[str, Any] | UnsetType | None = UNSET

    @property
    def unfinished(self) -> bool:
        """It waits or runs."""
        return self.status in map(str, _UNFINISHED)


class Model(msgspec.Struct, frozen=True):
    """A name that `model_name` may have (contract §3.5)."""

    model_name: str
    reasoning: bool
    web_search_supported: bool
    task_post_supported: bool
