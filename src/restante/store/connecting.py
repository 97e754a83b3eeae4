"""One connection to PostgreSQL: which host, how it is watched, whether a pooler stands between, commits in doubt.

A DSN may name several hosts. The one that takes writes is looked for whenever a connection is made, so that after a
failover the next connection is to the new primary. A host that vanishes without a word (its cable, its machine) is
noticed by the kernel's own probes; nothing here puts a time-out on a statement (design, Data 9).
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Callable
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

import asyncpg

from restante.core.errors import OperatorError
from restante.core.limits import (
    DATABASE_CONNECT_SECONDS,
    DATABASE_PROBE_AFTER_SECONDS,
    DATABASE_PROBE_SECONDS,
    DATABASE_SILENT_SECONDS,
)

#: Whether statements are prepared once a connection: `auto` is no where a pooler stands between.
Prepared = Literal["auto", "on", "off"]
#: Which of a DSN's several hosts is wanted.
Target = Literal["read-write", "standby"]

_EXAMPLE: Final = (
    "An example: postgresql://user:password@host:5432/database. In a password write / as %2F, ? as %3F, # as %23,"
    " @ as %40, % as %25."
)
_TARGET: Final = "target_session_attrs"
# Options by their names in `socket`, which not every system has.
_WATCHED: Final = {
    "TCP_KEEPIDLE": int(DATABASE_PROBE_AFTER_SECONDS),
    "TCP_KEEPINTVL": int(DATABASE_PROBE_SECONDS),
    "TCP_KEEPCNT": int((DATABASE_SILENT_SECONDS - DATABASE_PROBE_AFTER_SECONDS) / DATABASE_PROBE_SECONDS),
    "TCP_USER_TIMEOUT": int(DATABASE_SILENT_SECONDS * 1_000),
}


class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection that knows when a commit of its own is in doubt.

    With a synchronous standby, a commit whose wait is cancelled is there on the primary and reported as done, but no
    standby may have it: a failover would lose it. PostgreSQL says so in a warning only, whose words depend on its
    language and whose code is a general one; the C function it comes from names it.
    """

    __slots__ = ("in_doubt", "on_doubt")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.in_doubt = False
        self.on_doubt: Callable[[], None] | None = None

    def _process_log_message(self, fields: dict[str, str], last_query: str | None) -> None:
        # Called before the statement's own reply is read; asyncpg's public listeners are dropped at every release.
        if fields.get("R") == "SyncRepWaitForLSN":
            self.in_doubt = True
            if self.on_doubt is not None:
                self.on_doubt()
        super()._process_log_message(fields, last_query)


def hosts(dsn: str) -> list[str]:
    """A DSN for each host that `dsn` names, in its order. Raises ValueError when only some of them have ports."""
    parts = urlsplit(dsn)
    query = dict(parse_qsl(parts.query))
    if query.get(_TARGET) == "prefer-standby":  # needs to see all of them together
        return [dsn]
    auth, at, named = parts.netloc.rpartition("@")
    if "," in named:
        return [parts._replace(netloc=f"{auth}{at}{one}").geturl() for one in named.split(",")]
    several = query.get("host", "").split(",")
    if named or len(several) == 1:
        return [dsn]
    ports = query.pop("port", "").split(",")
    ports = ports * len(several) if len(ports) == 1 else ports
    if len(ports) != len(several):
        raise ValueError(f"it names {len(several)} hosts and {len(ports)} ports")
    pairs = zip(several, ports, strict=True)
    made = [query | {"host": host} | ({"port": port} if port else {}) for host, port in pairs]
    return [parts._replace(query=urlencode(one)).geturl() for one in made]


def unusable(error: Exception, setting: str) -> OperatorError:
    """A DSN that cannot be used, and why. What quotes is not said: a password with a slash in it ends the host for
    whoever parses the URL, and its first half is then quoted as a port."""
    why = str(error).rstrip(".")
    if re.search(r"""['"]""", why):
        why = "it is no PostgreSQL URL (it is not shown, since it may hold a password)"
    return OperatorError(f"{setting} cannot be used: {why}.", _EXAMPLE)


class Connector:
    """Makes a process's connections. `pooled` is known after the first: a pooler such as PgBouncer stands between,
    whose sessions are not ours, so that there is nothing to listen on."""

    def __init__(
        self,
        dsn: str,
        prepared: Prepared = "auto",
        kind: type[Connection] = Connection,
        target: Target = "read-write",
    ) -> None:
        self.kind = kind
        self._hosts = hosts(dsn)  # where the last connection was made comes first
        self._prepared = prepared
        # Of several hosts one is wanted; a DSN that says itself which is obeyed.
        several = len(self._hosts) > 1 and _TARGET not in dsn
        self._options: dict[str, Any] = {_TARGET: target} if several else {}
        self.pooled: bool | None = None
        self.doubts = 0  # commits in doubt so far, of all connections

    async def __call__(self, *_: object, **options: Any) -> Any:
        """A new connection; called by asyncpg's pool too, with options of its own.

        Raises what asyncpg raises, of the last host tried, or OSError; ValueError for a DSN that cannot be used.
        """
        options = options | self._options | {"connection_class": self.kind, "timeout": DATABASE_CONNECT_SECONDS}
        if self.pooled is None:
            connection = await self._connect(options | {"statement_cache_size": 0})
            # The process id that the other side introduced itself with: a pooler invents one.
            try:
                self.pooled = connection.get_server_pid() != await connection.fetchval("select pg_backend_pid()")
            except BaseException:  # given up, too: else it stays open until it is collected
                connection.terminate()
                raise
            if not self._caches:
                return connection
            await connection.close(timeout=DATABASE_CONNECT_SECONDS)
        return await self._connect(options if self._caches else options | {"statement_cache_size": 0})

    @property
    def _caches(self) -> bool:
        return self._prepared == "on" or (self._prepared == "auto" and not self.pooled)

    async def _connect(self, options: dict[str, Any]) -> Any:
        lost: Exception | None = None
        for dsn in list(self._hosts):
            try:
                connection = await asyncpg.connect(dsn, **options)
            except asyncpg.InvalidAuthorizationSpecificationError:
                raise  # the same everywhere, and not to be hidden by what the next host says
            except asyncpg.ClientConfigurationError:
                raise
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
                lost = error
                continue
            if self._hosts[0] != dsn:
                self._hosts.sort(key=dsn.__ne__)
            _watch(connection)
            connection.on_doubt = self._doubt
            return connection
        assert lost is not None
        if isinstance(lost, TimeoutError) and not str(lost):
            raise TimeoutError(f"no answer within {DATABASE_CONNECT_SECONDS:.0f} s") from lost
        raise lost

    def _doubt(self) -> None:
        self.doubts += 1


def _watch(connection: Any) -> None:
    """Have the kernel give up on a server that is silent; without this a cut cable is noticed after 15 minutes."""
    tcp = connection._transport.get_extra_info("socket")
    if tcp is None or tcp.family not in (socket.AF_INET, socket.AF_INET6):
        return
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _WATCHED.items():
        with contextlib.suppress(AttributeError, OSError):
            tcp.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
