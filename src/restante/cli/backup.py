"""`restante backup` and `restore`: a copy of all of it, taken while it works, and back (docs/operations.md)."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from restante.cli.common import err, print_json, quiet_settings
from restante.config import Settings, variable
from restante.core.errors import OperatorError
from restante.core.limits import BACKUP_REPORT_SECONDS
from restante.flow import accounts
from restante.flow.disk import measure
from restante.operator_account import password_file
from restante.store import base_backup, restoring
from restante.store.base_backup import Label
from restante.store.embedded_postgres import EmbeddedPostgres
from restante.store.inspection import Owed, owed
from restante.store.schema import migrations
from restante.wiring import connected

T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

# What a restante needs that is no file of its own, by the settings that name it.
_NAMED_FILES = ("gemini_api_key_file", "models", "prices", "ca_bundle", "embedded_model")


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog="Example: restante backup /srv/backups/$(date +%F)")(backup)
    app.command(
        epilog="Example: RESTANTE_DATA_DIR=/var/lib/restante restante restore /srv/backups/2026-11-22 && restante up"
    )(restore)


def backup(
    target: Annotated[Path, typer.Argument(help="A directory that does not exist yet.")],
    max_rate: Annotated[
        int | None, typer.Option(min=1, max=1_024, help="MiB a second to copy at the most (1 to 1024).")
    ] = None,
    json: Json = False,
) -> None:
    """Copy the whole installation while it works: all that is committed until the copying ends. Then check the copy.

    The database, with accounts, money, tasks, answers and signing secrets: keep it as closed as the original.
    """
    loaded = quiet_settings()
    label = _run(_back_up(loaded, target.expanduser().absolute(), max_rate))
    if json:
        print_json({"backup": str(target), "label": label})
        return
    print(f"the backup is {target}: all that was committed until {label.ended_at:%Y-%m-%d %H:%M:%S} UTC, checked")
    print("not in it, for a new machine needs them too:")
    for one in label.left_out:
        print(f"  {one}")


async def _back_up(loaded: Settings, target: Path, max_rate: int | None) -> Label:
    embedded = loaded.database_url is None
    if embedded and not EmbeddedPostgres(loaded.data_dir).exists:
        raise OperatorError(
            f"There is no database in {loaded.data_dir} yet: nothing to copy.", "RESTANTE_DATA_DIR says where it is."
        )
    async with connected(loaded) as db:
        found = await base_backup.facts(db)
        programs = await asyncio.to_thread(base_backup.find_programs, found.postgres, embedded=embedded)
        with _progress("copying") as progress:
            return await base_backup.back_up(
                db.dsn,
                target,
                found,
                programs,
                embedded=embedded,
                beside=[password_file(loaded)],
                left_out=_left_out(loaded),
                reserve=_reserve(loaded, target),
                most_kilobytes=None if max_rate is None else max_rate << 10,
                progress=progress,
            )


def _reserve(loaded: Settings, target: Path) -> int:
    """Bytes to leave free where the backup goes: on the database's own disk those without which no task is taken."""
    watched = loaded.watched_disk()
    try:
        if watched is None or watched.stat().st_dev != target.parent.stat().st_dev:
            return 0
        whole, _ = measure(watched)
        return loaded.reserve().of(whole)
    except OSError:  # what is wrong with the place is said by who writes there
        return 0


def _left_out(loaded: Settings) -> list[str]:
    """What lies outside: settings, keys, files that settings name, and what can be fetched or made again."""
    named = [f"{variable(field)}={value}" for field in _NAMED_FILES if (value := getattr(loaded, field)) is not None]
    return [
        "the settings: the environment restante is started with, provider keys included",
        *(f"the file of {one}" for one in named),
        "the embedded model: `restante model install` fetches it again",
        "counts of the current minute (rates, pacing), which begin anew",
    ]


def restore(
    backup: Annotated[Path, typer.Argument(help="What `restante backup` made.")],
    json: Json = False,
) -> None:
    """Make a backup the database of this data directory, which must have none, recover it and audit its ledger.

    Nothing is run or sent until you start restante. Make sure that the old installation never starts again.
    """
    loaded = quiet_settings()
    if loaded.database_url is not None:
        raise OperatorError(
            "RESTANTE_DATABASE_URL names a PostgreSQL of your own, and restante restores its embedded one only.",
            "Unset it; or restore that PostgreSQL by its own means (docs/operations.md).",
        )
    restored = _run(_restore(loaded, backup.expanduser().absolute()))
    if json:
        print_json(restored)
    else:
        _say(restored)
    if restored.differences:
        raise typer.Exit(1)


class Restored(msgspec.Struct, frozen=True):
    """A restored installation. `differences`: what the audit found; None: it was not made, since the schema is older
    than this restante."""

    label: Label
    owed: Owed
    differences: list[str] | None


def _say(restored: Restored) -> None:
    label, left, differences = restored.label, restored.owed, restored.differences
    print(f"restored: all that was committed until {label.ended_at:%Y-%m-%d %H:%M:%S} UTC; it recovers and answers")
    if differences is None:
        print("it is of an older restante: the next start migrates it; then run `restante ledger audit`")
    else:
        for difference in differences:
            print(f"DIFFERENCE  {difference}")
        print(f"{len(differences)} differences in the ledger" if differences else "no difference: the ledger adds up")
    print(f"{left.tasks:,} tasks wait to be run and {left.deliveries:,} webhooks to be sent, when you start it:")
    print("those that the old installation ran or sent after the backup are run or sent once more")


async def _restore(loaded: Settings, backup: Path) -> Restored:
    with _progress("restoring") as progress:
        label = await restoring.restore(backup, loaded.data_dir, progress)
    async with connected(loaded) as db:
        current = label.migration == migrations()[-1][0]
        differences = [difference async for difference in accounts.audit(db)] if current else None
        return Restored(label, await owed(db), differences)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run it; SIGTERM ends it as Ctrl-C does, so that no program and no half of a backup is left."""

    async def run() -> T:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


class _progress:
    """A bar on a terminal; elsewhere a line every ten seconds."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._said = time.monotonic()
        self._bar = Progress(
            TextColumn(what), BarColumn(), DownloadColumn(binary_units=True), TimeRemainingColumn(), console=err
        )
        self._task = self._bar.add_task(what, total=None)

    def __enter__(self) -> Callable[[int, int], None]:
        if err.is_terminal:
            self._bar.start()
        return self._heard

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _heard(self, done: int, whole: int) -> None:
        if err.is_terminal:
            self._bar.update(self._task, completed=done << 10, total=whole << 10)
        elif time.monotonic() - self._said > BACKUP_REPORT_SECONDS:
            self._said = time.monotonic()
            err.print(f"{self._what}: {done >> 10:,} of {whole >> 10:,} MiB")
