"""Where a request may go: to public addresses, unless the operator allows private ones.

Who may add a channel could else have this machine ask what only this machine reaches: a cloud's metadata, a database, a
router. A name is resolved once, and the connection goes to the address that was judged: a name that answers with
another address a moment later leads nowhere else.
"""

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from txwatch.waiting import in_daemon

MOST_TRIED = 3
"""Addresses of one name that are tried in turn."""
_NAT64 = IPv6Network("64:ff9b::/96")
_THIS_NETWORK = IPv4Network("0.0.0.0/8")


class PrivateAddressError(Exception):
    """A name leads to an address that only this machine or its network reaches."""


def is_public(address: str) -> bool:
    """Whether an address is one of the Internet: not private, loopback, link-local, multicast or reserved.

    One that carries an IPv4 address, as by NAT64, is as public as that.
    """
    ip = ip_address(address.partition("%")[0])
    carried = None if isinstance(ip, IPv4Address) else _carried(ip)
    if carried is not None:
        return is_public(str(carried))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and ip not in _THIS_NETWORK


def _carried(ip: IPv6Address) -> IPv4Address | None:
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


async def resolve(host: str, port: int, *, private: bool) -> list[str]:
    """The addresses of a host, each of which may be asked, at most MOST_TRIED.

    Raises PrivateAddressError if any of them may not, and OSError without one.
    """
    return await in_daemon(lambda: resolve_blocking(host, port, private=private))


def resolve_blocking(host: str, port: int, *, private: bool) -> list[str]:
    """The same, for a thread. A server of names that is away may hold it up for half a minute."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(place[0]) for *_, place in found]
    if not private and not all(map(is_public, addresses)):
        raise PrivateAddressError("its name leads to a private address: TXWATCH_WEBHOOK_PRIVATE allows these")
    return list(dict.fromkeys(addresses))[:MOST_TRIED]
