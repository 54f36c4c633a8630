"""Where a request may go: to public addresses, unless the operator allows private ones.

Who may add a channel could else have this machine ask what only this machine reaches: a cloud's metadata, a database, a
router. A name is resolved once, and the connection goes to the address that was judged: a name that answers with
another address a moment later leads nowhere else. A library that resolves names itself, and may be led elsewhere by an
answer, is judged by what it connects to.
"""

import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from txwatch.waiting import in_daemon

MOST_TRIED = 3
"""Addresses of one name that are tried in turn."""
_NAT64 = IPv6Network("64:ff9b::/96")
_NOT_OF_THE_INTERNET = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",  # this network
            "192.0.0.0/24",  # of protocols (RFC 6890); Oracle's cloud answers there about a machine
            "168.63.129.16/32",  # Azure answers there about a machine
            "fec0::/10",  # of a site (RFC 3879)
        ),
    )
)
"""What Python takes for addresses of the Internet."""


PRIVATE = "its name leads to a private address: TXWATCH_WEBHOOK_PRIVATE allows these"


class PrivateAddressError(OSError):
    """A name leads to an address that only this machine or its network reaches. Libraries take it for no connection."""


def is_public(address: str) -> bool:
    """Whether an address is one of the Internet: not private, loopback, link-local, multicast or reserved.

    One that carries an IPv4 address, as by NAT64, is as public as that.
    """
    ip = ip_address(address.partition("%")[0])
    carried = None if isinstance(ip, IPv4Address) else _carried(ip)
    if carried is not None:
        return is_public(str(carried))
    if any(ip in network for network in _NOT_OF_THE_INTERNET):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _carried(ip: IPv6Address) -> IPv4Address | None:
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


async def resolve(host: str, port: int, *, private: bool) -> list[str]:
    """The addresses of a host, each of which may be asked, at most MOST_TRIED.

    Raises PrivateAddressError if any of them may not, and OSError without one.
    """
    # In a thread: a server of names that is away may hold it up for half a minute.
    return await in_daemon(lambda: _resolve(host, port, private))


def _resolve(host: str, port: int, private: bool) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(place[0]) for *_, place in found]
    if not private and not all(map(is_public, addresses)):
        raise PrivateAddressError(PRIVATE)
    return list(dict.fromkeys(addresses))[:MOST_TRIED]


_thread = threading.local()
_CONNECTING = {"socket.connect", "socket.sendto", "socket.sendmsg"}
"""Python's audit events with an address: https://docs.python.org/3/library/audit_events.html."""


@contextmanager
def public_alone() -> Iterator[list[object]]:
    """Let this thread connect to public addresses alone in the block, whatever library does so.

    To connect to another raises PrivateAddressError, which the library may swallow. Gives a list of those addresses.
    """
    _audit()
    refused = _thread.refused = list[object]()
    try:
        yield refused
    finally:
        _thread.refused = None


@cache
def _audit() -> None:
    sys.addaudithook(_judge)


def _judge(event: str, arguments: tuple[object, ...]) -> None:
    refused = getattr(_thread, "refused", None) if event in _CONNECTING else None
    # Without an address it goes to where the socket is connected already.
    if refused is not None and arguments[1] is not None and not _is_public_place(arguments[1]):
        refused.append(arguments[1])
        raise PrivateAddressError(PRIVATE)


def _is_public_place(place: object) -> bool:
    """Whether the address of a socket is that of a public host. A name is not, for nobody has judged where it leads."""
    try:
        return isinstance(place, tuple) and is_public(str(place[0]))
    except ValueError:
        return False
