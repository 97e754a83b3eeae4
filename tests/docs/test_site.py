"""The documentation's site: built strictly, without a warning, and of nothing that comes from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it was built. `--strict` refuses pages without a place in the menu, links and anchors that lead nowhere;
    with `--quiet` it would see none of that."""
    directory = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", directory],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=110,
        check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert not re.search(r"WARNING|ERROR", said), said
    return directory


def test_every_page_is_there(site: Path) -> None:
    wanted = {page.relative_to(ROOT / "docs").with_suffix("") for page in (ROOT / "docs").rglob("*.md")}
    built = {page.parent.relative_to(site) for page in site.rglob("index.html")}
    assert {Path("index") if page == Path() else page for page in built} == wanted


def test_nothing_comes_from_elsewhere(site: Path) -> None:
    """No fonts, scripts, styles or pictures of other hosts."""
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        for tag in re.findall(r"<(?:link|script|img|iframe|source|video|audio)\b[^>]*>", page.read_text()):
            if 'rel="canonical"' not in tag:
                assert not re.search(r'(?:src|href|srcset)="?(?:https?:)?//', tag), f"{page}: {tag}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//|@import", style.read_text()), style


def test_no_registry_and_no_cdn_is_named() -> None:
    """Where packages come from is the reader's affair."""
    named = re.compile(
        r"pypi\.org|npmjs|unpkg|jsdelivr|cdnjs|docker\.io|ghcr\.io|quay\.io|googleapis\.com/css|gstatic", re.I
    )
    files = [ROOT / name for name in ("README.md", "mkdocs.yml", "Containerfile", "compose.yaml", "compose.one.yaml")]
    for path in [*files, *(ROOT / "docs").rglob("*.md"), *(p for p in (ROOT / "deploy").rglob("*") if p.is_file())]:
        assert not named.search(path.read_text()), path


def test_readme_links_lead_somewhere() -> None:
    """mkdocs checks those of docs/; these are of the pages beside it."""
    for name in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\((?!https?:|#)([^)\s#]+)", (ROOT / name).read_text()):
            assert (ROOT / target).exists(), f"{name}: {target}"


def test_the_menu_is_by_what_brings_a_reader() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert [next(iter(entry)) for entry in nav] == ["Start", "Learn", "Do", "Look up", "Understand"]
