"""What `restante demo` shows: the answer with its sources marked in it, and the receipt."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from restante.cli.common import out
from restante.cli.text import visible
from restante.core.money import NANO_PER_USD, Nano, show_usd
from restante.store.ledger import Receipt

if TYPE_CHECKING:
    from restante.client import Annotation, Entry, Result


def print_answer(entry: Entry, about: str) -> None:
    """Who answered, what, and from where. `about`: what is to be said of the model."""
    for result in entry.result or ():
        print(f"answered by {visible(result.model_name)}{about}")
        sources = list(dict.fromkeys(_page(one) for one in result.annotations))
        for line in marked(result, sources).splitlines() or [""]:
            print(_quoted(visible(line)))
        for number, (title, url) in enumerate(sources, 1):
            print(f"  [{number}] {visible(title)}  {visible(url)}")
        if result.fan_out_queries:
            print(f"  searched for: {visible(' | '.join(result.fan_out_queries))}")
        usage = f"{result.input_tokens} tokens in, {result.output_tokens} tokens out"
        if took := Nano(round(result.money_spent * NANO_PER_USD)):
            usage += f", ${show_usd(took)} to its provider"
        print(f"  {usage}\n")


def marked(result: Result, sources: list[tuple[str, str]]) -> str:
    """The message with the number of its source behind each stretch that has one."""
    told = []
    for item in result.items or ():
        for section in item.sections or () if item.type == "message" else ():
            text = section.text
            ends = {
                (len(text[: one.end_index].rstrip()), sources.index(_page(one)) + 1)
                for one in section.annotations or ()
            }
            for end, number in sorted(ends, reverse=True):
                text = f"{text[:end]} [{number}]{text[end:]}"
            told.append(text)
    return "\n".join(told)


def print_receipt(receipt: Receipt, charged: str) -> None:
    """What was held, charged and returned. `charged`: what the charge consists of."""
    print("receipt, US dollars")
    print(f"  held      {show_usd(receipt.held)}    the fee 0.0002 and a prepayment of 0.01 for the model")
    if receipt.charged is not None and receipt.refunded is not None:
        print(f"  charged   {show_usd(receipt.charged)}    {charged}")
        print(f"  refunded  {show_usd(receipt.refunded)}")


def _page(source: Annotation) -> tuple[str, str]:
    return source.title, source.direct_url or source.url


def _quoted(line: str) -> str:
    return textwrap.fill(line, width=min(out.width, 100), initial_indent="  | ", subsequent_indent="  | ")
