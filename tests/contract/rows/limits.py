"""Limits, retention, ids (§5)."""

from __future__ import annotations

from tests.contract.row import DOCUMENTED, OUR_CHOICE, SEEN, Row

ROWS = [
    Row(
        "5.1 general",
        DOCUMENTED,
        "2000 calls a minute, 10,000 since October 2026",
        absent="there is no common limit: each endpoint has its own",
    ),
    Row("5.1 task_post", DOCUMENTED, "2000 a minute, 100 tasks each"),
    Row("5.1 live", DOCUMENTED, "2000 a minute, 30 at once"),
    Row("5.1 tasks_ready", DOCUMENTED, "20 a minute"),
    Row("5.1 task_get, models", DOCUMENTED, "no limit of their own"),
    Row("5.1 user_data", DOCUMENTED, "6 a minute"),
    Row("5.1 appendix/errors, appendix/status", DOCUMENTED, "10 a minute each"),
    Row("5.1 id_list, errors", DOCUMENTED, "10 a minute each"),
    Row("5.1 sandbox", DOCUMENTED, "as production", absent="see 1, sandbox host"),
    Row("5.1 window type (fixed minute or sliding)", OUR_CHOICE, "calendar minutes of the database's clock (see 12.6)"),
    Row("5.2 live", DOCUMENTED, "120 s, then 50401"),
    Row("5.2 standard", DOCUMENTED, "72 h, then failed and refunded"),
    Row("5.2 webhook", DOCUMENTED, "10 s"),
    Row("5.3 results", DOCUMENTED, "30 days, then 40403"),
    Row("5.3 tasks_ready", DOCUMENTED, "three days"),
    Row("5.3 live", DOCUMENTED, "not stored"),
    Row("5.3 errors", DOCUMENTED, "7 days"),
    Row("5.3 id_list", DOCUMENTED, "6 months, 1 month with metadata"),
    Row("5.3 HTML results, status page", DOCUMENTED, "7 and 60 days", absent="there are neither here"),
    Row(
        "5.4 MMDDHHMM",
        SEEN,
        "month, day, hour and minute of creation (UTC here: zones differ in the original's own samples)",
    ),
    Row("5.4 AAAA", SEEN, "the account"),
    Row("5.4 FFFF", SEEN, "the function: 0612 live, 0613 task_post, 0614 tasks_ready, 0616 models"),
    Row("5.4 PPPP", SEEN, "0000"),
    Row("5.4 R…R", SEEN, "12 random hexadecimal digits"),
    Row("5.4 calls have ids too", SEEN, "GETs and refused tasks have an id of their own"),
]
