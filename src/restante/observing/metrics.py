"""Every metric of restante, by name. docs/metrics.md is made of this file.

What a process counts itself begins anew with the process. What all of them share is the database's truth: the API reads
it when it is asked (restante.flow.figures). No label holds what clients send: no URLs, logins, tags or task ids.
"""

from __future__ import annotations

from typing import Final

from restante.core.answer import FAILURE_KINDS
from restante.core.money import NANO_PER_USD
from restante.observing.kinds import Counter, Gauge, Histogram, Metric, Total

_FAST: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # our own doing
_CALL: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)  # a model's
_TASK: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0, 86_400.0, 259_200.0)  # to 72 h

# --- every process -------------------------------------------------------------------------------------
BUILD_INFO = Gauge("restante_build_info", "1; the version, and what the process is.", ("version", "role"))
DATABASE_CONNECTIONS = Gauge(
    "restante_database_connections", "Connections of this process's pool that are in use, or idle.", ("state",)
)
DATABASE_CONNECTIONS_MAX = Gauge(
    "restante_database_connections_max", "Connections that the pool may have (RESTANTE_DATABASE_CONNECTIONS)."
)
DATABASE_LOST = Counter("restante_database_lost_total", "Statements that found the database gone, or unable to serve.")
LOG_LINES = Counter(
    "restante_log_lines_total",
    "Lines logged, by level.",
    ("level",),
    known=[(level,) for level in ("warning", "error", "critical")],
)
LEASES_LOST = Counter(
    "restante_leases_lost_total",
    "Times that this process's own lease ended behind its back: it stood still, or was cut off from the database.",
)

# --- the API -------------------------------------------------------------------------------------------
HTTP_REQUESTS = Counter(
    "restante_http_requests_total",
    "Calls of the API that were let in, by endpoint and HTTP status. 500 is 50000 for the whole call.",
    ("endpoint", "status"),
    worker=False,
)
HTTP_SECONDS = Histogram(
    "restante_http_request_seconds",
    "How long these took, from the endpoint's first line to its answer.",
    ("endpoint",),
    bounds=(*_FAST, 30.0, 60.0, 120.0),
    worker=False,
)
HTTP_TURNED_AWAY = Counter(
    "restante_http_turned_away_total",
    "Calls that were not let in: `credentials` (401), `room` (503), `database` (500: no password could be checked).",
    ("why",),
    known=[("credentials",), ("room",), ("database",)],
    worker=False,
)
TASKS_ACCEPTED = Counter(
    "restante_tasks_accepted_total", "Tasks accepted by task_post (20100), by provider.", ("provider",), worker=False
)
TASKS_REFUSED = Counter(
    "restante_tasks_refused_total", "Tasks refused by task_post, by status code.", ("code",), worker=False
)
ACCEPT_SECONDS = Histogram(
    "restante_accept_seconds",
    "How long it took to hold, store and queue the tasks of one POST, waiting for its turn included.",
    bounds=_FAST,
    worker=False,
)
LIVE_TASKS = Counter(
    "restante_live_tasks_total", "Live tasks that ended, by status code; 20000 are answers.", ("code",), worker=False
)
LIVE_SECONDS = Histogram(
    "restante_live_seconds", "How long live tasks took, refused ones aside.", bounds=_CALL, worker=False
)
DISK_FREE = Gauge(
    "restante_disk_free_bytes", "Free room on the disk that is watched; absent where none is.", worker=False
)
DISK_RESERVE = Gauge("restante_disk_reserve_bytes", "Room below which new tasks are refused.", worker=False)
DISK_SHORT = Gauge("restante_disk_short", "1 while new tasks are refused for want of room.", worker=False)
PROVIDER_KEYS = Gauge(
    "restante_provider_keys",
    "API keys of a provider that has some, `good` or `rejected`. None good: its tasks wait, new ones are refused.",
    ("provider", "state"),
    worker=False,
)

# --- calls to models: workers, and the API for live tasks ----------------------------------------------------
PROVIDER_CALLS = Counter(
    "restante_provider_calls_total",
    f"Calls to models, by what became of them: `answered`, or the kind of failure: {', '.join(FAILURE_KINDS)}.",
    ("provider", "model", "outcome"),
)
PROVIDER_SECONDS = Histogram(
    "restante_provider_call_seconds", "How long the calls took, failed ones included.", ("provider",), bounds=_CALL
)
PROVIDER_TOKENS = Counter(
    "restante_provider_tokens_total",
    "Tokens of answers, as the provider bills them: `input`, `output` (reasoning included), and of these `reasoning`.",
    ("provider", "model", "kind"),
)
PROVIDER_COST = Counter(
    "restante_provider_cost_dollars_total",
    "What the provider takes for answers, by the price list.",
    ("provider", "model"),
    per=NANO_PER_USD,
)

# --- workers -------------------------------------------------------------------------------------------
WORKER_SLOTS = Gauge(
    "restante_worker_slots", "Calls that this worker may have in flight: `busy` ones, and those `free`.", ("state",),
    api=False,
)  # fmt: skip
TASK_WAIT_SECONDS = Histogram(
    "restante_task_wait_seconds",
    "From posting to the first call: what a task waited in the queue.",
    ("provider",),
    bounds=_TASK,
    api=False,
)
TASK_SECONDS = Histogram(
    "restante_task_seconds",
    "From posting to the settlement: when the answer can be collected.",
    ("provider",),
    bounds=_TASK,
    api=False,
)
TASKS_SETTLED = Counter(
    "restante_tasks_settled_total",
    "Tasks settled, live ones included, by status code: 20000 are answers, all others are free of charge.",
    ("code",),
    known=[("20000",)],
)
CHARGED = Counter(
    "restante_charged_dollars_total", "What accounts were charged by these settlements.", per=NANO_PER_USD
)
SETTLE_SECONDS = Histogram(
    "restante_settle_seconds",
    "How long the group commits of settlements took; tasks settled by commits is the size of a group.",
    bounds=_FAST,
)
LATE_ANSWERS = Counter(
    "restante_late_answers_total", "Answers that changed nothing, since the task was another worker's by then."
)
LEASES_ENDED = Counter(
    "restante_leases_ended_total", "Leases of other processes that this one ended, since they were silent.", api=False
)
WORK_GIVEN_BACK = Counter(
    "restante_work_given_back_total", "Tasks and webhooks that were ready again by that.", api=False
)
WEBHOOK_ATTEMPTS = Counter(
    "restante_webhook_attempts_total",
    "Attempts to bring a webhook: `delivered`, `http_3xx`, `http_4xx`, `http_5xx`, `timeout`, `unreachable` (no"
    " connection, or an address that is not allowed), `not_tried` (the host let its last attempts hang), `http_other`,"
    " `broken` (by a bug of ours, which the log has).",
    ("kind", "outcome"),
    known=[(kind, "delivered") for kind in ("pingback", "postback")],
    api=False,
)
WEBHOOK_SECONDS = Histogram(
    "restante_webhook_seconds", "How long attempts took.", bounds=(0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    api=False,
)  # fmt: skip
WEBHOOKS_GIVEN_UP = Counter(
    "restante_webhooks_given_up_total", "Webhooks whose last attempt failed, by kind.", ("kind",),
    known=[("pingback",), ("postback",)], api=False,
)  # fmt: skip

# --- the database's truth, over all processes; told by the API ------------------------------------------------
DATABASE_UP = Gauge(
    "restante_database_up", "1 when what follows could be read a moment ago; else it is missing.", worker=False
)
QUEUE_READY = Gauge(
    "restante_queue_ready_tasks",
    "Tasks that wait for a worker, by model; counted to 100,000 of each.",
    ("provider", "model"),
    worker=False,
)
QUEUE_OLDEST = Gauge(
    "restante_queue_oldest_seconds", "For how long the oldest ready task has been here; 0: none is ready.",
    ("provider",), worker=False,
)  # fmt: skip
QUEUE_PARKED = Gauge(
    "restante_queue_parked_tasks",
    "Tasks that wait for a time: a next try, a batch, or (`unpaid`) a top-up or a resumption. Counted to 100,000.",
    ("until",),
    worker=False,
)
QUEUE_RUNNING = Gauge("restante_queue_running_tasks", "Tasks that workers have, live ones aside.", worker=False)
LIVE_AT_WORK = Gauge("restante_live_tasks_at_work", "Live tasks that are being answered.", worker=False)
WORKERS = Gauge("restante_workers", "Workers that live.", worker=False)
WORKERS_SERVING = Gauge(
    "restante_workers_serving", "Workers that live and serve a provider.", ("provider",), worker=False
)
RECENT_CALLS = Gauge(
    "restante_provider_recent_calls", "Calls of the last five minutes, in all processes, to a provider.",
    ("provider",), worker=False,
)  # fmt: skip
RECENT_FAILED = Gauge(
    "restante_provider_recent_failed", "Of these, those that failed by the provider's fault.", ("provider",),
    worker=False,
)  # fmt: skip
WEBHOOKS_WAITING = Gauge(
    "restante_webhooks_waiting",
    "Webhooks owed: `ready`, or `retry` after a failed attempt. Counted to 100,000.",
    ("state",),
    worker=False,
)
WEBHOOKS_OLDEST = Gauge(
    "restante_webhooks_oldest_seconds", "For how long the oldest webhook that was not tried yet is owed; 0: none.",
    worker=False,
)  # fmt: skip
WEBHOOK_HOSTS_FAILING = Gauge(
    "restante_webhook_hosts_failing", "Hosts with webhooks that wait for another attempt.", worker=False
)
BALANCE = Gauge("restante_balance_dollars", "What all accounts may still spend.", worker=False)
HELD = Gauge("restante_held_dollars", "What is held for unfinished tasks.", worker=False)
SPENT = Total(
    "restante_spent_dollars_total", "What all accounts were ever charged, by the ledger's cached sums.", worker=False
)
AUDIT_AGE = Gauge(
    "restante_audit_age_seconds",
    "Since an audit of the books last came to its end, by command or console; absent if none did.",
    worker=False,
)
AUDIT_DIFFERENCES = Gauge(
    "restante_audit_differences", "What it found. Anything but 0 is a broken promise.", worker=False
)

METRICS: Final = tuple(one for one in list(globals().values()) if isinstance(one, Metric))
BY_DATABASE: Final = METRICS[METRICS.index(DATABASE_UP) :]
