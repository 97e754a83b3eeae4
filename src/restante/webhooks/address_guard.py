"""Which addresses a webhook may go to (contract §12.20). Judged is the very address being connected to.

Names are resolved, and may be resolved anew, behind our back; so nothing but the socket's own address is believed
(a resolver hook never sees literal addresses, and a rebinding name shows it a different answer). Nothing is public
that a server inside could answer: `ipaddress.is_global` alone lets 6to4, NAT64 and multicast forms through.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Sequence
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

from restante.core.errors import OperatorError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

SETTING: Final = "RESTANTE_WEBHOOK_ALLOW"

_HOST_PATTERN: Final = re.compile(r"[a-z0-9*_-]+(\.[a-z0-9*_-]+)*")

# Special ranges that Python 3.11's is_global calls global (IANA special-purpose registries; notes http, E).
_NOT_PUBLIC: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        "168.63.129.16/32",  # Azure's platform service, on a public address
        "::/96",  # IPv4-compatible, obsolete
        "64:ff9b::/96",  # NAT64: whatever IPv4 address lies inside
        "64:ff9b:1::/48",
        "2001::/23",  # protocol assignments, Teredo among them
        "2002::/16",  # 6to4
        "fec0::/10",  # site-local, obsolete
        "100::/64",  # discarded
    )
)

_LOOPBACK: Final = ip_address("::1")

# Never by a range: only an exact entry of the allow-list opens these.
_EXACT_ONLY: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in ("127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10", "168.63.129.16/32", "fd00:ec2::254/128")
)


class AddressRefused(OSError):
    """The address is not public, and the allow-list does not name it. Raised where the connection would be made."""


class AllowList:
    """An operator's exceptions: addresses, ranges and host patterns, as `10.0.0.0/8,*.svc.cluster.local,127.0.0.1`."""

    def __init__(self, text: str = "") -> None:
        """Raises OperatorError for an entry that is neither."""
        self._networks: list[Network] = []
        self._hosts: list[str] = []
        for entry in filter(None, (part.strip().lower() for part in text.split(","))):
            network = _network(entry)
            if network is not None:
                self._networks.append(network)
            elif _HOST_PATTERN.fullmatch(entry):
                self._hosts.append(entry)
            else:
                raise OperatorError(
                    f"{SETTING} cannot be used: {entry!r} is no address, range or host pattern.",
                    "An example: 10.0.0.0/8,*.svc.cluster.local",
                )

    def names(self, host: str) -> bool:
        """Whether a host pattern admits this host; then private addresses of it may be connected to."""
        return any(fnmatchcase(host.lower().rstrip("."), pattern) for pattern in self._hosts)

    def admits(self, address: Address, *, host_named: bool) -> bool:
        """Whether a connection to this address may be made; `host_named`: what `names` said of its host."""
        address = _plain(address)
        if is_public(address):
            return True
        if any(address in network for network in _EXACT_ONLY):
            return any(network.num_addresses == 1 and address in network for network in self._networks)
        return host_named or any(address in network for network in self._networks)


def is_public(address: Address) -> bool:
    """Whether an address is a public unicast one, in none of its disguises."""
    address = _plain(address)
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in _NOT_PUBLIC)
    )


def literal_fault(host: str, allow: AllowList) -> str | None:
    """Why a URL's host that is a literal address is refused, or None. Names are judged when they are connected to."""
    address = _literal(host)
    if address is None or allow.admits(address, host_named=False):
        return None
    return f"{host} is not a public address; {SETTING} can admit it"


def socket_factory(allow: AllowList, *, host_named: bool) -> Any:
    """What aiohttp's connector makes its sockets with: the last look before a connection. Raises AddressRefused."""

    def make(address_info: Sequence[Any]) -> socket.socket:
        family, kind, protocol, _, address = address_info
        if not allow.admits(ip_address(str(address[0]).partition("%")[0]), host_named=host_named):
            # With an errno: what aiohttp makes of an OSError keeps only its strerror.
            raise AddressRefused(errno.EACCES, f"{address[0]} is not a public address; {SETTING} can admit it")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    return make


def _plain(address: Address) -> Address:
    """An IPv4 address that wears IPv6 (::ffff:127.0.0.1) is what it is."""
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


def _literal(host: str) -> Address | None:
    """The address a URL's host is, in any form that a resolver would read as one: 127.1 and 0x7f000001 too."""
    if host == "*":
        return _LOOPBACK  # as glibc reads it
    try:
        return ip_address(host.strip("[]").rstrip(".").partition("%")[0])
    except ValueError:
        pass
    try:
        return ip_address(socket.inet_aton(host.rstrip(".")))
    except OSError:
        return None


def _network(entry: str) -> Network | None:
    try:
        return ip_network(entry, strict=False)
    except ValueError:
        return None
