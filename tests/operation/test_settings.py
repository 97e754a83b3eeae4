"""What the environment says, what a child process is told, and whose account the first start makes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from restante.config import Settings, load
from restante.core.credentials import matches
from restante.core.errors import OperatorError
from restante.flow import accounts
from restante.operator_account import keep_password, operator_account, password_file
from restante.store import accounts as stored
from restante.store.database import Database
from restante.up import environment
from tests.support import open_account

PASSWORD = "a Password of 27 letters"


def test_empty_variables_count_as_not_set() -> None:
    assert load({"RESTANTE_PORT": "", "GEMINI_API_KEY": " "}) == load({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("WORKERS", "-1"),
        ("PROVIDER", "gpt"),
        ("OFFLINE", "perhaps"),
        ("SPEND_PER_DAY", "much"),
        ("SPEND_PER_DAY", "-1"),
        ("PROVIDER_SPEND_PER_DAY", "0.0000000001"),
        ("GEMINI_BATCH", "after:"),
    ],
)
def test_what_cannot_be_used_is_named(name: str, value: str) -> None:
    with pytest.raises(OperatorError, match=f"RESTANTE_{name}"):
        load({f"RESTANTE_{name}": value})


def test_batches_leave_time_for_direct_calls() -> None:
    assert load({}).gather_seconds() is None
    assert load({"RESTANTE_GEMINI_BATCH": "after:1.5"}).gather_seconds() == 90
    with pytest.raises(OperatorError, match="too little time"):
        load({"RESTANTE_GEMINI_BATCH": "after:10", "RESTANTE_DEADLINE_HOURS": "30"})


@pytest.mark.parametrize(
    ("settings", "provider"),
    [
        ({"GEMINI_API_KEY": "a key"}, "gemini"),
        ({"GEMINI_API_KEY": "a key", "RESTANTE_OFFLINE": "1"}, "embedded"),
        ({"GEMINI_API_KEY": "a key", "RESTANTE_PROVIDER": "scripted"}, "scripted"),
        ({"RESTANTE_OFFLINE": "1"}, "embedded"),
    ],
)
def test_which_provider_answers(settings: dict[str, str], provider: str) -> None:
    assert load(settings).provider_name() == provider


@pytest.mark.parametrize("limits", ["documented", "relaxed"])
def test_relaxed_limits_keep_what_somebody_capped(limits: str) -> None:
    """Rates are for protecting others; a cap on money is set by whoever pays."""
    caps = {"RESTANTE_SPEND_PER_DAY": "25.5", "RESTANTE_PROVIDER_SPEND_PER_DAY": "0.000000001"}
    settings = load({"RESTANTE_LIMITS": limits, **caps})
    assert (settings.allowance().spend_per_day, settings.provider_cap()) == (25_500_000_000, 1)
    own = settings.allowance().with_own({"spend_per_day": 7, "duplicates_per_hour": 3, "task_post": 5})
    assert (own.spend_per_day, own.duplicates_per_hour) == (7, 3)
    assert own.task_post == (0 if limits == "relaxed" else 5)


@pytest.mark.parametrize("settings", [{}, {"RESTANTE_OFFLINE": "1", "RESTANTE_PROVIDER": "gemini"}])
def test_no_provider_and_a_contradiction_are_refused(settings: dict[str, str]) -> None:
    with pytest.raises(OperatorError):
        load(settings).provider_name()


def test_a_child_gets_these_settings_and_no_others() -> None:
    """The demonstration's worker must not meet the operator's real database through the environment."""
    parent = {"PATH": "/bin", "RESTANTE_DATABASE_URL": "postgresql://real", "RESTANTE_PASSWORD": PASSWORD}
    settings = msgspec.structs.replace(load(parent), database_url=None, offline=True, lease_seconds=7.5)
    child = environment(settings, parent)
    assert child["PATH"] == "/bin"
    assert "RESTANTE_DATABASE_URL" not in child
    assert PASSWORD not in child.values()
    assert load(child) == msgspec.structs.replace(settings, password=None)


def operator(tmp_path: Path, **changes: object) -> Settings:
    return msgspec.structs.replace(load({}), data_dir=tmp_path, **changes)


async def test_an_account_added_before_the_first_start_does_not_keep_the_operators_from_being_made(
    db: Database, tmp_path: Path
) -> None:
    await open_account(db, "shop", "1")
    assert await operator_account(db, operator(tmp_path, password=PASSWORD)) == ("operator", None)
    account = await accounts.find(db, "operator")
    assert (account.balance, account.credit_limit) == (100_000_000_000, None)


async def test_a_generated_password_is_kept_before_anything_else_can_fail(db: Database, tmp_path: Path) -> None:
    settings = operator(tmp_path)
    login, password = await operator_account(db, settings)
    assert password is not None
    assert password_file(settings).read_text().strip() == password
    assert password_file(settings).stat().st_mode & 0o777 == 0o600
    assert await operator_account(db, settings) == (login, None)


async def test_a_kept_password_that_is_none_any_more_is_said(
    db: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = operator(tmp_path)
    login, _ = await operator_account(db, settings)
    await accounts.change_password(db, login, overlap_hours=1)  # as the console does
    await operator_account(db, settings)
    assert "does not hold" not in caplog.text, "it is good for an hour"
    fresh = await accounts.change_password(db, login, overlap_hours=0)
    await operator_account(db, settings)
    assert f"{password_file(settings)} does not hold {login}'s password" in caplog.text
    caplog.clear()
    keep_password(settings, fresh)
    await operator_account(db, settings)
    assert "does not hold" not in caplog.text


async def test_of_many_first_starts_at_once_the_password_that_is_kept_is_the_operators(
    db: Database, tmp_path: Path
) -> None:
    """Some share a data directory, others have one of their own: no file holds a password that is none."""
    homes = [tmp_path / str(number) for number in (1, 1, 1, 2, 2)]
    await asyncio.gather(*(operator_account(db, operator(home)) for home in homes))
    known = (await stored.credentials(db, ["operator"]))["operator"]
    kept = [file.read_text().strip() for file in tmp_path.rglob("operator-password")]
    assert len(kept) == 1 and matches(kept[0], await accounts.pepper(db), known.digests)


async def test_another_login_later_makes_no_second_operator(
    db: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await operator_account(db, operator(tmp_path, password=PASSWORD))
    assert await operator_account(db, operator(tmp_path, login="other", password=PASSWORD)) == ("operator", None)
    assert len(await stored.every(db)) == 1
    assert "the operator's login is operator" in caplog.text


@pytest.mark.parametrize("changes", [{"password": "weak"}, {"login": "a:b", "password": PASSWORD}, {"balance": "ten"}])
async def test_a_first_start_that_cannot_work_leaves_nothing(
    db: Database, tmp_path: Path, changes: dict[str, str]
) -> None:
    with pytest.raises(OperatorError):
        await operator_account(db, operator(tmp_path, **changes))
    assert await stored.every(db) == []
    assert await accounts.operator(db) is None
