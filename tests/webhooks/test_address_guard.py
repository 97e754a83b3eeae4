"""The guard: which addresses a webhook may go to (contract §12.20; notes http, E)."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from restante.core.errors import OperatorError
from restante.webhooks.address_guard import AddressRefused, AllowList, is_public, literal_fault, socket_factory
from restante.webhooks.sender import Outcome, Sender
from tests.webhooks.receiver import receiving

BAD = [
    *["127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"],
    *["192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1"],
    *["255.255.255.255", "168.63.129.16"],
    *["::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1"],
    *["64:ff9b:1::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1"],
    *["ff02::1", "100::1"],
]
GOOD = ["1.1.1.1", "93.184.216.34", "8.8.8.8", "2606:4700:4700::1111", "2a00:1450:4001::1", "::ffff:1.1.1.1"]


@pytest.mark.contract("12.20 literal private addresses")
@pytest.mark.parametrize("address", BAD)
def test_no_address_of_an_inside_is_public(address: str) -> None:
    assert not is_public(ip_address(address))
    assert literal_fault(address, AllowList()) and literal_fault(f"[{address}]", AllowList())
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(AddressRefused, match="RESTANTE_WEBHOOK_ALLOW"):
        socket_factory(AllowList(), host_named=False)((family, socket.SOCK_STREAM, 0, "", (address, 80)))


@pytest.mark.parametrize("address", GOOD)
def test_public_addresses_are(address: str) -> None:
    assert is_public(ip_address(address)) and literal_fault(address, AllowList()) is None
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    socket_factory(AllowList(), host_named=False)((family, socket.SOCK_STREAM, 0, "", (address, 80))).close()


@pytest.mark.contract("12.20 literal private addresses")
@pytest.mark.parametrize(
    "host", ["127.1", "0x7f.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.0.0.1.", "fe80::1%2"]
)
def test_literals_in_disguise_are_read_as_a_resolver_would(host: str) -> None:
    assert literal_fault(host, AllowList())


def test_names_are_no_literals() -> None:
    assert literal_fault("localhost", AllowList()) is None  # judged when it is connected to


ALLOWED = [
    ("10.0.0.0/8", "10.1.2.3", False, True),
    ("10.0.0.0/8", "192.168.0.1", False, False),
    ("127.0.0.1", "127.0.0.1", False, True),
    ("127.0.0.1", "::ffff:127.0.0.1", False, True),
    ("127.0.0.0/8", "127.0.0.1", False, False),  # loopback only by its very address
    ("169.254.169.254", "169.254.169.254", False, True),
    ("169.254.0.0/16", "169.254.169.254", False, False),
    ("0.0.0.0/0", "169.254.169.254", False, False),
    ("*.svc.cluster.local", "10.1.2.3", True, True),
    ("*.svc.cluster.local", "127.0.0.1", True, False),
    ("*.svc.cluster.local", "169.254.169.254", True, False),
    ("fd00:ec2::254", "fd00:ec2::254", False, True),
    ("fd00::/8", "fd00:ec2::254", False, False),
    ("fd00::/8", "fd00::7", False, True),
]


@pytest.mark.contract("12.20 allow-list")
@pytest.mark.parametrize(("entries", "address", "host_named", "admitted"), ALLOWED)
def test_the_operator_opens_what_he_names(entries: str, address: str, host_named: bool, admitted: bool) -> None:
    assert AllowList(entries).admits(ip_address(address), host_named=host_named) is admitted


@pytest.mark.contract("12.20 allow-list")
def test_host_patterns() -> None:
    allow = AllowList(" *.svc.cluster.local , hooks ")
    assert allow.names("A.svc.cluster.local.") and allow.names("hooks")
    assert not allow.names("svc.cluster.local") and not allow.names("hooks.example.org")


@pytest.mark.parametrize("entry", ["10.0.0.0/33", "http://x", "a b", "[::1]"])
def test_an_entry_that_is_neither_is_refused(entry: str) -> None:
    with pytest.raises(OperatorError, match="RESTANTE_WEBHOOK_ALLOW"):
        AllowList(entry)


class Rebinding(AbstractResolver):
    """A name that is public when it is looked at first, and loopback ever after."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        address = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        pass


async def sent(url: str, allow: str = "", **more: Any) -> Outcome:
    sender = Sender(AllowList(allow), **more)
    try:
        return await sender.send(url, {}, None)
    finally:
        await sender.close()


@pytest.mark.contract("12.20 resolved ones")
async def test_nothing_inside_is_ever_connected_to() -> None:
    async with receiving() as inside:
        port = inside.port
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "127.1", "2130706433"):
            outcome = await sent(f"http://{host}:{port}/")
            assert outcome.status is None and outcome.error is not None
        outcome = await sent(f"http://rebinding.example:{port}/", resolver=Rebinding("127.0.0.1"))
        assert "127.0.0.1 is not a public address; RESTANTE_WEBHOOK_ALLOW can admit it" in str(outcome.error)
        # A pattern names the host, not what it resolves to: loopback stays closed.
        assert (await sent(f"http://a.example:{port}/", "*.example", resolver=Rebinding("127.0.0.1"))).error
        assert inside.hits == []
        assert (await sent(f"http://127.0.0.1:{port}/", "127.0.0.1")).status == 200
        assert len(inside.hits) == 1


@pytest.mark.contract("12.20 resolved ones")
async def test_a_name_that_is_rebound_meets_the_guard_at_each_connection() -> None:
    """The first answer is admitted, the second is another's loopback port."""
    async with receiving() as inside:
        names = Rebinding("127.0.0.1", "127.0.0.2")
        sender = Sender(AllowList("127.0.0.1"), resolver=names)
        try:
            url = f"http://rebinding.example:{inside.port}/"
            inside.reply = b"x" * 5_000_000  # left unread: the connection is closed, not kept
            assert (await sender.send(url, {}, None)).status == 200
            sender._strict.connector.clear_dns_cache()  # type: ignore[union-attr]
            outcome = await sender.send(url, {}, None)
        finally:
            await sender.close()
        assert "127.0.0.2 is not a public address" in str(outcome.error)
        assert len(inside.hits) == 1


@pytest.mark.contract("4 redirects followed?", "12.18 success")
async def test_a_redirect_is_a_failure_and_is_not_followed() -> None:
    async with receiving() as inside, receiving() as outside:
        outside.status, outside.location = 302, inside.url + "/secrets"
        outcome = await sent(outside.url, "127.0.0.1")
        assert (outcome.status, outcome.error) == (302, "HTTP 302")
        assert len(outside.hits) == 1 and inside.hits == []
