"""A small client of restante's own API, for the commands that speak to a running server."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import msgspec

from restante.core.errors import OK_CODE, OperatorError, Unauthorized
from restante.web.wire import FAMILY, OURS


class Client:
    """Speaks the five endpoints. Raises OperatorError when the server cannot be reached or refuses the login."""

    def __init__(self, url: str, login: str, password: str) -> None:
        import aiohttp  # takes longer than all else that commands import

        self._broken = (aiohttp.ClientError, TimeoutError, OSError)
        self._url = url.rstrip("/")
        self._session = aiohttp.ClientSession(
            headers={"Authorization": aiohttp.encode_basic_auth(login, password, encoding="utf-8")},
            timeout=aiohttp.ClientTimeout(total=180),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self._session.close()

    async def post(self, tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Post tasks; returns the task entries in their order."""
        return await self._call("POST", "task_post", tasks)

    async def ready(self) -> list[dict[str, Any]]:
        """The rows of tasks_ready."""
        [task] = await self._call("GET", "tasks_ready")
        return task["result"] or []

    async def get(self, task_id: str) -> dict[str, Any]:
        """One task's entry."""
        [task] = await self._call("GET", f"task_get/{quote(task_id, safe='')}")
        return task

    async def cancel(self, which: dict[str, Any]) -> list[str]:
        """Cancel queued tasks by {"ids": [...]}, {"tag": ...} or {"all": True}, as the operator with "login" or
        "everyone"; the ids of those cancelled."""
        answer = await self._send("POST", f"{OURS}/tasks/cancel", which)
        cancelled: list[str] | None = answer.get("cancelled")
        if cancelled is None:
            raise OperatorError(str(answer.get("error") or answer.get("status_message")))
        return cancelled

    async def raw(self, task_id: str, *, suggestions: bool = False) -> bytes:
        """The provider's own reply to a task, or the search suggestions in it. Raises OperatorError without one."""
        what = "suggestions" if suggestions else "raw"
        return await self._body("GET", f"{OURS}/tasks/{quote(task_id, safe='')}/{what}")

    async def _body(self, method: str, path: str) -> bytes:
        status, body = await self._exchange(method, path)
        if status == HTTPStatus.OK:
            return body
        answer = self._read(body)
        raise OperatorError(str(answer.get("error") or answer.get("status_message")))

    async def _call(self, method: str, path: str, body: object = None) -> list[dict[str, Any]]:
        envelope = await self._send(method, f"{FAMILY}/{path}", body)
        if not envelope.get("tasks") or envelope["status_code"] != OK_CODE:
            raise OperatorError(
                f"{envelope.get('status_code')} {envelope.get('status_message')}",
                "Check --login and --password (RESTANTE_LOGIN, RESTANTE_PASSWORD)."
                if envelope.get("status_code") == Unauthorized.code
                else "",
            )
        tasks: list[dict[str, Any]] = envelope["tasks"]
        return tasks

    async def _send(self, method: str, path: str, body: object) -> dict[str, Any]:
        _, answer = await self._exchange(method, path, None if body is None else msgspec.json.encode(body))
        return self._read(answer)

    async def _exchange(self, method: str, path: str, data: bytes | None = None) -> tuple[int, bytes]:
        try:
            async with self._session.request(method, f"{self._url}{path}", data=data) as response:
                return response.status, await response.read()
        except self._broken as error:
            raise OperatorError(
                f"{self._url} cannot be reached: {error or type(error).__name__}.",
                "Is `restante up` running? Another address: --url (RESTANTE_URL).",
            ) from None

    def _read(self, body: bytes) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = msgspec.json.decode(body)
        except msgspec.DecodeError:
            raise OperatorError(f"{self._url} does not answer as restante does.") from None
        return answer
