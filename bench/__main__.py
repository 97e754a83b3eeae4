"""`python -m bench [--quick]`: run the rows, print the table."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

import uvloop

from bench import accept, end_to_end, history, machine, ready, start
from bench.installation import installed
from bench.report import Row, print_table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less than two minutes: three short rounds a row")
    parser.add_argument("--only", choices=sorted(_MEASURES), help="one of the measurements")
    parser.add_argument("--dir", type=Path, help="below which directory the databases are made (the temporary one)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that what was started is stopped
    uvloop.run(_measure(options.dir, options.only, quick=options.quick))


# {name: (measure, what a round of --quick and a full round are given)}
_MEASURES = {
    "accept": (accept.measure, 300, 1_500),
    "end-to-end": (end_to_end.measure, 6, 60),
    "ready": (ready.measure, 100, 300),
    "history": (history.measure, 6, 60),
    "start": (start.measure, 50, 200),
}


async def _measure(directory: Path | None, only: str | None, *, quick: bool) -> None:
    began = time.monotonic()
    rows: list[Row] = []
    for name, (measure, short, long) in _MEASURES.items():
        if only in (None, name):
            print(f"{name}:", flush=True)
            rows += await measure(directory, 3 if quick else 5, short if quick else long)
    async with installed(directory, workers=0) as restante:
        version = await restante.postgres_version()
    print(f"\n{machine.described(version)}; fsync on; scripted provider, the client on the same cores")
    print(f"{time.strftime('%Y-%m-%d %H:%M')}Z, {time.monotonic() - began:.0f} s; others: cores used by anybody else\n")
    print_table(rows)


if __name__ == "__main__":
    main()
