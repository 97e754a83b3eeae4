"""What is fuzzed: functions that take any bytes and may raise nothing. What they check is said at each of them.

The first byte chooses what the rest is taken for, so that one corpus serves a whole family of readers. Everything runs
without a database and without a network, hundreds to thousands of times a second; the endpoints' own code is what runs.
"""

from __future__ import annotations

import gzip
import json
import socket
import xml.parsers.expat
from collections.abc import Callable, Coroutine, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, Final, TypeVar

from starlette.requests import Request
from yarl import URL

from restante.core.answer import Answer
from restante.core.credentials import digest
from restante.core.errors import OperatorError, Refusal
from restante.core.limits import URL_CHARS
from restante.core.task import Model, Prompt, fingerprint, parse_id, read_prompt
from restante.flow.accept import Judged
from restante.store.accounts import Credentials
from restante.web import judge, wire
from restante.web.api import Api
from restante.web.auth import Passwords
from restante.web.fast_path import FastPath
from restante.web.fields import Asked
from restante.web.formats import Formats
from restante.web.judge import DOCUMENTED, RELAXED, Judge
from restante.web.records import Records
from restante.web.respond import json_text
from restante.web.wire import FAMILY
from restante.webhooks.address_guard import AddressRefused, AllowList, socket_factory
from restante.webhooks.redirects import _is_page
from restante.webhooks.target import target
from tests.fuzz.given import ID, NOW
from tests.fuzz.replies import replies_target

R = TypeVar("R")

_MODELS: Final = {
    "gemini-2.5-flash": Model(
        name="gemini-2.5-flash", served="gemini-2.5-flash", provider="gemini", web_search=True, reasoning=True
    ),
    "gemini-2.5-pro": Model(
        name="gemini-2.5-pro", served="gemini-2.5-pro", provider="gemini", reasoning=True, reasoning_forced=True
    ),
    "plain": Model(name="plain", served="plain", provider="house"),
}
_CALL_CODES: Final = frozenset({20000, 20100, 40000, 40006, 40501, 40502, 40503, 40506})
_ECHOED: Final = {"api": "ai_optimization", "function": "llm_responses", "se": "gemini"}


def _done(work: Coroutine[Any, Any, R]) -> R:
    """The result of a coroutine that never has to wait: nothing in it is real I/O."""
    try:
        work.send(None)
    except StopIteration as end:
        value: R = end.value
        return value
    raise AssertionError("it waits for something")


def _request(path: str, body: bytes, headers: Sequence[tuple[bytes, bytes]] = (), *, step: int = 1 << 20) -> Request:
    """A request as uvicorn would hand it on, its body in chunks of `step`."""
    chunks = [body[at : at + step] for at in range(0, len(body), step)] or [b""]

    async def receive() -> dict[str, Any]:
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": list(headers),
        "account_id": 1,
        "login": "somebody",
        "allowance": None,
    }
    return Request(scope, receive)


# --- what is posted --------------------------------------------------------------------------------------


class _Taken:
    """Stands for flow/accept and flow/live: reads what the workers will read of an accepted task."""

    async def accept(self, account_id: int, good: Sequence[Judged], *_: object, **__: object) -> tuple[list[str], Any]:
        for one in good:
            assert "\0" not in one.request.decode() and "\0" not in (one.tag or "")
            fingerprint(read_prompt(one.request))
        return [ID] * len(good), [None] * len(good)

    async def ask(self, account_id: int, model: Model, prompt: Prompt, *_: object) -> tuple[str, Answer, int]:
        fingerprint(prompt)
        return ID, Answer(model_name=model.served, input_tokens=1, output_tokens=1, items=()), 0

    async def first_answer(self, key: object) -> None:
        return None


def _api(form: judge.Format, *, ignore_unknown: bool = False) -> Api:
    taken: Any = _Taken()
    judging = Judge(_MODELS.get, form, ignore_unknown=ignore_unknown)
    nothing: Any = None
    return Api(taken, taken, nothing, taken, nothing, judging, lambda: NOW)


_APIS: Final = {0: _api(DOCUMENTED), 1: _api(DOCUMENTED, ignore_unknown=True), 2: _api(RELAXED), 3: _api(DOCUMENTED)}


def wire_target(data: bytes) -> None:
    """Bodies of POSTs, of every endpoint that has one, compressed or not; and Authorization headers.

    Each gets an answer of the contract; what is accepted is what Python's own reader of JSON finds in it, and is read
    again by what the workers read it with.
    """
    kind, body = data[:1], data[1:]
    number = (kind or b"\0")[0] % 10
    if number in _APIS:
        _posted(_APIS[number], body, live=number == 3)
    elif number == 4:
        _posted(_APIS[0], body, headers=[(b"content-encoding", b"gzip")], step=97)
    elif number == 5:
        compressed = gzip.compress(body, 1, mtime=0)
        _posted(_APIS[0], compressed, headers=[(b"content-encoding", b"gzip")], step=1 + len(compressed) // 3)
    elif number == 9:
        _authorized(body)
    else:
        _recorded(number, body)


def _posted(
    api: Api, body: bytes, *, live: bool = False, headers: Sequence[tuple[bytes, bytes]] = (), step: int = 1 << 20
) -> None:
    endpoint = "live" if live else "task_post"
    request = _request(f"{FAMILY}/{endpoint}", body, headers, step=step)
    response = _done((api.live if live else api.task_post)(request))
    answered = json.loads(bytes(response.body))
    assert (response.status_code, answered["status_code"]) == (200, 20000)
    entries = answered["tasks"]
    codes = [entry["status_code"] for entry in entries]
    assert set(codes) <= _CALL_CODES
    assert answered["tasks_error"] == sum(code >= 40000 for code in codes)
    if headers or not any(code < 40000 for code in codes):
        return
    sent = json.loads(body.removeprefix(b"\xef\xbb\xbf"), strict=True)
    assert len(sent) == len(entries)
    for one, entry in zip(sent, entries, strict=True):
        if entry["status_code"] < 40000:
            known = {name: value for name, value in one.items() if value is not None}
            if api is _APIS[1]:
                known = {name: value for name, value in known.items() if name in entry["data"]}
            assert entry["data"] == _ECHOED | known


_NOTHING: Any = None
_RECORDS: Final = Records(_NOTHING, _NOTHING, lambda: NOW)
_READERS: Final[dict[int, Any]] = {6: _RECORDS._resend, 7: _RECORDS._id_list, 8: _RECORDS._errors}


def _recorded(number: int, body: bytes) -> None:
    tasks = judge.split(body)
    if isinstance(tasks, Refusal):
        return
    for raw in tasks[:100]:
        asked: Any = _READERS[number].read(raw)
        if isinstance(asked, Refusal):
            return
        assert isinstance(asked, Asked)
        echoed = json.loads(bytes(wire.data(asked.request)))
        assert isinstance(echoed, dict)
        assert (asked.value is None) != (asked.refusal is None)


class _Accounts(Passwords):
    """One account, and no database."""

    def __init__(self) -> None:
        super().__init__(_NOTHING, bytes(32))

    async def _find(self, login: str) -> Credentials:
        assert "\0" not in login
        known = login == "somebody"
        return Credentials(int(known), login, (digest("right", bytes(32)) if known else b"", b""), "{}")


_ACCOUNTS: Final = _Accounts()


def _authorized(header: bytes) -> None:
    caller = _done(_ACCOUNTS.check(header.decode("latin-1")))
    assert caller is None or caller.login == "somebody"


# --- webhook URLs -------------------------------------------------------------------------------------------

# Said again, on purpose, in other words than the guard's: what it must never let a connection be made to.
_INSIDE: Final = [
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3", "168.63.129.16/32"),
        *("::/96", "64:ff9b::/96", "2001::/23", "2002::/16", "fc00::/7", "fe80::/9", "ff00::/8"),
    )
]
_NOBODY: Final = AllowList()
_GUARD: Final = socket_factory(_NOBODY, host_named=False)


def webhook_target(data: bytes) -> None:
    """Webhook URLs, tags and allow-lists, one a line.

    What is accepted can be called: it is ASCII, the host it is queued under is the host that is called, and no
    connection is made to an address inside, however it is spelled; a literal one is refused when it is posted.
    """
    kind, text = (data[:1] or b"\0")[0] % 4, data[1:].decode("utf-8", "ignore")
    url, _, rest = text.partition("\n")
    if kind == 3:
        try:
            allow = AllowList(text)
        except OperatorError:
            return
        allow.names(rest)
        return
    if kind == 2:
        _is_page(url)
        return
    good = judge._is_webhook_url(url[:URL_CHARS], _NOBODY)
    lane, made = target(url[:URL_CHARS], ID, rest.replace("\0", "") or None)  # never raises, whatever it is
    if not good:
        return
    assert made.isascii() and made.isprintable() and " " not in made, made
    try:
        called = URL(made, encoded=True)
        host, port = called.raw_host, called.port
    except ValueError:
        return  # as the sender: an attempt that failed
    if host is None:
        return  # likewise: its tag left nothing of it
    assert lane == f"{host}:{port}", (lane, host, port)
    _never_inside(host, variable="$" in url)


def _never_inside(host: str, *, variable: bool) -> None:
    """No socket to an address inside; and what a resolver reads as such an address is refused when it is posted,
    unless `variable` parts make it so later."""
    try:
        found = socket.getaddrinfo(host, 80, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return  # a name; names are judged by the same guard, with whatever they resolve to
    for one in found:
        address = ip_address(str(one[4][0]).partition("%")[0])
        inside = any(address in network for network in _INSIDE)
        try:
            _GUARD(one).close()
        except AddressRefused:
            assert variable, f"{host} was accepted"
        except OSError:
            pass  # this machine has no such family
        else:
            assert not inside, address


# --- suffixes ---------------------------------------------------------------------------------------------

_PLACES: Final = ("task_post", "live", f"task_get/{ID}", "tasks_ready")


def suffix_target(data: bytes) -> None:
    """`.ai` and `.xml`: paths, and answers that are written in these forms.

    Whatever a client posted and a model said comes out as JSON or as well-formed XML; the fast path takes only paths
    that are task_get's.
    """
    kind = (data[:1] or b"\0")[0]
    line, _, said = data[1:].partition(b"\n")
    tail = line.decode("latin-1")
    if kind & 0x80:
        _paths(tail)
        return
    suffix = (".ai", ".xml")[kind & 1]
    path = f"{FAMILY}/{_PLACES[(kind >> 1) % 4]}{tail if kind & 8 else ''}{suffix}"
    status, body = _formatted(path, said)
    assert status == 200
    if suffix == ".ai":
        json.loads(body)
    else:
        xml.parsers.expat.ParserCreate().Parse(body, True)


def _formatted(path: str, posted: bytes) -> tuple[int, bytes]:
    """What is answered at a path by an endpoint that judges what was posted and shows it as an answer too."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        tasks = judge.split(posted)
        if scope["path"].endswith("task_post") or isinstance(tasks, Refusal):
            await (await _APIS[0].task_post(Request(scope, receive)))(scope, receive, send)
            return
        entries = []
        for raw in tasks[:3]:
            fields = judge.fields_sent(bytes(raw))
            if isinstance(fields, dict):
                echoed = judge.echo(fields)
                entries.append(wire.entry(ID, scope["path"].split("/"), request=echoed, result=b"[%b]" % echoed))
        await json_text(wire.envelope(entries, elapsed=0.0))(scope, receive, send)

    async def send(message: Any) -> None:
        sent.append(message)

    request = _request(path, posted)
    _done(_run(Formats(app), request, send))
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:])


async def _run(app: Any, request: Request, send: Any) -> None:
    await app(dict(request.scope) | {"path": request.scope["path"]}, request.receive, send)


def _paths(path: str) -> None:
    fast: Any = FastPath(_NOTHING, _NOTHING, _NOTHING, _NOTHING, ())
    for asked in (path, f"{FAMILY}/task_get/{path}"):
        found = fast.asked_for("GET", asked)
        assert found is None or asked == f"{FAMILY}/task_get/{found}"
    parsed = parse_id(path)
    if parsed is not None:
        parsed.posted_on(NOW.date())
        assert str(parsed) == path.lower() and 0 <= parsed.account_id <= 0xFFFF


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "wire": wire_target,
    "webhook": webhook_target,
    "suffix": suffix_target,
    "replies": replies_target,
}
