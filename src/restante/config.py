"""Every setting: its environment variable, its default and its reason. Read once, at the start of a process.

`RESTANTE_` and the field's name in capitals is the variable, except where a field names its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Meta

from restante.core import limits
from restante.core.allowance import UNLIMITED, Allowance, Endpoint
from restante.core.errors import OperatorError
from restante.core.money import Nano, parse_usd
from restante.core.reserve import Reserve, parse_reserve
from restante.observing.settings import Observing
from restante.webhooks.target import check_proxy

ProviderName = Literal["gemini", "embedded", "scripted"]

T = TypeVar("T")
Rate = Annotated[int, Meta(ge=0, le=limits.RATE_MAX)]

_PREFIX = "RESTANTE_"
_OWN_NAMES = {"gemini_api_key": "GEMINI_API_KEY", "gemini_api_key_file": "GEMINI_API_KEY_FILE"}


def default_data_dir() -> Path:
    """/var/lib/restante for root, whose home other users (the database's service user) cannot enter; else the
    user's own data directory."""
    if os.geteuid() == 0:
        return Path("/var/lib/restante")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "restante"


class Settings(Observing, frozen=True, kw_only=True):
    """What an operator may decide. The descriptions are the reference documentation."""

    data_dir: Annotated[
        Path, Meta(description="Where the embedded PostgreSQL, its files and the embedded model live.")
    ] = msgspec.field(default_factory=default_data_dir)
    database_url: Annotated[
        str | None,
        Meta(
            description="A PostgreSQL 15 or newer to use instead of the embedded one. It may name several hosts, of"
            " which the one that takes writes is used: `postgresql://restante@db1,db2/restante`."
        ),
    ] = None
    read_database_url: Annotated[
        str | None,
        Meta(
            description="A hot standby of that database, from which the API reads the pages of its console; of several"
            " hosts the first that is one. Pages are read from the primary while it fails. See docs/scale.md."
        ),
    ] = None
    disk_reserve: Annotated[
        str,
        Meta(
            description="Room on the disk below which new tasks are refused, while all that was taken is"
            " run, settled, brought and collected: a share (`5%`), an amount (`2GB`), or `0` for none. `auto`: the"
            " smaller of 5 % and 1 GB. See docs/operations.md."
        ),
    ] = "auto"
    disk_path: Annotated[
        Path | None,
        Meta(
            description="A directory on the disk that is watched for this. By default RESTANTE_DATA_DIR; with"
            " RESTANTE_DATABASE_URL none, since how full that PostgreSQL's disk is cannot be known from outside."
        ),
    ] = None
    database_connections: Annotated[int, Meta(ge=2, le=1_000, description="Pooled connections of one process.")] = (
        limits.POOL_CONNECTIONS
    )
    database_prepared: Annotated[
        Literal["auto", "on", "off"],
        Meta(
            description="Whether statements are prepared once a connection. `auto`: not through a pooler, since"
            " PgBouncer before 1.21 cannot; `on` where yours can (`max_prepared_statements`). See docs/scale.md."
        ),
    ] = "auto"
    host: Annotated[str, Meta(description="Address to listen on; put a TLS proxy before anything but loopback.")] = (
        "127.0.0.1"
    )
    fd: Annotated[
        Annotated[int, Meta(ge=3, le=1_023)] | None,
        Meta(
            description="A listening socket that was opened by whoever starts this process, in place of host and port:"
            " 3 under systemd's socket activation. See docs/restart.md.",
        ),
    ] = None
    port: Annotated[int, Meta(ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")] = 8000
    workers: Annotated[int, Meta(ge=0, le=32, description="Worker processes that `restante up` runs.")] = 1
    concurrency: Annotated[
        int, Meta(ge=1, le=100_000, description="Provider calls in flight in one worker process.")
    ] = limits.WORKER_CONCURRENCY
    lease_seconds: Annotated[
        float, Meta(ge=1, le=3_600, description="How long a silent worker keeps its tasks before others take them.")
    ] = limits.LEASE_SECONDS
    drain_seconds: Annotated[
        float, Meta(ge=0, le=3_600, description="How long calls in flight may take to end after SIGTERM.")
    ] = limits.DRAIN_SECONDS
    deadline_hours: Annotated[
        float,
        Meta(
            gt=0,
            le=limits.DEADLINE_HOURS_MAX,
            description="Hours after which a task that was not answered fails, refunded.",
        ),
    ] = limits.DEADLINE_SECONDS / 3_600
    ready_hours: Annotated[
        float, Meta(gt=0, le=24 * 365, description="Hours that tasks_ready shows a task from its listing.")
    ] = limits.READY_SECONDS / 3_600
    result_days: Annotated[
        int, Meta(ge=7, le=3_650, description="Days from posting that answers and prompts are kept.")
    ] = limits.RESULT_DAYS
    task_days: Annotated[
        int, Meta(ge=4, le=3_650, description="Days that the tasks themselves, without their texts, are kept.")
    ] = limits.TASK_DAYS
    models: Annotated[
        str | None,
        Meta(
            description="Other models than Gemini's, and new names for old ones: the path of a TOML file such as"
            " `docs/models.toml`, or `old=new,old2=new2`."
        ),
    ] = None
    egress_proxy: Annotated[
        str | None,
        Meta(
            description="An HTTP proxy that all calls to language models go through, such as"
            " `http://user:password@proxy:3128`; this machine's own addresses are called directly."
        ),
    ] = None
    error_days: Annotated[
        int,
        Meta(ge=1, le=3_650, description="Days that attempts to bring webhooks are kept and the failed ones listed."),
    ] = limits.ERROR_DAYS
    provider: Annotated[
        ProviderName | None,
        Meta(description="Which provider answers the Gemini names; by default gemini with a key, embedded offline."),
    ] = None
    offline: Annotated[
        bool, Meta(description="Answer with the embedded demonstration model; never without being asked to.")
    ] = False
    gemini_api_key: Annotated[
        str | None,
        Meta(description="The key of the Gemini API, or several of different projects, separated by commas."),
    ] = None
    gemini_api_key_file: Annotated[
        Path | None, Meta(description="A file that holds the key, or one a line; read again when it changes.")
    ] = None
    gemini_rpm: Annotated[
        str | None,
        Meta(
            description="Calls a minute that Google allows each project: `1000`, or by model"
            " `gemini-2.5-flash=1000,*=150`. Without it, what Google's refusals name."
        ),
    ] = None
    gemini_tpm: Annotated[str | None, Meta(description="Input tokens a minute, in the same way.")] = None
    gemini_batch: Annotated[
        str,
        Meta(
            description="`after:MINUTES`: tasks of Gemini models that come by task_post wait so long, counted from"
            " their posting, and then go to Gemini's Batch API together, at half the price of tokens and within about"
            " a day; a batch that is late, or what fails of one, is called directly. `off`: all are called at once."
            " Live tasks always are. Experimental: see docs/batch.md."
        ),
    ] = "off"
    gemini_batch_hours: Annotated[
        float,
        Meta(
            gt=0,
            le=48,
            description="Hours that a batch may take; then it is cancelled, and what it did not answer is called"
            " directly. With the waiting before it at most three quarters of RESTANTE_DEADLINE_HOURS.",
        ),
    ] = limits.BATCH_HOURS
    gemini_base_url: Annotated[str, Meta(description="Where the Gemini API is.")] = (
        "https://generativelanguage.googleapis.com"
    )
    gemini_redirects: Annotated[
        str,
        Meta(
            min_length=8,
            description="How the redirects begin by which Gemini cites pages. Each is asked once where it leads"
            " (`direct_url`), and not followed.",
        ),
    ] = "https://vertexaisearch.cloud.google.com/grounding-api-redirect/"
    direct_urls: Annotated[
        bool, Meta(description="Whether they are asked; without, `direct_url` is null. See docs/legal.md.")
    ] = True
    prices: Annotated[
        Path | None,
        Meta(description="A TOML file of prices that go before the built-in ones; docs/prices.md. Read at the start."),
    ] = None
    embedded_model: Annotated[
        Path | None, Meta(description="Another GGUF file for the embedded model than the one installed.")
    ] = None
    scripted_latency: Annotated[
        float, Meta(ge=0, le=600, description="Seconds that the scripted provider takes for an answer.")
    ] = 0.0
    scripted_log: Annotated[
        Path | None, Meta(description="A file to which the scripted provider appends each call, for tests.")
    ] = None
    login: Annotated[str, Meta(description="Login of the operator's account, made at the first start.")] = "operator"
    password: Annotated[
        str | None, Meta(description="Its password (16 characters or more); generated if not given.")
    ] = None
    balance: Annotated[str, Meta(description="US dollars the operator's account starts with.")] = "100"
    unknown_fields: Annotated[
        Literal["refuse", "ignore"], Meta(description="Whether a field that no platform knows is an error.")
    ] = "refuse"
    body_bytes: Annotated[int, Meta(ge=1_024, le=limits.BODY_DRAIN_BYTES, description="The largest request body.")] = (
        limits.BODY_BYTES
    )
    webhook_allow: Annotated[
        str,
        Meta(
            description="Private addresses that webhooks may go to: ranges and host patterns, separated by commas, such"
            " as `10.0.0.0/8,*.svc.cluster.local`. Loopback, link-local and cloud metadata addresses need an entry of"
            " their very address."
        ),
    ] = ""
    webhook_proxy: Annotated[
        str | None,
        Meta(description="An HTTP proxy that all webhooks go through. Then it judges where they may go, not restante."),
    ] = None
    ca_bundle: Annotated[
        Path | None,
        Meta(description="PEM certificates of authorities to trust beside the system's, for webhooks and models."),
    ] = None
    rate_task_post: Annotated[
        Rate, Meta(description="Calls of task_post a minute and account, as all rates; 0 is without limit.")
    ] = limits.RATE_TASK_POST
    rate_live: Annotated[Rate, Meta(description="Calls of live.")] = limits.RATE_LIVE
    rate_tasks_ready: Annotated[Rate, Meta(description="Calls of tasks_ready.")] = limits.RATE_TASKS_READY
    rate_task_get: Annotated[Rate, Meta(description="Calls of task_get.")] = 0
    rate_models: Annotated[Rate, Meta(description="Calls of models.")] = 0
    rate_user_data: Annotated[Rate, Meta(description="Calls of appendix/user_data.")] = limits.RATE_USER_DATA
    rate_appendix_errors: Annotated[Rate, Meta(description="Calls of appendix/errors.")] = limits.RATE_APPENDIX
    rate_status: Annotated[Rate, Meta(description="Calls of appendix/status.")] = limits.RATE_APPENDIX
    rate_webhook_resend: Annotated[Rate, Meta(description="Calls of appendix/webhook_resend.")] = 0
    rate_id_list: Annotated[Rate, Meta(description="Calls of ai_optimization/id_list.")] = limits.RATE_APPENDIX
    rate_errors: Annotated[Rate, Meta(description="Calls of ai_optimization/errors.")] = limits.RATE_APPENDIX
    live_at_once: Annotated[
        Rate, Meta(description="Live tasks that an account may have at work at the same time; 0 is without limit.")
    ] = limits.LIVE_AT_ONCE
    spend_per_day: Annotated[
        str,
        Meta(
            description="US dollars that the tasks an account posts on one UTC day may cost, open ones counted by what"
            " is held for them; further tasks are refused. 0 is without limit, as for the next."
        ),
    ] = "0"
    provider_spend_per_day: Annotated[
        str,
        Meta(
            description="The same over all accounts. An installation has one provider for the Gemini names, so that"
            " its cap and the installation's are one."
        ),
    ] = "0"
    idempotency_hours: Annotated[
        float, Meta(gt=0, le=8_784, description="How long an `Idempotency-Key` has its first answer.")
    ] = limits.IDEMPOTENCY_HOURS
    console: Annotated[
        Literal["on", "https", "off"], Meta(description="The console, with log-in over HTTPS only, or none.")
    ] = "on"
    limits: Annotated[
        Literal["documented", "relaxed"],
        Meta(
            description="`relaxed`: no rates, any number of live tasks at once, prompts and messages to 100,000"
            " characters, 1,000 tasks a POST."
        ),
    ] = "documented"

    @property
    def models_dir(self) -> Path:
        """Where `restante model install` puts the embedded model."""
        return self.data_dir / "models"

    def allowance(self) -> Allowance:
        """What an account may call that has no limits of its own."""
        spend = _usd("spend_per_day", self.spend_per_day)
        if self.limits == "relaxed":
            return msgspec.structs.replace(UNLIMITED, spend_per_day=spend)
        return Allowance(
            spend_per_day=spend,
            live_at_once=self.live_at_once,
            **{name: getattr(self, f"rate_{name}") for name in get_args(Endpoint)},
        )

    def reserve(self) -> Reserve:
        """The room on the disk that is kept free of new tasks. Raises OperatorError."""
        return parsed("disk_reserve", parse_reserve, self.disk_reserve)

    def watched_disk(self) -> Path | None:
        """A path on the disk that must not become full; None: it is not known."""
        return self.disk_path or (self.data_dir if self.database_url is None else None)

    def provider_cap(self) -> Nano:
        """What the tasks that all accounts post on one UTC day may cost; 0: without limit."""
        return _usd("provider_spend_per_day", self.provider_spend_per_day)

    def gather_seconds(self) -> float | None:
        """Seconds that tasks of Gemini gather for a batch; None: batches are off. Raises OperatorError."""
        word = self.gemini_batch.strip()
        if word == "off":
            return None
        kind, _, minutes = word.partition(":")
        if kind != "after" or not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,4})?", minutes):
            raise OperatorError(f"{variable('gemini_batch')} cannot be used: it is neither off nor after:MINUTES.")
        seconds = float(minutes) * 60
        if seconds + self.gemini_batch_hours * 3_600 > 0.75 * self.deadline_hours * 3_600:
            raise OperatorError(
                "Batches leave too little time before RESTANTE_DEADLINE_HOURS to call what they do not answer.",
                "Lower RESTANTE_GEMINI_BATCH or RESTANTE_GEMINI_BATCH_HOURS.",
            )
        return seconds

    def provider_name(self) -> ProviderName:
        """The provider that answers the Gemini names (design, "Which model answers").

        Raises OperatorError when none was configured: an offline answer is only given when asked for.
        """
        if self.offline and self.provider == "gemini":
            raise OperatorError(
                "RESTANTE_OFFLINE and RESTANTE_PROVIDER=gemini contradict each other.", "Unset one of them."
            )
        if self.provider is not None:
            return self.provider
        if self.offline:
            return "embedded"
        if self.gemini_api_key or self.gemini_api_key_file:
            return "gemini"
        raise OperatorError(
            "No language model is configured.",
            "Set GEMINI_API_KEY (or GEMINI_API_KEY_FILE), or add --offline (RESTANTE_OFFLINE=1) to be answered by the"
            " embedded demonstration model.",
        )


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return _OWN_NAMES.get(field, _PREFIX + field.upper())


def load(environ: Mapping[str, str], **overrides: Any) -> Settings:
    """The settings of an environment; `overrides` that are not None (command-line options) go before.

    An empty variable counts as not set. Raises OperatorError naming the variable that cannot be used.
    """
    values: dict[str, Any] = {}
    for field, kind in get_type_hints(Settings, include_extras=True).items():
        text = environ.get(variable(field), "")
        given = overrides.get(field)
        if given is None and not text.strip():
            continue
        try:
            value = text.strip() if given is None else given
            values[field] = msgspec.convert(value, kind, strict=False, dec_hook=_path)
        except msgspec.ValidationError as error:
            raise OperatorError(f"{variable(field)} cannot be used: {error}.") from None
    settings = Settings(**values)
    settings.allowance()
    settings.gather_seconds()
    settings.reserve()
    settings.metrics_address()
    settings.provider_cap()  # now: a cap that cannot be read must not become none
    check_proxy(settings.webhook_proxy)
    return msgspec.structs.replace(settings, data_dir=settings.data_dir.expanduser().absolute())


def parsed(field: str, parse: Callable[[str], T], text: str) -> T:
    """A setting's text, read by `parse`. Raises OperatorError naming the variable where that raises ValueError."""
    try:
        return parse(text)
    except ValueError as error:
        raise OperatorError(f"{variable(field)} cannot be used: {error}.") from None


def _usd(field: str, text: str) -> Nano:
    amount = parsed(field, parse_usd, text)
    if amount < 0:
        raise OperatorError(f"{variable(field)} cannot be used: it is negative.", "0 is without limit.")
    return amount


def _path(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError(kind)
