"""What is counted: kinds of failures, fates of webhooks, counters and histograms; and the database's figures."""

from __future__ import annotations

import asyncpg
import pytest

from restante.core.answer import FAILURE_KINDS, Failure
from restante.core.limits import FIGURES_SECONDS
from restante.flow.figures import InstallationFigures
from restante.observing import metrics
from restante.observing.kinds import Counter, Histogram
from restante.store import figures
from restante.store.database import Database
from restante.webhooks.sender import Outcome


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (Failure(reason="API key rejected", transient=True, waits=True, doubts_key=True), "key"),
        (Failure(reason="no credit", transient=True, waits=True), "key"),
        (Failure(reason="rate_limit_exceeded", transient=True, strain="quota"), "quota"),
        (Failure(reason="rate_limit_exceeded", transient=True), "quota"),
        (Failure(reason="overloaded", transient=True), "overloaded"),
        (Failure(reason="timeout", transient=True), "timeout"),
        (Failure(reason="connection failed", transient=True), "connection"),
        (Failure(reason="malformed reply", transient=True), "unavailable"),
        (Failure(reason="blocked: SAFETY"), "refused"),
    ],
)
def test_kinds_of_failures(failure: Failure, kind: str) -> None:
    assert failure.kind == kind and kind in FAILURE_KINDS


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (Outcome(5, 204), "delivered"),
        (Outcome(5, 301, error="HTTP 301"), "http_3xx"),
        (Outcome(5, 404, error="HTTP 404"), "http_4xx"),
        (Outcome(5, 503, error="HTTP 503"), "http_5xx"),
        (Outcome(5, 999, error="HTTP 999"), "http_other"),
        (Outcome(5, 200, error="no complete answer", hung=True), "timeout"),
        (Outcome(5, error="cannot connect: refused"), "unreachable"),
        (Outcome(0, error="not tried", unsent="not_tried"), "not_tried"),
        (Outcome(0, error="internal error", unsent="broken"), "broken"),
    ],
)
def test_fates_of_webhooks(outcome: Outcome, word: str) -> None:
    assert outcome.word == word and f"`{word}`" in metrics.WEBHOOK_ATTEMPTS.help


def test_a_histogram_counts_up_to_each_bound() -> None:
    histogram = Histogram("restante_test_seconds", "A test.", ("of",), bounds=(0.5, 1.0))
    for seconds in (0.5, 0.6, 1.0, 7.0):
        histogram.observe(seconds, "a")
    assert list(histogram.read()) == [(("a",), [("0.5", 1), ("1", 3), ("+Inf", 4)], 9.1)]


def test_a_counter_of_money_is_exact_until_it_is_shown() -> None:
    counter = Counter("restante_test_dollars_total", "A test.", per=1_000_000_000)
    for _ in range(3):
        counter.add(100_000_001)
    assert counter.values[()] == 300_000_003 and counter.read() == {(): 0.300000003}


async def test_figures_are_believed_for_a_moment(db: Database) -> None:
    now = 100.0
    found = InstallationFigures(db, ["scripted"], clock=lambda: now)
    assert (await found.read())[metrics.DATABASE_UP] == {(): 1}
    await db._pool.execute("insert into lane (provider, project, model) values ('scripted', '', 'a-model')")
    assert ("scripted", "a-model") not in (await found.read())[metrics.QUEUE_READY]
    now += FIGURES_SECONDS
    assert (await found.read())[metrics.QUEUE_READY][("scripted", "a-model")] == 0


async def test_without_a_database_only_that_is_said(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    away = Database(dsn.replace("/test", "/no_such_database_of_test"))
    with pytest.raises(Exception, match="cannot be reached"):
        await away.open()
    assert await InstallationFigures(away, ["scripted"]).read() == {metrics.DATABASE_UP: {(): 0}}
    assert "missing from /metrics" in caplog.text


async def test_each_state_is_counted_where_it_belongs(db: Database, dsn: str) -> None:
    """Rows as the tables allow them, whatever made them."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("set session_replication_role = replica")
        lane = await connection.fetchval(
            "insert into lane (provider, project, model) values ('scripted', '', 'm') returning id"
        )
        rows = [
            (lane, 0, None, None), (lane, 0, None, None), (lane, 1, "tomorrow", None), (lane, 1, "infinity", None),
            (lane, 2, None, 7), (0, 2, None, 7),
        ]  # fmt: skip
        for number, (of, state, run_at, token) in enumerate(rows):
            await connection.execute(
                "insert into queue (id, day, account_id, lane, turn, state, run_at, token, held, posted_at)"
                " values (gen_random_uuid(), current_date, 1, $1, $2, $3, $4::text::timestamptz, $5, 0, now())",
                of, number, state, run_at, token,
            )  # fmt: skip
        found = await figures.figures(db)
        assert (found.parked, found.unpaid, found.running, found.live) == (1, 1, 1, 1)
        assert await figures.ready(db) == {("scripted", "m"): 2}
    finally:
        await connection.execute("delete from queue")
        await connection.close()
