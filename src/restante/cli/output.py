"""Answers in files: JSON lines as the API has them, CSV for spreadsheets, Parquet for tables."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self

import msgspec

from restante.cli.text import cell, harmless_json
from restante.client import Entry
from restante.core.errors import OperatorError
from restante.core.limits import PARQUET_ROWS
from restante.core.money import NANO_PER_USD

Kind = Literal["jsonl", "csv", "parquet"]
SUFFIXES: Final[dict[str, Kind]] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}


class Record(msgspec.Struct, frozen=True):
    """A task in one row. Money in US dollars; `charged` is the fee and `money_spent` together. `citations` are the
    addresses of the sources, those behind the provider's redirects where they are known."""

    line: int | None
    id: str
    status_code: int
    status_message: str
    user_prompt: str
    tag: str
    model_name: str
    answer: str
    served_by: str | None
    charged: float
    money_spent: float | None
    input_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int | None
    web_search: bool | None
    citations: Sequence[str]
    fan_out_queries: Sequence[str]
    answered_at: str | None


COLUMNS: Final = Record.__struct_fields__


def record(entry: Entry, line: int | None = None, charged: float | None = None) -> Record:
    """A task's row. `charged`: where it is known otherwise, in US dollars; an answer that is gone does not tell it."""
    sent: Mapping[str, Any] = entry.data or {}
    result = entry.result[0] if entry.result else None
    return Record(
        line=line,
        id=entry.id,
        status_code=entry.status_code,
        status_message=entry.status_message,
        user_prompt=str(sent.get("user_prompt") or ""),
        tag=entry.tag,
        model_name=str(sent.get("model_name") or ""),
        answer=entry.text,
        served_by=result.model_name if result else None,
        charged=entry.charged / NANO_PER_USD if charged is None else charged,
        money_spent=result.money_spent if result else None,
        input_tokens=result.input_tokens if result else None,
        output_tokens=result.output_tokens if result else None,
        reasoning_tokens=result.reasoning_tokens if result else None,
        web_search=result.web_search if result else None,
        citations=[one.direct_url or one.url for one in entry.annotations],
        fan_out_queries=list(result.fan_out_queries or ()) if result else [],
        answered_at=result.datetime if result else None,
    )


class Writer(Protocol):
    """Takes entries one by one."""

    def write(self, entry: Entry, line: int | None = None, charged: float | None = None) -> None: ...

    def close(self) -> None: ...


class Output:
    """A file of answers, there as a whole or not at all: it is renamed into its place at the end of the `with` block.
    `path` None is standard output.

    Raises OperatorError for a format that cannot be told or written, before anything is done.
    """

    def __init__(self, path: Path | None, kind: Kind | None) -> None:
        found = kind or (SUFFIXES.get(path.suffix.lower()) if path is not None else "jsonl")
        if found is None:
            raise OperatorError(
                f"The format of {path} is not known by its name.", "Name it .jsonl, .csv or .parquet, or give --format."
            )
        if found == "parquet":
            if path is None:
                raise OperatorError("Parquet is written to a file only.", "Give --output FILE.parquet.")
            _pyarrow()
        if path is not None and not path.parent.is_dir():
            raise OperatorError(f"There is no directory {path.parent}.", "Make it, or give another --output.")
        self.path = path
        self._kind: Kind = found
        self._part = None if path is None else path.with_name(f".{path.name}.part")
        self._writer: Writer

    def __enter__(self) -> Self:
        try:
            self._writer = _WRITERS[self._kind](self._part)
        except OSError as error:
            raise self._unwritable(error) from None
        return self

    def write(self, entry: Entry, line: int | None = None, charged: float | None = None) -> None:
        """Add a task; `line` is where it stood in the input, `charged` as in `record`."""
        try:
            self._writer.write(entry, line, charged)
        except OSError as error:
            raise self._unwritable(error) from None

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        whole = False
        try:
            self._writer.close()
            if kind is None and self._part is not None and self.path is not None:
                self._part.replace(self.path)
            whole = kind is None
        except OSError as error:
            if kind is None:  # else there is something to say already
                raise self._unwritable(error) from None
        finally:
            if not whole and self._part is not None:
                self._part.unlink(missing_ok=True)

    def _unwritable(self, error: OSError) -> Exception:
        """What to raise: of a file in words; a pipe whose reader left is nobody's fault."""
        if self.path is None:
            return error
        return OperatorError(f"{self.path} cannot be written: {error.strerror or error}.")


def entry_json(entry: Entry, line: int | None = None) -> str:
    """An entry as the API has it; `line` before its other fields, where it is known."""
    text = msgspec.json.encode(entry).decode()
    return text if line is None else f'{{"line":{line},{text[1:]}'


class _Lines:
    def __init__(self, path: Path | None) -> None:
        self._close = path is not None
        self._file = sys.stdout if path is None else path.open("w", encoding="utf-8", newline="\n")

    def write(self, entry: Entry, line: int | None = None, charged: float | None = None) -> None:
        text = entry_json(entry, line)
        self._file.write((text if self._close else harmless_json(text)) + "\n")

    def close(self) -> None:
        if self._close:
            self._file.close()


class _Cells:
    """CSV, for people: see `cell`. Lists stand a line each in their cell."""

    def __init__(self, path: Path | None) -> None:
        self._close = path is not None
        # The mark at its beginning tells spreadsheets that a file is UTF-8.
        self._file = sys.stdout if path is None else path.open("w", encoding="utf-8-sig", newline="")
        self._csv = csv.writer(self._file, lineterminator="\n")
        self._csv.writerow(COLUMNS)

    def write(self, entry: Entry, line: int | None = None, charged: float | None = None) -> None:
        row = record(entry, line, charged)
        self._csv.writerow([_plain(getattr(row, name)) for name in COLUMNS])

    def close(self) -> None:
        if self._close:
            self._file.close()


def _plain(value: Any) -> Any:
    match value:
        case str():
            return cell(value)
        case list():
            return cell("\n".join(value))
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.9f}".rstrip("0").rstrip(".")
    return value


class _Table:
    """Parquet, in groups of rows, so that a long run needs no memory for all of it."""

    def __init__(self, path: Path | None) -> None:
        pyarrow = _pyarrow()
        kinds = {"line": pyarrow.int64(), "status_code": pyarrow.int32(), "web_search": pyarrow.bool_()}
        kinds |= dict.fromkeys(("charged", "money_spent"), pyarrow.float64())
        kinds |= dict.fromkeys(("input_tokens", "output_tokens", "reasoning_tokens"), pyarrow.int64())
        kinds |= dict.fromkeys(("citations", "fan_out_queries"), pyarrow.list_(pyarrow.string()))
        self._schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in COLUMNS])
        self._table = pyarrow.Table
        self._rows: list[dict[str, Any]] = []
        self._file = pyarrow.parquet.ParquetWriter(path, self._schema)

    def write(self, entry: Entry, line: int | None = None, charged: float | None = None) -> None:
        self._rows.append(msgspec.structs.asdict(record(entry, line, charged)))
        if len(self._rows) >= PARQUET_ROWS:
            self._flush()

    def _flush(self) -> None:
        self._file.write_table(self._table.from_pylist(self._rows, self._schema))
        self._rows = []

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._file.close()


_WRITERS: Final[Mapping[Kind, Callable[[Path | None], Writer]]] = {"jsonl": _Lines, "csv": _Cells, "parquet": _Table}


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise OperatorError(
            "Parquet needs pyarrow, which is not installed.", "pip install 'restante[parquet]', or --format csv."
        ) from None
    return pyarrow
