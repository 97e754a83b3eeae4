"""What all targets are told: a time, and an id that was minted then."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

NOW: Final = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ID: Final = "11221200-0001-0613-0000-0123456789ab"
