"""Commands that speak to a running restante over HTTP: where it is, as whom, and what its errors mean here."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Final

import typer

from restante.cli.common import quiet_settings
from restante.core.errors import OperatorError

if TYPE_CHECKING:
    from restante.client import Client

LOCAL: Final = "http://127.0.0.1:8000"

#: Exit codes beside 0, 1 (it failed), 2 (the command line was wrong) and 130 (interrupted).
SOME_FAILED: Final = 3
UNFINISHED: Final = 4

Url = Annotated[str, typer.Option(envvar="RESTANTE_URL", help="Where restante is.")]
Login = Annotated[str, typer.Option(envvar="RESTANTE_LOGIN", help="The account's login.")]
Password = Annotated[
    str | None,
    typer.Option(
        envvar="RESTANTE_PASSWORD",
        show_envvar=True,
        help="Its password; by default the operator's generated one, if it is kept on this machine.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, as the API has it.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


def known_password(password: str | None) -> str:
    """The password given, else the operator's generated one. Raises OperatorError."""
    if password is not None:
        return password
    from restante.operator_account import password_file

    kept = password_file(quiet_settings())
    try:
        return kept.read_text().strip()
    except OSError:
        raise OperatorError(
            "No password is given.", f"Set RESTANTE_PASSWORD or --password ({kept} does not hold one)."
        ) from None


@asynccontextmanager
async def connected(url: str, login: str, password: str | None, *, patience: float = 0.0) -> AsyncIterator[Client]:
    """A client; what it raises becomes an OperatorError that says what to do."""
    from restante.client import Client, ClientError

    try:
        async with Client(url, login, known_password(password), patience=patience) as client:
            yield client
    except ClientError as error:
        raise OperatorError(*explained(error)) from None


def explained(error: Exception) -> tuple[str, str]:
    """What a client's error says, and what mends it."""
    from restante.client import PaymentRequired, Unreachable, WrongPassword

    remedies = {
        Unreachable: "Is `restante up` running? Another address: --url (RESTANTE_URL).",
        WrongPassword: "Check --login and --password (RESTANTE_LOGIN, RESTANTE_PASSWORD). Where none is given, the kept"
        " one is used, which is not renewed on the console: `restante account password` does.",
        PaymentRequired: "The account owes more than it may: `restante account top-up`, then ask again.",
    }
    return str(error), remedies.get(type(error), "")
