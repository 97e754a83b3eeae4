"""The operator's own account: made at the first start, its generated password where only the operator can read it."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from pathlib import Path

from restante.config import Settings, parsed
from restante.core.credentials import matches, password_fault
from restante.core.money import parse_usd
from restante.flow import accounts
from restante.store import accounts as stored
from restante.store.database import Database
from restante.wiring import utc_now

log = logging.getLogger("restante.up")


async def operator_account(db: Database, settings: Settings) -> tuple[str, str | None]:
    """The operator's login, and the password if this start generated one.

    The first start makes the account, metered. A generated password is in `password_file` before the account exists,
    so that no crash can lose it. Raises OperatorError for a weak RESTANTE_PASSWORD or an unusable RESTANTE_BALANCE.
    """
    login = await accounts.operator(db)
    if login is not None:
        await _compare(db, login, settings)
        return login, None
    balance = parsed("balance", parse_usd, settings.balance)
    password = settings.password or _first_password(settings)
    if not await accounts.open_operator(db, settings.login, password, balance=balance, now=utc_now()):
        login = await accounts.operator(db)  # another restante, started at the same moment, made it
        if settings.password is None and login is not None and not await _is_password(db, login, password):
            password_file(settings).unlink(missing_ok=True)  # its data directory is another, with another password
        return await operator_account(db, settings)
    log.info("made the operator's account %s", settings.login)
    return settings.login, password if settings.password is None else None


def _first_password(settings: Settings) -> str:
    """A generated password, kept where only this user can read it: the same one for all that start at the same moment
    with one data directory, whichever of them makes the account."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    path = password_file(settings)
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+") as file:  # noqa: PTH123
        fcntl.flock(file, fcntl.LOCK_EX)
        kept = file.read().strip()
        if password_fault(kept) is None:
            return kept
        os.fchmod(file.fileno(), 0o600)
        file.seek(0)
        file.truncate()
        password = accounts.new_password()
        file.write(password + "\n")
        file.flush()
        os.fsync(file.fileno())
    return password


async def _is_password(db: Database, login: str, password: str) -> bool:
    known = (await stored.credentials(db, [login]))[login]
    return matches(password, await accounts.pepper(db), known.digests)


async def _compare(db: Database, login: str, settings: Settings) -> None:
    """Say so when the environment names another operator, or another password, than the first start made, and when the
    kept password is none any more: the console changes it without this machine's files."""
    if settings.login != login:
        log.warning("the operator's login is %s; RESTANTE_LOGIN=%s changes nothing", login, settings.login)
    elif settings.password and not await _is_password(db, login, settings.password):
        log.warning("RESTANTE_PASSWORD is not %s's password; `restante account password` makes a new one", login)
    file = password_file(settings)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if not await _is_password(db, login, file.read_text().strip()):
            log.warning(
                "%s does not hold %s's password: it was changed elsewhere, or this is another database;"
                " `restante account password %s` makes a new one and keeps it there", file, login, login,
            )  # fmt: skip


def keep_password(settings: Settings, password: str) -> Path:
    """Write a generated password where only this user can read it; returns the file."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    path = password_file(settings)
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
        file.write(password + "\n")
    return path


def password_file(settings: Settings) -> Path:
    """Where the operator's generated password is kept when no terminal could show it."""
    return settings.data_dir / "operator-password"
