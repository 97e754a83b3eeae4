"""The playground: one task, composed by hand. What it costs at the most is said before; then it is posted, or asked
live, by the very judge, hold and pacing of the API."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from restante.core import limits
from restante.core.allowance import Allowance, Endpoint
from restante.core.answer import Answer
from restante.core.errors import ProviderFailed, RateExceeded, Refusal
from restante.core.pricing import FREE, Quote, quote
from restante.core.task import Model, Prompt, read_prompt
from restante.flow.accept import Acceptor, Fates, Judged
from restante.flow.deeds import Deed, Keep
from restante.flow.disk import DiskFull
from restante.flow.live import Live
from restante.flow.rates import Rates
from restante.providers.registry import Catalogue
from restante.store import accounts
from restante.store.accounts import Account
from restante.store.database import Session
from restante.web.console import answers
from restante.web.console.acting import Acting
from restante.web.console.desk import Desk, action, pages
from restante.web.console.gate import PREFIX, form_of, viewer_of
from restante.web.judge import Judge, Verdict, split
from restante.web.wire import answer_result

log = logging.getLogger("restante.console")

PATH: Final = f"{PREFIX}/playground"

_TEXTS: Final = ("user_prompt", "system_message", "model_name", "tag", "postback_url", "pingback_url")
_NUMBERS: Final = ("max_output_tokens", "temperature", "top_p")
_SWITCHES: Final = ("web_search", "use_reasoning")
_NUMBER: Final = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")
_NOT_LIVE: Final = ("postback_url", "pingback_url")


_DEFAULTS: Final = {
    "max_output_tokens": limits.OUTPUT_TOKENS_DEFAULT,
    "temperature": limits.TEMPERATURE_DEFAULT,
    "top_p": limits.TOP_P_DEFAULT,
}


class Asked(msgspec.Struct, frozen=True):
    """A live task that was asked from here: its id, what it cost, and the answer as `live` would send it, or why there
    is none."""

    task_id: str
    cost: int
    seconds: float
    answer: Answer | None
    result: bytes | None
    refusal: str | None


class Playground:
    """The page. `fault` says why a provider cannot be called now, `count` hears of calls, as the API's do."""

    def __init__(
        self,
        acting: Acting,
        catalogue: Catalogue,
        judge: Judge,
        acceptor: Acceptor,
        live: Live,
        rates: Rates,
        allowance: Allowance,
        *,
        fault: Callable[[str], str | None] = lambda provider: None,
        count: Callable[[int, Endpoint], None] = lambda account_id, endpoint: None,
    ) -> None:
        self._acting = acting
        self._desk: Desk = acting.desk
        self._catalogue = catalogue
        self._judge = judge
        self._acceptor = acceptor
        self._live = live
        self._rates = rates
        self._clock = self._desk.clock
        self._allowance = allowance
        self._fault = fault
        self._count = count

    def routes(self) -> list[Route]:
        """Below /console."""
        return [*pages("/playground", self.empty), action("/playground", self.composed)]

    async def empty(self, request: Request) -> Response:
        """The form, perhaps filled in by a link (another task's prompt)."""
        return await self._page(request, dict(request.query_params))

    async def composed(self, request: Request) -> Response:
        """Judge what was composed; say what it costs, post it, or ask it live."""
        form = form_of(request)
        how = form.get("do", "quote")
        live = how == "live"
        judged = self._judged(form, live=live)
        if isinstance(judged, Refusal):
            return await self._page(request, form, refusal=judged, status=400)
        if how not in ("task", "live") or not self._was_quoted(form, judged):
            return await self._page(request, form, judged=judged)
        allowance = await self._allowed(request)
        if live:
            return await self._ask(request, form, judged, allowance)
        return await self._post(request, form, judged, allowance)

    def _was_quoted(self, form: Mapping[str, str], judged: Judged) -> bool:
        """Whether a page has said that it costs so much; else it says so now."""
        told = form.get("quoted", "")
        most = self._quotes(judged.model, read_prompt(judged.request))["live"]["most"]
        return told.isascii() and told.isdecimal() and int(told[:20]) >= most

    async def _post(self, request: Request, form: Mapping[str, str], judged: Judged, allowance: Allowance) -> Response:
        viewer = viewer_of(request)
        refusal = await self._rated(viewer.account_id, "task_post", allowance)
        fault = self._fault(judged.model.provider)
        refusal = refusal or (None if fault is None else ProviderFailed(fault))
        if refusal is not None:
            return await self._page(request, form, refusal=refusal, status=400)

        async def work(keep: Keep) -> Deed:
            posted = Deed("")

            async def also(tx: Session, now: datetime, ids: Any, fates: Fates) -> None:
                nonlocal posted
                if fates[0] is not None:
                    raise _Refused(fates[0])
                posted = Deed("Posted. Its answer comes here.", f"{PREFIX}/tasks/{ids[0]}")
                await keep(tx, posted)

            await self._acceptor.accept(viewer.account_id, [judged], also, allowance)
            log.info("console: %s posted %s", viewer.login, posted.link.rsplit("/", 1)[-1])
            return posted

        try:
            return await self._acting.act(request, work, where=PATH)
        except _Refused as error:
            return await self._page(request, form, judged=judged, refusal=error.refusal, status=400)
        except DiskFull:
            words = "The disk is nearly full, so that no tasks are taken. What was accepted is safe."
            return self._desk.trouble(request, 503, "No room", words)

    async def _ask(self, request: Request, form: Mapping[str, str], judged: Judged, allowance: Allowance) -> Response:
        viewer = viewer_of(request)
        refusal = await self._rated(viewer.account_id, "live", allowance)
        if refusal is not None:
            return await self._page(request, form, refusal=refusal, status=400)
        prompt = read_prompt(judged.request)

        async def work(keep: Keep) -> Deed:
            # Before it is asked: what is asked may cost money, so that a form sent twice must not ask twice.
            said = (
                f"{judged.model.name} was asked live. Its answer is shown once and not kept; the ledger has its cost."
            )
            await keep(self._acting.desk.db, Deed(said, PATH))
            began = self._clock()
            task_id, outcome, cost = await self._live.ask(viewer.account_id, judged.model, prompt, allowance)
            now = self._clock()
            log.info("console: %s asked %s live", viewer.login, task_id)
            seconds = (now - began).total_seconds()
            if isinstance(outcome, Answer):
                asked = Asked(task_id, cost, seconds, outcome, answer_result(outcome, now), None)
            else:
                asked = Asked(task_id, cost, seconds, None, None, f"{outcome.code} {outcome.message}")
            return Deed(said, PATH, asked)

        def shown(deed: Deed) -> Response:
            assert isinstance(deed.secret, Asked)
            return self._render(request, form, judged, None, None, asked=deed.secret)

        return await self._acting.act(request, work, where=PATH, shown=shown, patience=limits.LIVE_SECONDS + 5)

    def _judged(self, form: Mapping[str, str], *, live: bool) -> Judged | Refusal:
        """The form as a client would post it, judged as that would be."""
        found = split(_body(form, live=live), self._judge.form)
        verdict = found if isinstance(found, Refusal) else self._judge.judge(found[0], live=live)
        if isinstance(verdict, Verdict) and verdict.task is not None and verdict.model is not None:
            return Judged(verdict.model, verdict.task.tag, verdict.request)
        refusal = verdict.refusal if isinstance(verdict, Verdict) else verdict
        assert refusal is not None
        return refusal

    async def _allowed(self, request: Request) -> Allowance:
        """What the viewer's account may do."""
        viewer = viewer_of(request)
        found = await self._desk.now.look(lambda tx: accounts.credentials(tx, [viewer.login]))
        own = found[viewer.login].own_limits()
        return self._allowance.with_own(own) if own else self._allowance

    async def _rated(self, account_id: int, endpoint: Endpoint, allowance: Allowance) -> Refusal | None:
        self._count(account_id, endpoint)
        limit = allowance.rate(endpoint)
        if not limit or (await self._rates.take(account_id, endpoint, limit)).allowed:
            return None
        return RateExceeded(f"{limit} >= {limit}")

    async def _page(
        self,
        request: Request,
        form: Mapping[str, str],
        *,
        judged: Judged | None = None,
        refusal: Refusal | None = None,
        status: int = 200,
    ) -> Response:
        viewer = viewer_of(request)
        account = await self._desk.now.look(lambda tx: accounts.read(tx, viewer.login))
        told = await self._acting.told(request)
        return self._render(request, form, judged, refusal, account, status=status, told=told)

    def _render(
        self,
        request: Request,
        form: Mapping[str, str],
        judged: Judged | None,
        refusal: Refusal | None,
        account: Account | None,
        *,
        asked: Asked | None = None,
        told: object = None,
        status: int = 200,
    ) -> Response:
        prices = None if judged is None else self._quotes(judged.model, read_prompt(judged.request))
        said = None if refusal is None else {"code": refusal.code, "message": refusal.message}
        data = {
            "models": [_shown(model) for model in self._catalogue.listed()],
            "quote": prices,
            "refusal": said,
            "request": None if judged is None else msgspec.json.decode(judged.request),
            "asked": None if asked is None else _said(asked),
        }
        return self._desk.page(
            request,
            "playground.html",
            data,
            status=status,
            form={name: form.get(name, "") for name in (*_TEXTS, *_NUMBERS, *_SWITCHES)},
            defaults=_DEFAULTS,
            balance=None if account is None else account.balance,
            live=asked,
            answer=None if asked is None or asked.result is None else answers.shown(answers.read(asked.result)),
            told=told,
            json_url="" if request.method == "POST" else f"{PATH}.json",
            as_json=None if judged is None else msgspec.json.format(judged.request, indent=2).decode(),
        )

    def _quotes(self, model: Model, prompt: Prompt) -> dict[str, Any]:
        price = self._catalogue.price(model)
        known = price or FREE
        both: dict[str, Quote] = {
            "task": quote(prompt, known, live=False),
            "live": quote(prompt, known, live=True),
        }
        return {name: msgspec.structs.asdict(one) for name, one in both.items()} | {
            "model": model.name,
            "provider": model.provider,
            "known": price is not None,
            "as_of": known.as_of,
        }


class _Refused(Exception):
    """The task was not accepted: for want of money, say. Undoes what its transaction did."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.message)


def _body(form: Mapping[str, str], *, live: bool) -> bytes:
    """The form as the JSON that a client would post: what is empty is not sent, a number that is none goes as it was
    typed, for the judge to refuse."""
    sent: dict[str, Any] = {name: form[name] for name in _TEXTS if form.get(name)}
    for name in _NUMBERS:
        text = form.get(name, "").strip()
        if text:
            sent[name] = msgspec.Raw(text.encode()) if _NUMBER.fullmatch(text) else text
    sent |= {name: True for name in _SWITCHES if form.get(name) == "yes"}
    if live:
        sent = {name: value for name, value in sent.items() if name not in _NOT_LIVE}
    return msgspec.json.encode([sent])


def _said(asked: Asked) -> dict[str, Any]:
    """Its twin: the answer as `live` sends it."""
    result = None if asked.result is None else msgspec.Raw(asked.result)
    return {"id": asked.task_id, "cost": asked.cost, "refusal": asked.refusal, "result": result}


def _shown(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "provider": model.provider,
        "web_search": model.web_search,
        "reasoning": model.reasoning,
        "reasoning_forced": model.reasoning_forced,
    }
