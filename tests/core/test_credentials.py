"""Passwords and logins."""

from __future__ import annotations

import pytest

from restante.core.credentials import digest, login_fault, matches, password_fault
from restante.flow.accounts import new_password


def test_only_the_password_matches_and_only_under_its_pepper() -> None:
    stored = digest("a password", b"pepper")
    assert matches("a password", b"pepper", [stored])
    assert not matches("a passwore", b"pepper", [stored])
    assert not matches("a password", b"another", [stored])


def test_any_of_several_passwords_matches_and_none_at_all_never() -> None:
    now, before = (digest(password, b"pepper") for password in ("now", "before"))
    for password, right in (("now", True), ("before", True), ("later", False), ("", False)):
        assert matches(password, b"pepper", [now, before]) is right
        assert not matches(password, b"pepper", [b"", b""])


def test_generated_passwords_are_strong_and_different() -> None:
    assert password_fault(new_password()) is None
    assert len({new_password() for _ in range(100)}) == 100


@pytest.mark.parametrize("password", ["", "short", "a" * 40, "abcabcabcabcabcabc", "a password with \0 in it"])
def test_weak_passwords_are_refused(password: str) -> None:
    assert password_fault(password)


@pytest.mark.parametrize("login", ["", "a:b", "a\nb", " a", "a" * 256, "a\0"])
def test_logins_that_http_basic_cannot_carry_are_refused(login: str) -> None:
    assert login_fault(login)


@pytest.mark.parametrize("login", ["operator", "shop@example.org", "ein Läden", "店"])
def test_other_logins_are_fine(login: str) -> None:
    assert login_fault(login) is None
