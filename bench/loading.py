"""A past for a database, made in SQL: what accounts posted, had answered and did not fetch, in honest sizes.

Rows are those that accepting, settling and collecting would have left, day by day, with the indexes in place and the
ledger adding up. Prompts are of some 150 bytes and answers of 1 KB, compressed already.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import date
from typing import Any, Final

from restante.core.pricing import STANDARD_FEE, STANDARD_HOLD
from restante.core.task import Function
from restante.store.tasks import GEMINI

ANSWER_BYTES: Final = 1_000
_BODIES: Final = 1_000  # different ones
_CHUNK: Final = 50_000  # tasks in a transaction
_PER_POST: Final = 100

# $1 accounts  $2 day  $3 the day's seconds that have passed  $4 its tasks  $5 the first of this chunk  $6 the last
# Tasks lie in the day as they were posted: a POST of 100 by one account after the other's, evenly over its time.
_TASKS = f"""
create temporary table loading as
select n, id, account_id, posted_at, b.body, convert_to(
        '{{"user_prompt":"Which running shoes for beginners would you recommend under 120 dollars? Name five brands. #'
        || n || '","model_name":"gemini-2.5-flash","tag":"t' || n || '"}}', 'UTF8') as request
from (
    select n, account_id, posted_at, (to_char(posted_at at time zone 'UTC', 'MMDDHH24MI') || '-'
        || lpad(to_hex(account_id), 4, '0') || '-{Function.TASK_POST:04d}-0000-'
        || lpad(to_hex(n), 12, '0'))::uuid as id
    from (
        select n, ($1::int[])[1 + n / {_PER_POST} % cardinality($1::int[])] as account_id,
            ($2::date::timestamp at time zone 'UTC')
                + make_interval(secs => $3::float8 * (n / {_PER_POST} * {_PER_POST}) / $4::int) as posted_at
        from generate_series($5::int, $6::int) n
    ) p
) t
join bodies b on b.number = n % {_BODIES}
"""

_HOLDS = f"""
insert into transfer (hold_day, task_id, kind, account_id, balance, held, spent, funded, made_at)
select $1::date, id, 2, account_id, -count * {STANDARD_HOLD}, count * {STANDARD_HOLD}, 0, 0, posted_at from (
    select distinct on (n / {_PER_POST}) id, account_id, posted_at, count(*) over (partition by n / {_PER_POST})
    from loading order by n / {_PER_POST}, n
) p
"""

# $1 day  $2 of these tasks nobody fetched the answer: below this number
_FINISHED = (
    _HOLDS,
    f"""
    insert into task (
        day, id, account_id, platform, function, state, held, charged, code, attempts, posted_at, settled_at, tag
    )
    select $1::date, id, account_id, {GEMINI}, {Function.TASK_POST}, 1, {STANDARD_HOLD}, {STANDARD_FEE}, 20000, 1,
        posted_at, posted_at + interval '5 seconds', 't' || n
    from loading
    """,
    "insert into task_request (day, id, request) select $1::date, id, request from loading",
    f"""
    insert into transfer (hold_day, task_id, kind, account_id, balance, held, spent, funded, made_at)
    select $1::date, id, 3, account_id, {STANDARD_HOLD - STANDARD_FEE}, {-STANDARD_HOLD}, {STANDARD_FEE}, 0,
        posted_at + interval '5 seconds'
    from loading
    """,
    """
    with stored as (
        insert into answer (day, id, account_id, seq, code, body)
        select $1::date, id, account_id, nextval('ready_seq'), 20000, body from loading returning id, seq
    )
    insert into ready (account_id, platform, seq, id, posted_at, tag, listed_at)
    select account_id, {GEMINI}, seq, id, posted_at, 't' || n, now()
    from loading join stored using (id) where n < $2::int
    """.replace("{GEMINI}", str(GEMINI)),
    f"""
    update account a set balance = balance - count * {STANDARD_FEE}, spent = spent + count * {STANDARD_FEE},
        today = greatest(a.today, $1::date),
        today_posted = case when a.today = $1::date then a.today_posted else 0 end + count * {STANDARD_FEE}
    from (select account_id, count(*)::bigint from loading group by account_id) l where l.account_id = a.id
    """,
)

# $1 day  $2 lanes  $3 state  $4 the token of leased ones
_QUEUED = (
    _HOLDS,
    f"""
    insert into task (day, id, account_id, platform, function, state, held, posted_at, tag)
    select $1::date, id, account_id, {GEMINI}, {Function.TASK_POST}, 0, {STANDARD_HOLD}, posted_at, 't' || n
    from loading
    """,
    "insert into task_request (day, id, request) select $1::date, id, request from loading",
    f"""
    insert into queue (id, day, account_id, lane, turn, state, run_at, token, held, posted_at, tag)
    select id, $1::date, account_id, ($2::int[])[1 + n % cardinality($2::int[])], n, $3::smallint,
        case when $3 = 1 then now() + make_interval(secs => n % 7200 - 600) end, case when $3 = 2 then $4::bigint end,
        {STANDARD_HOLD}, posted_at, 't' || n
    from loading
    """,
    f"""
    update account a set balance = balance - count * {STANDARD_HOLD}, held = held + count * {STANDARD_HOLD},
        today = greatest(a.today, $1::date),
        today_posted = case when a.today = $1::date then a.today_posted else 0 end + count * {STANDARD_HOLD}
    from (select account_id, count(*)::bigint from loading group by account_id) l where l.account_id = a.id
    """,
)


async def finished(
    connection: Any, accounts: Sequence[int], day: date, tasks: int, *, uncollected: int = 0, seconds: float = 86_399
) -> None:
    """So many finished tasks posted on a day, in its first so many seconds; the first of them nobody fetched. Days are
    loaded in their order, each once, before anything else happens in it."""
    await _load(connection, accounts, day, tasks, seconds, 0, _FINISHED, uncollected)


async def queued(
    connection: Any,
    accounts: Sequence[int],
    day: date,
    tasks: int,
    lanes: Sequence[int],
    *,
    state: int = 0,
    token: int | None = None,
    first: int = 0,
    seconds: float = 86_399,
) -> None:
    """So many unfinished ones: ready, parked around now, or leased by the token. `first`: their number, beyond those of
    the day's others."""
    await _load(connection, accounts, day, tasks, seconds, first, _QUEUED, list(lanes), state, token)


async def settled_down(connection: Any) -> None:
    """The server is done with what was loaded: vacuumed, analysed, written."""
    await connection.execute("vacuum (analyze, freeze)")
    await connection.execute("checkpoint")


async def _load(
    connection: Any,
    accounts: Sequence[int],
    day: date,
    tasks: int,
    seconds: float,
    first: int,
    statements: Sequence[str],
    *arguments: object,
) -> None:
    await connection.execute("set synchronous_commit = off")
    await connection.execute("drop table if exists bodies; create temporary table bodies (number int, body bytea)")
    # Begins as a zlib stream does, which is how restante tells.
    bodies = [(number, b"\x78\x01" + os.urandom(ANSWER_BYTES - 2)) for number in range(_BODIES)]
    await connection.copy_records_to_table("bodies", records=bodies)
    for begin in range(first, first + tasks, _CHUNK):
        end = min(begin + _CHUNK, first + tasks)
        async with connection.transaction():
            await connection.execute(_TASKS, list(accounts), day, seconds, first + tasks, begin, end - 1)
            for statement in statements:
                await connection.execute(statement, day, *(arguments if "$2" in statement else ()))
            await connection.execute("drop table loading")
    await connection.execute("drop table bodies; reset synchronous_commit")
