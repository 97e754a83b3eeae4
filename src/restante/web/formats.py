"""Other shapes of an answer: `.ai` and `.xml` behind a path (contract §1.2, §12.16). JSON is what is made first.

A pure ASGI layer takes the suffix off the path, lets the endpoint answer, and rewrites its JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final
from xml.sax.saxutils import escape

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SINGLE: Final = frozenset({"live", "task_get", "user_data"})  # endpoints whose result is one object; others list
_PLACES: Final = 3  # decimals that .ai keeps of a number
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_.-]")  # \w has letters that XML names have not
_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def ai(envelope: dict[str, Any]) -> bytes:
    """An envelope cut down for language models: a flat object for one task, an array of them for several."""
    tasks = envelope.get("tasks")
    if not tasks:
        return msgspec.json.encode(_slim({name: envelope.get(name) for name in ("status_code", "status_message")}))
    flat = [_flat(task) for task in tasks]
    return msgspec.json.encode(flat[0] if len(flat) == 1 else flat)


def _flat(task: dict[str, Any]) -> dict[str, Any]:
    head = {name: task[name] for name in ("id", "status_code", "status_message")}
    result = task["result"]
    if not result:
        return head
    if _SINGLE.intersection(task["path"]):
        return {**head, **_slim(result[0])}
    return {**head, "items": _slim(result)}


def _slim(value: Any) -> Any:
    """Without empty, null and false fields; numbers rounded."""
    if isinstance(value, dict):
        slim = {name: _slim(inner) for name, inner in value.items()}
        return {name: inner for name, inner in slim.items() if inner is not False and inner not in (None, "", [], {})}
    if isinstance(value, list):
        return [_slim(inner) for inner in value]
    if isinstance(value, float):
        return round(value, _PLACES)
    return value


def xml(envelope: dict[str, Any]) -> bytes:
    """An envelope as XML: root `response`, keys as elements, members of arrays as `item`."""
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + _element("response", envelope).encode()


def _element(name: str, value: Any) -> str:
    name = _NOT_IN_NAMES.sub("_", name)
    if not name or not (name[0].isalpha() or name[0] == "_"):
        name = f"_{name}"
    if isinstance(value, dict):
        inner = "".join(_element(key, child) for key, child in value.items())
    elif isinstance(value, list):
        inner = "".join(_element("item", child) for child in value)
    elif value is None:
        inner = ""
    elif isinstance(value, bool):
        inner = "true" if value else "false"
    else:
        inner = escape(_NOT_IN_XML.sub("\ufffd", str(value)))
    return f"<{name}>{inner}</{name}>" if inner else f"<{name}/>"


_FORMATS: Final[dict[str, tuple[Callable[[dict[str, Any]], bytes], str]]] = {
    ".ai": (ai, "application/json"),
    ".xml": (xml, "application/xml"),
}


class Formats:
    """The ASGI layer. Answers that are no JSON object, such as a page, pass as they are."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        suffix = next((s for s in _FORMATS if scope["type"] == "http" and scope["path"].endswith(s)), None)
        if suffix is None or not scope["path"].startswith("/v3/"):
            await self._app(scope, receive, send)
            return
        started: list[Message] = []
        body: list[bytes] = []

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                started.append(message)
            else:
                body.append(message.get("body", b""))

        bare = dict(scope) | {"path": scope["path"].removesuffix(suffix)}
        await self._app(bare, receive, keep)
        write, media_type = _FORMATS[suffix]
        [start] = started
        kept = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
        headers = {name: value for name, value in kept.items() if name not in ("content-length", "content-type")}
        rewritten = write(msgspec.json.decode(b"".join(body)))
        await Response(rewritten, start["status"], headers, media_type=media_type)(scope, receive, send)
