"""Every bound and schedule of restante, with its reason and its source.

"contract" is the API contract (the document the conformance tests are named after); "measured" means a
figure was taken before the bound was chosen. Settings that an operator may change live in config.py and
take their defaults from here. Units are in the names; sizes are bytes, times are seconds.
"""

from __future__ import annotations

from typing import Final

# --- what a client may send (contract §3.1, §12.10, §12.11) -------------------------------------------
POST_ITEMS_MAX: Final = 10_000  # above it a POST is no honest one (40503): each item costs an entry in the answer
POST_COMMAS_MAX: Final = 1_000_000  # 100 tasks at every limit hold fewer; counted before anything is parsed
TASKS_PER_POST: Final = 100  # the rest of a POST is answered 40006, task by task
PROMPT_CHARS: Final = 500  # code points, as are all character counts here
SYSTEM_MESSAGE_CHARS: Final = 500
CHAIN_MESSAGES: Final = 10
CHAIN_MESSAGE_CHARS: Final = 500
TAG_CHARS: Final = 255
URL_CHARS: Final = 2_048
OUTPUT_TOKENS_MAX: Final = 4_096
OUTPUT_TOKENS_DEFAULT: Final = 2_048
OUTPUT_TOKENS_MIN_REASONING: Final = 1_024  # thinking is paid from the same budget
TEMPERATURE_MAX: Final = 2.0
TEMPERATURE_DEFAULT: Final = 1.3
TOP_P_DEFAULT: Final = 0.9
MODEL_NAME_CHARS: Final = 200  # ours: no provider's name comes near it

# 100 tasks at every field's limit in \uXXXX escapes are 7 MB of honest JSON (notes http, trap 10).
BODY_BYTES: Final = 16 * 1024 * 1024  # contract §12.15
# An oversized body is read to its end up to here, so that the client hears the answer instead of a reset.
BODY_DRAIN_BYTES: Final = 64 * 1024 * 1024
ECHO_DEPTH: Final = 100  # of a field that is refused: what is nested deeper is not echoed, many readers stop there
GZIP_MEMBERS: Final = 100  # of a compressed body: each costs 30 us and a copy of the rest; tools write one

# RESTANTE_LIMITS=relaxed (contract §12.25), for those who only have themselves to protect from.
TASKS_PER_POST_RELAXED: Final = 1_000
PROMPT_CHARS_RELAXED: Final = 100_000  # of the prompt, the system message and each message of the chain
POST_ITEMS_RELAXED_MAX: Final = 100_000  # ten times the tasks, ten times the rest
POST_COMMAS_RELAXED_MAX: Final = 10_000_000

# --- how often a client may call (contract §5.1, §12.6, §12.21) ---------------------------------------------
RATE_TASK_POST: Final = 2_000  # calls a minute, as all rates here
RATE_LIVE: Final = 2_000
RATE_TASKS_READY: Final = 20
RATE_USER_DATA: Final = 6
RATE_APPENDIX: Final = 10  # appendix/errors, appendix/status, id_list, errors: each
RATE_MAX: Final = 1_000_000_000  # of a limit that is set; fits the counter's 32 bits together with a block
LIVE_AT_ONCE: Final = 30  # live tasks at work of an account
RATE_SINGLE_MAX: Final = 20  # limits up to this are counted call by call in the database, exactly
RATE_BLOCKS: Final = 50  # larger ones in blocks of a fiftieth: a process may leave one unused at the minute's end
RATE_WINDOWS_REMEMBERED: Final = 20_000  # in one process; a forgotten one costs the rest of its block
USAGE_FLUSH_SECONDS: Final = 1.0  # what a killed process's usage figures may lack; one small statement a second
USAGE_DAYS: Final = 8  # usage figures: user_data shows today's, people may ask about last week's
IDEMPOTENCY_KEY_CHARS: Final = 255  # contract §12.24
IDEMPOTENCY_HOURS: Final = 24.0

# --- what a client gets back ---------------------------------------------------------------------------
READY_LISTED: Final = 1_000  # tasks_ready rows a call (contract §3.2)
# A process looks so often, at an account's listings, where they have to begin (docs/adr/0003); more often only leaves
# more old versions of the mark to read, under an old snapshot.
READY_MARK_SECONDS: Final = 5.0
READY_MARK_STEP: Final = 10_000  # places that a mark must gain: reading so many dead entries costs half a millisecond
LIVE_SECONDS: Final = 120.0  # contract §5.2: then 50401

LISTED_ROWS_MAX: Final = 1_000  # id_list and errors, a call (contract §3.11, §3.12)
LISTED_OFFSET_MAX: Final = 100_000_000
ID_LIST_DAYS: Final = 186  # six months, in any of which a client may count (contract §3.11)
ID_LIST_METADATA_DAYS: Final = 31  # one month
CLOCK_TOLERANCE_SECONDS: Final = 60.0  # "until now" by a client's clock that is ahead of ours
ID_LIST_AT_ONCE: Final = 2  # walks of a process, one of an account: a quarter of its connections (flow/walks.py)
RESEND_IDS: Final = 100  # webhook_resend, a call (contract §3.10)

DOCS_CACHE_SECONDS: Final = 300  # /openapi.json and /docs: they change when restante is updated, no sooner
GZIP_FROM_BYTES: Final = 1_024  # smaller answers are sent as they are: one packet either way
GZIP_THREAD_BYTES: Final = 128 * 1024  # larger ones are compressed beside the event loop, which it would stop for 1 ms

# --- the console (docs/console.md) -----------------------------------------------------------------------------
CONSOLE_SESSION_SECONDS: Final = 12 * 3_600.0  # from logging in: a working day
CONSOLE_FORM_BYTES: Final = 256 * 1024  # of a posted form: a task at every limit, each byte escaped, is below
CONSOLE_FORM_FIELDS: Final = 100  # of it; the largest of our own has about 20
CONSOLE_LOGIN_BYTES: Final = 16 * 1024  # of the log-in form, which anybody may send
CONSOLE_PATH_CHARS: Final = 300  # of a page's path; the longest of our own has 70
CONSOLE_CALLS: Final = 64  # pages at work in a process, beyond 503: people open tens
CONSOLE_CALLS_ACCOUNT: Final = 24  # of one account, and of strangers: a live answer has its place for two minutes
CONSOLE_READS: Final = 2  # of these at the database at once: a quarter of a process's connections
CONSOLE_READ_SECONDS: Final = 5.0  # of a page's reading: old snapshots slow claims (design, Data 10)
CONSOLE_STREAMS: Final = 200  # of nudges in a process; each is a connection and a look a second. Beyond, pages poll
CONSOLE_STREAMS_ACCOUNT: Final = 20  # of one account; browsers open 6 connections to a host, hidden pages close theirs
CONSOLE_NUDGE_SECONDS: Final = 1.0  # between looks whether something changed, while somebody watches
CONSOLE_HEARTBEAT_SECONDS: Final = 15.0  # between signs of life on a stream: proxies cut what is silent for 30 to 60
CONSOLE_STREAM_SECONDS: Final = 600.0  # of one stream; the browser asks anew, and proves anew who it is
CONSOLE_QUEUE_SEEN: Final = 20_000  # unfinished tasks, or webhooks, that a page counts; beyond it says "+"
CONSOLE_ROWS: Final = 50  # of a page of a list
CONSOLE_SEARCH_SECONDS: Final = 0.06  # that a list looks for rare tasks before it says how far it came
CONSOLE_MINUTES: Final = 60  # of answers on the first page
CONSOLE_FIGURES_DAYS: Final = 8  # that figures by minute are kept, as usage figures
CONSOLE_ACCOUNTS_LISTED: Final = 200  # in the operator's choice of accounts; others are found by typing their login

# --- the console's books and deeds (docs/console.md) -------------------------------------------------------------
CONSOLE_LOOKED: Final = 2_000  # webhooks, or an account's tasks, that one page of webhooks goes over: some 20 ms
CONSOLE_COUNTED: Final = 5_000  # counts of what waits go no further; beyond, they say so
CONSOLE_LEDGER_DAYS: Final = 30  # that a statement goes back at first
CONSOLE_LEDGER_DAYS_MAX: Final = 400  # in one statement: a year, and a month to compare it with
CONSOLE_CSV_ROWS: Final = 1_000_000  # of one file: spreadsheets read 1,048,576
CONSOLE_CSV_PAGE: Final = 5_000  # of them read at once
CONSOLE_ATTEMPTS: Final = 100  # of a webhook that are shown; a schedule has 10, resending begins it anew
CONSOLE_RESEND_TASKS: Final = 5_000  # tasks whose failed webhooks one form sends again: some 5 s
CONSOLE_PAYLOAD_BYTES: Final = 256 * 1024  # of a postback's body that are shown; the whole of it can be downloaded
DEED_HOURS: Final = 24.0  # that a form which was sent is known again
DEED_SECRET_SECONDS: Final = 60.0  # that a double click finds the password, or the live answer, that the first one made
DEED_PATIENCE_SECONDS: Final = 20.0  # that a page waits for a deed; it goes on, and the page says so
AUDIT_SAID: Final = 20  # differences that a verdict keeps the words of; the rest is counted
VERDICTS_SHOWN: Final = 5

# --- connections of an API process (web/connections.py) --------------------------------------------------------
HTTP_CONNECTIONS: Final = 10_000  # some 12 KiB each; beyond, one that waits makes room, else 503
HTTP_FILES_RESERVED: Final = 256  # of the files the system allows: the database's, the providers', the log's
HTTP_HEADER_SECONDS: Final = 20.0  # from the connection, or the answer before, until a call's headers are complete
HTTP_REQUEST_SECONDS: Final = 300.0  # from then until its body is: 16 MiB at 0.5 Mbit/s
HTTP_BODY_SILENT_SECONDS: Final = 30.0  # without a byte of it
HTTP_UNREAD_SECONDS: Final = 30.0  # in which a client that does not keep up takes less of its answer than
HTTP_UNREAD_BYTES: Final = 32 * 1024  # this: 1 KiB a second
HTTP_HEADER_BYTES: Final = 65_536  # of a call's line and headers; browsers and proxies stay below 16 KiB
HTTP_HEADERS: Final = 128  # honest calls have about 10, proxies add a few
HTTP_PIPELINED: Final = 32  # calls sent ahead on one connection; each costs some 3 KiB before anybody asks who sends it
HTTP_LOOK_SECONDS: Final = 1.0  # between looks at all connections: 3 ms for 10,000
HTTP_LINGER_SECONDS: Final = 1.0  # a refused connection stays open so long, else its client loses the answer
HTTP_LINGERING: Final = 256  # of them at once
HTTP_NOTE_SECONDS: Final = 60.0  # between log lines about who was turned away
CALLS_OF_ACCOUNT: Final = HTTP_CONNECTIONS // 4  # at work in one process; beyond, 503
# POSTs of an account at the database at once, in one process: they wait for each other there, since each locks the
# account, and those that wait must not hold the connections that other accounts need. One runs while one comes.
ACCEPTS_OF_ACCOUNT: Final = 2
CALL_BODY_BYTES: Final = 512 * 1024 * 1024  # of bodies at work in one process, inflated; beyond, 50000
CALL_BODY_BYTES_ACCOUNT: Final = CALL_BODY_BYTES // 2  # of one account's: 16 bodies of the largest size
CALL_BODY_BYTES_FREE: Final = 65_536  # of each body are not counted: honest ones mostly find room whoever floods

# --- running -------------------------------------------------------------------------------------------
CALL_SECONDS: Final = 600.0  # one provider call of a queued task; the slowest documented answers take minutes
LEASE_SECONDS: Final = 60.0  # a silent worker's tasks go to another after this
HEARTBEATS_PER_LEASE: Final = 4  # three may be lost before the lease is
LOST_LEASES_MAX: Final = 5  # more than this: the task kills its workers; it fails (design, Data 5)
# Between calls that the provider put off, ±20 % jitter. They go on until the deadline ends the task: an outage is over
# for each task a quarter of an hour later at the most.
RETRY_SECONDS: Final = (1.0, 2.0, 5.0, 12.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0)
COSTLY_TRIES_MAX: Final = 6  # calls that were paid for and gave nothing (or broke us) before the task fails
WORKER_CONCURRENCY: Final = 500  # calls in flight in one worker process; each is a coroutine and a socket
CLAIM_BATCH: Final = 500  # tasks a claim takes at once: a fifth less of PostgreSQL a task than 200 (measured)
UNSETTLED_MAX: Final = 1_000  # tasks that wait for their settlement beyond those being called; then no more are claimed
GROUP_MAX: Final = 1_000  # members of one group commit (design, Data 3)
NOTIFICATION_CHARS: Final = 4_000  # PostgreSQL carries 7,999 bytes; lanes beyond are found by looking
POLL_SECONDS: Final = 0.5  # a worker looks by itself this often, should a notification be lost
POLL_BUSY_SECONDS: Final = 0.02  # without notifications, after work was found; then twice as long each time, up to it
PROMOTE_SECONDS: Final = 0.5  # parked tasks whose time has come are looked for this often
PROMOTE_BATCH: Final = 1_000
OPEN_FILES: Final = 65_536  # asked of the system for a serving process, where it allows them
KEEP_ALIVE_SECONDS: Final = 5  # a connection on which nothing is asked is closed, also while the process stops
# Between the kernel's no to new connections and the closing of the socket: those it had made are accepted by then.
LAST_CALL_SECONDS: Final = 0.2
DRAIN_SECONDS: Final = 30.0  # SIGTERM: calls in flight may end; then they go back to the queue
AUDIT_ROWS: Final = 50_000  # that the audit looks at in one statement: a snapshot of some 0.3 s
COMMIT_TRIES: Final = 5  # serialization failures and deadlocks of one transaction, then it is an error

CANCEL_IDS_MAX: Final = 10_000  # named in one request to cancel
END_BATCH: Final = 500  # tasks cancelled or expired in one transaction
ERASE_BATCH: Final = 5_000  # webhooks deleted, attempts looked at in one statement of an erase: some 20 ms
ERASE_POLL_SECONDS: Final = 0.05  # between looks whether an answer that is just being stored is; a group takes 8 ms
DEADLINE_SECONDS: Final = 72 * 3_600.0  # contract §5.2: then a task has failed
DEADLINE_HOURS_MAX: Final = 24 * 30  # of a deadline that is set: a month is no deadline any more

# --- webhooks (contract §4, §12.18-12.20) ---------------------------------------------------------------
DELIVERY_SECONDS: Final = 10.0  # a receiver's time to answer, name look-up and connection included
DELIVERY_RETRY_SECONDS: Final = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
DELIVERY_CONCURRENCY: Final = 400  # deliveries in flight in one worker process; each is a coroutine and a socket
DELIVERIES_PER_HOST: Final = 50  # of them to one host
DELIVERIES_UNRECORDED: Final = 400  # attempts that wait for their commit; beyond them no more are begun
DELIVERY_ACCOUNT_SHARE: Final = 2  # no account has more than one in so many of them, however many hosts it names
HANGING_AFTER: Final = 10  # attempts in a row without an answer: then the host gets probes instead of everything
HANGING_PROBES: Final = 2  # at once
HANGING_FRESH_SECONDS: Final = 2.0  # after such an attempt the host is given up without asking it again
HANGING_HOSTS_REMEMBERED: Final = 10_000  # in one worker
DELIVERY_PAIRS: Final = 500  # (host, account) pairs that one look goes over; the next look goes on behind them
DELIVERY_REPLY_BYTES: Final = 2_048  # read of a receiver's reply, and kept for the client's eyes
DELIVERY_ERROR_CHARS: Final = 500  # of what went wrong, in words
DELIVERY_DRAIN_SECONDS: Final = DELIVERY_SECONDS + 1.0  # no attempt takes longer
RESOLVER_THREADS: Final = 64  # name look-ups at once: a few names that hang stall none of the others

# --- status (contract §3.9) -----------------------------------------------------------------------------
STATUS_QUEUE_SECONDS: Final = 300.0  # a ready task waits longer: long_execution_time; a busy hour, not a busy minute
STATUS_WEBHOOK_SECONDS: Final = 60.0  # a webhook's first attempt waits longer: webhook_delay; idle, it waits ~0.5 s
STATUS_CALLS_SECONDS: Final = 300  # provider calls count this long: long enough for a verdict, short enough to recover
STATUS_CALLS_BUCKET_SECONDS: Final = 10  # they are counted in steps of this
STATUS_CALLS_MIN: Final = 10  # fewer calls prove nothing
STATUS_FAILED_SHARE: Final = 0.5  # more failed ones: partial_outage
STATUS_OLDEST: Final = 1_000  # unfinished tasks looked at, from the oldest on: ~1 ms
STATUS_PAIRS: Final = 1_000  # (host, account) pairs looked at, and
STATUS_DELIVERIES_OF_PAIR: Final = 20  # of each so many webhooks, oldest first

# --- the database --------------------------------------------------------------------------------------
MIGRATION_POLL_SECONDS: Final = 0.2  # between looks whether the processes of the old schema have ended
DAYS_AHEAD: Final = 7  # daily partitions exist this far ahead (design, Data 8)
CLOCK_APART_SECONDS: Final = 72_000.0  # this host and the database; less than a key is kept (contract §12.24)
RETENTION_SECONDS: Final = 3_600.0  # between looks for days to drop
DROP_LOCK_SECONDS: Final = 2  # a drop that would wait longer for readers is left to the next look
READY_SECONDS: Final = 3 * 86_400.0  # tasks_ready shows a task this long from its listing (contract §3.2, §12.28)
READY_EXPIRED_BATCH: Final = 10_000
RESULT_DAYS: Final = 34  # answers and requests: 30 days from completion (contract §5.3), which is within 3 of posting
TASK_DAYS: Final = 186  # tasks: six months (contract §5.3, id_list)
ERROR_DAYS: Final = 7  # attempts of webhooks (contract §5.3, errors)
DELIVERIES_SWEPT_BATCH: Final = 5_000  # looked at, and at the most deleted, in one statement
HOUSEKEEPING_SECONDS: Final = 60.0  # between looks for days to make; a process that was suspended soon catches up
SWEEP_BATCH: Final = 10_000  # expired rows deleted at each of those looks, a minute's worth of 166 a second
DATABASE_CONNECT_SECONDS: Final = 5.0  # for one host of the DSN; then the next. Milliseconds where it answers
# A database host that vanished without a word is given up after this silence of its kernel, not of PostgreSQL, which
# may think as long as it likes: shorter than a failover takes, longer than a switch that learns a new path.
DATABASE_SILENT_SECONDS: Final = 10.0
DATABASE_PROBE_AFTER_SECONDS: Final = 4.0  # of a connection on which nothing comes
DATABASE_PROBE_SECONDS: Final = 2.0
# The same from PostgreSQL's side: a worker that was cut off within a transaction holds its rows locked until then.
DATABASE_CLIENT_SILENT_SECONDS: Final = 20
# The standby that pages are read from (RESTANTE_READ_DATABASE_URL); while it fails, they are read from the primary.
STANDBY_OPEN_SECONDS: Final = 12.0  # to connect and look at it: two hosts of which one is silent. Nobody waits for it
STANDBY_ANSWER_SECONDS: Final = 2.0  # that a page waits for a sign of it, once; people notice longer
STANDBY_PAGE_SECONDS: Final = 30.0  # of all of a page's statements there: several may take CONSOLE_READ_SECONDS
STANDBY_AGAIN_SECONDS: Final = 2.0  # before it is asked again: it is back on its pages before people wonder
STANDBY_BEHIND_SECONDS: Final = 3.0  # beyond this a page says how old it is; below, nudges and eyes are as late
POOL_CONNECTIONS: Final = 8  # a process; the embedded server allows 100 in all
READY_DATABASE_SECONDS: Final = 2.0  # /readyz waits this long for the database; probes give up after a few
CREDENTIALS_SECONDS: Final = 3.0  # an API process believes a password this long (contract: revoked within 5 s)
CREDENTIALS_CACHED: Final = 10_000  # proven Authorization headers remembered a process

# --- accounts ------------------------------------------------------------------------------------------
ACCOUNTS_MAX: Final = 65_535  # the account's four hexadecimal digits in a task id (design, Data 1)
LOGIN_CHARS: Final = 255
AUTHORIZATION_BYTES: Final = 4_096  # of the header; a longer one is nobody's
PASSWORD_OVERLAP_HOURS_MAX: Final = 24 * 30  # that a changed password goes on being good: a month is no change any more
PASSWORD_CHARS_MIN: Final = 16  # of a password a person chose; generated ones carry 192 bits
PASSWORD_DISTINCT_MIN: Final = 8
USD_MAX: Final = 1_000_000  # one top-up, limit or cap; the whole ledger adds up within 64 bits: 9,223 of them

# --- the embedded model (notes embedded, B) ------------------------------------------------------------
EMBEDDED_CONTEXT_TOKENS: Final = 8_192  # a slot: the model's own limit

# --- the Gemini adapter (notes providers, 2) ----------------------------------------------------------
API_KEY_CHARS: Final = 4_096  # any provider's keys are below 300; a larger file is some other file
# A file changed this recently is read again at every call: two writes of one length within one tick of the file
# system's clock (up to 2 s, on FAT) look like one.
API_KEY_UNSETTLED_SECONDS: Final = 3.0
GEMINI_REPLY_BYTES: Final = 32 * 1024 * 1024  # of one reply, unpacked; 65,536 output tokens are below 1 MiB
GEMINI_CONNECT_SECONDS: Final = 10.0  # for name, TCP and TLS; the call's own time goes on counting
GEMINI_MODELS_SECONDS: Final = 3_600.0  # the list of models is believed this long
GEMINI_MODELS_RETRY_SECONDS: Final = 60.0  # with an old list in hand, asking again after a failure
GEMINI_MODELS_CALL_SECONDS: Final = 30.0  # all pages together
GEMINI_MODELS_PAGES: Final = 20  # of 1,000 models each; Google lists about 60
CATALOGUE_SECONDS: Final = 60.0  # between looks at a provider's list of models, which it may remember for longer
RETRY_AFTER_MAX: Final = 86_400.0  # seconds; a longer word of a provider is a mistake, and ours is the deadline
PRICE_WARNINGS_REMEMBERED: Final = 1_000  # and warned about once; far more than Google has
PRICE_USD_MAX: Final = 100_000  # a million tokens or a thousand searches in RESTANTE_PRICES; beyond it is a slip
PRICE_FILE_BYTES: Final = 1024 * 1024  # of RESTANTE_PRICES; a larger file is some other file
GEMINI_CONCURRENCY: Final = 10_000  # calls in flight of a process; RESTANTE_CONCURRENCY and pacing bound them before
# Citations name Google's redirects; where each leads is one HEAD request of the answer's own run.
DIRECT_URL_SECONDS: Final = 2.0  # for all citations of an answer together: the most that they delay it
DIRECT_URL_MARGIN_SECONDS: Final = 1.0  # of a call's time that is left for settling what was paid for
DIRECT_URLS_PER_ANSWER: Final = 50  # Google cites 3 to 20 pages
DIRECT_URL_CONCURRENCY: Final = 200  # such requests in flight in a process; to wait for one counts too
DIRECT_URLS_REMEMBERED: Final = 20_000  # in one process, some 10 MB; the least used is forgotten first
DIRECT_URL_CHARS: Final = 8_192  # of a Location header, which is what aiohttp reads at the most

# --- OpenAI-compatible servers and what all providers share ---------------------------------------------
PROVIDER_CONNECT_SECONDS: Final = GEMINI_CONNECT_SECONDS
PROVIDER_REPLY_BYTES: Final = 8 * 1024 * 1024  # of one reply; 4,096 tokens of answer and any thinking are far below
PROVIDER_MODELS_CALL_SECONDS: Final = 5.0  # a server's list of models: beyond, what the operator says is believed
MODELS_FILE_BYTES: Final = 1024 * 1024  # of RESTANTE_MODELS; thousands of models
SERVER_CONCURRENCY: Final = 8  # calls in flight to a server that names no other number; a GPU batches about so many
SERVER_CONCURRENCY_MAX: Final = 10_000
USD_PER_MILLION_TOKENS_MAX: Final = 1_000_000  # above it a price is a slip of the pen

# --- the scripted provider ----------------------------------------------------------------------------
SCRIPTED_WORDS_MAX: Final = 200_000  # about 1.3 MB of text: far beyond any answer, and no way to fill the memory
SCRIPTED_SECONDS_MAX: Final = 86_400.0  # of latency and retry_after: a day is for ever
SCRIPTED_TOKENS_MAX: Final = 1_000_000_000
SCRIPTED_TASKS_REMEMBERED: Final = 100_000  # task ids that fail_times counts; the oldest are forgotten first

# --- the embedded model's process ---------------------------------------------------------------------
MODEL_START_SECONDS: Final = 60.0  # 0.5-2 s measured, most of it reading 98 MB; a cold network disk is far slower
MODEL_STOP_SECONDS: Final = 2.0  # from the end of its stdin; 0.02 s measured. Then it is killed
MODEL_LOCK_SECONDS: Final = 2 * MODEL_START_SECONDS  # another process may start the child and first have to kill one
MODEL_LOCK_POLL_SECONDS: Final = 0.02  # nothing beside a start; unlike a thread in flock(), it can be cancelled
MODEL_PROBE_SECONDS: Final = 10.0  # 2 ms measured, generating or not: beyond this the server hangs
MODEL_LOG_TAIL_BYTES: Final = 1_000  # of the engine's log, in the message that it did not start

# --- worker processes of `restante up` ----------------------------------------------------------------
WORKER_RESTART_SECONDS: Final = (0.5, 2.0, 5.0, 15.0, 30.0)  # before the next one, after the n-th early death
WORKER_LIVED_SECONDS: Final = 60.0  # a worker that lived this long did not die of its start
WORKER_KILL_SECONDS: Final = 5.0  # beyond the drain
BROKEN_SECONDS: Final = 1.0  # before claiming goes on after a mistake of ours: the log must stay readable
RELISTEN_SECONDS: Final = 1.0  # between tries to listen for notifications; polling goes on meanwhile
SETTLE_RETRY_SECONDS: Final = (0.05, 0.2, 0.5, 1.0, 2.0)  # between tries to store an answer while the database is away

# --- pacing (contract §12.26; notes providers, 6) --------------------------------------------------------
QUOTA_MAX: Final = 1_000_000_000  # a minute, of a setting or of a provider's word; fits 32 bits
QUOTA_USED: Final = 0.94  # of a quota: the rest is room for calls that reach the provider later than they were booked
PACE_AHEAD_SECONDS: Final = 0.5  # that workers book ahead: more than claiming takes, and than a worker stalls
PACE_LATE_SECONDS: Final = 0.1  # behind its moment, a call is counted anew; QUOTA_USED leaves 3.6 of a minute
PACE_LOOK_SECONDS: Final = 0.1  # ±50 %, between looks at a bucket that gave less than was wanted
PACING_LOOK_SECONDS: Final = 1.0  # between looks at what other processes learned of buckets and keys
# A live call waits so long for its turn, then it is refused. It may book further ahead than workers do, so that it is
# not they who have every turn.
LIVE_PERMIT_SECONDS: Final = 1.0
LEARNED_SECONDS: Final = 86_400.0  # a quota that the provider named is believed: tiers change, and nobody says so
BUCKET_FORGOTTEN_SECONDS: Final = 7 * 86_400.0  # after its last pause
TOKENS_ESTIMATED: Final = 1_000  # input of a call, before any was seen; then a running mean of what was seen
TOKENS_MEAN_SHARE: Final = 0.05  # that a call has in this mean
WINDOW_FLOOR: Final = 1.0  # calls in flight of a bucket that refuses everything
WINDOW_STEP: Final = 0.05  # of the full window, added for each round of answers: a minute from nothing at 3 s a call
UNNAMED_PAUSE_SECONDS: Final = 1.0  # of a bucket that refuses its only call and names no time
PUT_BACK_MAX: Final = 5  # times that a task keeps its turn although a quota was used up; then it is parked
PUT_BACK_REMEMBERED: Final = 10_000  # tasks of a process that this is counted for
KEY_WAIT_SECONDS: Final = 60.0  # between looks whether a rejected key is good again (contract §12.26)
KEY_PROBE_SECONDS: Final = 10.0  # for such a look: an unpaid list of one model, or a question with nothing in it
KEY_SHUT_SECONDS: Final = 86_400.0  # after the last such look: then nobody has the key any more
KEYS_MAX: Final = 100  # API keys of one provider
API_KEYS_BYTES: Final = 65_536  # of the file that holds them

# --- batches (Gemini's Batch API: notes providers, 2) -----------------------------------------------------
BATCH_TASKS: Final = 2_000  # of a full batch: 100 batches of a project may be open, and a worker reads them in pages
BATCH_BYTES: Final = 64 * 1024 * 1024  # of its calls, held in memory while they are uploaded; Google takes 2 GB
BATCH_INLINE_TASKS: Final = 100  # more are uploaded: answers to inline calls come in one reply of GEMINI_REPLY_BYTES
BATCH_INLINE_BYTES: Final = 16 * 1024 * 1024  # Google takes 20 MB
BATCH_RESULT_BYTES: Final = 2**31  # of a file of results, kept on disk; its lines are bounded by GEMINI_REPLY_BYTES
BATCH_PAGE: Final = 200  # tasks read, answers settled at a time
BATCHES_OPEN: Final = 90  # Google allows 100 at once; tasks beyond are called directly
BATCH_LOOK_SECONDS: Final = 2.0  # between looks at the database for what is due
BATCH_POLL_SECONDS: Final = (30.0, 30.0, 60.0, 60.0, 120.0, 300.0)  # between looks at a running batch; the last goes on
BATCH_HOURS: Final = 26.0  # Google's target is 24 h; then it is cancelled
BATCH_SPARE_SECONDS: Final = 900.0  # from cancelling until what is not answered is called directly whatever it says
GATHER_SPARE_SECONDS: Final = 120.0  # beyond the time to gather: then nobody gathers, and tasks are called directly
BATCH_CREATE_SECONDS: Final = 60.0  # for Google's answer to a batch's making
BATCH_UPLOAD_SECONDS: Final = 600.0  # 64 MiB at 1 Mbit/s
BATCH_DOWNLOAD_SECONDS: Final = 1_800.0
BATCH_CALL_SECONDS: Final = 30.0  # for the other questions
# After a making whose end nobody saw: by then it is in Google's list, or was never made. Twice the call's own time.
BATCH_DOUBT_SECONDS: Final = 2 * BATCH_CREATE_SECONDS
BATCH_MAKING_SECONDS: Final = 3_600.0  # that Google may refuse to make one; then its tasks are called directly
BATCH_LIST_PAGES: Final = 20  # of 100 batches each, newest first, in which ours is looked for
BATCH_KEPT_DAYS: Final = 90  # that a batch is remembered after its end
BATCH_DIRECT_URL_SECONDS: Final = 10.0  # as DIRECT_URL_SECONDS, of an answer that nobody waits for

# --- the embedded PostgreSQL (notes embedded, A) ---------------------------------------------------------
POSTGRES_SOCKET_PATH_BYTES: Final = 100  # the kernel allows 107, macOS 103
POSTGRES_POLL_SECONDS: Final = 0.02  # between looks at a server that starts or stops
POSTGRES_REPORT_SECONDS: Final = 1.0  # a wait longer than this is explained to the user
POSTGRES_PROBE_SECONDS: Final = 5.0  # a connection that stays silent this long counts as no answer
POSTGRES_UNREACHABLE_SECONDS: Final = 30.0  # a running server opens its socket before anything slow
POSTGRES_RETRY_SECONDS: Final = 0.2  # the last processes of a killed server hold its memory a moment
POSTGRES_RETRIES: Final = 100  # of such starts
POSTGRES_SHARED_BUFFERS_BYTES: Final = (32 << 20, 1 << 30)  # a sixteenth of the memory, within these
POSTGRES_FULL_BYTES: Final = 32 << 20  # less room than two WAL segments: why it does not start, most likely
POSTGRES_RESTART_SECONDS: Final = (0.5, 1.0, 2.0, 5.0, 10.0)  # before the next try to bring it back, after the n-th
POSTGRES_RESTARTED_SECONDS: Final = 1.0  # the most of it, where the last try brought it back, if not for long
POSTGRES_LIVED_SECONDS: Final = 60.0  # a server that lived this long did not die of its start

# --- room on the disk (docs/operations.md) ---------------------------------------------------------------
# The smaller of the two is kept free of new tasks. A task that is accepted needs some 4 KB more until it is fetched,
# WAL included (docs/scale.md), so that a gigabyte settles 250,000.
DISK_RESERVE_SHARE: Final = 0.05
DISK_RESERVE_BYTES: Final = 1_000_000_000
DISK_RESERVE_SHARE_MAX: Final = 0.99  # of a reserve that is set: beyond it nothing would ever be taken
DISK_RESERVE_BYTES_MAX: Final = 10**15
DISK_RESUME: Final = 1.05  # tasks are taken again from so much more than the reserve on: files come and go
DISK_LOOK_SECONDS: Final = 1.0  # at 3,333 tasks a second, 7 MB are written between two looks

# --- backups (docs/operations.md) ------------------------------------------------------------------------
BACKUP_NICENESS: Final = 10  # of the programs that copy and check: those that serve go before
BACKUP_REPLY_BYTES: Final = 16_384  # kept of what such a program says, for the words why it failed
BACKUP_REPORT_SECONDS: Final = 10.0  # between lines of progress, where no terminal can show a bar

# --- the log ---------------------------------------------------------------------------------------------
LOG_REPEATS: Final = 5  # lines of a kind that say that the database is away, in
LOG_REPEAT_SECONDS: Final = 10.0  # : a dozen loops would say it twice a second each, on a disk that may be full

# --- metrics and traces (docs/observability.md) ------------------------------------------------------------
FIGURES_SECONDS: Final = 5.0  # that the database's figures are believed: several may scrape, each every few seconds
FIGURES_DATABASE_SECONDS: Final = 5.0  # for their reading; then they are missing from the page
FIGURES_COUNTED: Final = 100_000  # rows that are counted of each kind: some 10 ms; beyond, the queue's age says more
METRICS_TOKEN_CHARS_MIN: Final = 16
METRICS_RETRY_SECONDS: Final = 10.0  # before the next try to listen, where the port is taken: work goes on meanwhile
TRACES_FLUSH_SECONDS: Final = 3.0  # for the last spans of a process that stops

# --- restante.client and the command line (docs/client.md, docs/cli.md) --------------------------------------
CLIENT_PATIENCE_SECONDS: Final = 300.0  # for a server that is away or busy: longer than a restart or a failover takes
CLIENT_RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # before the n-th next try, ±20 %; the last goes on
CLIENT_CALL_SECONDS: Final = 60.0  # for one answer; the slowest, a listing of months, takes a few
CLIENT_LIVE_SECONDS: Final = LIVE_SECONDS + 30.0
CLIENT_AT_ONCE: Final = 8  # answers fetched at once; more gain nothing on one connection pool of the server
# Unfinished tasks looked at by their ids in each round, whatever tasks_ready says: a few are awaited without it, and
# of many none is waited for in vain that another program collected or a postback took.
CLIENT_LOOKS: Final = 20
CLIENT_LOOK_SECONDS: Final = (0.1, 2.0)  # between rounds: the first pause, and what it grows to while nothing comes
CLIENT_NUDGED_SECONDS: Final = 15.0  # the same where webhooks tell: looking is for those that were lost
CLIENT_READY_SECONDS: Final = 0.5  # between looks at tasks_ready where its rate is without limit
CLIENT_MINUTE_SPARE_SECONDS: Final = 0.5  # beyond the minute's end: its clock is the database's
WEBHOOK_TOLERANCE_SECONDS: Final = 300.0  # of a webhook's timestamp, as Standard Webhooks has it
RECEIVER_BODY_BYTES: Final = 64 * 1024 * 1024  # of a postback, unpacked: far beyond any answer
PROMPTS_FILE_BYTES: Final = 1024 * 1024 * 1024  # of prompts, all of which are checked before one is posted
PROMPTS_FAULTS_SHOWN: Final = 20  # lines of it that are wrong; the rest is counted
# A POST whose end nobody saw is repeated with its Idempotency-Key, while that has its answer (contract §12.24).
RESUME_SPARE_SECONDS: Final = 600.0  # of an Idempotency-Key's time that is not relied upon
CLIENT_POST_BYTES: Final = BODY_BYTES // 2  # of one POST's tasks: a relaxed server takes single ones of 1 MB
PARQUET_ROWS: Final = 10_000  # of a row group: some 20 MB of answers
TAIL_SECONDS: Final = 3_600.0  # `task tail` looks at what was posted since then
TAIL_LOOK_SECONDS: Final = 6.5  # between its looks: id_list may be asked 10 times a minute
RECEIVER_SHOWN_CHARS: Final = 200  # of what a webhook brought, on a terminal

# --- what `restante doctor` finds worth a word (docs/operations.md) -----------------------------------------
DOCTOR_DATABASE_SECONDS: Final = 20.0  # for the database's answer to one check; the audit takes what it takes
DOCTOR_KEY_SECONDS: Final = 15.0  # for a provider's answer whether it takes a key
DOCTOR_DISK_RESERVES: Final = 3  # free room of fewer reserves than this is worth a word
DOCTOR_CLOCK_SECONDS: Final = 2.0  # that this host's clock and the database's may differ: leases and deadlines bear it
DOCTOR_CLOCK_FAULT_SECONDS: Final = 30.0  # half a lease
DOCTOR_CONNECTIONS_SHARE: Final = 0.8  # of max_connections in use
DOCTOR_SNAPSHOT_SECONDS: Final = 600.0  # that a transaction or a snapshot is open: claims and listings grow slow
DOCTOR_PREPARED_SECONDS: Final = 60.0  # restante prepares none; a forgotten one holds locks for ever
DOCTOR_SYNC_SECONDS: Final = 10.0  # that a commit waits for a synchronous standby
DOCTOR_SLOT_BYTES: Final = 4 << 30  # of WAL that a replication slot keeps
DOCTOR_DEAD_ROWS: Final = 1_000_000  # of a slim table; autovacuum comes at 20,000
DOCTOR_FREEZE_AGE: Final = 500_000_000  # transactions; autovacuum comes at 200 million, PostgreSQL stops at 2,000
DOCTOR_OVERDUE_SECONDS: Final = 120.0  # that a lease, a parked task or a deadline is over and nobody acted
DOCTOR_DAYS_AHEAD: Final = 2  # fewer days ahead than this are a fault, fewer than DAYS_AHEAD worth a word
DOCTOR_PRICES_DAYS: Final = 180  # that a price list may be old
DOCTOR_SHOWN: Final = 5  # of each kind: accounts, hosts, differences; the rest is counted
