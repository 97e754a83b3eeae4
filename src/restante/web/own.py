"""restante's own endpoints, under /restante/v1/ and never under /v3/ (contract §12.31). Plain JSON and HTTP codes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from restante.core.errors import OperatorError, Refusal
from restante.core.limits import CANCEL_IDS_MAX, LOGIN_CHARS, MODEL_NAME_CHARS, TAG_CHARS
from restante.core.task import parse_id
from restante.flow import accounts
from restante.flow.end import cancel
from restante.flow.pause import pause_account, pause_model
from restante.providers.registry import Catalogue
from restante.store.accounts import By
from restante.store.database import Database
from restante.web import body, examples
from restante.web.operation import Operation
from restante.web.respond import account_of, login_of
from restante.web.wire import OURS, postback

T = TypeVar("T")

Login = Annotated[str, Meta(min_length=1, max_length=LOGIN_CHARS)]


class CancelRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which queued tasks to cancel: exactly one of `ids`, `tag` and `all`; of the caller's account, or as the operator
    of another one (`login`) or of all accounts (`everyone`)."""

    ids: Annotated[list[str], Meta(max_length=CANCEL_IDS_MAX, description="These tasks.")] | None = None
    tag: Annotated[str, Meta(min_length=1, max_length=TAG_CHARS, description="All tasks with this tag.")] | None = None
    all: Annotated[bool, Meta(description="True: all tasks.")] | None = None
    login: Login | None = None
    everyone: bool = False


class AccountRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which account: the caller's own, or as the operator another one."""

    login: Login | None = None


class ModelRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model by a name that may be posted."""

    model: Annotated[str, Meta(min_length=1, max_length=MODEL_NAME_CHARS)]


class Cancelled(msgspec.Struct, frozen=True):
    """The tasks that were cancelled, all their money returned. Running and finished ones are not among them."""

    cancelled: list[str]


class AccountState(msgspec.Struct, frozen=True):
    """Whether an account is paused, after the call."""

    login: str
    paused: bool


class ModelState(msgspec.Struct, frozen=True):
    """Whether a model is paused, after the call; with it are all `names` that it answers to."""

    model: str
    served: str
    names: list[str]
    paused: bool


class Fault(msgspec.Struct, frozen=True):
    """Why a request was not carried out."""

    error: str


class _Refused(Exception):
    """A request that is not carried out: the HTTP status, and why."""

    def __init__(self, status: int, why: str) -> None:
        self.status = status
        self.why = why


class Own:
    """The endpoints; `operations()` is what is served."""

    def __init__(self, db: Database, clock: Callable[[], datetime], body_bytes: int, catalogue: Catalogue) -> None:
        self._db = db
        self._clock = clock
        self._body_bytes = body_bytes
        self._catalogue = catalogue

    def operations(self) -> list[Operation]:
        """Our own paths."""
        paths = partial(Operation, group="restante's own", method="POST")
        account = partial(
            paths, request=AccountRequest, answers={200: AccountState, 400: Fault, 403: Fault, 404: Fault}, sent={}
        )
        model = partial(
            paths,
            request=ModelRequest,
            answers={200: ModelState, 400: Fault, 403: Fault, 404: Fault},
            sent={"model": "gemini-2.5-pro"},
        )
        return [
            paths(
                name="cancel_tasks",
                path=f"{OURS}/tasks/cancel",
                summary="Cancel queued tasks",
                description="Ends queued tasks of yours, named by one of `ids`, `tag` and `all`, and gives their money "
                "back. Tasks that are running or finished, and ids that are not yours, are passed over. The operator "
                "may name another account (`login`) or all of them (`everyone`).",
                endpoint=_answered(self.cancel),
                request=CancelRequest,
                answers={200: Cancelled, 400: Fault, 403: Fault, 404: Fault},
                sent={"tag": "run-17"},
                rows=[Cancelled([examples.TASK_ID])],
            ),
            account(
                name="pause_account",
                path=f"{OURS}/account/pause",
                summary="Pause an account",
                description="Its queued tasks wait and new ones are queued behind them; `live` is refused. Results can "
                "be collected. The operator may name another account.",
                endpoint=_answered(partial(self.account, paused=True)),
                rows=[AccountState("shop@example.org", True)],
            ),
            account(
                name="resume_account",
                path=f"{OURS}/account/resume",
                summary="Resume an account",
                description="What waited goes on at once. What the operator paused, the operator alone resumes.",
                endpoint=_answered(partial(self.account, paused=False)),
                rows=[AccountState("shop@example.org", False)],
            ),
            model(
                name="pause_model",
                path=f"{OURS}/models/pause",
                summary="Pause a model",
                description="For the operator: the model's tasks wait, whoever posted them; its `live` is refused.",
                endpoint=_answered(partial(self.model, paused=True)),
                rows=[ModelState("gemini-2.5-pro", "gemini-2.5-pro", ["gemini-2.5-pro"], True)],
            ),
            model(
                name="resume_model",
                path=f"{OURS}/models/resume",
                summary="Resume a model",
                description="What waited goes on at once.",
                endpoint=_answered(partial(self.model, paused=False)),
                rows=[ModelState("gemini-2.5-pro", "gemini-2.5-pro", ["gemini-2.5-pro"], False)],
            ),
        ]

    async def cancel(self, request: Request) -> Cancelled:
        """Cancel queued tasks by id, by tag, or all: the caller's, or as the operator anybody's."""
        asked = await self._read(request, CancelRequest)
        if sum((asked.ids is not None, asked.tag is not None, asked.all is True)) != 1:
            raise _Refused(400, 'name the tasks by one of {"ids": [...]}, {"tag": "..."}, {"all": true}')
        if asked.everyone and asked.login is not None:
            raise _Refused(400, '"login" and "everyone" contradict each other')
        ids = None if asked.ids is None else [text for text in asked.ids if parse_id(text)]
        if asked.tag is not None and "\0" in asked.tag:
            raise _Refused(400, "a tag has no NUL")
        account_id: int | None = await self._whose(request, asked.login)
        if asked.everyone:
            await self._operator_only(request)
            account_id = None
        ended = await cancel(self._db, self._clock(), postback, account_id=account_id, ids=ids, tag=asked.tag)
        return Cancelled(ended)

    async def account(self, request: Request, *, paused: bool) -> AccountState:
        """Pause or resume the caller's account, or as the operator another one."""
        login = (await self._read(request, AccountRequest)).login
        await self._whose(request, login)
        login = login or login_of(request)
        by: By = "operator" if await self._is_operator(request) else "owner"
        if not await pause_account(self._db, login, paused=paused, by=by):
            raise _Refused(403, "the operator paused this account and alone may resume it")
        return AccountState(login, paused)

    async def model(self, request: Request, *, paused: bool) -> ModelState:
        """Pause or resume a model, as the operator."""
        await self._operator_only(request)
        name = (await self._read(request, ModelRequest)).model
        model = self._catalogue.find(name)
        if model is None:
            raise _Refused(404, f"there is no model {name!r}")
        await pause_model(self._db, model, paused=paused)
        names = [one.name for one in self._catalogue.siblings(model)]
        return ModelState(name, model.served, names, paused)

    async def _read(self, request: Request, kind: type[T]) -> T:
        sent = await body.read(request, self._body_bytes)
        try:
            return msgspec.json.decode(b"" if isinstance(sent, Refusal) else sent or b"{}", type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _Refused(400, f"not understood: {error}") from None

    async def _whose(self, request: Request, login: str | None) -> int:
        """The number of the account that a request is about. Only the operator may name another than the caller's."""
        if login is None or login == login_of(request):
            return account_of(request)
        await self._operator_only(request)
        try:
            return (await accounts.find(self._db, login.replace("\0", ""))).id
        except OperatorError as error:
            raise _Refused(404, error.problem) from None

    async def _operator_only(self, request: Request) -> None:
        if not await self._is_operator(request):
            raise _Refused(403, "only the operator may do this")

    async def _is_operator(self, request: Request) -> bool:
        return login_of(request) == await accounts.operator(self._db)


def _answered(work: Callable[[Request], Awaitable[msgspec.Struct]]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            answer, status = await work(request), 200
        except _Refused as refused:
            answer, status = Fault(refused.why), refused.status
        return Response(msgspec.json.encode(answer), status, media_type="application/json")

    return endpoint
