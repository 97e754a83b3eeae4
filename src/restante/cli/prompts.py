"""Files of prompts: CSV with a header, JSON lines, or plain text. Every line is checked before one is posted."""

from __future__ import annotations

import csv
import difflib
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from restante.core.errors import OperatorError
from restante.core.limits import OUTPUT_TOKENS_MIN_REASONING, PROMPTS_FAULTS_SHOWN, PROMPTS_FILE_BYTES
from restante.web.judge import DOCUMENTED, RELAXED, Format

Kind = Literal["csv", "jsonl", "txt"]

SUFFIXES: Final[dict[str, Kind]] = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "txt"}
_TRUE: Final = frozenset({"true", "1", "yes"})
_FALSE: Final = frozenset({"false", "0", "no"})
_CELL_CHARS: Final = 16 * 1024 * 1024  # of one cell of a CSV; csv's own bound, 131,072, is a relaxed message chain's


class Prompt(msgspec.Struct):
    """A task of a file, and the line it stands on; or what is wrong with that line."""

    line: int
    task: dict[str, Any]
    fault: str | None = None


class Bounds(msgspec.Struct, frozen=True):
    """What a task is checked against. `models` by name, with whether each may search the web; None: not known."""

    form: Format
    models: Mapping[str, bool] | None = None


def bounds(*, relaxed: bool, models: Mapping[str, bool] | None = None) -> Bounds:
    """The documented bounds, or those of RESTANTE_LIMITS=relaxed."""
    return Bounds(RELAXED if relaxed else DOCUMENTED, models)


def is_file(argument: str) -> bool:
    """Whether an argument of the command line names a file of prompts: `-`, or a suffix that such files have. A prompt
    that ends like a file's name has blanks in it, and no file is called so."""
    path = Path(argument)
    if argument == "-":
        return True
    return path.suffix.lower() in SUFFIXES and (not any(map(str.isspace, argument)) or path.exists())


def read(source: str, kind: Kind | None, common: Mapping[str, Any], within: Bounds) -> list[Prompt]:
    """The tasks of a file (`-`: standard input), `common` fields filled in where a line has none of its own.

    Raises OperatorError that names every line that is wrong, the first twenty in words.
    """
    name = "standard input" if source == "-" else source
    text = _text(_bytes(source), name)
    kind = kind or SUFFIXES.get(Path(source).suffix.lower()) or ("jsonl" if text.lstrip().startswith("{") else "txt")
    reading = {"csv": _csv, "jsonl": _jsonl, "txt": _txt}[kind]
    prompts = list(reading(text))
    for prompt in prompts:
        if prompt.fault is None:
            prompt.task = {**common, **prompt.task}
            prompt.fault = fault(prompt.task, within)
    wrong = [prompt for prompt in prompts if prompt.fault is not None]
    if wrong:
        shown = [f"{name}, line {one.line}: {one.fault}" for one in wrong[:PROMPTS_FAULTS_SHOWN]]
        if len(wrong) > len(shown):
            shown.append(f"and {len(wrong) - len(shown):,} more lines")
        raise Faulty("\n".join(shown), "Nothing was posted.")
    if not prompts:
        raise Faulty(f"{name} holds no prompt.", "Nothing was posted.")
    return prompts


class Faulty(OperatorError):
    """The file is wrong: the command line's fault (exit code 2), nothing was done."""

    exit_code = 2


def _bytes(source: str) -> bytes:
    try:
        if source == "-":
            data = sys.stdin.buffer.read(PROMPTS_FILE_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                data = file.read(PROMPTS_FILE_BYTES + 1)
    except OSError as error:
        raise Faulty(
            f"{source} cannot be read: {error.strerror or error}.",
            "A prompt that looks like a file's name is given on standard input: echo PROMPT | restante task post -",
        ) from None
    if len(data) > PROMPTS_FILE_BYTES:
        raise Faulty(f"{source} is larger than {PROMPTS_FILE_BYTES:,} bytes.", "Split it.")
    return data


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise Faulty(f"{name}, line {line}: this is not UTF-8.", "Save the file as UTF-8.") from None


def _txt(text: str) -> Iterator[Prompt]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield Prompt(number, {"user_prompt": line.strip()})


def _jsonl(text: str) -> Iterator[Prompt]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            yield Prompt(number, {}, f"this is not JSON: {error}")
            continue
        if isinstance(found, dict):
            yield Prompt(number, {name: value for name, value in found.items() if value is not None})
        else:
            yield Prompt(number, {}, 'a line is one task: {"user_prompt": "..."}')


def _csv(text: str) -> Iterator[Prompt]:
    head = text.lstrip("\n").split("\n", 1)[0]
    delimiter = next((one for one in ",;\t" if one in head), ",")  # spreadsheets write the second and the third, too
    csv.field_size_limit(_CELL_CHARS)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: list[str] | None = None
    begins = 1
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            yield Prompt(begins, {}, f"this is not CSV: {error}")
            return
        if row is None:
            return
        if columns is None:
            columns = [name.strip() for name in row]
            wrong = _header_fault(columns)
            if wrong is not None:
                yield Prompt(begins, {}, wrong)
                return
        elif any(cell.strip() for cell in row):
            yield _row(begins, columns, row)
        begins = rows.line_num + 1


def _header_fault(columns: Sequence[str]) -> str | None:
    if "user_prompt" not in columns:
        return "the header has no column user_prompt"
    twice = next((name for name in columns if columns.count(name) > 1), None)
    if twice is not None:
        return f"the header has {twice!r} twice"
    unknown = next((name for name in columns if name not in DOCUMENTED.field), None)
    return None if unknown is None else _no_field(unknown)


def _row(line: int, columns: Sequence[str], row: Sequence[str]) -> Prompt:
    if len(row) != len(columns):
        return Prompt(line, {}, f"this line has {len(row)} cells, the header {len(columns)}")
    task: dict[str, Any] = {}
    for name, cell in zip(columns, row, strict=True):
        if cell != "":
            try:
                task[name] = _value(name, cell)
            except ValueError as error:
                return Prompt(line, {}, f"{name}: {error}")
    return Prompt(line, task)


def _value(name: str, cell: str) -> Any:
    """A cell as its field's type. Raises ValueError."""
    word = cell.strip()
    if name in ("web_search", "use_reasoning"):
        if word.lower() in _TRUE | _FALSE:
            return word.lower() in _TRUE
        raise ValueError(f"{cell!r} is neither true nor false")
    if name in ("max_output_tokens", "temperature", "top_p"):
        try:
            number = float(word)
        except ValueError:
            raise ValueError(f"{cell!r} is no number") from None
        return int(number) if name == "max_output_tokens" and number.is_integer() else number
    if name == "message_chain":
        try:
            return msgspec.json.decode(cell)
        except (msgspec.DecodeError, RecursionError):
            raise ValueError('not JSON, such as [{"role": "user", "message": "..."}]') from None
    return cell


def _no_field(name: str) -> str:
    near = difflib.get_close_matches(name, DOCUMENTED.field, 1)
    hint = f"; is it {near[0]}?" if near else f"; there are {', '.join(DOCUMENTED.field)}"
    return f"a task has no field {name!r}{hint}"


def fault(task: dict[str, Any], within: Bounds) -> str | None:
    """What is wrong with a task, as the server would find it, in words; None when nothing is. Webhook URLs and what
    only a model knows are left to the server, which judges a task alone and refuses it at no cost."""
    for name in task:
        if name not in within.form.field:
            return _no_field(name)
    for name in ("user_prompt", "model_name"):
        if not task.get(name):
            return f"there is no {name}"
    whole = task.get("max_output_tokens")
    if isinstance(whole, float) and whole.is_integer():
        task["max_output_tokens"] = int(whole)
    for name, value in task.items():
        wrong = _value_fault(name, value, within.form)
        if wrong is not None:
            return wrong
    if task.get("use_reasoning") and task.get("max_output_tokens", OUTPUT_TOKENS_MIN_REASONING) < (
        OUTPUT_TOKENS_MIN_REASONING
    ):
        return f"max_output_tokens: with use_reasoning at least {OUTPUT_TOKENS_MIN_REASONING}"
    return _model_fault(task, within.models)


def _value_fault(name: str, value: Any, form: Format) -> str | None:
    if isinstance(value, str) and "\0" in value:
        return f"{name} holds U+0000"
    try:
        form.field[name].decode(msgspec.json.encode(value))
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        many = f" ({len(value):,} characters)" if isinstance(value, str) else ""
        return f"{name}{many}: {str(error)[0].lower()}{str(error)[1:]}"
    return None


def _model_fault(task: Mapping[str, Any], models: Mapping[str, bool] | None) -> str | None:
    if models is None:
        return None
    name = task["model_name"]
    if name not in models:
        near = difflib.get_close_matches(name, models, 1)
        return f"there is no model {name!r} here" + (f"; is it {near[0]}?" if near else "")
    if task.get("web_search") and not models[name]:
        return f"{name} does not search the web here"
    return None
