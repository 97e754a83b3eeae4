"""Why a mutant of a Python module survives: what it changes makes no difference that a client, an account or an
operator could see. Anything else that survives is a gap in the tests."""

from __future__ import annotations

from typing import NamedTuple


class Explained(NamedTuple):
    """A mutant is this one if it is of the `function` and the lines it adds are `added` (blanks at both ends aside)."""

    function: str
    added: str
    why: str


EXPLAINED: tuple[Explained, ...] = ()
