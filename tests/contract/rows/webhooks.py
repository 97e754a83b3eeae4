"""Webhooks (§4)."""

from __future__ import annotations

from tests.contract.row import DOCUMENTED, OUR_CHOICE, SEEN, Row

ROWS = [
    Row("4 pingback", DOCUMENTED, "a GET without body when the task is done"),
    Row("4 postback", DOCUMENTED, "a POST of the gzip-compressed answer"),
    Row("4 body shape", SEEN, "a whole task_get envelope"),
    Row("4 headers of postback", OUR_CHOICE, "application/json, gzip (see 12.18)"),
    Row("4 path in postback", OUR_CHOICE, "task_get's, with the id"),
    Row("4 both URLs set", DOCUMENTED, "both are sent"),
    Row(
        "4 postback_data",
        DOCUMENTED,
        "a field of other families",
        absent="not of this family; here it is an unknown field (40506)",
    ),
    Row("4 substitution", DOCUMENTED, "`$id` and the url-encoded `$tag`, anywhere in the URL"),
    Row("4 no tag given but $tag in URL", OUR_CHOICE, "the empty string; some saw a literal `$tag` (see 12.18)"),
    Row("4 encoding", DOCUMENTED, "special characters are url-encoded, # becomes %23"),
    Row("4 time-out", DOCUMENTED, "10 s to answer, then the task is listed"),
    Row("4 success", DOCUMENTED, "200 to 300"),
    Row(
        "4 failure",
        DOCUMENTED,
        "the task is listed; the attempt is recorded with code, time and reply",
    ),
    Row("4 redirects followed?", OUR_CHOICE, "never: a failure like any other (see 12.18)"),
    Row("4 automatic retries", OUR_CHOICE, "by the schedule of 12.19"),
    Row("4 resend", DOCUMENTED, "up to 100 ids, free"),
    Row(
        "4 source IPs (third-party whitelist)",
        SEEN,
        "eight addresses of the original",
        absent="deliveries come from the operator's own addresses",
    ),
    Row("4 signature / secret", OUR_CHOICE, "none there; Standard Webhooks here"),
    Row(
        "4 webhook delay setting",
        DOCUMENTED,
        "a least gap between webhooks",
        absent="not offered: a receiver's host has at most 50 deliveries in flight instead",
    ),
    Row("4 failed tasks", OUR_CHOICE, "have their webhooks too, with their error code"),
    Row("4 postback with negative balance", DOCUMENTED, "waits for a top-up"),
]
