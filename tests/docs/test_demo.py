"""The first command that anybody types: `restante demo`, which is what `make demo` runs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from restante.core.errors import OperatorError
from restante.providers.model_files import find_model, require_engine
from tests.support import COMMAND, environment


def test_the_offline_demonstration(tmp_path: Path) -> None:
    """A labelled answer of the little model, and the receipt; nothing goes on running."""
    try:
        require_engine()
        find_model(None, tmp_path)
    except OperatorError as missing:
        pytest.skip(missing.problem)
    done = subprocess.run(
        [*COMMAND, "demo"], env=environment(tmp_path / "data"), capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    assert re.search(r"20100 Task Created\.  \w{8}-\w{4}-0613-0000-\w{12}\n", said)
    assert re.search(r"answered by smollm2-135m-instruct, the offline demonstration model.*\n  \| \w", said)
    assert re.search(r"held +0\.0102 .*\n  charged +0\.0002 .*\n  refunded +0\.01\n", said)
