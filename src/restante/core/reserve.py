"""How much room of a disk is kept in reserve, in which what was accepted can still be settled."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from restante.core.limits import DISK_RESERVE_BYTES, DISK_RESERVE_BYTES_MAX, DISK_RESERVE_SHARE, DISK_RESERVE_SHARE_MAX

_UNITS: Final = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


class Reserve(msgspec.Struct, frozen=True):
    """The smaller of a share of the file system and an amount in bytes."""

    share: float = DISK_RESERVE_SHARE
    size: int = DISK_RESERVE_BYTES

    def of(self, whole: int) -> int:
        """Bytes to be left free of a file system of so many."""
        return min(int(self.share * whole), self.size)


def parse_reserve(text: str) -> Reserve:
    """`auto`, a share (`5%`), an amount (`2GB`), or `0` for none. Raises ValueError."""
    word = text.strip()
    if word == "auto":
        return Reserve()
    if word == "0":
        return Reserve(0.0, 0)
    found = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?) ?(%|[MGT]i?B)", word)
    if found is None:
        raise ValueError(f"{text!r} is neither a share such as 5% nor an amount such as 2GB")
    if found[2] == "%":
        if float(found[1]) > DISK_RESERVE_SHARE_MAX * 100:
            raise ValueError(f"{text!r} is more than {DISK_RESERVE_SHARE_MAX:.0%}")
        return Reserve(float(found[1]) / 100, DISK_RESERVE_BYTES_MAX)
    size = int(float(found[1]) * _UNITS[found[2]])
    if size > DISK_RESERVE_BYTES_MAX:
        raise ValueError(f"{text!r} is more than {show_bytes(DISK_RESERVE_BYTES_MAX)}")
    return Reserve(1.0, size)


def show_bytes(size: int) -> str:
    """An amount for people: 1.5 GB."""
    for unit in ("TB", "GB", "MB"):
        if size >= _UNITS[unit]:
            return (
                f"{size / _UNITS[unit]:.3g} {unit}" if size < 1_000 * _UNITS[unit] else f"{size // _UNITS[unit]} {unit}"
            )
    return f"{size} bytes"
