"""A real browser on the console: headless Chromium by Playwright, watched for whatever it complains of."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any, Final

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Response, sync_playwright

WIDE: Final = {"width": 1280, "height": 860}
PHONE: Final = {"width": 390, "height": 844}
_SERIOUS: Final = ("serious", "critical")

CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WITHOUT: Final = "no Chromium is installed here (Debian: apt install chromium)"


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """The browser that the system has; none is fetched."""
    assert CHROMIUM is not None, WITHOUT
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Walker:
    """A person at a browser: one context, everything that the browser complained of in `complaints`."""

    def __init__(self, browser: Browser, url: str, **context: Any) -> None:
        self.complaints: list[str] = []
        self._url = url
        self._context = browser.new_context(viewport=context.pop("viewport", WIDE), **context)
        self.page: Page = self._context.new_page()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(f"{self.page.url}: {error}"))
        self.page.on("response", self._answered)

    def close(self) -> None:
        self._context.close()

    def log_in(self, login: str, password: str) -> None:
        self.open("/login")
        self.page.fill("#login", login)
        self.page.fill("#password", password)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url("**/console/")

    def open(self, path: str) -> Page:
        """A page below /console, loaded and drawn."""
        self.page.goto(f"{self._url}/console{path}")
        self.page.wait_for_load_state("load")
        return self.page

    def too_wide(self) -> int:
        """By how many pixels the page is wider than the screen."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))

    def barriers(self, rules: list[str] | None = None) -> list[str]:
        """What axe-core finds that keeps somebody from using the page; by these rules, None: all of them."""
        options = {"resultTypes": ["violations"], "iframes": False}
        if rules is not None:
            options["runOnly"] = rules
        found = Axe().run(self.page, options=options).response["violations"]
        return [
            f"{self.page.url}: {one['id']}: {node['html'][:200]}"
            for one in found
            if one["impact"] in _SERIOUS
            for node in one["nodes"]
        ]

    def tabbed(self, most: int = 100) -> list[str]:
        """What Tab leads to, in its order, until it comes round; each must show that it has the focus."""
        order: list[str] = []
        self.page.evaluate("document.activeElement && document.activeElement.blur()")
        for _ in range(most):
            self.page.keyboard.press("Tab")
            at = self.page.evaluate(
                "() => { const e = document.activeElement; if (!e || e === document.body) return null;"
                " const s = getComputedStyle(e);"
                " return [(e.id || e.getAttribute('aria-label') || e.textContent || '').trim().slice(0, 40),"
                " s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 1]; }"
            )
            if at is None:
                break
            name, seen = at
            assert seen, f"{self.page.url}: nobody sees that {name!r} has the focus"
            order.append(name)
        return order

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{self.page.url}: {message.text}")

    def _answered(self, response: Response) -> None:
        if response.status >= 500:
            self.complaints.append(f"{response.url}: HTTP {response.status}")
