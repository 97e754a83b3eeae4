"""What can go wrong for a client, as one tree.

    ClientError
    ├── Unreachable           no answer came, however often it was asked for
    ├── NotRestante           what answered does not speak this API
    └── Refused               the API's own no: `code` and `message` (contract §2.2)
        ├── WrongPassword     40100
        ├── PaymentRequired   40200: answers are withheld until the account is topped up
        ├── RateExceeded      40202, where it is not waited for
        └── TaskFailed        a task ended without an answer; `entry` is what is known of it

A task that failed is not raised but returned, as an `Entry` that says so; `Entry.check()` raises it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from restante.core import errors
from restante.core.errors import RestanteError

if TYPE_CHECKING:
    from restante.client.values import Entry


class ClientError(RestanteError):
    """The root: catching it catches everything that restante.client raises on purpose.

    `Client.post` leaves in it what was `posted` before, and the `key` with which the same tasks may be posted again.
    """

    posted: Sequence[Entry] = ()
    key: str | None = None


class Unreachable(ClientError):
    """The server gave no answer within the client's patience. Whether a call was carried out is not known."""


class NotRestante(ClientError):
    """Somebody answered, in another language than restante's."""


class Refused(ClientError):
    """A status code of the contract other than success, of a whole call."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{code} {message}")


class WrongPassword(Refused):
    """The login and the password do not fit."""


class PaymentRequired(Refused):
    """The account owes more than it may: its answers are withheld until a top-up."""


class RateExceeded(Refused):
    """Too many calls this minute."""


class TaskFailed(Refused):
    """A task that was refused or ended without an answer. It cost nothing."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        super().__init__(entry.status_code, entry.status_message)


_KINDS: dict[int, type[Refused]] = {
    errors.Unauthorized.code: WrongPassword,
    errors.PaymentRequired.code: PaymentRequired,
    errors.RateExceeded.code: RateExceeded,
}


def refused(code: int, message: str) -> Refused:
    """The error of a status code."""
    return _KINDS.get(code, Refused)(code, message)
