"""The playground: the cost is said before, what is refused is refused by the API's judge, and it is paid once."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from restante.core.pricing import FREE, ListPrice, quote
from restante.core.task import Message, Prompt
from restante.flow import accounts
from tests.console.person import Form, Page, Person, person
from tests.support import Restante
from tests.web.calls import open_shop

HERE = "/console/playground"


async def composed(somebody: Person, **fields: str) -> Page:
    """The form, filled in and asked for its cost."""
    form = (await somebody.read("/playground")).form(HERE)
    return await somebody.send(form, do="quote", model_name="gemini-2.5-flash", **fields)


def ready(page: Page) -> Form:
    assert "At the most" in page.words, page.words
    return page.form(HERE)


async def test_a_task_is_posted_once_and_answered(restante: Restante) -> None:
    shop = await asyncio.to_thread(open_shop, restante)
    async with person(restante.url, shop.credentials) as owner:
        page = await composed(owner, user_prompt="say <b>ibex</b>", tag="by hand", max_output_tokens="100")
        assert "$0.0102" in page.words and "$0.0106" in page.words, "what is set aside"
        assert "<b>ibex" not in page.text
        form = ready(page)
        assert form.fields["user_prompt"] == "say <b>ibex</b>" and form.fields["tag"] == "by hand"
        pages = await asyncio.gather(*(owner.send(form, do="task") for _ in range(3)))
        [where] = {one.url.partition("?")[0] for one in pages}
        assert where.startswith("/console/tasks/1")
    account = await asyncio.to_thread(restante.look, lambda db: accounts.find(db, shop.credentials[0]))
    assert account.held + account.spent in (10_200_000, 200_000), "one task, held or answered"


async def test_live_is_asked_once_and_its_answer_is_text(restante: Restante) -> None:
    shop = await asyncio.to_thread(open_shop, restante)
    async with person(restante.url, shop.credentials) as owner:
        form = ready(await composed(owner, user_prompt="<script>alert(1)</script> [[cost=0.001]] [[search]]"))
        one, other = await asyncio.gather(owner.send(form, do="live"), owner.send(form, do="live"))
        for page in (one, other):
            assert page.status == 200 and "cost $0.0016" in page.words, page.words
            assert "<script>alert" not in page.text
        twice = await owner.send(form, do="live")
        assert "cost $0.0016" in twice.words, "the browser's reload, a moment later"
    account = await asyncio.to_thread(restante.look, lambda db: accounts.find(db, shop.credentials[0]))
    assert (account.spent, account.held) == (1_600_000, 0)


async def test_nothing_runs_before_its_cost_was_said(restante: Restante) -> None:
    shop = await asyncio.to_thread(open_shop, restante)
    async with person(restante.url, shop.credentials) as owner:
        form = (await owner.read("/playground")).form(HERE)
        for how in ("task", "live"):
            page = await owner.send(form, do=how, model_name="gemini-2.5-flash", user_prompt="x")
            assert "At the most" in page.words and page.url == HERE
        cheaper = ready(await composed(owner, user_prompt="x"))
        assert (await owner.send(cheaper, do="task", quoted="0")).url == HERE, "it costs more than was said"
    account = await asyncio.to_thread(restante.look, lambda db: accounts.find(db, shop.credentials[0]))
    assert (account.spent, account.held) == (0, 0)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"user_prompt": ""}, 40501),
        ({"user_prompt": "x", "model_name": "gpt"}, 40501),
        ({"user_prompt": "x", "max_output_tokens": "many"}, 40501),
        ({"user_prompt": "x", "max_output_tokens": "9999999"}, 40501),
        ({"user_prompt": "x", "temperature": "1,5"}, 40501),
        ({"user_prompt": "x", "top_p": "2"}, 40501),
        ({"user_prompt": "x", "postback_url": "http://127.0.0.1/"}, 40501),
        ({"user_prompt": "x" * 501}, 40501),
        ({"user_prompt": 'x"}], [{'}, None),
    ],
)
async def test_the_api_s_judge_judges(restante: Restante, fields: dict[str, str], code: int | None) -> None:
    shop = await asyncio.to_thread(open_shop, restante)
    async with person(restante.url, shop.credentials) as owner:
        form = (await owner.read("/playground")).form(HERE)
        page = await owner.send(form, **{"do": "task", "model_name": "gemini-2.5-flash", **fields})
        assert (page.status, str(code) in page.words) == ((400, True) if code else (200, False)), page.words


async def test_who_has_no_money_is_told_so(restante: Restante) -> None:
    shop = await asyncio.to_thread(open_shop, restante, "0.001")
    async with person(restante.url, shop.credentials) as owner:
        form = ready(await composed(owner, user_prompt="x"))
        page = await owner.send(form, do="task")
        assert page.status == 400 and "40210 Insufficient Funds." in page.words
        assert "40210 Insufficient Funds." in (await owner.send(page.form(HERE), do="live")).words


def test_a_quote_is_what_it_can_cost_at_the_most() -> None:
    usd = Decimal
    price = ListPrice(usd("0.30"), usd("2.50"), usd(35), "prompt")
    prompt = Prompt(
        user_prompt="wo liegt Grönland?",
        model_name="m",
        max_output_tokens=1_000,
        web_search=True,
        system_message="kurz",
        message_chain=(Message("user", "hallo"),),
    )
    found = quote(prompt, price, live=False)
    assert found.input_tokens == 19 + 4 + 5 + 3 * 10
    assert found.tokens == 58 * 300 + 1_000 * 2_500
    assert found.most == 200_000 + found.tokens + 35_000_000
    assert (found.hold, found.open_ended) == (10_200_000, False)
    assert quote(prompt, ListPrice(usd(1), usd(1), usd(14), "query"), live=True).open_ended
    assert quote(prompt, FREE, live=True).most == 600_000
