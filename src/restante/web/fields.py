"""Reading one object of a POST into its struct: field by field, in the order of the struct, the first error reported.

As web/judge.py for tasks (contract §12.1, §12.9, §12.10): null means "not sent", types are strict, a whole float is an
integer, no string has U+0000, unknown fields come last. The struct is the one statement of the request's format.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, get_type_hints

import msgspec

from restante.core.errors import InvalidBody, InvalidField, Refusal, UnknownField
from restante.web.judge import echo, fields_sent, printable, whole_number

T = TypeVar("T", bound=msgspec.Struct)


class Asked(msgspec.Struct, Generic[T], frozen=True):
    """What a client asks for, or why that cannot be. `request` is what it sent, as JSON, for the echo."""

    request: bytes
    value: T | None = None
    refusal: Refusal | None = None


class Reader(Generic[T]):
    """Reads objects of one kind. `required` fields must be sent; `fault` names the field that its type alone does not
    prove wrong; `ignore_unknown` drops what no field is instead of refusing it."""

    def __init__(
        self,
        kind: type[T],
        *,
        required: frozenset[str] = frozenset(),
        fault: Callable[[T], str | None] = lambda _: None,
        ignore_unknown: bool = False,
    ) -> None:
        self._kind = kind
        self._required = required
        self._fault = fault
        self._ignore_unknown = ignore_unknown
        hints: dict[str, Any] = get_type_hints(kind, include_extras=True)
        self._decoders = {name: msgspec.json.Decoder(hint) for name, hint in hints.items()}

    def read(self, raw: msgspec.Raw) -> Asked[T] | InvalidBody:
        """One object, as `judge.split` gave it. InvalidBody: the whole POST is no JSON after all (§12.27)."""
        try:
            return self._read(bytes(raw))
        except RecursionError:
            return InvalidBody()

    def _read(self, text: bytes) -> Asked[T] | InvalidBody:
        sent = fields_sent(text)
        if isinstance(sent, InvalidBody):
            return sent
        if sent is None:
            return Asked(b"{}", refusal=InvalidBody())
        if self._ignore_unknown:
            sent = {name: raw for name, raw in sent.items() if name in self._decoders}
        values: dict[str, Any] = {}
        for name, decoder in self._decoders.items():
            if name not in sent:
                if name in self._required:
                    return Asked(echo(sent), refusal=InvalidField(name))
                continue
            value = _value(decoder, sent[name])
            if value is None:
                return Asked(echo(sent), refusal=InvalidField(name))
            values[name] = value
        asked = self._kind(**values)
        faulty = self._fault(asked)
        if faulty is not None:
            return Asked(echo(sent), refusal=InvalidField(faulty))
        unknown = next((name for name in sent if name not in self._decoders), None)
        if unknown is not None:
            return Asked(echo(sent), refusal=UnknownField(printable(unknown)))
        return Asked(echo(sent), asked)


def _value(decoder: msgspec.json.Decoder[Any], raw: msgspec.Raw) -> Any:
    """The field's value; None when it is not acceptable."""
    try:
        value = decoder.decode(raw)
    except msgspec.ValidationError:
        number = whole_number(raw)
        if number is None:
            return None
        try:
            value = decoder.decode(b"%d" % number)
        except msgspec.ValidationError:
            return None
    return None if isinstance(value, str) and "\0" in value else value
