"""Where a provider's API keys come from: a value, or a file that may be changed while restante runs."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Final

from restante.core.answer import Failure
from restante.core.errors import OperatorError
from restante.core.limits import API_KEY_CHARS as KEY_CHARS
from restante.core.limits import API_KEY_UNSETTLED_SECONDS as UNSETTLED_SECONDS
from restante.core.limits import API_KEYS_BYTES as KEYS_BYTES
from restante.core.limits import KEYS_MAX

#: The reason of a transient failure that a better key would mend: queued tasks wait for one (contract §12.26).
KEY_REJECTED: Final = "API key rejected"

#: A provider said so, or the key cannot be read.
REJECTED: Final = Failure(reason=KEY_REJECTED, transient=True, waits=True, doubts_key=True)

#: The key of a project was taken away since the call got its permit: the task goes back to another's.
WITHDRAWN: Final = Failure(reason="API key withdrawn", transient=True, strain="quota")


_Stamp = tuple[int, int, int, int, int]


def split_keys(text: str) -> tuple[str, ...]:
    """The keys in a text, separated by commas or white space; each once."""
    return tuple(dict.fromkeys(key for key in re.split(r"[\s,]+", text) if key))


def project_of(key: str) -> str:
    """The name of the project whose key this is: a digest, since names are stored and logged and keys are not."""
    return blake2b(key.encode("utf-8", "replace"), digest_size=6, person=b"restante project").hexdigest()


def api_key_source(key: str | None, file: Path | None, *, several: bool = False) -> Callable[[], str]:
    """A function that gives the key as it is now, without the white space around it; with `several`, a text of keys
    for `split_keys`.

    A file is looked at on every call and read again when it changed (rotated secrets, contract §12.26); a value never
    changes. An empty value counts as none. Raises OperatorError, and so does the function, when there is no key:
    neither given, both given, the file missing, unreadable or empty. The error never shows the key.
    """
    value = (key or "").strip()
    if value and file is not None:
        raise OperatorError("An API key and an API key file are both set.", "Set only one of the two.")
    if file is not None:
        source = _KeyFile(file, several=several)
        source()  # a wrong path shows at the start
        return source
    if not value:
        raise OperatorError("There is no API key.", "Set the key, or the path of a file that holds it.")
    _check(value, "The API key", several=several)
    return lambda: value


class _KeyFile:
    """A call gives the key in the file. Safe in any number of threads: what is kept is swapped as one value."""

    def __init__(self, path: Path, *, several: bool) -> None:
        self._path = path
        self._several = several
        self._kept: tuple[_Stamp, str] | None = None

    def __call__(self) -> str:
        try:
            found = self._path.stat()
            kept = self._kept
            if kept is not None and kept[0] == _stamp(found):
                return kept[1]
            # Opening a FIFO would wait for a writer, for ever.
            if not stat.S_ISREG(found.st_mode):
                raise OperatorError(f"The API key file {self._path} is not a regular file.")
            stamp, text = self._read()
        except OSError as error:
            raise OperatorError(
                f"The API key file {self._path} cannot be read: {error.strerror or type(error).__name__}.",
                "Check its path, its owner and its permissions.",
            ) from None
        key = text.strip()
        if not key:
            raise OperatorError(f"The API key file {self._path} is empty.")
        _check(key, f"The API key file {self._path}", several=self._several)
        settled = abs(time.time() - stamp[0] / 1e9) > UNSETTLED_SECONDS
        self._kept = (stamp, key) if settled else None
        return key

    def _read(self) -> tuple[_Stamp, str]:
        with self._path.open("rb") as file:
            stamp = _stamp(os.fstat(file.fileno()))  # before reading: a later change differs from it
            return stamp, file.read((KEYS_BYTES if self._several else KEY_CHARS) + 1).decode("utf-8", "replace")


def _stamp(found: os.stat_result) -> _Stamp:
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev)


def _check(text: str, holder: str, *, several: bool) -> None:
    """Keys travel in an HTTP header: a line break or a space in one would be an attack or a pasted page."""
    keys = split_keys(text) if several else (text,)
    if not 0 < len(keys) <= KEYS_MAX or not all(map(_is_key, keys)):
        what = f"up to {KEYS_MAX} API keys, each" if several else "an API key:"
        raise OperatorError(f"{holder} does not hold {what} one word of printable ASCII.")


def _is_key(key: str) -> bool:
    return len(key) <= KEY_CHARS and all("!" <= char <= "~" for char in key)
