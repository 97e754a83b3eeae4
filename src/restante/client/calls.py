"""The client: post, await, fetch, list. One object for one server and one account."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import quote

import msgspec

from restante.client.answers import awaited
from restante.client.errors import ClientError, NotRestante, Refused, refused
from restante.client.transport import Call, Transport, read
from restante.client.values import Entry, ListedTask, Model, ReadyTask, Task
from restante.core import errors
from restante.core.limits import (
    CLIENT_LIVE_SECONDS,
    CLIENT_LOOK_SECONDS,
    CLIENT_PATIENCE_SECONDS,
    CLIENT_POST_BYTES,
    IDEMPOTENCY_KEY_CHARS,
    LISTED_ROWS_MAX,
    TASKS_PER_POST,
)

if TYPE_CHECKING:
    from restante.client.webhooks import Receiver

T = TypeVar("T")
Posted = Task | Mapping[str, Any]

FAMILY: Final = "/v3/ai_optimization/gemini/llm_responses"
OURS: Final = "/restante/v1"
_ID_LIST: Final = "/v3/ai_optimization/id_list"
_MOMENT: Final = "%Y-%m-%d %H:%M:%S +00:00"


class _Envelope(msgspec.Struct):
    status_code: int
    status_message: str
    tasks: list[msgspec.Raw] | None = None


class _Listing(msgspec.Struct):
    status_code: int
    status_message: str
    result: msgspec.Raw = msgspec.Raw(b"null")


def batches(tasks: Iterable[Posted]) -> Iterator[list[Posted]]:
    """In their order, as many as one POST takes: by their number, and by the bytes that they are."""
    batch: list[Posted] = []
    size = 0
    for task in tasks:
        more = len(msgspec.json.encode(task)) + 1
        if batch and (len(batch) == TASKS_PER_POST or size + more > CLIENT_POST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(task)
        size += more
    if batch:
        yield batch


class Client:
    """Speaks to one restante as one account; used by `async with`.

    `patience`: seconds for which a call is tried again while the server is away or busy; the minute of a rate that is
    used up is waited for beside that. 0: every call once. What is tried again is never done, nor paid for, twice.
    """

    def __init__(self, url: str, login: str, password: str, *, patience: float = CLIENT_PATIENCE_SECONDS) -> None:
        self._transport = Transport(url, login, password, patience)

    async def __aenter__(self) -> Self:
        await self._transport.open()
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self._transport.close()

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._transport.url

    def limit(self, endpoint: str) -> int | None:
        """Calls a minute of an endpoint ("tasks_ready"), as the server last said; None: unlimited, or not asked yet."""
        return self._transport.limit(endpoint)

    async def post(self, tasks: Posted | Iterable[Posted], *, key: str | None = None) -> list[Entry]:
        """Post any number of tasks, up to 100 a call; one entry for each, in their order, refused ones among them.

        `key` is yours (up to 240 printable ASCII characters) where the same tasks may be posted again by another
        process, after a crash for example: within 24 hours the same key and tasks buy nothing twice (§12.24). Without
        one only this call's own repetitions are safe. Raises ClientError: its `posted` are the entries of the calls
        before, its `key` is the one to post the same tasks again with, buying none of them twice.
        """
        every = [tasks] if isinstance(tasks, Task | Mapping) else tasks
        key = key or uuid.uuid4().hex
        posted: list[Entry] = []
        try:
            for number, batch in enumerate(batches(every)):
                posted += await self.post_batch(batch, key=f"{key}-{number}")
        except ClientError as error:
            error.posted, error.key = posted, key
            raise
        return posted

    async def post_batch(self, tasks: Sequence[Posted], *, key: str) -> list[Entry]:
        """One POST of at most 100 tasks, with the Idempotency-Key given. Raises ClientError; after it the POST may be
        repeated with its key, and only so is nothing bought twice."""
        if not key or len(key) > IDEMPOTENCY_KEY_CHARS:
            raise ValueError(f"an Idempotency-Key has 1 to {IDEMPOTENCY_KEY_CHARS} characters")
        body = msgspec.json.encode(tasks)
        found = await self._entries(Call("POST", f"{FAMILY}/task_post", body, key=key, rate="task_post"))
        if len(found) != len(tasks):  # the whole POST was refused, and says so once
            raise refused(found[0].status_code, found[0].status_message)
        return found

    async def answers(self, tasks: Iterable[Entry | str], *, receiver: Receiver | None = None) -> AsyncIterator[Entry]:
        """The tasks' entries as they finish, each once, answered and failed ones; what is no longer unfinished comes
        first. Looks within the server's rates; with a `receiver`, whose `postback_url` or `pingback_url` the tasks were
        posted with, it is told, and looks only for what was lost on the way.

        Fetching an answer takes its task off tasks_ready. Raises ClientError, PaymentRequired among them; asked again
        for the same tasks, it goes on."""
        async for entry in awaited(self, tasks, receiver):
            yield entry

    async def ask(self, tasks: Posted | Iterable[Posted], *, key: str | None = None) -> AsyncIterator[Entry]:
        """Post tasks and yield their entries as they finish."""
        async for entry in self.answers(await self.post(tasks, key=key)):
            yield entry

    async def get(self, task_id: str) -> Entry:
        """A task's entry as it is now; fetching an answer takes the task off tasks_ready. Raises ClientError."""
        [found] = await self._entries(Call("GET", f"{FAMILY}/task_get/{quote(task_id, safe='')}", rate="task_get"))
        return found

    async def ready(self, *, wait: bool = True) -> list[ReadyTask]:
        """Up to 1,000 finished tasks that nobody has collected. Not `wait`: RateExceeded instead of waiting for the
        next minute."""
        return await self._list(Call("GET", f"{FAMILY}/tasks_ready", rate="tasks_ready", waits=wait), ReadyTask)

    async def live(self, task: Posted) -> Entry:
        """Ask and wait: one task, answered in this call and not stored. Where too many are at work at once (40209) it
        waits for its turn. Repeated only where it was not begun, since it would be paid for again. Raises ClientError;
        Unreachable leaves open whether it was paid for."""
        body = msgspec.json.encode([task])
        call = Call("POST", f"{FAMILY}/live", body, rate="live", again=False, seconds=CLIENT_LIVE_SECONDS)
        until = time.monotonic() + self._transport.patience
        while True:
            [found] = await self._entries(call)
            if found.status_code != errors.TooManyAtOnce.code or time.monotonic() >= until:
                return found
            await asyncio.sleep(CLIENT_LOOK_SECONDS[1])

    async def models(self) -> list[Model]:
        """The names that `model_name` may have, newest first. Raises ClientError."""
        return await self._list(Call("GET", f"{FAMILY}/models", rate="models"), Model)

    async def listed(
        self, since: datetime, until: datetime, *, newest_first: bool = False, requests: bool = False
    ) -> AsyncIterator[ListedTask]:
        """The account's tasks that were posted in this time (aware datetimes), live ones too, for six months.
        `requests`: with what was posted, for one month. A page has 1,000, 10 may be had a minute. Raises
        ClientError."""
        asked: dict[str, object] = {
            "datetime_from": since.astimezone(UTC).strftime(_MOMENT),
            "datetime_to": until.astimezone(UTC).strftime(_MOMENT),
            "limit": LISTED_ROWS_MAX,
            "sort": "desc" if newest_first else "asc",
            "include_metadata": requests,
        }
        offset = 0
        while True:
            body = msgspec.json.encode([asked | {"offset": offset}])
            page = await self._list(Call("POST", _ID_LIST, body, rate="id_list"), ListedTask)
            for task in page:
                yield task
            if len(page) < LISTED_ROWS_MAX:
                return
            offset += len(page)

    async def cancel(
        self, *, ids: Sequence[str] | None = None, tag: str | None = None, every: bool = False, **scope: object
    ) -> list[str]:
        """Cancel queued tasks by id, by tag, or all; their money returns. The ids of those cancelled: running and
        finished ones go on. `scope`: `login="..."` or `everyone=True`, for the operator (§12.31). Raises
        ClientError."""
        which = {"ids": ids, "tag": tag, "all": every or None} | scope
        body = msgspec.json.encode({name: value for name, value in which.items() if value is not None})
        reply = await self._transport.ask(Call("POST", f"{OURS}/tasks/cancel", body))
        answer: dict[str, Any] = read(self.url, reply, dict[str, Any])
        if "cancelled" not in answer:
            raise Refused(reply.status, str(answer.get("error") or answer.get("status_message")))
        cancelled: list[str] = answer["cancelled"]
        return cancelled

    async def raw(self, task_id: str, *, suggestions: bool = False) -> bytes:
        """The provider's own reply to a task, byte for byte, or the search suggestions in it. Raises Refused where none
        is kept."""
        what = "suggestions" if suggestions else "raw"
        reply = await self._transport.ask(Call("GET", f"{OURS}/tasks/{quote(task_id, safe='')}/{what}"))
        if reply.status == HTTPStatus.OK:
            return reply.body
        answer: dict[str, Any] = read(self.url, reply, dict[str, Any])
        raise Refused(reply.status, str(answer.get("error") or answer.get("status_message")))

    async def document(self) -> dict[str, Any]:
        """The server's OpenAPI document: what it takes and gives, its own bounds among them."""
        found: dict[str, Any] = read(self.url, await self._transport.ask(Call("GET", "/openapi.json")), dict[str, Any])
        return found

    async def _entries(self, call: Call) -> list[Entry]:
        reply = await self._transport.ask(call)
        envelope: _Envelope = read(self.url, reply, _Envelope)
        if envelope.status_code != errors.OK_CODE:
            raise refused(envelope.status_code, envelope.status_message)
        if not envelope.tasks:
            raise NotRestante(f"{self.url} answered without a task (HTTP {reply.status})")
        try:
            return [msgspec.json.decode(one, type=Entry) for one in envelope.tasks]
        except msgspec.DecodeError as error:
            raise NotRestante(f"{self.url} does not answer as restante does ({error})") from None

    async def _list(self, call: Call, kind: type[T]) -> list[T]:
        """The rows of a listing."""
        reply = await self._transport.ask(call)
        envelope: _Envelope = read(self.url, reply, _Envelope)
        if envelope.status_code != errors.OK_CODE or not envelope.tasks:
            raise refused(envelope.status_code, envelope.status_message)
        try:
            listing = msgspec.json.decode(envelope.tasks[0], type=_Listing)
            if listing.status_code != errors.OK_CODE:
                raise refused(listing.status_code, listing.status_message)
            rows: list[T] | None = msgspec.json.decode(listing.result, type=list[kind] | None)  # type: ignore[valid-type]
            return rows or []
        except msgspec.DecodeError as error:
            raise NotRestante(f"{self.url} does not answer as restante does ({error})") from None
