"""The child process that runs the demonstration model: `python -m restante.providers.model_child MODEL SLOTS THREADS`.

It reads the key that callers must know from the first line of standard input (arguments and environment can be read in
/proc), loads the model, prints `{"url": "http://127.0.0.1:PORT"}` once it can answer, and lives until standard input
ends, which is when its parent does. A crash of the native engine takes this process and nothing else.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import Any, Final, TextIO

from restante.core.limits import EMBEDDED_CONTEXT_TOKENS
from restante.providers.registry import EMBEDDED_MODEL

_PR_SET_PDEATHSIG: Final = 1  # <sys/prctl.h>


def main() -> None:
    """Serve until the parent is gone."""
    _die_with_parent()
    announce = _keep_stdout()
    model, slots, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    key = sys.stdin.readline().strip()
    if not key:  # the parent went before it had begun; without a key the server would be open to all
        os._exit(0)
    server = _serve(model, slots, threads, key)
    print(json.dumps({"url": server.listening_address}), file=announce, flush=True)
    sys.stdin.read()
    os._exit(0)  # at once: the engine's own shutdown would wait for running generations


def _die_with_parent() -> None:
    """Ask the kernel to kill us with the parent's thread: the end of stdin is not seen while the model is loading."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _keep_stdout() -> TextIO:
    """Standard output for our one line; whatever native code prints there goes to standard error instead."""
    announce = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return announce


def _serve(model: str, slots: int, threads: int, key: str) -> Any:
    """The engine's HTTP server, returned when the model is loaded and warm. Stops with the process."""
    import xllamacpp  # only here: without it this module can still be imported

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {EMBEDDED_MODEL}
    params.n_parallel = slots
    params.n_ctx = slots * EMBEDDED_CONTEXT_TOKENS  # the engine divides it among the slots
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.n_gpu_layers = 0
    # Prompts that left their slot are otherwise kept, 23 kB a token, up to 8 GiB (measured: +27 MB each long prompt).
    params.cache_ram_mib = 0
    params.api_keys = [key]
    params.hostnames = ["127.0.0.1"]
    params.port = 0  # any free one
    params.ui = False
    params.endpoint_slots = False
    params.verbosity = -1
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
