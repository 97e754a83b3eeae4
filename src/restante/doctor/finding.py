"""What a check found, in words for whoever runs restante."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

import msgspec

from restante.config import Settings
from restante.store.database import Database


class Level(StrEnum):
    """How bad it is, the worst last. UNKNOWN: it could not be looked at, and why stands elsewhere."""

    OK = "ok"
    UNKNOWN = "unknown"
    WARNING = "warning"
    FAULT = "fault"


class Finding(msgspec.Struct, frozen=True):
    """One thing that is so; `remedy` mends it. `check` is the name of the check, filled in by whoever ran it."""

    level: Level
    said: str
    remedy: str = ""
    check: str = ""


def fine(said: str) -> list[Finding]:
    """All is well with what was looked at."""
    return [Finding(Level.OK, said)]


def warning(said: str, remedy: str) -> Finding:
    """It works, and will not for ever, or not well."""
    return Finding(Level.WARNING, said, remedy)


def fault(said: str, remedy: str) -> Finding:
    """Something that is promised is not kept now."""
    return Finding(Level.FAULT, said, remedy)


def unknown(said: str) -> list[Finding]:
    """It could not be looked at."""
    return [Finding(Level.UNKNOWN, said)]


class Patient(msgspec.Struct, frozen=True):
    """What is examined: the settings, the environment they came from, and the database, unless it cannot be had."""

    settings: Settings
    environ: Mapping[str, str]
    now: datetime
    db: Database | None = None

    @property
    def base(self) -> Database:
        """The database, in a check that is made only if there is one."""
        assert self.db is not None
        return self.db


def worst(findings: list[Finding]) -> Level:
    """The worst level among them; UNKNOWN counts as OK, since its cause is a finding of its own."""
    order = list(Level)
    return max((one.level for one in findings if one.level is not Level.UNKNOWN), key=order.index, default=Level.OK)
