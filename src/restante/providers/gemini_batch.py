"""Gemini's Batch API: many calls of generateContent made later at half the price. Its JSON, uploads and downloads.

Inline calls and their answers travel in the batch itself, larger ones in files of JSON lines, each line named by its
task. What a batch is to restante: restante.flow.batch. Field names and the protocol of uploads are those that
google-genai 3.4 uses (tests/gemini/test_batch_sdk.py).
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import IO, Final, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec

from restante import faults
from restante.core.answer import Answer, Failure
from restante.core.limits import (
    BATCH_CALL_SECONDS,
    BATCH_DIRECT_URL_SECONDS,
    BATCH_DOWNLOAD_SECONDS,
    BATCH_INLINE_BYTES,
    BATCH_INLINE_TASKS,
    BATCH_LIST_PAGES,
    BATCH_RESULT_BYTES,
    BATCH_UPLOAD_SECONDS,
    GEMINI_REPLY_BYTES,
)
from restante.core.money import Nano
from restante.providers.gemini import GeminiProvider, whole
from restante.providers.gemini_faults import INVALID_ARGUMENT
from restante.providers.gemini_wire import MALFORMED, request_body
from restante.providers.provider import NO_JSON, Call, Sent

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

_SPOOLED: Final = 8 * 1024 * 1024  # of a file of results in memory; more is on disk
_JSONL: Final = "application/jsonl"


class _Camel(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """Snake case here, camel case on the wire."""


class _Metadata(_Camel, frozen=True):
    key: str = ""


class _Item(_Camel, frozen=True):
    """A line of a file of calls; an inline call has its key in `metadata`."""

    key: str
    request: msgspec.Raw


class _Error(_Camel, frozen=True):
    """google.rpc.Status. `code` is gRPC's; an HTTP status has been seen there too."""

    code: int = 0
    message: str = ""


class _Result(_Camel, frozen=True):
    key: str = ""
    metadata: _Metadata = _Metadata()
    response: msgspec.Raw = msgspec.Raw()
    error: _Error | None = None
    status: _Error | None = None


class _Inlined(_Camel, frozen=True):
    inlined_responses: tuple[_Result, ...] = ()


class _Output(_Camel, frozen=True):
    responses_file: str = ""
    inlined_responses: _Inlined = _Inlined()


class _State(_Camel, frozen=True):
    display_name: str = ""
    state: str = ""
    output: msgspec.Raw = msgspec.Raw()


class _Operation(_Camel, frozen=True):
    name: str = ""
    done: bool = False
    error: _Error | None = None
    metadata: _State = _State()
    response: msgspec.Raw = msgspec.Raw()


class _Page(_Camel, frozen=True):
    operations: tuple[_Operation, ...] = ()
    next_page_token: str = ""


class _File(_Camel, frozen=True):
    name: str = ""


class _Uploaded(_Camel, frozen=True):
    file: _File = _File()


#: States in which nothing more will come. Google says BATCH_STATE_..., its SDK JOB_STATE_...; only the end counts.
_OVER: Final = ("SUCCEEDED", "PARTIALLY_SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")


#: How the list of batches is asked for: without `fields`, should Google refuse them, a page brings the answers of all
#: inline batches on it.
_BRIEFLY: Final = "pageSize=100&fields=nextPageToken,operations(name,done,error(code),metadata(displayName,state))"
_WHOLLY: Final = "pageSize=10"


class GeminiBatches:
    """The batches of a provider's projects, over its session and with its keys and prices."""

    name = "gemini"

    def __init__(self, provider: GeminiProvider) -> None:
        self._provider = provider
        self._base = f"{provider.base_url}/v1beta"

    def item(self, call: Call) -> bytes:
        return msgspec.json.encode(_Item(key=call.task_id, request=msgspec.Raw(request_body(call.prompt, call.model))))

    def inline(self, items: Sequence[bytes]) -> bool:
        return len(items) <= BATCH_INLINE_TASKS and sum(map(len, items)) <= BATCH_INLINE_BYTES

    async def upload(self, project: str, name: str, items: Sequence[bytes]) -> str | Failure:
        """The resumable protocol in two requests: where to, and all of it."""
        body = b"".join(item + b"\n" for item in items)
        start = {
            "X-Goog-Upload-Protocol": "resumable",
            "X-Goog-Upload-Command": "start",
            "X-Goog-Upload-Header-Content-Length": str(len(body)),
            "X-Goog-Upload-Header-Content-Type": _JSONL,
        }
        asked = msgspec.json.encode({"file": {"displayName": name, "mimeType": _JSONL}})
        url = f"{self._provider.base_url}/upload/v1beta/files"
        place = await self._read(project, "POST", url, asked, _upload_url, headers=start)
        if isinstance(place, Failure):
            return place
        # The key goes there too: only to the very server that it is for.
        if urlsplit(place)[:2] != urlsplit(self._base)[:2]:
            return Failure(reason="upload refused", transient=True)
        send = {"X-Goog-Upload-Command": "upload, finalize", "X-Goog-Upload-Offset": "0", "Content-Type": _JSONL}
        said = await self._ask(project, "POST", place, body, seconds=BATCH_UPLOAD_SECONDS, headers=send)
        found = said if isinstance(said, Failure) else _decoded(said, _Uploaded)
        if isinstance(found, Failure):
            return found
        return found.file.name or MALFORMED

    async def create(
        self, project: str, model: str, name: str, *, items: Sequence[bytes], file: str, seconds: float
    ) -> Sent | Failure:
        source: object = {"fileName": file} if file else {"requests": {"requests": list(map(_inlined, items))}}
        body = msgspec.json.encode({"batch": {"displayName": name, "inputConfig": source}})
        url = f"{self._base}/models/{quote(model, safe='')}:batchGenerateContent"
        said = await self._ask(project, "POST", url, body, seconds=seconds)
        faults.reach(faults.Point.BATCH_MADE)
        return _sent(said)

    def refused(self, failure: Failure) -> bool:
        """Google's own no. A time-out, a cut connection and a 5xx may each have made it."""
        return not failure.transient or failure.waits or failure.strain == "quota"

    async def find(self, project: str, name: str) -> Sequence[Sent] | Failure:
        found = await self._listed(project, name, _BRIEFLY)
        if isinstance(found, Failure) and found.reason == INVALID_ARGUMENT:
            return await self._listed(project, name, _WHOLLY)
        return found

    async def _listed(self, project: str, name: str, how: str) -> Sequence[Sent] | Failure:
        found: list[Sent] = []
        token = ""
        for _ in range(BATCH_LIST_PAGES):
            url = f"{self._base}/batches?{how}" + (f"&pageToken={quote(token, safe='')}" if token else "")
            said = await self._ask(project, "GET", url)
            page = said if isinstance(said, Failure) else _decoded(said, _Page)
            if isinstance(page, Failure):
                return page
            found += [_known(one) for one in page.operations if one.metadata.display_name == name and one.name]
            token = page.next_page_token
            if not token:
                break
        return found

    async def look(self, project: str, remote: str) -> Sent | Failure:
        return _sent(await self._ask(project, "GET", f"{self._base}/{_path(remote)}", owned=True))

    async def results(self, project: str, output: bytes) -> AsyncIterator[tuple[str, bytes | Failure] | Failure]:
        brought = _decoded(output, _Output)
        if isinstance(brought, Failure):
            yield brought
            return
        for one in brought.inlined_responses.inlined_responses:
            yield one.metadata.key or one.key, _result(one)
        if not brought.responses_file:
            return
        url = f"{self._base}/{_path(brought.responses_file)}:download?alt=media"
        with tempfile.SpooledTemporaryFile(_SPOOLED) as file:
            kept = await self._read(
                project, "GET", url, None, lambda response: _keep(response, file), seconds=BATCH_DOWNLOAD_SECONDS
            )
            if isinstance(kept, Failure):
                yield kept
                return
            file.seek(0)
            while line := file.readline(GEMINI_REPLY_BYTES):
                if line.strip():
                    one_line = _decoded(line, _Result)
                    if not isinstance(one_line, Failure):  # a strange line is the loss of one: its task goes by itself
                        yield one_line.key or one_line.metadata.key, _result(one_line)

    async def answer(self, call: Call, body: bytes) -> tuple[Answer | Failure, Nano]:
        return await self._provider.batch_answer(msgspec.structs.replace(call, seconds=BATCH_DIRECT_URL_SECONDS), body)

    async def cancel(self, project: str, remote: str) -> Failure | None:
        said = await self._ask(project, "POST", f"{self._base}/{_path(remote)}:cancel", b"{}")
        return said if isinstance(said, Failure) else None

    async def delete(self, project: str, remote: str, file: str) -> None:
        for name in filter(None, (remote, file)):
            await self._ask(project, "DELETE", f"{self._base}/{_path(name)}", owned=True)

    async def _ask(
        self,
        project: str,
        method: str,
        url: str,
        body: bytes | None = None,
        *,
        seconds: float = BATCH_CALL_SECONDS,
        headers: Mapping[str, str] | None = None,
        owned: bool = False,
    ) -> bytes | Failure:
        return await self._read(project, method, url, body, whole, seconds=seconds, headers=headers, owned=owned)

    async def _read(
        self,
        project: str,
        method: str,
        url: str,
        body: bytes | None,
        read: Callable[[aiohttp.ClientResponse], Awaitable[T | Failure]],
        *,
        seconds: float = BATCH_CALL_SECONDS,
        headers: Mapping[str, str] | None = None,
        owned: bool = False,
    ) -> T | Failure:
        key = self._provider.key(project)
        if isinstance(key, Failure):
            return key
        return await self._provider.exchange(method, url, body, seconds, key, headers or {}, read, owned=owned)


def _inlined(item: bytes) -> msgspec.Raw:
    """The call as it stands in a batch itself, of the call as it stands in a file."""
    line = msgspec.json.decode(item, type=_Item)
    return msgspec.Raw(msgspec.json.encode({"request": line.request, "metadata": {"key": line.key}}))


def _decoded(body: bytes, kind: type[S]) -> S | Failure:
    try:
        return msgspec.json.decode(body, type=kind)
    except NO_JSON:
        return MALFORMED


def _sent(said: bytes | Failure) -> Sent | Failure:
    found = said if isinstance(said, Failure) else _decoded(said, _Operation)
    if isinstance(found, Failure):
        return found
    return _known(found) if found.name else MALFORMED


def _known(one: _Operation) -> Sent:
    word = one.metadata.state.removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_")
    if one.done and word not in _OVER:  # its operation is over, whatever its state says or does not say
        word = "SUCCEEDED" if one.error is None else f"FAILED (code {one.error.code})"
    over = one.done or word in _OVER
    # The same twice: as the metadata's output while it runs, as the operation's response when it is over.
    output = bytes(one.metadata.output) or bytes(one.response)
    return Sent(one.name, word, over, over and not word.endswith("SUCCEEDED"), output)


def _result(one: _Result) -> bytes | Failure:
    """The reply to a call, or that there is none. No item's error is final, not even an invalid argument: Google may
    not take in a batch what it takes directly, and the direct call says properly what is wrong."""
    if bytes(one.response):
        return bytes(one.response)
    error = one.error or one.status or _Error()
    return Failure(reason=f"no answer in the batch (code {error.code})", transient=True)


def _path(name: str) -> str:
    """A name of Google's such as batches/abc, as a path: nothing in it leads elsewhere."""
    return "/".join(quote(part, safe="") for part in name.split("/") if part not in ("", ".", ".."))


async def _upload_url(response: aiohttp.ClientResponse) -> str | Failure:
    return response.headers.get("X-Goog-Upload-URL") or MALFORMED


async def _keep(response: aiohttp.ClientResponse, file: IO[bytes]) -> bool | Failure:
    length = 0
    async for chunk in response.content.iter_any():
        length += len(chunk)
        if length > BATCH_RESULT_BYTES:
            return Failure(reason="reply too long")
        file.write(chunk)
    return True
