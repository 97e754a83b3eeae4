"""Where the key comes from, and that a changed file is noticed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from restante.core.errors import OperatorError
from restante.core.limits import API_KEY_CHARS, API_KEY_UNSETTLED_SECONDS, KEYS_MAX
from restante.providers.api_key import api_key_source, project_of, split_keys

SECRET = "AIzaSyD-secret-0123"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(f"  {SECRET}\n")
    return path


def age(path: Path, seconds: float) -> None:
    """Let the file have been written so many seconds before now."""
    now = path.stat().st_mtime
    os.utime(path, (now - seconds, now - seconds))


def test_a_value() -> None:
    assert api_key_source(f" {SECRET}\n", None)() == SECRET


@pytest.mark.parametrize("key", [None, "", " \n"])
def test_no_key(key: str | None) -> None:
    with pytest.raises(OperatorError):
        api_key_source(key, None)


def test_an_empty_value_is_none(file: Path) -> None:
    assert api_key_source("", file)() == SECRET


def test_two_keys_are_one_too_many(file: Path) -> None:
    with pytest.raises(OperatorError) as raised:
        api_key_source(SECRET, file)
    assert SECRET not in str(raised.value)


def test_a_file(file: Path) -> None:
    assert api_key_source(None, file)() == SECRET


def test_an_unchanged_file_is_not_read_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    age(file, API_KEY_UNSETTLED_SECONDS + 60)
    source = api_key_source(None, file)

    def unexpected(*_: object, **__: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(Path, "open", unexpected)
    assert source() == SECRET


def test_a_rewritten_file_is_read_again(file: Path) -> None:
    age(file, API_KEY_UNSETTLED_SECONDS + 60)
    source = api_key_source(None, file)
    file.write_text("another-key-entirely")
    assert source() == "another-key-entirely"


def test_a_replaced_file_is_read_again(file: Path, tmp_path: Path) -> None:
    """A rename, with the old size and the old time: a secrets mount does that."""
    age(file, API_KEY_UNSETTLED_SECONDS + 60)
    source = api_key_source(None, file)
    times = file.stat()
    other = tmp_path / "other"
    other.write_text(f"  {SECRET[::-1]}\n")
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(file)
    assert source() == SECRET[::-1]


def test_two_writes_within_one_tick_of_the_clock(file: Path) -> None:
    """The same size, time and inode: a file that was just written is not trusted yet."""
    source = api_key_source(None, file)
    times = file.stat()
    file.write_text(f"  {SECRET[::-1]}\n")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert source() == SECRET[::-1]


def test_a_file_that_goes_and_comes_back(file: Path) -> None:
    source = api_key_source(None, file)
    file.unlink()
    with pytest.raises(OperatorError, match="cannot be read: No such file or directory"):
        source()
    file.write_text("")
    with pytest.raises(OperatorError, match="is empty"):
        source()
    file.write_text(SECRET)
    assert source() == SECRET


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="not a regular file"):
        api_key_source(None, tmp_path)


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(OperatorError, match="not a regular file"):
        api_key_source(None, fifo)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file(file: Path) -> None:
    file.chmod(0)
    with pytest.raises(OperatorError, match="Permission denied"):
        api_key_source(None, file)


@pytest.mark.parametrize(
    "wrong", [f"{SECRET}\nX-Evil: 1", f"{SECRET} two", "schlüssel", "k" * (API_KEY_CHARS + 1), "\0"]
)
def test_what_is_no_key(wrong: str, file: Path) -> None:
    with pytest.raises(OperatorError) as by_value:
        api_key_source(wrong, None)
    file.write_text(wrong)
    with pytest.raises(OperatorError) as by_file:
        api_key_source(None, file)
    assert SECRET not in str(by_value.value) + str(by_file.value)


def test_the_source_does_not_show_its_key(file: Path) -> None:
    assert SECRET not in repr(api_key_source(SECRET, None)) + repr(api_key_source(None, file))


def test_several_keys(file: Path) -> None:
    file.write_text("\nfirst\nsecond, third\nfirst\n")
    assert split_keys(api_key_source(None, file, several=True)()) == ("first", "second", "third")
    assert split_keys(api_key_source("first,second third", None, several=True)()) == ("first", "second", "third")


@pytest.mark.parametrize(
    "wrong", ["good schlüssel", ",", "k " + "x" * (API_KEY_CHARS + 1), " ".join(map(str, range(KEYS_MAX + 1)))]
)
def test_what_are_no_keys(wrong: str) -> None:
    with pytest.raises(OperatorError) as raised:
        api_key_source(wrong, None, several=True)
    assert wrong[:9] not in str(raised.value) or wrong == ","


def test_a_project_is_named_without_its_key() -> None:
    assert project_of(SECRET) == project_of(SECRET) != project_of(SECRET[::-1])
    assert len(project_of(SECRET)) == 12 and project_of(SECRET).isalnum()
