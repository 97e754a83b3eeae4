"""Database connections that break where a test wants them to (restante/faults.py). In production nobody makes any."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Mapping
from typing import Any
from weakref import WeakSet

from restante import faults
from restante.store.connecting import Connection, Connector, Prepared


class Interrupted(Connection):
    """A connection that knows the fault points around statements and commits. `steps`: by the statements' text."""

    __slots__ = ("_step",)

    steps: Mapping[str, faults.Step] = {}

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._step: faults.Step | None = None  # of the transaction that is open

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        """As asyncpg's. A statement within a transaction has its points at the commit."""
        step = self.steps.get(query)
        if step is None:
            return await super().fetch(query, *args, **options)
        if self.is_in_transaction():
            self._step = step
            return await super().fetch(query, *args, **options)
        return await self._watched(step, super().fetch(query, *args, **options))

    async def execute(self, query: str, *args: Any, **options: Any) -> Any:
        """As asyncpg's, which begins and ends transactions with it."""
        step, ends = self._step, query in ("COMMIT;", "ROLLBACK;")
        if ends:
            self._step = None
        if step is None or query != "COMMIT;":
            return await super().execute(query, *args, **options)
        return await self._watched(step, super().execute(query, *args, **options))

    async def _watched(self, step: faults.Step, work: Coroutine[Any, Any, Any]) -> Any:
        asked = asyncio.create_task(work)
        for _ in range(3):  # now it is written to the socket; its reply takes another process's time
            await asyncio.sleep(0)
        await self._reach(step.sent, asked)
        reply = await asked
        await self._reach(step.committed, asked)
        return reply

    async def _reach(self, point: faults.Point, asked: asyncio.Task[Any]) -> None:
        """A point that fails breaks this connection; the server has what was sent, and goes on with it."""
        try:
            faults.reach(point)
        except faults.Struck as error:
            self.terminate()
            with contextlib.suppress(Exception):
                await asked
            raise ConnectionResetError(f"the connection broke at {point}") from error


class Severed(Connector):
    """Makes such connections, and loses all of them for a while on SIGUSR1: this process is cut off, and lives."""

    def __init__(self, dsn: str, prepared: Prepared = "auto") -> None:
        super().__init__(dsn, prepared, Interrupted)
        self._made: WeakSet[Any] = WeakSet()
        self._until = 0.0
        self._listens = False

    async def __call__(self, *args: object, **options: Any) -> Any:
        """A new connection, as Connector's. Raises ConnectionRefusedError while it is cut off."""
        loop = asyncio.get_running_loop()
        if faults.cut_seconds and not self._listens:
            loop.add_signal_handler(signal.SIGUSR1, self._cut)
            self._listens = True
        if loop.time() < self._until:
            raise ConnectionRefusedError("cut off")
        connection = await super().__call__(*args, **options)
        self._made.add(connection)
        if loop.time() < self._until:  # cut while it was made
            connection.terminate()
            raise ConnectionRefusedError("cut off")
        return connection

    def _cut(self) -> None:
        self._until = asyncio.get_running_loop().time() + faults.cut_seconds
        for connection in list(self._made):
            connection.terminate()
