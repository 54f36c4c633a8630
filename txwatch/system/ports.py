"""A port in use is found before anything is started, and named."""

import socket
from collections.abc import Mapping

from txwatch.errors import UserError


class PortInUseError(UserError):
    """A port that the system needs is taken."""


def is_free(port: int) -> bool:
    """Whether nobody listens on this port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def require_free(ports: Mapping[str, int]) -> None:
    """Raise PortInUseError for the first of these loopback ports that cannot be bound."""
    for name, port in ports.items():
        if not is_free(port):
            raise PortInUseError(
                f"port {port}, which {name} needs, is in use: is another txwatch running? Stop it first."
            )
