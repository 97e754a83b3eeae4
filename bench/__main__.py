"""`python -m bench [--quick] [--all | --only NAME,...] [--peers] [--write]`: run the measurements, print the table."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import uvloop

from bench import (
    accept,
    backup,
    book,
    end_to_end,
    fairness,
    flood,
    history,
    listed,
    live,
    machine,
    memory,
    peers,
    queues,
    ready,
    start,
    webhooks,
)
from bench.book import Taken
from bench.installation import installed
from bench.report import Row, print_table


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """A measurement: the length of its rounds, quick and full, each in its own measure's words; how many full ones.
    `first`: among the rows of `make bench`."""

    run: Callable[[Path | None, int, int], Awaitable[list[Row]]]
    short: int
    long: int
    rounds: int = 5
    first: bool = False


MEASURES = {
    "accept": Measure(run=accept.measure, short=300, long=1_500, first=True),
    "end-to-end": Measure(run=end_to_end.measure, short=6, long=60, first=True),
    "start": Measure(run=start.measure, short=50, long=200, first=True),
    "ready": Measure(run=ready.measure, short=100, long=300, rounds=3),
    "history": Measure(run=history.measure, short=6, long=60, rounds=3),
    "listed": Measure(run=listed.measure, short=1, long=5, rounds=3),
    "queues": Measure(run=queues.measure, short=3, long=15, rounds=3),
    "live": Measure(run=live.measure, short=1_000, long=6_000, rounds=3),
    "first-byte": Measure(run=webhooks.first_byte, short=50, long=200),
    "webhooks": Measure(run=webhooks.throughput, short=100, long=300),
    "memory": Measure(run=memory.measure, short=5, long=30, rounds=3),
    "backup": Measure(run=backup.measure, short=150, long=500),
    "fairness": Measure(run=fairness.measure, short=100, long=100, rounds=3),
    "flood": Measure(run=flood.measure, short=60, long=200, rounds=3),
}
_QUICK_ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three short rounds a row")
    parser.add_argument("--all", action="store_true", help="every measurement, not only the first three")
    parser.add_argument("--peers", action="store_true", help="install what is compared with, where it is not yet")
    parser.add_argument("--only", type=_names, help=f"these, separated by commas: {', '.join(MEASURES)}")
    parser.add_argument("--rounds", type=int, help="so many rounds instead")
    parser.add_argument("--dir", type=Path, help="below which directory the databases are made (the temporary one)")
    parser.add_argument("--write", action="store_true", help="put what was measured into docs/benchmarks.md")
    options = parser.parse_args()
    chosen = options.only or [name for name, one in MEASURES.items() if one.first or options.all]
    if options.peers:
        peers.permit()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that what was started is stopped
    uvloop.run(_measure(options.dir, chosen, options.rounds, quick=options.quick, write=options.write))


def _names(text: str) -> list[str]:
    names = text.split(",")
    if not set(names) <= MEASURES.keys():
        raise argparse.ArgumentTypeError(f"choose among {', '.join(MEASURES)}")
    return names


async def _measure(
    directory: Path | None, names: Sequence[str], rounds: int | None, *, quick: bool, write: bool
) -> None:
    began = time.monotonic()
    async with installed(directory, workers=0, opened=0) as restante:
        described = machine.described(await restante.postgres_version())
    rows: list[Row] = []
    for name in names:
        print(f"{name}:", flush=True)
        one = MEASURES[name]
        measured = await one.run(
            directory, rounds or (_QUICK_ROUNDS if quick else one.rounds), one.short if quick else one.long
        )
        rows += measured
        if write:  # at once: a later measurement that fails takes nothing with it
            at = time.strftime("%Y-%m-%d %H:%MZ", time.gmtime())
            book.write([Taken(name=name, rows=measured, at=at, machine=described, cut=quick)])
    print(f"\n{described}; fsync on; scripted provider, the client on the same cores")
    now = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    print(f"{now}Z, {time.monotonic() - began:.0f} s; others: cores used by anybody else\n")
    print_table(rows)


if __name__ == "__main__":
    main()
