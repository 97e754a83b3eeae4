"""The emulator's Batch API and files: batchGenerateContent, batches get/list/cancel/delete, files upload and download.

A batch takes `takes` seconds, then each of its calls is executed, once, and counted in `executed` by its key: that is
what Google bills. Tests say in `fates` what becomes of the next batches, hold requests at `gates`, and a call's own
directives count: [[status=400]] is that call's error, [[lost]] leaves its answer out.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

Json = dict[str, Any]

_TYPE: Final = "type.googleapis.com/google.ai.generativelanguage.v1main."
_OVER: Final = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")


@dataclass(frozen=True)
class Fate:
    """What becomes of a batch: its last state (None: it runs until it is cancelled), and which share of its calls is
    executed, of these which share fails."""

    state: str | None = "SUCCEEDED"
    done: float = 1.0
    fails: float = 0.0


HALF_FAILS: Final = Fate(fails=0.5)
EXPIRES: Final = Fate("EXPIRED", done=0.0)
FAILS: Final = Fate("FAILED", done=0.0)
HANGS: Final = Fate(None, done=0.5)


class Gate:
    """Holds the requests that come to it until it is opened. `reached` is set by the first."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    async def passed(self) -> None:
        self.reached.set()
        while not self.opened.is_set():
            await asyncio.sleep(0.01)


@dataclass
class Made:
    """A batch as the emulator keeps it."""

    name: str
    display_name: str
    model: str
    items: list[Json]
    by_file: bool
    fate: Fate
    ends_at: float
    state: str = "RUNNING"
    results: list[Json] = field(default_factory=list)
    deleted: bool = False
    owner: str = ""


class Batches:
    """`run` answers one call of a model: {"response": ...} or {"error": ...}."""

    def __init__(self, run: Callable[[str, Json], Json], url: Callable[[], str]) -> None:
        self._run = run
        self._url = url
        self.takes = 0.2
        self.fates: deque[Fate] = deque()
        self.refusals: deque[web.Response] = deque()  # answers to the next makings
        self.gates: dict[str, Gate] = {}  # "upload", "create" (nothing is made yet), "made" (nothing is said yet)
        self.made: list[Made] = []
        self.executed: Counter[str] = Counter()
        self.files: dict[str, bytes] = {}
        self.results_asked = 0
        self.owners: dict[str, str] = {}  # Google's projects by their keys; all others are of one
        self.foreign: Callable[[], web.Response] = forbidden
        self.knows_fields = True
        self._uploads: dict[str, bytearray] = {}
        self._numbers = itertools.count(1)

    def add_to(self, app: web.Application) -> None:
        for version in ("v1", "v1beta"):
            app.router.add_post(f"/{version}/models/{{model}}:batchGenerateContent", self._create)
            app.router.add_get(f"/{version}/batches", self._list)
            app.router.add_get(f"/{version}/batches/{{name}}", self._get)
            app.router.add_delete(f"/{version}/batches/{{name}}", self._delete)
            app.router.add_post(f"/{version}/batches/{{name}}:cancel", self._cancel)
            app.router.add_post(f"/upload/{version}/files", self._upload)
            app.router.add_get(f"/{version}/files/{{name}}:download", self._download)
            app.router.add_delete(f"/{version}/files/{{name}}", self._delete_file)

    async def _at(self, gate: str) -> None:
        if gate in self.gates:
            await self.gates[gate].passed()

    # --- batches ---------------------------------------------------------------------------------------

    async def _create(self, request: web.Request) -> web.StreamResponse:
        await self._at("create")
        if self.refusals:
            return self.refusals.popleft()
        asked = (await request.json())["batch"]
        source = asked.get("inputConfig") or asked["input_config"]
        if "requests" in source:
            items = [one | {"key": one.get("metadata", {}).get("key", "")} for one in source["requests"]["requests"]]
        else:
            name = source.get("fileName") or source["file_name"]
            if name not in self.files:
                return _error(404, "NOT_FOUND", f"File {name} not found.")
            items = [json.loads(line) for line in self.files[name].splitlines()]
        model = request.match_info["model"]
        made = Made(
            f"batches/b{next(self._numbers)}", asked.get("displayName") or asked.get("display_name", ""), model, items,
            "requests" not in source, self.fates.popleft() if self.fates else Fate(), time.monotonic() + self.takes,
            owner=self._owner(request),
        )  # fmt: skip
        self.made.append(made)
        said = _operation(made)
        await self._at("made")
        return web.json_response(said)

    def _now(self, made: Made) -> None:
        """Let what is due happen to a batch."""
        if made.state == "RUNNING" and made.fate.state is not None and time.monotonic() >= made.ends_at:
            self._finish(made, made.fate.state)

    def _finish(self, made: Made, state: str) -> None:
        count = int(len(made.items) * made.fate.done)
        for place, item in enumerate(made.items[:count]):
            body = {name: value for name, value in item["request"].items() if name != "model"}
            if place < count * made.fate.fails:
                made.results.append({"key": item["key"], "error": {"code": 13, "message": "Internal error."}})
                continue
            self.executed[item["key"]] += 1
            said = self._run(made.model, body)
            if "lost" not in said:
                made.results.append({"key": item["key"]} | said)
        made.state = state
        if made.by_file and made.results:
            lines = (json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in made.results)
            self.files[f"files/batch-{made.name.removeprefix('batches/')}"] = b"".join(lines)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        made = self._known(request)
        if made is None:
            return unknown()
        return self.foreign() if made.owner != self._owner(request) else web.json_response(_operation(made))

    def _owner(self, request: web.Request) -> str:
        return self.owners.get(request.headers.get("x-goog-api-key", ""), "")

    async def _list(self, request: web.Request) -> web.StreamResponse:
        if "fields" in request.query and not self.knows_fields:
            return _error(400, "INVALID_ARGUMENT", "Request contains an invalid argument.")
        mine = self._owner(request)
        known = [made for made in reversed(self.made) if not made.deleted and made.owner == mine]
        size, start = int(request.query.get("pageSize", "10")), int(request.query.get("pageToken", "0"))
        page = known[start : start + size]
        for made in page:
            self._now(made)
        said = [_operation(made) for made in page]
        if "fields" in request.query:
            asked = "nextPageToken,operations(name,done,error(code),metadata(displayName,state))"
            assert request.query["fields"] == asked
            said = [
                {name: one[name] for name in ("name", "done") if name in one}
                | ({"error": {"code": one["error"]["code"]}} if "error" in one else {})
                | {"metadata": {name: one["metadata"][name] for name in ("displayName", "state")}}
                for one in said
            ]
        body: Json = {"operations": said} if said else {}
        if start + size < len(known):
            body["nextPageToken"] = str(start + size)
        return web.json_response(body)

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        made = self._known(request)
        if made is None:
            return unknown()
        if made.state == "RUNNING":
            self._finish(made, "CANCELLED")
        return web.json_response({})

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        made = self._known(request)
        if made is None:
            return unknown()
        if made.owner != self._owner(request):
            return self.foreign()
        made.deleted = True
        return web.json_response({})

    def _known(self, request: web.Request) -> Made | None:
        name = f"batches/{request.match_info['name']}"
        made = next((one for one in self.made if one.name == name and not one.deleted), None)
        if made is not None:
            self._now(made)
        return made

    # --- files -----------------------------------------------------------------------------------------

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        command = request.headers["X-Goog-Upload-Command"]
        if command == "start":
            await self._at("upload")
            assert request.headers["X-Goog-Upload-Protocol"] == "resumable"
            upload = f"u{next(self._numbers)}"
            self._uploads[upload] = bytearray()
            place = f"{self._url()}{request.path}?upload_id={upload}&upload_protocol=resumable"
            return web.json_response({}, headers={"X-Goog-Upload-URL": place, "X-Goog-Upload-Status": "active"})
        held = self._uploads[request.query["upload_id"]]
        assert int(request.headers["X-Goog-Upload-Offset"]) == len(held)
        held += await request.read()
        if "finalize" not in command:
            return web.json_response({}, headers={"X-Goog-Upload-Status": "active"})
        name = f"files/f{next(self._numbers)}"
        self.files[name] = bytes(held)
        said = {"name": name, "mimeType": "application/jsonl", "sizeBytes": str(len(held)), "state": "ACTIVE"}
        return web.json_response({"file": said}, headers={"X-Goog-Upload-Status": "final"})

    async def _download(self, request: web.Request) -> web.StreamResponse:
        self.results_asked += 1
        body = self.files.get(f"files/{request.match_info['name']}")
        return unknown() if body is None else web.Response(body=body, content_type="application/jsonl")

    async def _delete_file(self, request: web.Request) -> web.StreamResponse:
        found = self.files.pop(f"files/{request.match_info['name']}", None)
        return unknown() if found is None else web.json_response({})


def forbidden() -> web.Response:
    """What is said of another project's things, and of some that are none."""
    return _error(403, "PERMISSION_DENIED", "You do not have permission to access it or it may not exist.")


def unknown() -> web.Response:
    """What is said of things that there are not."""
    return _error(404, "NOT_FOUND", "Requested entity was not found.")


def _operation(made: Made) -> Json:
    """The long-running operation that a batch is, as Google sends it."""
    state = f"BATCH_STATE_{made.state}"
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    metadata: Json = {
        "@type": f"{_TYPE}GenerateContentBatch", "model": f"models/{made.model}", "displayName": made.display_name,
        "createTime": now, "updateTime": now, "state": state, "name": made.name,
        "batchStats": {"requestCount": str(len(made.items))},
    }  # fmt: skip
    said: Json = {"name": made.name, "metadata": metadata}
    if made.state not in _OVER:
        return said
    metadata["endTime"] = now
    output: Json = {}
    if made.by_file and made.results:
        output = {"responsesFile": f"files/batch-{made.name.removeprefix('batches/')}"}
    elif made.results:
        results = [
            {name: one[name] for name in ("response", "error") if name in one} | {"metadata": {"key": one["key"]}}
            for one in made.results
        ]
        output = {"inlinedResponses": {"inlinedResponses": results}}
    if output:
        metadata["output"] = output
    said["done"] = True
    if made.state == "SUCCEEDED":
        said["response"] = {"@type": f"{_TYPE}GenerateContentBatch"} | output
    else:
        said["error"] = {"code": 13, "message": f"Batch {made.state.lower()}."}
    return said


def _error(status: int, name: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": status, "message": message, "status": name}}, status=status)


def is_upload(request: web.Request) -> bool:
    """Whether the body is a file's, not JSON."""
    return re.match(r"/upload/", request.path) is not None and "upload_id" in request.query
