"""Ports of loopback for the servers that tests start."""

from txwatch.system.environment import free_port as free_port
