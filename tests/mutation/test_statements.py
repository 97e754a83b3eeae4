"""The mistakes of `make mutation` keep up with the statements that they are made in."""

from __future__ import annotations

import pytest

from tests.mutation.sql import changed
from tests.mutation.statements import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: f"{one.statement}: {one.what}")
def test_it_can_still_be_made(mutant: Mutant) -> None:
    """A statement that was written anew would otherwise end the run, hours later."""
    changed(mutant)
