"""The receiver's process as seen from here, and whether what it got is what restante promises."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from bench.background import background
from bench.installation import Installation
from bench.receiver import State
from restante.store import deliveries
from restante.webhooks.signature import sign

_LOOK_SECONDS = 0.02


class Receiver:
    """A running receiver. `hosts`: its loopback addresses, 127.0.0.1 upwards, all on `port`."""

    def __init__(self, pid: int, port: int, control: int, hosts: int) -> None:
        self.pid = pid
        self._port = port
        self._control = control
        self._hosts = hosts

    def url(self, number: int) -> str:
        """A postback_url at one of its hosts."""
        return f"http://127.0.0.{1 + number % self._hosts}:{self._port}/hook?id=$id"

    async def state(self) -> State:
        """What came since the last reset."""
        return msgspec.json.decode(await self._ask("/state"), type=State)

    async def arrivals(self) -> dict[str, float]:
        """When the first byte of each webhook came, by webhook-id."""
        return msgspec.json.decode(await self._ask("/arrivals"), type=dict[str, float])

    async def reset(self) -> None:
        """Forget everything."""
        await self._ask("/reset")

    async def received(self, webhooks: int) -> State:
        """Once so many different ones came."""
        while (state := await self.state()).webhooks < webhooks:
            await asyncio.sleep(_LOOK_SECONDS)
        return state

    async def verify(self, restante: Installation) -> None:
        """Of a sample: the signature, the gzip'd body, and that it holds an answer. Raises AssertionError."""
        samples = msgspec.json.decode(await self._ask("/samples"), type=list[bytes])
        assert samples
        live = await deliveries.secrets(restante.db, {client.account_id: b"" for client in restante.clients})
        known = {secret for secrets in live.values() for secret in secrets}
        for sample in samples:
            head, body = sample.split(b"\r\n\r\n", 1)
            headers = {
                name.strip().lower(): value.strip()
                for name, _, value in (line.decode().partition(":") for line in head.split(b"\r\n")[1:])
            }
            plain = gzip.decompress(body)
            assert plain.count(b'"status_code":20000') == 2, plain[:500]
            name, when, given = (headers[f"webhook-{part}"] for part in ("id", "timestamp", "signature"))
            signed = {sign([secret], name, int(when), plain)["webhook-signature"] for secret in known}
            assert given in signed, (name, given)

    async def _ask(self, what: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._control)
        writer.write(what.encode() + b"\n")
        answer = await reader.read()
        writer.close()
        return answer


@contextmanager
def receiver(hosts: int) -> Iterator[Receiver]:
    """A receiver for the block."""
    with background("bench.receiver", str(hosts)) as (pid, (port, control)):
        yield Receiver(pid, port, control, hosts)


def allowed(hosts: int) -> dict[str, str]:
    """The setting by which restante's guard lets webhooks to a receiver pass: each loopback address by itself."""
    return {"RESTANTE_WEBHOOK_ALLOW": ",".join(f"127.0.0.{number}" for number in range(1, hosts + 1))}
