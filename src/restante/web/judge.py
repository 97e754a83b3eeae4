"""Judging what a client posts: each task alone, fields in the contract's order, the first error reported (§12.10).

`PostedTask` (web/posted) is the one statement of the request's format: types and limits are enforced from it, and its
field order is the order of judgement. A good task is decoded once; a bad one is looked at again, field by field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, get_type_hints
from urllib.parse import urlsplit

import msgspec

from restante.core import limits
from restante.core.errors import EmptyBody, InvalidBody, InvalidField, Refusal, UnknownField
from restante.core.task import Model
from restante.web.posted import WEBHOOKS, PostedTask, RelaxedTask
from restante.webhooks.address_guard import AllowList, literal_fault
from restante.webhooks.target import ascii_host

FindModel = Callable[[str], Model | None]


class Format:
    """The bounds of a POST, and what reads its tasks."""

    def __init__(self, task: type[PostedTask], *, tasks: int, items: int, commas: int) -> None:
        self.task = task
        self.tasks, self.items, self.commas = tasks, items, commas
        self.whole = msgspec.json.Decoder(task)
        fields: dict[str, Any] = get_type_hints(task, include_extras=True)
        self.field = {name: msgspec.json.Decoder(kind) for name, kind in fields.items()}


class Verdict(msgspec.Struct, frozen=True):
    """A judged task: `refusal` and no model, or a model and no refusal. `request` is what was sent, nulls dropped."""

    request: bytes
    task: PostedTask | None = None
    model: Model | None = None
    refusal: Refusal | None = None


DOCUMENTED: Final = Format(
    PostedTask, tasks=limits.TASKS_PER_POST, items=limits.POST_ITEMS_MAX, commas=limits.POST_COMMAS_MAX
)
RELAXED: Final = Format(
    RelaxedTask,
    tasks=limits.TASKS_PER_POST_RELAXED,
    items=limits.POST_ITEMS_RELAXED_MAX,
    commas=limits.POST_COMMAS_RELAXED_MAX,
)

_FIELDS: Final = tuple(DOCUMENTED.field)
_RULED: Final = tuple(  # those that may be wrong although of their type: see _acceptable
    name
    for name in _FIELDS
    if name in {"user_prompt", "model_name", "max_output_tokens", "web_search"} or name in WEBHOOKS
)
_SISTER_FIELDS: Final = frozenset({"force_web_search", "web_search_country_iso_code", "web_search_city"})  # §8
_OUR_KEYS: Final = frozenset({"api", "function", "se"})  # of the echo, put there by us
_MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_NOTHING: Final = b"{}"

_split = msgspec.json.Decoder(list[msgspec.Raw])
_untyped = msgspec.json.Decoder()
_by_field = msgspec.json.Decoder(dict[str, msgspec.Raw])


def split(body: bytes, form: Format = DOCUMENTED) -> Sequence[msgspec.Raw] | Refusal:
    """The tasks of a POST, or why there are none: 40502 for nothing, 40503 for what is no JSON array (§12.5)."""
    body = body.removeprefix(_BYTE_ORDER_MARK)
    if not body.strip():
        return EmptyBody()
    if body.count(b",") > form.commas:
        return InvalidBody()
    try:
        items = _split.decode(body)
    except _MALFORMED:
        return InvalidBody()
    if len(items) > form.items:
        return InvalidBody()
    return items or EmptyBody()


class Judge:
    """Judges tasks against the models on offer. `ignore_unknown`: drop unknown fields instead of refusing (§12.9).
    `allow`: the private addresses that webhooks may name (§12.20)."""

    def __init__(
        self,
        find_model: FindModel,
        form: Format = DOCUMENTED,
        *,
        ignore_unknown: bool = False,
        allow: AllowList | None = None,
    ) -> None:
        self.form = form
        self._find_model = find_model
        self._allow = allow or AllowList()
        self.ignore_unknown = ignore_unknown

    def judge(self, raw: msgspec.Raw, *, live: bool = False) -> Verdict | InvalidBody:
        """One task, as `split` gave it. InvalidBody says that it is no UTF-8, hence the whole POST no JSON (§12.27), or
        nested so deeply that the stack ends first; how deep that is depends on who calls, so it is caught here."""
        try:
            return self._judge(bytes(raw), live=live)
        except RecursionError:
            return InvalidBody()

    def surplus(self, raw: msgspec.Raw, refusal: Refusal) -> Verdict | InvalidBody:
        """A task beyond those that a POST may hold: refused unjudged, echoed if it can be."""
        try:
            sent = fields_sent(bytes(raw))
            return sent if isinstance(sent, InvalidBody) else Verdict(echo(sent or {}), refusal=refusal)
        except RecursionError:
            return InvalidBody()

    def _judge(self, text: bytes, *, live: bool) -> Verdict | InvalidBody:
        try:
            task = self.form.whole.decode(text)
        except msgspec.ValidationError:
            return self._look_closer(text, live=live)
        except _MALFORMED:
            return InvalidBody()
        if b"\\u0000" in text:
            return self._look_closer(text, live=live)
        return self._verdict(_as_sent(text), task, frozenset(), live=live)

    def _look_closer(self, text: bytes, *, live: bool) -> Verdict | InvalidBody:
        sent = fields_sent(text)
        if isinstance(sent, InvalidBody):
            return sent
        if sent is None:
            return Verdict(_NOTHING, refusal=InvalidBody())
        if self.ignore_unknown:
            sent = {name: raw for name, raw in sent.items() if name in _FIELDS}
        values, faulty = _read_fields(sent, self.form)
        unknown = next((name for name in sent if name not in _FIELDS), None)
        verdict = self._verdict(echo(sent), self.form.task(**values), faulty, live=live)
        if verdict.refusal is None and unknown is not None:
            refusal = InvalidField(unknown) if unknown in _SISTER_FIELDS else UnknownField(printable(unknown))
            return Verdict(verdict.request, refusal=refusal)
        return verdict

    def _verdict(self, request: bytes, task: PostedTask, faulty: frozenset[str], *, live: bool) -> Verdict:
        model = None if task.model_name is None else self._find_model(task.model_name)
        for name in _FIELDS if faulty else _RULED:
            if name in faulty or not _acceptable(name, task, model, self._allow, live=live):
                return Verdict(request, refusal=InvalidField(name))
        return Verdict(request, task, model)


def _acceptable(name: str, task: PostedTask, model: Model | None, allow: AllowList, *, live: bool) -> bool:
    """What the field's type alone cannot say."""
    value = getattr(task, name)
    if name == "user_prompt":
        return value is not None
    if name == "model_name":
        return model is not None
    if value is None or model is None:
        return True
    if name == "max_output_tokens":
        reasons = task.use_reasoning or model.reasoning_forced
        return not reasons or value >= limits.OUTPUT_TOKENS_MIN_REASONING
    if name == "web_search":
        return not value or model.web_search
    if name in WEBHOOKS:
        return not live and _is_webhook_url(value, allow)
    return True


def _is_webhook_url(url: str, allow: AllowList) -> bool:
    """Absolute http or https, no credentials (contract §12.11), no private address (§12.20)."""
    try:
        parts = urlsplit(url)
        valid_port = parts.port is None or parts.port > 0
        host = _looked_up(parts.hostname or "")
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and bool(host)
        and not (":" in host and "%" in host)  # an address with a zone: nobody's but this machine's
        and "@" not in parts.netloc
        and valid_port
        and url.isprintable()
        and " " not in url
        and literal_fault(host, allow) is None
    )


def _looked_up(host: str) -> str:
    """The host that will be connected to: an address may be spelled in letters of other scripts (１２７.0.0.1)."""
    try:
        return ascii_host(host)
    except UnicodeError:
        return host  # no name that DNS knows: each attempt will say so


def fields_sent(text: bytes) -> dict[str, msgspec.Raw] | InvalidBody | None:
    """A task's fields, each as it was written, nulls dropped; None when it is no object. Of a task from `split` only
    its UTF-8 is still unproven."""
    try:
        text.decode()
        return {name: raw for name, raw in _by_field.decode(text).items() if bytes(raw) != b"null"}
    except msgspec.ValidationError:
        return None
    except _MALFORMED:
        return InvalidBody()


def _read_fields(sent: dict[str, msgspec.Raw], form: Format) -> tuple[dict[str, Any], frozenset[str]]:
    """The acceptable values by field, and the names of the fields whose value is not. A whole `max_output_tokens`
    written as a float is rewritten in `sent` as the integer it is taken for (§12.10)."""
    values: dict[str, Any] = {}
    faulty: set[str] = set()
    for name, decoder in form.field.items():
        if name not in sent:
            continue
        if name == "max_output_tokens" and (whole := whole_number(sent[name])) is not None:
            sent[name] = msgspec.Raw(b"%d" % whole)
        try:
            value = decoder.decode(sent[name])
        except msgspec.ValidationError:
            faulty.add(name)
            continue
        if _holds_nul(value):
            faulty.add(name)
        else:
            values[name] = value
    return values, frozenset(faulty)


def whole_number(raw: msgspec.Raw) -> int | None:
    """The integer that a float of no fraction stands for; None for anything else."""
    value = _readable(raw)
    return int(value) if isinstance(value, float) and value.is_integer() else None


def _readable(raw: msgspec.Raw) -> Any:
    """The value, or None when a client could not read it back: a number in it is beyond any (1e400, 5,000 digits), or
    it is nested deeper than readers go, those of `.ai` and `.xml` among them."""
    try:
        value = _untyped.decode(raw)
    except msgspec.ValidationError:
        return None
    text = bytes(raw)
    if text.count(b"[") + text.count(b"{") <= limits.ECHO_DEPTH:
        return value
    level = [value]
    for _ in range(limits.ECHO_DEPTH):
        level = [child for one in level for child in _children(one)]
        if not level:
            return value
    return None


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _holds_nul(value: Any) -> bool:
    """PostgreSQL's text cannot hold U+0000, and no prompt needs it (§12.10)."""
    if isinstance(value, str):
        return "\0" in value
    return isinstance(value, list) and any("\0" in one.message for one in value)  # the message chain


def _as_sent(text: bytes) -> bytes:
    """A good task's own text, without blanks between its tokens and without nulls."""
    if b"null" in text:
        return _encode({name: raw for name, raw in _by_field.decode(text).items() if bytes(raw) != b"null"})
    return msgspec.json.format(text, indent=-1)


def echo(sent: dict[str, msgspec.Raw]) -> bytes:
    """What of a doubtful task is echoed: its fields as written, without keys that the echo has of its own and without
    what nobody could read."""
    return _encode({k: raw for k, raw in sent.items() if k not in _OUR_KEYS and _readable(raw) is not None})


def _encode(fields: dict[str, msgspec.Raw]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(fields), indent=-1)


def printable(name: str) -> str:
    return "".join(c for c in name[:64] if c.isprintable())
