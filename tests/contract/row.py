"""A row of the contract: what is promised, how sure it is that the original does so, and why it may not be covered."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Kind = Literal["seen", "documented", "our choice"]

SEEN: Final[Kind] = "seen"  # in answers, clients and probes of the original
DOCUMENTED: Final[Kind] = "documented"  # in its documentation, and as far as known so
OUR_CHOICE: Final[Kind] = "our choice"  # nobody outside knows; a client written for either reading works


class Row(msgspec.Struct, frozen=True):
    """`key` is the section and a name within it. A row is proven by the tests that carry its marker, `contract(key)`;
    one without such tests says why: `absent` for good, `pending` for now. `gap` is what its tests leave open."""

    key: str
    kind: Kind
    what: str
    absent: str = ""
    pending: str = ""
    gap: str = ""

    @property
    def section(self) -> str:
        return self.key.partition(" ")[0]

    @property
    def name(self) -> str:
        return self.key.partition(" ")[2]
