"""The operator's map of models (RESTANTE_MODELS): old names for new ones, and models of OpenAI-compatible servers.

Either `old=new,old2=new2`, or the path of a TOML file; docs/models.toml is one with every key. What cannot be used is
said at the start, naming file, table and key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from restante.core.errors import OperatorError
from restante.core.limits import MODEL_NAME_CHARS, MODELS_FILE_BYTES, SERVER_CONCURRENCY, SERVER_CONCURRENCY_MAX
from restante.core.limits import USD_PER_MILLION_TOKENS_MAX as PRICE_MAX
from restante.core.money import Nano, nano
from restante.providers.api_key import api_key_source

#: In `server`, whoever answers the Gemini names: Google, or the offline model.
GEMINI: Final = "gemini"

_RESERVED: Final = frozenset({GEMINI, "embedded", "scripted", "live"})  # providers of the queue already
_SERVER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_MODEL_NAME: Final = re.compile(r"[!-~]+")  # a path segment or a JSON string wherever it goes; no blanks, no controls
_AT: Final = re.compile(r" - at `\$\.?([^`]*)`$")
_FIELD: Final = re.compile(r"(?:unknown|required) field `([^`]+)`")

T = TypeVar("T")


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """A model of a server under a name that may be posted; prices in US dollars per million tokens."""

    name: str
    served: str
    reasoning: bool
    price_input: Decimal
    price_output: Decimal

    def price(self, input_tokens: int, output_tokens: int) -> Nano:
        """What an answer costs."""
        return nano((input_tokens * self.price_input + output_tokens * self.price_output) / 1_000_000)


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """An OpenAI-compatible server. `url` ends before /chat/completions; `key` None: it wants none."""

    name: str
    url: str
    key: Callable[[], str] | None
    concurrency: int
    direct: bool
    lists_models: bool
    offers: tuple[Offer, ...]


class ModelsMap(msgspec.Struct, frozen=True):
    """`renamed`: a posted name and the listed one that answers in its place."""

    servers: tuple[Server, ...] = ()
    renamed: dict[str, str] = {}


class _Server(msgspec.Struct, forbid_unknown_fields=True):
    """A table [servers.NAME]."""

    url: str
    key_env: str | None = None
    key_file: str | None = None
    concurrency: Annotated[int, Meta(ge=1, le=SERVER_CONCURRENCY_MAX)] = SERVER_CONCURRENCY
    direct: bool = False
    lists_models: bool = True
    price_input: Decimal = Decimal(0)
    price_output: Decimal = Decimal(0)


class _Model(msgspec.Struct, forbid_unknown_fields=True):
    """A table [models.NAME]."""

    server: str
    served: str | None = None
    reasoning: bool | None = None
    web_search: bool = False
    price_input: Decimal | None = None
    price_output: Decimal | None = None


def load(text: str, environ: Mapping[str, str]) -> ModelsMap:
    """The map that RESTANTE_MODELS holds or names. Raises OperatorError."""
    if "=" in text and not text.endswith(".toml"):
        return ModelsMap(renamed=_pairs(text))
    path = Path(text).expanduser()
    try:
        with path.open("rb") as file:
            content = file.read(MODELS_FILE_BYTES + 1)
    except OSError as error:
        raise OperatorError(
            f"RESTANTE_MODELS cannot be used: {path}: {error.strerror or type(error).__name__}.",
            "It is `old=new,old2=new2` or the path of a TOML file.",
        ) from None
    if len(content) > MODELS_FILE_BYTES:
        raise _wrong(path, "", "is larger than any map of models")
    try:
        document = tomllib.loads(content.decode(), parse_float=Decimal)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise _wrong(path, "", str(error)) from None
    return _File(path, environ).read(document)


def _pairs(text: str) -> dict[str, str]:
    renamed: dict[str, str] = {}
    for pair in text.split(","):
        old, equals, new = (part.strip() for part in pair.partition("="))
        if not equals or not _is_name(old) or not _is_name(new):
            raise OperatorError(f"RESTANTE_MODELS cannot be used: {pair.strip()!r} is no `old=new`.")
        if old in renamed:
            raise OperatorError(f"RESTANTE_MODELS cannot be used: {old!r} is mapped twice.")
        renamed[old] = new
    for old, new in renamed.items():
        if new in renamed:
            raise OperatorError(f"RESTANTE_MODELS cannot be used: {old!r} is mapped onto {new!r}, itself mapped.")
    return renamed


class _File:
    """One TOML file being read; its errors name it."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self._path = path
        self._environ = environ

    def read(self, document: dict[str, Any]) -> ModelsMap:
        for name in document:
            if name not in ("servers", "models", "renamed"):
                raise _wrong(self._path, "", f"unknown table [{name}]; there are [servers.*], [models.*] and [renamed]")
        servers = {name: self._server(name, table) for name, table in self._tables(document, "servers").items()}
        models = {name: self._model(name, table, servers) for name, table in self._tables(document, "models").items()}
        renamed = {name: model.served or name for name, model in models.items() if model.server == GEMINI}
        for old, new in self._convert("renamed", document.get("renamed", {}), dict[str, str]).items():
            if old in models:
                raise _wrong(self._path, "renamed", f"{old!r} has a table [models.{_quoted(old)}] too")
            if not _is_name(old) or not _is_name(new):
                raise _wrong(self._path, "renamed", f"{old!r} = {new!r}: a model's name is printable, without blanks")
            renamed[old] = new
        for old, new in renamed.items():
            if new in renamed:
                raise _wrong(self._path, "", f"{old!r} is mapped onto {new!r}, which is itself mapped onto another")
        return ModelsMap(tuple(self._made(name, table, models) for name, table in servers.items()), renamed)

    def _tables(self, document: dict[str, Any], name: str) -> dict[str, Any]:
        return self._convert(name, document.get(name, {}), dict[str, dict[str, Any]])

    def _convert(self, table: str, value: Any, kind: type[T]) -> T:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            text = str(error)
            at, field = _AT.search(text), _FIELD.search(text)
            key = field[1] if field else at[1] if at else ""
            problem = _AT.sub("", text)
            raise _wrong(self._path, table, f"key {key!r}: {problem}" if key else problem) from None

    def _server(self, name: str, value: dict[str, Any]) -> _Server:
        where = f"servers.{_quoted(name)}"
        if name in _RESERVED or not _SERVER_NAME.fullmatch(name):
            raise _wrong(self._path, where, "a server's name is of a-z, 0-9, - and _, and none of restante's own")
        table = self._convert(where, value, _Server)
        try:
            parts = urlsplit(table.url)
            known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            known = False
        if not known or "@" in parts.netloc or parts.query or parts.fragment or not _MODEL_NAME.fullmatch(table.url):
            raise _wrong(self._path, where, "key 'url': no http or https URL without credentials, query and fragment")
        if table.key_env is not None and not self._environ.get(table.key_env, "").strip():
            raise _wrong(self._path, where, f"key 'key_env': the variable {table.key_env} is not set")
        self._prices(where, table)
        return table

    def _model(self, name: str, value: dict[str, Any], servers: Mapping[str, _Server]) -> _Model:
        where = f"models.{_quoted(name)}"
        table = self._convert(where, value, _Model)
        for key, text in (("name", name), ("served", table.served or name)):
            if not _is_name(text):
                raise _wrong(self._path, where, f"key {key!r}: a model's name is printable, without blanks")
        if table.web_search:
            raise _wrong(self._path, where, "key 'web_search': no server can search the web for restante")
        self._prices(where, table)
        if table.server == GEMINI:
            for key in ("reasoning", "price_input", "price_output"):
                if getattr(table, key) is not None:
                    raise _wrong(self._path, where, f"key {key!r}: that of a Gemini model is Google's to say")
            if table.served in (None, name):
                raise _wrong(self._path, where, "key 'served': another name than the model's own is needed")
        elif table.server not in servers:
            raise _wrong(self._path, where, f"key 'server': there is no table [servers.{_quoted(table.server)}]")
        return table

    def _prices(self, where: str, table: _Server | _Model) -> None:
        for key in ("price_input", "price_output"):
            price: Decimal | None = getattr(table, key)
            if price is not None and not (price.is_finite() and 0 <= price <= PRICE_MAX):
                raise _wrong(self._path, where, f"key {key!r}: US dollars per million tokens, from 0 to {PRICE_MAX}")

    def _made(self, name: str, table: _Server, models: Mapping[str, _Model]) -> Server:
        offers: dict[str, Offer] = {}
        rows: list[Offer] = []
        for posted, model in models.items():
            if model.server != name:
                continue
            offer = Offer(
                name=posted,
                served=model.served or posted,
                reasoning=bool(model.reasoning),
                price_input=table.price_input if model.price_input is None else model.price_input,
                price_output=table.price_output if model.price_output is None else model.price_output,
            )
            # A queued task knows the served model only, and its answer must have one price.
            twin = offers.setdefault(offer.served, offer)
            if (twin.price_input, twin.price_output) != (offer.price_input, offer.price_output):
                where = f"models.{_quoted(posted)}"
                raise _wrong(self._path, where, f"other prices than {twin.name!r} has, which is the same model")
            rows.append(offer)
        return Server(
            name=name,
            url=table.url.rstrip("/"),
            key=self._key(f"servers.{_quoted(name)}", table),
            concurrency=table.concurrency,
            direct=table.direct,
            lists_models=table.lists_models,
            offers=tuple(rows),
        )

    def _key(self, where: str, table: _Server) -> Callable[[], str] | None:
        if table.key_env is None and table.key_file is None:
            return None
        value = None if table.key_env is None else self._environ[table.key_env]
        # A relative path is relative to the file that names it, wherever restante was started.
        file = None if table.key_file is None else self._path.absolute().parent / Path(table.key_file).expanduser()
        try:
            return api_key_source(value, file)
        except OperatorError as error:
            raise _wrong(self._path, where, f"its key: {error.problem}") from None


def _is_name(text: str) -> bool:
    return len(text) <= MODEL_NAME_CHARS and _MODEL_NAME.fullmatch(text) is not None


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'"{name}"'


def _wrong(path: Path, table: str, problem: str) -> OperatorError:
    where = f"{path}, [{table}]" if table else str(path)
    return OperatorError(f"RESTANTE_MODELS cannot be used: {where}: {problem}.", "docs/models.toml has every key.")
