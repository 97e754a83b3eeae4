"""What mutmut and sql.py found, as docs/mutation.md shows it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files

from tests.mutation import sql
from tests.mutation.explained import EXPLAINED
from tests.mutation.statements import MUTANTS

DOCUMENT = Path("docs/mutation.md")
KILLED = ("killed", "timeout", "segfault")
WANTED = 0.9


class Survivor(NamedTuple):
    """A mutant that no test noticed."""

    name: str
    module: str
    function: str
    removed: str
    added: str

    @property
    def why(self) -> str | None:
        """Why it may; None: nobody explained it."""
        found = [one.why for one in EXPLAINED if one.function == self.function and one.added == self.added]
        return found[0] if found else None


class Row(NamedTuple):
    """A line of the table."""

    what: str
    mutants: int
    killed: int
    timed_out: int
    survived: int
    open: int  # not judged yet

    @property
    def judged(self) -> int:
        """Those that the tests were run against."""
        return self.mutants - self.open

    @property
    def score(self) -> float:
        """The killed ones' part of those that were judged."""
        return self.killed / max(1, self.judged)


def modules() -> Iterator[tuple[Row, list[Survivor]]]:
    """Each mutated Python module and what survived in it."""
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        statuses = {name: str(status_by_exit_code[code]) for name, code in data.exit_code_by_key.items()}
        counts = Counter(statuses.values())
        survivors = [_survivor(name, path) for name, status in statuses.items() if status in ("survived", "no tests")]
        killed = sum(counts[one] for one in KILLED)
        rest = len(statuses) - killed - len(survivors)
        module = str(path.relative_to("src/restante").with_suffix(""))
        yield Row(module, len(statuses), killed, counts["timeout"], len(survivors), rest), survivors


def _survivor(name: str, path: Path) -> Survivor:
    diff = str(get_diff_for_mutant(name, path=path)).splitlines()
    lines = {
        sign: " ".join(line[1:].strip() for line in diff if line.startswith(sign) and not line.startswith(sign * 3))
        for sign in "-+"
    }
    function = re.sub(r"^x_|^xǁ|__mutmut_\d+$", "", name.rpartition(".")[2]).replace("ǁ", ".")
    return Survivor(name, path.stem, function, lines["-"], lines["+"])


def statements() -> Iterator[tuple[Row, list[str]]]:
    """Each mutated SQL statement and what survived in it."""
    verdicts = sql.kept()
    for statement in dict.fromkeys(one.statement for one in MUTANTS):
        found = [(one, verdicts.get(sql.key(one))) for one in MUTANTS if one.statement == statement]
        survivors = [one.what for one, verdict in found if verdict == ""]
        killed = sum(bool(verdict) for _, verdict in found)
        late = sum(verdict == "timed out" for _, verdict in found)
        row = Row(f"{statement}.sql", len(found), killed, late, len(survivors), len(found) - killed - len(survivors))
        yield row, survivors


def table(rows: list[Row]) -> str:
    """In Markdown."""
    lines = [
        "| | mutants | killed | of them timed out | survived | not judged | killed |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    figures = [row[1:] for row in rows]
    everything = Row("together", *(sum(column) for column in zip(*figures, strict=True)))
    for row in [*rows, everything]:
        lines.append("| " + " | ".join(map(str, row)) + f" | {f'{row.score:.1%}' if row.judged else '–'} |")
    return "\n".join(lines)


def text() -> tuple[str, list[str]]:
    """The document's second half, and what is wrong: unexplained survivors, a module below its mark."""
    python, queries = list(modules()), list(statements())
    wrong = [
        f"{row.what}: {row.score:.1%} of the judged mutants killed"
        for row, _ in python
        if row.judged and row.score < WANTED
    ]
    parts = [table([row for row, _ in python]), "", table([row for row, _ in queries]), ""]
    wrong += [f"{row.what}: survived: {what}" for row, survivors in queries for what in survivors]
    wrong += [f"{row.what}: {row.open} not judged" for row, _ in [*python, *queries] if row.open]
    if any(row.open for row, _ in [*python, *queries]):
        parts += ["**The run was cut short**: what is not judged may survive. `make mutation` goes on.", ""]
    parts += ["## Survivors, and why", ""]
    reasons: dict[str, list[Survivor]] = {}
    for _, survivors in python:
        for one in survivors:
            if one.why is None:
                wrong.append(f"{one.name} survived\n  - {one.removed}\n  + {one.added}")
            else:
                reasons.setdefault(one.why, []).append(one)
    for why, of in reasons.items():
        parts.append(f"- {why}")
        parts += [f"  - `{one.module}.{one.function}`: `{one.added}`" for one in of]
    return "\n".join(parts) + "\n", wrong


def write() -> None:
    """Put the newest figures below the document's mark."""
    head, mark, _ = DOCUMENT.read_text().partition("<!-- from here on: python -m tests.mutation --write -->\n")
    DOCUMENT.write_text(f"{head}{mark}\n{text()[0]}")
