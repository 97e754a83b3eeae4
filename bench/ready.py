"""tasks_ready of 1,000: its SQL alone, where 1,000 tasks wait and where 1,000,000 do, also under an old snapshot.

Three accounts of one database, in turn: one with as many waiting as a listing shows, one with very many, and one with
very many of which the first were just collected while somebody held a snapshot of before, so that nothing of them could
be vacuumed. The database is asked by the very statement that the API uses; whatever moves marks is what it calls.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.installation import Client, Installation, installed
from bench.machine import Clocks, fdatasync_ms
from bench.report import Round, Row, ratio, said
from restante.core.limits import READY_LISTED
from restante.flow.ready_mark import Marks
from restante.store import tasks
from restante.store.database import Session
from restante.store.tasks import GEMINI

MANY = 1_000_000
COLLECTED = 100_000  # under the old snapshot
_LISTINGS_WARMING = 20
_BEGIN = datetime(2000, 1, 1, tzinfo=UTC)  # everything was listed since

_LIST = """
insert into ready (account_id, platform, seq, id, posted_at, tag, listed_at)
select $1, $2, nextval('ready_seq'), gen_random_uuid(), now(), 't' || n, now() from generate_series(1, $3::int) n
"""
# As collect does: by place, a group at a time.
_COLLECT = "delete from ready where account_id = $1 and platform = $2 and seq = any ($3)"
_OLDEST = "select seq from ready where account_id = $1 and platform = $2 order by seq limit $3"
_GROUP = 100


async def measure(parent: Path | None, rounds: int, listings: int) -> list[Row]:
    """The three rows; `listings` a round each, their median is the round's figure."""
    rows = [
        Row(name=f"tasks_ready of 1,000: its SQL, {waiting} (p50)", unit="ms", rounds=[])
        for waiting in ("1,000 wait", "1,000,000 wait", "as many under an old snapshot")
    ]
    async with installed(parent, workers=0) as restante:
        few, many, old = restante.clients[:3]
        connection, snapshot = await restante.connect(), await restante.connect()
        for client, count in ((few, READY_LISTED), (many, MANY), (old, MANY + COLLECTED)):
            await connection.execute(_LIST, client.account_id, GEMINI, count)
        await connection.execute("vacuum analyze ready")
        await connection.execute("checkpoint")
        await snapshot.execute("begin isolation level repeatable read; select from ready limit 1")
        without = await _collected(restante, connection, old)
        for number in range(1, rounds + 1):
            for row, client in zip(rows, (few, many, old), strict=True):
                row.rounds.append(await _listed(restante, connection, client, listings))
                said(row, number)
        await snapshot.close()
        await connection.close()
        rows[0].note = await restante.audit(but="I9")
    for row in rows[1:]:
        row.ratio = f"{ratio(row, rows[0])} of that"
    rows[2].ratio += f"; before the mark moved {without:.2f} ms"
    return rows


async def _collected(restante: Installation, connection: Any, client: Client) -> float:
    """Collect the first ones; milliseconds of a listing then, before the account's mark moved there."""
    places = [row["seq"] for row in await connection.fetch(_OLDEST, client.account_id, GEMINI, COLLECTED)]
    for first in range(0, COLLECTED, _GROUP):
        await connection.execute(_COLLECT, client.account_id, GEMINI, places[first : first + _GROUP])
    without = (await _listed(restante, connection, client, _LISTINGS_WARMING)).figure
    marks = Marks(restante.db, seconds=0)
    for _ in range(3):
        await marks.advance(client.account_id)
        await asyncio.sleep(0)
    return without


async def _listed(restante: Installation, connection: Any, client: Client, listings: int) -> Round:
    session = Session(connection)
    for _ in range(_LISTINGS_WARMING):
        await tasks.ready(session, client.account_id, READY_LISTED, _BEGIN)
    disk = fdatasync_ms(restante.directory)
    clocks = Clocks(restante.processes)
    taken = []
    for _ in range(listings):
        begin = time.perf_counter()
        found = await session.rows("list_ready", client.account_id, GEMINI, READY_LISTED, _BEGIN)
        taken.append((time.perf_counter() - begin) * 1e3)
        assert len(found) == READY_LISTED
    clocks.stop()
    figure = statistics.median(taken)
    return Round(figure=figure, tasks=listings, cpu=clocks.cpu, fdatasync_ms=disk, others=clocks.others)
