"""`restante doctor`: is this installation well, and what mends it? Works when the database is down, too."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Annotated

import typer
from rich.text import Text

from restante.cli.common import out, print_json
from restante.cli.serve import Offline, Provider, chosen_provider
from restante.cli.text import visible
from restante.config import variable
from restante.doctor.examination import examine
from restante.doctor.finding import Finding, Level, worst
from restante.wiring import configure_logging, utc_now

_STYLES = {Level.OK: "green", Level.UNKNOWN: "dim", Level.WARNING: "yellow", Level.FAULT: "bold red"}


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(epilog="Example: restante doctor && echo well")(doctor)


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    audit: Annotated[bool, typer.Option(help="Recompute the whole ledger, too.")] = True,
    provider: Provider = None,
    offline: Offline = False,
) -> None:
    """Look at settings, files, disk, PostgreSQL, processes, queues, webhooks, keys and the ledger; say what mends what.

    Changes nothing. Exit code 0: all is well; 1: something wants attention; 2: a promise is not kept, or nothing works.
    """
    configure_logging("error")
    chosen = chosen_provider(provider, offline=offline)
    environ = os.environ if chosen is None else {**os.environ, variable("provider"): chosen}
    found = asyncio.run(_examine(environ, show=not json, audit=audit))
    level = worst(found)
    if json:
        print_json({"level": level, "findings": found})
    elif out.is_terminal:
        bad = sum(one.level in (Level.WARNING, Level.FAULT) for one in found)
        out.print(f"{bad} of {len(found)} findings want attention" if bad else "all is well")
    raise typer.Exit({Level.OK: 0, Level.WARNING: 1, Level.FAULT: 2}[level])


async def _examine(environ: Mapping[str, str], *, show: bool, audit: bool) -> list[Finding]:
    found = []
    async for finding in examine(environ, utc_now(), audit=audit):
        found.append(finding)
        if show:
            _say(finding)
    return found


def _say(finding: Finding) -> None:
    if not out.is_terminal:
        print("\t".join(map(visible, (finding.level, finding.check, finding.said, finding.remedy))), flush=True)
        return
    line = Text(f"{finding.level:<8} ", style=_STYLES[finding.level])
    line.append(f"{finding.check:<16} {visible(finding.said)}", style="")
    out.print(line)
    if finding.remedy:
        out.print(Text(f"{'':26}{visible(finding.remedy)}", style="italic"))
