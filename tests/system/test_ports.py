"""A port in use is named before anything is started."""

import socket

import pytest

from tests.ports import free_port
from txwatch.system.environment import PortInUseError, require_free


def test_a_used_port_is_named_with_what_needs_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"port {port}, which the local feed needs, is in use"):
            require_free({"Dagster": free_port(), "the local feed": port})


def test_free_ports_are_left_as_they_were() -> None:
    ports = {"Dagster": free_port(), "the local feed": free_port()}
    require_free(ports)
    require_free(ports)
