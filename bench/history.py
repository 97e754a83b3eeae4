"""Accept and end to end with a past, against an empty database: 10,000,000 tasks, 3,000,000 of them today's, 1,000,000
uncollected.

Two installations stand beside each other; one is given the past of other accounts (loading.py), then both are measured
in turn. A round has `posts` POSTs of each account; a tenth of them has a tenth of the past.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import msgspec

from bench import accept, end_to_end, loading
from bench.installation import Client, Installation, installed
from bench.report import Goal, Row, medians, ratio, said
from restante.core.money import parse_usd
from restante.flow import accounts
from restante.wiring import utc_now

HISTORY = 10_000_000
_TODAYS = 0.3  # of it
_UNCOLLECTED = 0.1  # of it, yesterday's
_DAYS_BEFORE = 7
_FULL_POSTS = 60
_ACCEPTED_FOR_EACH = 50  # POSTs of a round of accept, for each of end to end
_OF_OTHERS = 20  # accounts whose past it is


async def measure(parent: Path | None, rounds: int, posts: int) -> list[Row]:
    """The four rows; `posts` POSTs of each account a round, and the past's size by them."""
    past = HISTORY * min(posts, _FULL_POSTS) // _FULL_POSTS
    whole = [Row(name=f"end to end, {place}", unit="tasks/s", rounds=[]) for place in _places(past)]
    taken = [Row(name=f"accept, {place}", unit="tasks/s", rounds=[]) for place in _places(past)]
    async with installed(parent, workers=1) as empty, installed(parent, workers=1) as old:
        began = time.monotonic()
        await _load(old, past)
        print(f"  {past:,} tasks of history loaded in {time.monotonic() - began:.0f} s", flush=True)
        for restante in (empty, old):
            connection = await restante.connect()
            await loading.settled_down(connection)
            await connection.close()
        half = len(empty.clients) // 2
        pair = [_only(empty, empty.clients[:half]), _only(old, old.clients[:half])]
        for number in range(rounds + 1):  # the first warms
            for row, restante in zip(whole, pair, strict=True):
                row.rounds.append(await end_to_end.through_http(restante, posts))
                said(row, number)
        # Nobody runs what is accepted now: the workers stand still, and nothing of it is the other half's.
        for restante in pair:
            os.kill(restante.processes["worker"], signal.SIGSTOP)
        try:
            pair = [_only(empty, empty.clients[half:]), _only(old, old.clients[half:])]
            for number in range(rounds + 1):
                for row, restante in zip(taken, pair, strict=True):
                    row.rounds.append((await accept.through_http(restante, posts * _ACCEPTED_FOR_EACH))[0])
                    said(row, number)
        finally:
            for restante in pair:
                os.kill(restante.processes["worker"], signal.SIGCONT)
        notes = [await restante.audit() for restante in pair]
    for rows in (whole, taken):
        for row, note in zip(rows, notes, strict=True):
            del row.rounds[0]
            row.note = note
        rows[1].ratio = f"{ratio(rows[1], rows[0])} of that on an empty one"
        rows[1].goals = [Goal(what="of that on an empty one", bound=0.8, measured=medians(rows[1], rows[0]))]
    return [*whole, *taken]


def _places(past: int) -> Sequence[str]:
    return "an empty database", f"{past:,} tasks of history"


def _only(restante: Installation, clients: Sequence[Client]) -> Installation:
    return msgspec.structs.replace(restante, clients=clients)


async def _load(restante: Installation, past: int) -> None:
    now = utc_now()
    today = now.date()
    ids = []
    for number in range(_OF_OTHERS):
        opened = await accounts.open_account(
            restante.db, f"other-{number}", None, balance=parse_usd("1000000"), credit_limit=None, now=now
        )
        ids.append(opened.account_id)
    todays = int(past * _TODAYS)
    before = (past - todays) // _DAYS_BEFORE
    connection = await restante.connect()
    try:
        for ago in range(_DAYS_BEFORE, 0, -1):
            await restante.db.prepare_days(today - timedelta(days=ago))
            unfetched = int(past * _UNCOLLECTED) if ago == 1 else 0
            await loading.finished(connection, ids, today - timedelta(days=ago), before, uncollected=unfetched)
        passed = (now - now.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds()
        await loading.finished(connection, ids, today, todays, seconds=passed)
    finally:
        await connection.close()
