"""What a task costs: the fee, the hold taken at posting and the charge at settlement (contract §6, §12.8)."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Final, Literal

import msgspec

from restante.core.money import Nano, nano
from restante.core.task import Prompt

#: The prepayment for the model's own cost, per task. What the model did not use of it is returned.
PREPAYMENT: Final = Nano(10_000_000)  # $0.01

#: Tokens that each message of a prompt costs beside its text, at the most: its role and its ends.
TOKENS_A_MESSAGE: Final = 10

#: restante's own fee per answered task.
STANDARD_FEE: Final = Nano(200_000)  # $0.0002, task_post
LIVE_FEE: Final = Nano(600_000)  # $0.0006, live

STANDARD_HOLD: Final = Nano(PREPAYMENT + STANDARD_FEE)  # $0.0102
LIVE_HOLD: Final = Nano(PREPAYMENT + LIVE_FEE)  # $0.0106


def charge(fee: Nano, money_spent: Nano) -> Nano:
    """What an answered task costs its account: the fee and what the model's provider took.

    It may exceed the hold, then the balance pays the rest (contract §12.8). A task without an answer is
    charged nothing; that case never comes here.
    """
    return Nano(fee + money_spent)


class ListPrice(msgspec.Struct, frozen=True):
    """What a provider takes for a model, in US dollars per million tokens and per thousand searches; `search` None: it
    does not search. `search_unit`: what counts as one. `as_of`: the day of the price, where it is known."""

    input: Decimal
    output: Decimal
    search: Decimal | None = None
    search_unit: Literal["prompt", "query"] = "prompt"
    as_of: date | None = None


FREE: Final = ListPrice(Decimal(0), Decimal(0))


class Quote(msgspec.Struct, frozen=True):
    """What a task may cost, in nano-dollars: `hold` is set aside when it is posted; `most` is the charge at the most,
    made of the `fee`, of so many `input_tokens` and `output_tokens`, and of `searches` at `each_search`.

    `open_ended`: the model pays for each query of its web search and decides how many it makes; `most` has one of them.
    """

    hold: Nano
    fee: Nano
    input_tokens: int
    output_tokens: int
    tokens: Nano
    searches: int
    each_search: Nano
    most: Nano
    open_ended: bool


def quote(prompt: Prompt, price: ListPrice, *, live: bool) -> Quote:
    """What a prompt costs at the most. A token of the prompt is never less than a byte of it; the answer, with what is
    thought before it, has no more than `max_output_tokens`."""
    fee, hold = (LIVE_FEE, LIVE_HOLD) if live else (STANDARD_FEE, STANDARD_HOLD)
    texts = [prompt.user_prompt, prompt.system_message or "", *(one.message for one in prompt.message_chain)]
    input_tokens = sum(len(text.encode(errors="replace")) + TOKENS_A_MESSAGE for text in texts if text)
    tokens = nano((input_tokens * price.input + prompt.max_output_tokens * price.output) / 1_000_000)
    searches = 1 if prompt.web_search and price.search is not None else 0
    each = nano((price.search or Decimal(0)) / 1_000)
    return Quote(
        hold,
        fee,
        input_tokens,
        prompt.max_output_tokens,
        tokens,
        searches,
        each,
        Nano(fee + tokens + searches * each),
        open_ended=bool(searches) and price.search_unit == "query" and each > 0,
    )
