"""What the API and the worker process are both made of: the database, the provider, background loops, signals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from restante import faults
from restante.config import ProviderName, Settings, variable
from restante.core.errors import OperatorError
from restante.core.limits import GATHER_SPARE_SECONDS, OPEN_FILES
from restante.core.pacing import parse_quota
from restante.flow.health import Counts
from restante.flow.pulse import Pulse
from restante.log_lines import JsonLines, Repeats, TextLines, ToStderr
from restante.observing.traces import TRACES
from restante.providers.models_map import ModelsMap
from restante.providers.models_map import load as load_models_map
from restante.providers.provider import Batching, Provider
from restante.providers.registry import Catalogue
from restante.store.database import Database
from restante.store.embedded_postgres import EmbeddedPostgres, Report
from restante.store.errors import WrongClock

if TYPE_CHECKING:
    from restante.providers.session import Egress

log = logging.getLogger("restante")

_OTLP_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def utc_now() -> datetime:
    """The clock of a process."""
    return datetime.now(UTC) + faults.skew if faults.skew else datetime.now(UTC)


def configure_logging(level: str, form: Literal["text", "json"] = "text") -> None:
    """One line an event to standard error: time in UTC, level, who, what; as JSON, also about which task."""
    to_stderr = ToStderr()
    to_stderr.setFormatter(JsonLines() if form == "json" else TextLines())
    to_stderr.addFilter(Repeats())
    logging.basicConfig(level=level.upper(), handlers=[to_stderr], force=True)
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)  # its tracebacks of a lost server, of which we say more
    logging.getLogger("uvicorn").setLevel("WARNING")  # what it says at start and stop is said by us


def arm_faults(settings: Settings, environ: Mapping[str, str]) -> None:
    """Arm the fault points that RESTANTE_FAULTS names, for tests. Raises OperatorError where a call could cost money:
    only the scripted provider may answer, or an emulator of Gemini on this machine."""
    text = environ.get(faults.VARIABLE, "").strip()
    if not text:
        return
    local = urlsplit(settings.gemini_base_url).hostname in ("127.0.0.1", "localhost", "::1")
    if settings.models is not None or not (
        settings.provider == "scripted" or (gemini_names(settings) == "gemini" and local)
    ):
        raise OperatorError(
            f"{faults.VARIABLE} is for tests, and a model that may cost money is configured.",
            f"Unset {faults.VARIABLE}, or use --provider scripted.",
        )
    faults.arm(text)
    log.warning("fault points are armed (%s=%s): this process will break as it was told to", faults.VARIABLE, text)


@contextlib.asynccontextmanager
async def database(settings: Settings, *, serves: bool = False) -> AsyncIterator[Database]:
    """The migrated database: RESTANTE_DATABASE_URL, or the embedded server, which is joined or started.
    `serves`: for a process that goes on running, so that it waits for killed ones of an older restante to be gone.

    Raises OperatorError when neither can be had, or while processes live that know an older schema only.
    """
    if serves:
        arm_faults(settings, os.environ)
    async with connected(settings) as db:
        if not db.standby:
            in_time = await _in_time(db, serves)
            await db.migrate(wait=serves)
            if in_time:
                await db.prepare_days(utc_now().date())
        elif serves:
            raise OperatorError(
                "The database is a standby, which takes no writes.",
                "Name the primary in RESTANTE_DATABASE_URL, or all hosts: then it is found.",
            )
        yield db


async def _in_time(db: Database, serves: bool) -> bool:
    """Whether this host's clock may be trusted; what is to be written by another is refused. Raises OperatorError for
    who serves."""
    try:
        await db.compare_clocks()
    except WrongClock as error:
        if serves:
            raise OperatorError(f"This host and its database disagree about the time: {error}.") from error
        log.warning("nothing can be written by this host's time: %s", error)
        return False
    return True


@contextlib.asynccontextmanager
async def connected(settings: Settings, *, report: Report = log.info) -> AsyncIterator[Database]:
    """The database as it is: what looks at it or copies it changes nothing. Raises OperatorError."""
    async with contextlib.AsyncExitStack() as stack:
        if settings.database_url is not None:
            db = Database(
                settings.database_url,
                connections=settings.database_connections,
                prepared=settings.database_prepared,
                clock=utc_now,
            )
        else:
            server = EmbeddedPostgres(settings.data_dir)
            await _started(server, report)
            stack.push_async_callback(asyncio.to_thread, server.stop)
            revive = partial(server.ensure_running, report)
            db = Database(server.dsn, connections=settings.database_connections, revive=revive, clock=utc_now)
        await db.open()
        stack.push_async_callback(db.close)
        yield db


async def _started(server: EmbeddedPostgres, report: Report) -> None:
    """Start it in a thread. Interrupted, wait for the thread all the same: a server must not be left without a user."""
    starting = asyncio.create_task(asyncio.to_thread(server.start, report))
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting])
        await asyncio.to_thread(server.stop)
        raise


class Models(msgspec.Struct, frozen=True):
    """Who answers in an installation: the provider of the Gemini names, if there is one, then the map's servers; and
    the names that the map gives to others."""

    providers: tuple[Provider, ...]
    renamed: dict[str, str]

    def catalogue(self) -> Catalogue:
        """The names that may be posted."""
        return Catalogue(self.providers, self.renamed)

    @property
    def names(self) -> list[str]:
        """Of the providers."""
        return [provider.name for provider in self.providers]

    def counts(self) -> list[Counts]:
        """For the calls of each."""
        return [Counts(name) for name in self.names]

    async def close(self) -> None:
        """Give back what all of them hold."""
        for provider in self.providers:
            await provider.close()


def gemini_names(settings: Settings) -> ProviderName | None:
    """Who answers the Gemini names; None when only servers of the models map answer, to their own names.

    Raises OperatorError when no model at all is configured, or the map cannot be used.
    """
    return _gemini_names(settings, _models_map(settings))


def _gemini_names(settings: Settings, mapped: ModelsMap) -> ProviderName | None:
    chosen = settings.offline or settings.provider or settings.gemini_api_key or settings.gemini_api_key_file
    return settings.provider_name() if chosen or not any(server.offers for server in mapped.servers) else None


def _models_map(settings: Settings) -> ModelsMap:
    return ModelsMap() if settings.models is None else load_models_map(settings.models, os.environ)


def build_models(settings: Settings) -> Models:
    """Every provider of this installation. Raises OperatorError when one cannot be used or is not installed.

    Only what is needed is imported: prices and HTTP clients take half a second that no other command shall wait for.
    """
    from restante.providers.session import Egress
    from restante.webhooks.sender import trust

    mapped = _models_map(settings)
    name = _gemini_names(settings, mapped)
    egress = Egress(settings.egress_proxy, trust(settings.ca_bundle))
    providers = [] if name is None else [_gemini_provider(settings, name, egress)]
    if mapped.servers:
        from restante.providers.openai_compatible import OpenAICompatibleProvider

        providers += [OpenAICompatibleProvider(server, egress) for server in mapped.servers]
    return Models(tuple(providers), mapped.renamed)


def _gemini_provider(settings: Settings, name: ProviderName, egress: Egress) -> Provider:
    match name:
        case "scripted":
            from restante.providers.registry import scripted_models
            from restante.providers.scripted import ScriptedProvider

            return ScriptedProvider(scripted_models(), settings.scripted_latency, settings.scripted_log)
        case "embedded":
            from restante.providers.embedded import EmbeddedProvider
            from restante.providers.model_files import find_model
            from restante.providers.model_server import ModelServer
            from restante.providers.registry import embedded_models

            model = find_model(settings.embedded_model, settings.models_dir)
            return EmbeddedProvider(embedded_models(), ModelServer(settings.data_dir / "model", model))
        case "gemini":
            from restante.providers.api_key import api_key_source
            from restante.providers.gemini import GeminiProvider
            from restante.providers.price_list import load as load_prices
            from restante.webhooks.address_guard import AllowList
            from restante.webhooks.redirects import Redirects

            if not (settings.gemini_api_key or settings.gemini_api_key_file):
                raise OperatorError("The gemini provider has no key.", "Set GEMINI_API_KEY or GEMINI_API_KEY_FILE.")
            keys = api_key_source(settings.gemini_api_key, settings.gemini_api_key_file, several=True)
            redirects = Redirects(
                settings.gemini_redirects,
                AllowList(settings.webhook_allow),
                proxy=settings.egress_proxy,
                ca_bundle=settings.ca_bundle,
            )
            return GeminiProvider(
                keys,
                settings.gemini_base_url,
                egress=egress,
                prices=load_prices(settings.prices),
                resolve=redirects.resolve if settings.direct_urls else None,
                close=redirects.close,
                calls=_quota("gemini_rpm", settings.gemini_rpm),
                tokens=_quota("gemini_tpm", settings.gemini_tpm),
            )


def build_batches(providers: Sequence[Provider]) -> Batching | None:
    """The batches of the provider that has some; None without one. Only Gemini has."""
    gemini = next((provider for provider in providers if provider.name == "gemini"), None)
    if gemini is None:
        return None
    from restante.providers.gemini import GeminiProvider
    from restante.providers.gemini_batch import GeminiBatches

    assert isinstance(gemini, GeminiProvider)
    return GeminiBatches(gemini)


def gather_for(settings: Settings) -> dict[str, float]:
    """Seconds that a provider's tasks may wait for a batch before they are called directly, whoever gathers."""
    seconds = settings.gather_seconds()
    return {} if seconds is None else {"gemini": seconds + GATHER_SPARE_SECONDS}


def counting(stack: contextlib.AsyncExitStack, db: Database) -> Pulse:
    """Counts what a process settles, until the stack is left."""
    pulse = Pulse(db, utc_now)
    stack.push_async_callback(pulse.flush)
    stack.enter_context(background(pulse.keep()))
    return pulse


def _quota(field: str, text: str | None) -> Mapping[str, int]:
    try:
        return parse_quota(text)
    except ValueError as error:
        raise OperatorError(f"{variable(field)} cannot be used: {error}.") from None


@contextlib.asynccontextmanager
async def tracing(settings: Settings, role: str) -> AsyncIterator[None]:
    """Traces, if they are wanted, until the block ends; then what is left of them is sent. Raises OperatorError."""
    asked = any(os.environ.get(name, "").strip() for name in _OTLP_ENDPOINTS)
    if settings.otel == "off" or (settings.otel == "auto" and not asked):
        yield
        return
    try:
        from restante.observing.otel import OpenTelemetry
    except ImportError as error:
        problem = f"Traces are wanted, but OpenTelemetry is not installed ({error})."
        if settings.otel == "on":
            raise OperatorError(problem, "pip install 'restante[otel]', or unset RESTANTE_OTEL.") from None
        log.warning("%s Nothing is traced: pip install 'restante[otel]', or set RESTANTE_OTEL=off", problem)
        yield
        return
    recorder = TRACES.recorder = OpenTelemetry(role)
    try:
        yield
    finally:
        TRACES.recorder = None
        await asyncio.to_thread(recorder.close)


@contextlib.contextmanager
def background(work: Coroutine[Any, Any, None]) -> Iterator[asyncio.Task[None]]:
    """A loop that runs while the block does. That it broke is logged at once, not when somebody waits for it."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("a background loop broke: restart this process, and please report it", exc_info=error)

    task = asyncio.create_task(work)
    task.add_done_callback(ended)
    try:
        yield task
    finally:
        task.cancel()


def open_many_files() -> None:
    """Raise this process's soft limit of open files, and its children's: a worker has a socket for each call and each
    webhook in flight, and the usual limit of 1,024 is for other programs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def stop_on_signals() -> asyncio.Event:
    """An event that SIGINT, SIGTERM and SIGHUP set, once: the second signal ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        numbers.append(signal.SIGHUP)  # the terminal was closed

    def first() -> None:
        stop.set()
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in numbers:
        loop.add_signal_handler(number, first)
    return stop
