"""Ports of loopback for the servers that tests start."""

import socket

from txwatch.system.environment import free_port as free_port


def is_used(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
