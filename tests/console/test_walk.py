"""A walk through every page in a real browser: no complaint of its policy or its scripts, usable on a phone, by
keyboard alone and with a screen reader."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.console.rehearsal import BRANDS, rehearse
from tests.console.walking import CHROMIUM, PHONE, WITHOUT, Walker, chromium
from tests.support import OPERATOR, Http, Restante, task

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT), pytest.mark.timeout(300)]

#: Every page, {NAME} an id that the rehearsal made.
PAGES = ("/login", "/", "/tasks", "/tasks/{searched}", "/deliveries", "/ledger?account=operator", "/accounts/1",
         "/playground")  # fmt: skip
#: Other states of them, where a walk has time.
MORE_PAGES = ("/tasks?state=failed", "/tasks?tag=nobody", "/tasks/{failed}", "/tasks/{retried}", "/tasks/{live}",
              "/tasks/{hostile}", "/tasks/{waiting}", "/deliveries/{webhook}", "/deliveries?state=retrying",
              "/ledger", "/accounts", "/models", "/nowhere")  # fmt: skip


@pytest.fixture(scope="module")
def ids(restante: Restante) -> dict[str, str]:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, rehearse(restante.family, OPERATOR)).result()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.mark.parametrize(
    ("paths", "rules"),
    [
        pytest.param(PAGES, ["color-contrast"], marks=pytest.mark.long),
        pytest.param(PAGES + MORE_PAGES, None, marks=pytest.mark.long),
    ],
    ids=["short", "all"],
)
def test_every_page_in_the_dark(
    restante: Restante, ids: dict[str, str], browser: Any, paths: tuple[str, ...], rules: list[str] | None
) -> None:
    _walk(Walker(browser, restante.url, color_scheme="dark"), ids, paths, rules)


@pytest.mark.parametrize(
    "paths", [PAGES, pytest.param(PAGES + MORE_PAGES, marks=pytest.mark.long)], ids=["short", "all"]
)
def test_every_page_on_a_phone(restante: Restante, ids: dict[str, str], browser: Any, paths: tuple[str, ...]) -> None:
    _walk(Walker(browser, restante.url, viewport=PHONE), ids, paths)


def _walk(walker: Walker, ids: dict[str, str], paths: tuple[str, ...], rules: list[str] | None = None) -> None:
    """Look at each page; `rules` of axe, None: all."""
    barriers: list[str] = []
    for path in paths:
        if path != "/login" and walker.page.url.endswith(("/login", "about:blank")):
            walker.log_in(*OPERATOR)
        walker.open(path.format(**ids))
        barriers += walker.barriers(rules)
        assert walker.too_wide() <= 0, path
    complaints = [one for one in walker.complaints if not ("404" in one and "nowhere" in one)]
    walker.close()
    assert not barriers, "\n".join(barriers)
    assert not complaints


def test_everything_is_reached_by_keyboard(restante: Restante, ids: dict[str, str], browser: Any) -> None:
    walker = Walker(browser, restante.url)
    walker.log_in(*OPERATOR)
    walker.open("/tasks")
    reached = walker.tabbed()
    assert reached[:3] == ["Skip to the content", "restante", "Overview"]
    assert {"Tasks", "Log out", "failed", "Show", "q", "model", "time"} <= set(reached), reached
    walker.open("/tasks")
    walker.page.keyboard.press("Tab")
    walker.page.keyboard.press("Enter")
    assert walker.page.evaluate("document.activeElement.id") == "main"
    walker.page.focus("#q")
    walker.page.keyboard.type(ids["searched"])
    walker.page.keyboard.press("Enter")
    walker.page.wait_for_url(f"**/tasks/{ids['searched']}")
    assert {"Copy as curl, ask again", "What task_get answers", "source 1"} <= set(walker.tabbed())
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

    _elsewhere(post)
    page.wait_for_selector("tbody tr .state.done", timeout=60_000)
    page = walker.open("/")
    page.wait_for_selector("#live-state.on")
    page.wait_for_selector("#plot canvas")
    page.click("summary")
    before = page.text_content("figcaption")
    _elsewhere(post)
    page.wait_for_function(
        "was => document.querySelector('figcaption').textContent !== was", arg=before, timeout=60_000
    )
    assert page.locator("details[open]").count() == 1 and page.locator("#plot canvas").count() == 1
    assert walker.complaints == []
    walker.close()


def _elsewhere(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Playwright has a loop in this thread."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work()).result()


def test_it_reads_without_scripts(restante: Restante, ids: dict[str, str], browser: Any) -> None:
    walker = Walker(browser, restante.url, java_script_enabled=False)
    walker.log_in(*OPERATOR)
    walker.open(f"/tasks?tag={BRANDS[0]}")  # others have posted, too
    walker.page.click(f"a[href='/console/tasks/{ids['searched']}']")
    assert walker.page.locator(".timeline li").count() >= 6 and walker.page.locator("mark").count() == 2
    walker.open("/")
    walker.page.click("summary")
    assert walker.page.locator("#minutes tbody tr").count() == 60
    walker.page.click("text=Log out")
    walker.page.wait_for_url("**/login")
    walker.close()
