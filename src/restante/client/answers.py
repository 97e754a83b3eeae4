"""Awaiting answers: tasks_ready tells of many at once, within its rate; a few are looked at by their ids in each round.

The second is what nothing can be lost by: a task that another program collected, or whose postback was delivered, never
stands in tasks_ready, and one that does may stand behind a thousand of others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import TYPE_CHECKING

from restante.client.errors import RateExceeded, refused
from restante.client.values import Entry
from restante.core import errors
from restante.core.limits import (
    CLIENT_AT_ONCE,
    CLIENT_LOOK_SECONDS,
    CLIENT_LOOKS,
    CLIENT_NUDGED_SECONDS,
    CLIENT_READY_SECONDS,
)

if TYPE_CHECKING:
    from restante.client.calls import Client
    from restante.client.webhooks import Receiver

_SOON, _LATE = CLIENT_LOOK_SECONDS


async def awaited(
    client: Client, tasks: Iterable[Entry | str], receiver: Receiver | None = None
) -> AsyncIterator[Entry]:
    """See `Client.answers`."""
    waiting: dict[str, None] = {}  # the one looked at longest ago stands first
    for task in tasks:
        if isinstance(task, str):
            waiting[task] = None
        elif task.unfinished:
            waiting[task.id] = None
        else:
            yield task
    listing = _Listing(client)
    pause = _SOON
    while waiting:
        promising = list(islice(waiting, CLIENT_LOOKS))
        if len(waiting) > len(promising):
            promising += [task_id for task_id in await listing.ready() if task_id in waiting]
        came = False
        async for entry in _looked_at(client, list(dict.fromkeys(promising))):
            del waiting[entry.id]
            if entry.unfinished:
                waiting[entry.id] = None  # now the last
            else:
                came = True
                yield entry
        pause = _SOON if came else min(pause * 1.5, _LATE)
        if receiver is None:
            await asyncio.sleep(pause if waiting else 0)
        elif waiting:
            async for entry in _told(client, receiver, waiting):
                yield entry


async def _looked_at(client: Client, ids: list[str]) -> AsyncIterator[Entry]:
    for start in range(0, len(ids), CLIENT_AT_ONCE):
        looks = [asyncio.create_task(client.get(one)) for one in ids[start : start + CLIENT_AT_ONCE]]
        try:
            for asked, look in zip(ids[start:], looks, strict=False):
                entry = await look
                if entry.status_code == errors.PaymentRequired.code:
                    raise refused(entry.status_code, entry.status_message)
                # The API spells ids in small letters, whoever asks.
                yield entry if entry.id == asked else _spelled(entry, asked)
        finally:
            for look in looks:
                look.cancel()
            await asyncio.gather(*looks, return_exceptions=True)


def _spelled(entry: Entry, task_id: str) -> Entry:
    import msgspec

    return msgspec.structs.replace(entry, id=task_id)


async def _told(client: Client, receiver: Receiver, waiting: dict[str, None]) -> AsyncIterator[Entry]:
    """What webhooks bring until it is time to look again. A signed postback is the answer itself; anything else only
    says that there is one, and that is asked for."""
    until = time.monotonic() + CLIENT_NUDGED_SECONDS
    while waiting and (left := until - time.monotonic()) > 0:
        try:
            async with asyncio.timeout(left):
                delivery = await receiver.next()
        except TimeoutError:
            return
        if delivery.task_id not in waiting:
            continue
        entry = delivery.entry if delivery.verified else None
        if entry is None:
            entry = await client.get(delivery.task_id)
            if entry.status_code == errors.PaymentRequired.code:
                raise refused(entry.status_code, entry.status_message)
        if not entry.unfinished:
            del waiting[delivery.task_id]
            yield entry


class _Listing:
    """tasks_ready, asked as often as its rate allows and no more; other programs may use it up."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._next = 0.0

    async def ready(self) -> list[str]:
        """The ids it lists; none where it is not its time."""
        if time.monotonic() < self._next:
            return []
        try:
            found = await self._client.ready(wait=False)
        except RateExceeded:
            found = []
        limit = self._client.limit("tasks_ready")
        self._next = time.monotonic() + (60.0 / limit if limit else CLIENT_READY_SECONDS)
        return [row.id for row in found]
