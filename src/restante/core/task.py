"""The task: its prompt, its id, and what a model's name stands for. Pure values; time and chance are passed in."""

from __future__ import annotations

import hashlib
import re
from datetime import date, datetime, timedelta
from enum import IntEnum
from typing import Final, Literal

import msgspec

from restante.core.limits import OUTPUT_TOKENS_DEFAULT, TEMPERATURE_DEFAULT, TOP_P_DEFAULT


class Function(IntEnum):
    """The function part of an id (contract §5.4), four decimal digits. That of user_data is made up."""

    APPENDIX_ERRORS = 161
    USER_DATA = 180
    ERRORS = 229
    STATUS = 230
    ID_LIST = 526
    LIVE = 612
    TASK_POST = 613
    TASKS_READY = 614
    MODELS = 616


class State(IntEnum):
    """Where a task stands in the database. Running is not a state of its own: a leased queue row is."""

    QUEUED = 0
    DONE = 1
    FAILED = 2


class Trail(msgspec.Struct, frozen=True, array_like=True):
    """Who ran a task to its end, and how long what took; stored as JSON beside the answer.

    `claimed_at` in milliseconds since 1970 by the worker's clock; then it waited `paced` milliseconds for its turn, and
    its call took `called`. `tries`, `wasted` and `lost` as the queue counted them before this run.
    """

    worker: str
    claimed_at: int
    paced: int
    called: int
    tries: int = 0
    wasted: int = 0
    lost: int = 0


class Message(msgspec.Struct, frozen=True):
    """One earlier message of the conversation; the roles are the contract's own words."""

    role: Literal["user", "ai"]
    message: str


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is asked, defaults filled in. Decodes from the stored request; other fields are passed over."""

    user_prompt: str
    model_name: str
    max_output_tokens: int = OUTPUT_TOKENS_DEFAULT
    temperature: float = TEMPERATURE_DEFAULT
    top_p: float = TOP_P_DEFAULT
    web_search: bool = False
    use_reasoning: bool = False
    system_message: str | None = None
    message_chain: tuple[Message, ...] = ()


def always_reasons(model_name: str) -> bool:
    """Pro models reason whether asked to or not (contract §3.1)."""
    return "-pro" in model_name


def read_prompt(request: bytes) -> Prompt:
    """The prompt in a request as its client sent it, reasoning forced where the model always reasons.

    Raises msgspec.DecodeError for anything that was not judged before.
    """
    prompt = msgspec.json.decode(request, type=Prompt)
    if always_reasons(prompt.model_name) and not prompt.use_reasoning:
        return msgspec.structs.replace(prompt, use_reasoning=True)
    return prompt


def fingerprint(prompt: Prompt) -> bytes:
    """A digest that two prompts share if they ask the same of the same model, however they were spelled."""
    spelled = msgspec.structs.replace(prompt, temperature=prompt.temperature + 0.0, top_p=prompt.top_p + 0.0)  # -0.0
    return hashlib.blake2b(msgspec.json.encode(spelled), digest_size=16).digest()


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """A name that may be posted, and the model that answers to it.

    `served` is the provider's name for it: an alias names its newest version, and offline every name is served
    by the demonstration model. `provider` names the one that serves it, and with it the lane of its tasks.
    `reasoning_forced`: Pro models always reason (contract §3.1).
    """

    name: str
    served: str
    provider: str
    web_search: bool = False
    reasoning: bool = False
    reasoning_forced: bool = False


# An id is MMDDHHMM-AAAA-FFFF-0000-RRRRRRRRRRRR (contract §5.4): the minute of posting in UTC, the account in
# hexadecimal, the function in decimal digits, and 48 random bits. It fits PostgreSQL's uuid type.
_ID: Final = re.compile(r"([0-9]{8})-([0-9a-f]{4})-([0-9]{4})-([0-9a-f]{4})-([0-9a-f]{12})")
ID_PATTERN: Final = f"^{_ID.pattern.translate(str.maketrans('', '', '()'))}$"  # as a JSON schema says it


class TaskId(msgspec.Struct, frozen=True):
    """An id taken apart. `str(parsed)` is its canonical, lower-case form."""

    text: str
    month: int
    day: int
    account_id: int
    function: int

    def __str__(self) -> str:
        return self.text

    def posted_on(self, today: date) -> date | None:
        """The day the id names: the latest such date that is not after tomorrow (clocks of nodes differ a little).

        None when there is no such date (month 13).
        """
        latest = today + timedelta(days=1)
        for year in range(latest.year, latest.year - 9, -1):  # 29 February may be eight years back
            try:
                named = date(year, self.month, self.day)
            except ValueError:
                continue
            if named <= latest:
                return named
        return None


def mint_id(now: datetime, account_id: int, function: Function, random48: int) -> str:
    """A new task id. `now` must be in UTC, `account_id` 1..65535, `random48` a 48-bit number."""
    return f"{_stem(now, account_id, function)}{random48:012x}"


def mint_ids(now: datetime, account_id: int, function: Function, random: bytes) -> list[str]:
    """As many new ids as there are six bytes in `random`."""
    stem, digits = _stem(now, account_id, function), random.hex()
    return [stem + digits[at : at + 12] for at in range(0, len(digits), 12)]


def _stem(now: datetime, account_id: int, function: Function) -> str:
    stamp = f"{now.month:02d}{now.day:02d}{now.hour:02d}{now.minute:02d}"  # strftime takes twice as long
    return f"{stamp}-{account_id:04x}-{function:04d}-0000-"


def parse_id(text: str) -> TaskId | None:
    """The id's parts, or None when it cannot be one of ours."""
    text = text.lower()
    match = _ID.fullmatch(text)
    if match is None:
        return None
    stamp, account, function = match[1], match[2], match[3]
    return TaskId(text, int(stamp[:2]), int(stamp[2:4]), int(account, 16), int(function))
