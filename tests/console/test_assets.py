"""What a browser loads: little, once, ours, and nothing that the pages' own policy forbids."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

from restante.web.console.assets import Assets
from tests.console.visiting import Visitor
from tests.support import Restante
from tests.web.calls import call

CONSOLE = Path(__file__).parents[2] / "src/restante/web/console"
PACKED_BYTES_MAX = 60 * 1024  # of all of it, once (issue 7)


def test_all_of_it_is_small() -> None:
    assets = Assets()
    assert {"console.css", "console.js", "icon.svg"} < set(assets.paths)
    assert assets.packed_bytes <= PACKED_BYTES_MAX, f"{assets.packed_bytes:,} bytes"


async def test_files_are_kept_for_ever_under_names_of_their_content(restante: Restante) -> None:
    async with Visitor(restante.url) as browser:
        named = re.findall(r'(?:src|href)="(/console/static/[^"]+)"', await browser.page("/login"))
    assert len(named) >= 4
    for path in named:
        packed = await call("GET", restante.url + path, headers={"Accept-Encoding": "gzip"})
        plain = await call("GET", restante.url + path, headers={"Accept-Encoding": "identity"})
        assert packed.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert packed.headers.get("Content-Encoding") == "gzip" and "Content-Encoding" not in plain.headers
        body = packed.body if not packed.body.startswith(b"\x1f\x8b") else gzip.decompress(packed.body)
        assert body == plain.body and len(plain.body) > 100
    assert (await call("GET", f"{restante.url}/console/static/console.0123456789abcdef.css")).status == 404


def test_vendored_files_have_their_licences_beside_them() -> None:
    vendored = {file.name.split("-")[0] for file in (CONSOLE / "static/vendor").glob("*.min.*")}
    assert vendored == {"htmx", "uplot"}
    for name in vendored:
        assert "permission" in (CONSOLE / f"static/vendor/{name}-LICENSE.txt").read_text().lower()


def test_templates_have_neither_script_nor_style_nor_unescaped_text() -> None:
    """The policy would stop the first two; the third is what keeps a prompt from being HTML."""
    for file in CONSOLE.glob("templates/*.html"):
        text = file.read_text()
        for bad in (
            "<script>",
            "<style",
            "style=",
            " onclick",
            " onload",
            "javascript:",
            "|safe",
            "hx-on",
            "autoescape",
        ):
            assert bad not in text, (file.name, bad)
    for module in CONSOLE.glob("*.py"):
        assert "autoescape=False" not in module.read_text()
        assert not re.search(r"Markup\(f?['\"].*\{[a-z_]+\}.*['\"]\)(?!\.format)", module.read_text()), module
