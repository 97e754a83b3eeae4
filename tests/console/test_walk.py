"""A walk through every page in a real browser: no complaint of its policy or its scripts, usable on a phone, by
keyboard alone and with a screen reader."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.console.rehearsal import rehearse
from tests.console.walking import CHROMIUM, PHONE, WITHOUT, Walker, chromium
from tests.support import OPERATOR, Http, Restante, task

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT)

#: Every page, {NAME} an id that the rehearsal made.
PAGES = ["/", "/tasks", "/tasks?state=failed", "/tasks/{searched}", "/tasks/{failed}", "/tasks/{retried}",
         "/tasks/{live}", "/tasks/{hostile}", "/tasks/{waiting}", "/nowhere"]  # fmt: skip


@pytest.fixture(scope="module")
def ids(restante: Restante) -> dict[str, str]:
    return asyncio.run(rehearse(restante.family, OPERATOR))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def test_every_page_on_a_screen_and_on_a_phone(restante: Restante, ids: dict[str, str], browser: Any) -> None:
    barriers: list[str] = []
    for viewport, scheme in ((PHONE, "light"), (None, "dark")):
        walker = Walker(browser, restante.url, color_scheme=scheme, **({"viewport": viewport} if viewport else {}))
        walker.open("/login")
        barriers += walker.barriers()
        walker.log_in(*OPERATOR)
        for path in PAGES:
            walker.open(path.format(**ids))
            barriers += walker.barriers()
            assert walker.too_wide() <= 0, f"{path} at {viewport or 'full width'}"
        missing = [one for one in walker.complaints if "404" in one and "nowhere" in one]
        assert len(missing) <= 1 and walker.complaints == missing
        walker.close()
    assert not barriers, "\n".join(barriers)


def test_everything_is_reached_by_keyboard(restante: Restante, ids: dict[str, str], browser: Any) -> None:
    walker = Walker(browser, restante.url)
    walker.log_in(*OPERATOR)
    walker.open("/tasks")
    reached = walker.tabbed()
    assert reached[:3] == ["Skip to the content", "restante", "Overview"]
    assert {"Tasks", "Log out", "failed", "Show", "q", "model", "time"} <= set(reached)
    walker.open("/tasks")
    walker.page.keyboard.press("Tab")
    walker.page.keyboard.press("Enter")
    assert walker.page.evaluate("document.activeElement.id") == "main"
    walker.page.focus("#q")
    walker.page.keyboard.type(ids["searched"])
    walker.page.keyboard.press("Enter")
    walker.page.wait_for_url(f"**/tasks/{ids['searched']}")
    assert {"Copy as curl, ask again", "What task_get answers", "1"} <= set(walker.tabbed())
    assert walker.complaints == []
    walker.close()


def test_a_page_changes_by_itself_and_keeps_what_was_opened(
    restante: Restante, ids: dict[str, str], browser: Any
) -> None:
    walker = Walker(browser, restante.url)
    walker.log_in(*OPERATOR)
    page = walker.open("/tasks?tag=fresh")
    page.wait_for_selector("#live-state.on")
    assert page.locator("tbody tr").count() == 0

    async def post() -> None:
        async with Http(restante.family) as http:
            await http.post([task("appears by itself", tag="fresh")])

    asyncio.run(post())
    page.wait_for_selector("tbody tr .state.done", timeout=15_000)
    page = walker.open("/")
    page.wait_for_selector("#live-state.on")
    page.wait_for_selector("#plot canvas")
    page.click("summary")
    before = page.text_content("figcaption")
    asyncio.run(post())
    page.wait_for_function(
        "was => document.querySelector('figcaption').textContent !== was", arg=before, timeout=15_000
    )
    assert page.locator("details[open]").count() == 1 and page.locator("#plot canvas").count() == 1
    assert walker.complaints == []
    walker.close()


def test_it_reads_without_scripts(restante: Restante, ids: dict[str, str], browser: Any) -> None:
    walker = Walker(browser, restante.url, java_script_enabled=False)
    walker.log_in(*OPERATOR)
    walker.open("/tasks")
    walker.page.click(f"a[href='/console/tasks/{ids['searched']}']")
    assert walker.page.locator(".timeline li").count() >= 6 and walker.page.locator("mark").count() == 2
    walker.open("/")
    walker.page.click("summary")
    assert walker.page.locator("#minutes tbody tr").count() == 60
    walker.page.click("text=Log out")
    walker.page.wait_for_url("**/login")
    walker.close()
