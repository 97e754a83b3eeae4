"""Copies deploy/ into the pages that show it: `python -m tests.docs.files`.

A block titled with a path below deploy/ holds that file's text, since a page has to read the same on every site.
"""

from __future__ import annotations

import re

from tests.docs.blocks import ROOT, pages


def filled(text: str) -> str:
    """A page with its files as they are now."""

    def fill(match: re.Match[str]) -> str:
        return f"{match[1]}{(ROOT / match[2]).read_text()}```\n"

    return re.sub(r'(?ms)^(```\w+ title="(deploy/[^"]+)"\n).*?^```\n', fill, text)


if __name__ == "__main__":
    for page in pages():
        page.write_text(filled(page.read_text()))
