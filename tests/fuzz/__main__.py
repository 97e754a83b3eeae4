"""`python -m tests.fuzz TARGET --minutes N [--dir DIRECTORY]`: fuzz one target, go on where the last run stopped.

libFuzzer guides itself by the branches of restante's own code (atheris). It writes the inputs that reach something new
into DIRECTORY/TARGET/corpus, what breaks a promise as DIRECTORY/TARGET/crash-*, and each run's figures into
DIRECTORY/TARGET/runs.jsonl; the table at the end shows how the edges grew over all runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.fuzz.seeds import dictionary, seeds
from tests.fuzz.targets import TARGETS

HERE: Final = Path(__file__).parent
_ROOT: Final = HERE.parent.parent
_REQUIREMENTS: Final = _ROOT / "requirements/fuzz.txt"
_STATUS: Final = re.compile(r"^#(\d+)\s+(\w+)\s+cov: (\d+) ft: (\d+) corp: (\d+)", re.MULTILINE)
_INPUT_BYTES: Final = 4_096


def atheris() -> Path:
    """The directory that holds atheris, installed at the first use into a cache outside of the repository."""
    named = os.environ.get("RESTANTE_FUZZ_CACHE")
    cache = Path(named) if named else Path.home() / ".cache/restante-fuzz"
    lock = hashlib.sha256(_REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    where = cache / lock
    if not (where / "installed").exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        locked = ["--require-hashes", "--only-binary", ":all:", "--target", str(where), "-r", str(_REQUIREMENTS)]
        subprocess.run([*pip, *locked], check=True)
        (where / "installed").touch()
    return where


def fuzz(target: str, seconds: float, directory: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """One run; libFuzzer's exit code (0: nothing was found) and the run's figures."""
    place = directory / target
    corpus, begin = place / "corpus", place / "seeds"
    for one in (corpus, begin):
        one.mkdir(parents=True, exist_ok=True)
    for body in seeds("wire" if target == "planted" else target):
        (begin / hashlib.sha1(body).hexdigest()).write_bytes(body)
    words = place / "words.dict"
    words.write_text(dictionary())
    kept = HERE / "corpus" / target
    command = [
        *(sys.executable, "-m", "tests.fuzz.child", target, str(corpus), str(begin)),
        *([str(kept)] if kept.is_dir() else []),
        *(f"-max_total_time={max(1, round(seconds))}", f"-dict={words}", f"-max_len={_INPUT_BYTES}"),
        *(f"-artifact_prefix={place}/", "-timeout=10", "-rss_limit_mb=3000", "-print_final_stats=1", *options),
    ]
    path = os.pathsep.join([str(_ROOT / "src"), str(_ROOT), str(atheris())])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, stderr=subprocess.PIPE, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = ended.stderr.decode(errors="replace")
    (place / "last.log").write_text(said)
    run = _figures(said, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    with (place / "runs.jsonl").open("a") as runs:
        runs.write(json.dumps(run) + "\n")
    if ended.returncode:
        print(said[-3_000:])
    return ended.returncode, run


def _figures(said: str, cpu_seconds: float) -> dict[str, Any]:
    """The last word of libFuzzer's, and after how many inputs the last edge was new."""
    lines = _STATUS.findall(said)
    began = next((int(edges) for _, what, edges, _, _ in lines if what == "INITED"), 0)
    inputs, _, edges, features, corpus = lines[-1] if lines else ("0", "", "0", "0", "0")
    return {
        "at": time.strftime("%Y-%m-%d %H:%MZ", time.gmtime()),
        "cpu_seconds": round(cpu_seconds, 1),
        "inputs": int(inputs),
        "edges_before": began,
        "edges": int(edges),
        "features": int(features),
        "corpus": int(corpus),
    }


def table(runs: Sequence[dict[str, Any]]) -> str:
    """Edges over CPU time, some ten rows."""
    lines = [f"{'CPU min':>8} {'inputs':>12} {'edges':>6} {'features':>8} {'corpus':>6}"]
    cpu, inputs, shown = 0.0, 0, 0.0
    step = sum(run["cpu_seconds"] for run in runs) / 10
    for number, run in enumerate(runs):
        cpu += run["cpu_seconds"]
        inputs += run["inputs"]
        if cpu - shown >= step or number in (0, len(runs) - 1):
            shown = cpu
            row = f"{cpu / 60:8.1f} {inputs:12,} {run['edges']:6} {run['features']:8} {run['corpus']:6}"
            lines.append(row)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=[*TARGETS, "planted"])
    parser.add_argument("--minutes", type=float, default=2.0, help="of fuzzing (2)")
    parser.add_argument("--dir", type=Path, default=Path("/tmp/fuzz"), help="where inputs and figures are kept")
    options = parser.parse_args()
    code, _ = fuzz(options.target, options.minutes * 60, options.dir)
    runs = [json.loads(line) for line in (options.dir / options.target / "runs.jsonl").read_text().splitlines()]
    print(f"{options.target}: {'nothing found' if code == 0 else 'FOUND something, see above'}")
    print(table(runs))
    sys.exit(code)


if __name__ == "__main__":
    main()
