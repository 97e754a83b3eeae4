"""Whether the database says what the book says."""

from __future__ import annotations

from typing import Any

from restante.store.database import Database
from tests.model.book import FINAL, Book, Is

_QUEUE = {0: Is.READY, 1: Is.PARKED, 2: Is.LEASED}
_TASK = {1: Is.DONE, 2: Is.FAILED}
_HOOK = {0: Is.READY, 1: Is.PARKED, 2: Is.LEASED, 3: Is.DONE, 4: Is.FAILED}
Table = dict[Any, tuple[Any, ...]]


async def tables(db: Database) -> dict[str, Table]:
    """What the database says, in the book's words."""
    read = db._on.fetch
    found: dict[str, Table] = {}
    found["accounts"] = {
        row["id"]: (row["balance"], row["held"], row["spent"], row["funded"], row["paused_by"])
        for row in await read("select * from account")
    }
    found["tasks"] = {
        str(row["id"]): (
            _TASK.get(row["state"]) or (Is.WAITING if row["waits"] else _QUEUE.get(row["queued"])),
            row["token"], row["lost"], row["tries"], row["wasted"], row["charged"], row["code"],
        )
        for row in await read(
            "select t.id, t.state, t.charged, t.code, q.state as queued, q.run_at = 'infinity' as waits, q.token,"
            " q.lost, q.tries, q.wasted from task t left join queue q on q.id = t.id"
        )
    }  # fmt: skip
    found["webhooks"] = {
        (str(row["task_id"]), row["kind"]): (_HOOK[row["state"]], row["token"], row["attempts"], row["collected"])
        for row in await read("select task_id, kind, state, token, attempts, collected from delivery")
    }
    found["listed"] = {str(row["id"]): (row["account_id"],) for row in await read("select id, account_id from ready")}
    return found


def expected(book: Book) -> dict[str, Table]:
    """What the book says."""
    return {
        "accounts": {
            one.id: (one.balance, one.held, one.spent, one.funded, one.paused_by) for one in book.accounts.values()
        },
        "tasks": {
            one.id: (
                one.state,
                one.token,
                *((None, None, None) if one.state in FINAL else (one.lost, one.tries, one.wasted)),
                one.charged,
                one.code,
            )
            for one in book.tasks.values()
        },
        "webhooks": {
            key: (one.state, one.token, one.attempts, one.collected) for key, one in book.hooks.items()
        },
        "listed": {one.id: (one.account.id,) for one in book.tasks.values() if one.listed_at is not None},
    }  # fmt: skip


def differ(book: Book, found: dict[str, Table]) -> list[str]:
    """Each row that is not what the book says, in words."""
    said = expected(book)
    return [
        f"{table} {key}: the book says {said[table].get(key)}, the database {found[table].get(key)}"
        for table in said
        for key in {**said[table], **found[table]}
        if said[table].get(key) != found[table].get(key)
    ]
