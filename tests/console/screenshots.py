"""The pictures of the console in the documentation: `python -m tests.console.screenshots [docs/images [NAME...]]`.

They are made of a rehearsal on the scripted provider, so that anybody can make them again.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.console.rehearsal import keep_books, rehearse
from tests.console.walking import PHONE, WIDE, Walker, chromium
from tests.support import OPERATOR, running

BYTES_MAX: Final = 150 * 1024  # of a picture
#: name -> (path, {NAME} an id of the rehearsal; the screen; what is done before)
PICTURES: Final = {
    "overview": ("/", WIDE),
    "tasks": ("/tasks", {"width": 1200, "height": 680}),
    "task": ("/tasks/{searched}", {"width": 1160, "height": 660}),
    "task-failed": ("/tasks/{failed}", {"width": 1160, "height": 600}),
    "task-phone": ("/tasks/{searched}", PHONE),
    "login": ("/login", WIDE),
    "deliveries": ("/deliveries", {"width": 1280, "height": 800}),
    "delivery": ("/deliveries/{refused}", WIDE),
    "ledger": ("/ledger?account={login}", {"width": 1280, "height": 720}),
    "accounts": ("/accounts", WIDE),
    "account": ("/accounts/{account}", {"width": 1280, "height": 1240}),
    "playground": ("/playground?user_prompt=Which+CRM+would+you+recommend+to+a+bakery%3F", WIDE),
    "models": ("/models", WIDE),
}


def main(into: Path, *names: str) -> None:
    """Take these, or all of them."""
    into.mkdir(parents=True, exist_ok=True)
    settings = {"WEBHOOK_ALLOW": "127.0.0.1"}
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory,
        running(Path(directory), "--provider", "scripted", **settings) as up,
    ):
        ids = asyncio.run(rehearse(up.family, OPERATOR)) | asyncio.run(keep_books(up.url, OPERATOR))
        with chromium() as browser:
            for name in names or PICTURES:
                path, screen = PICTURES[name]
                walker = Walker(browser, up.url, viewport=screen)
                if path != "/login":
                    walker.log_in(*OPERATOR)
                page = walker.open(path.format(**ids))
                page.wait_for_timeout(700)  # a chart is drawn, a stream is open
                file = into / f"console-{name}.png"
                page.screenshot(path=file)
                walker.close()
                assert file.stat().st_size < BYTES_MAX, f"{file} has {file.stat().st_size:,} bytes"
                print(f"{file} {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"), *sys.argv[2:])
