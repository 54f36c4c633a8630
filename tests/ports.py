"""Ports of loopback for the servers that tests start."""

import random
import socket
from itertools import cycle

# Below those that Linux gives to outgoing connections, of which one could take a port between its choice and its use.
_PORTS = range(20_000, 32_000)
# Each process begins elsewhere, so that of two that choose at the same time neither chooses the other's.
_start = random.SystemRandom().randrange(len(_PORTS))
_ports = cycle([*_PORTS[_start:], *_PORTS[:_start]])


def free_port() -> int:
    """A port that nobody uses."""
    while True:
        port = next(_ports)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
